// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/xml.c: what is read from libvirt's XML, and that what is made says what was
 * meant, whatever characters names have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "../backend/xml.h"

static const char domain_text[] =
    "<domain type='kvm' id='3'>"
    "  <name>web&amp;1</name><uuid>70872f8f-e240-42e4-a645-c384ca37634b</uuid>"
    "  <os><type>hvm</type><nvram>/var/lib/libvirt/qemu/nvram/web1_VARS.fd</nvram></os>"
    "  <devices>"
    "    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "      <source file='/images/a &lt;b&gt;.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    "    <disk type='block' device='disk'><driver name='qemu' type='raw'/>"
    "      <source dev='/dev/vg/x'/><target dev='vdb'/></disk>"
    "    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>"
    "    <disk type='network'><source protocol='rbd' name='p/x'/><target dev='vdc'/></disk>"
    "    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'"
    "      state='connected'/></channel>"
    "  </devices>"
    "  <seclabel type='dynamic' model='apparmor'><label>+1:+2</label></seclabel>"
    "  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+109</label></seclabel>"
    "</domain>";

static void test_nvram_of_source(void **unused)
{
    static const char text[] = "<domain><name>a</name><uuid>b</uuid><os>\n"
                               "<nvram type='file' template='/t'>\n <source file='/v'/>\n"
                               "</nvram></os></domain>";
    static const char on_block[] = "<domain><name>a</name><uuid>b</uuid><os><nvram type='block'>"
                                   "<source dev='/d'/></nvram></os></domain>";
    struct xml_domain domain;
    struct rp_error e;

    (void)unused;
    assert_int_equal(xml_parse_domain(text, &domain, &e), 0);
    assert_string_equal(domain.nvram, "/v");
    xml_domain_clear(&domain);
    assert_int_equal(xml_parse_domain(on_block, &domain, &e), 0);
    assert_string_equal(domain.nvram, "");
    xml_domain_clear(&domain);
}

static void test_domain_of_checkpoint(void **unused)
{
    static const char text[] =
        "<domaincheckpoint>\n  <name>mon</name>\n"
        "  <domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
        "    <name>a &amp; b</name>\n    <qemu:commandline/>\n  </domain>\n</domaincheckpoint>";
    char *domain = NULL;
    struct rp_error e;

    (void)unused;
    assert_int_equal(xml_take_domain(text, &domain, &e), 0);
    assert_string_equal(
        domain, "<domain xmlns:qemu=\"http://libvirt.org/schemas/domain/qemu/1.0\" type=\"kvm\">\n"
                "  <name>a &amp; b</name>\n  <qemu:commandline/>\n</domain>\n");
    free(domain);
    assert_int_equal(xml_take_domain("<domaincheckpoint/>", &domain, &e), 0);
    assert_null(domain);
    assert_true(xml_take_domain("<domain/>", &domain, &e) < 0);
}

static void test_domain(void **unused)
{
    struct xml_domain domain;
    struct rp_error e;

    (void)unused;
    assert_int_equal(xml_parse_domain(domain_text, &domain, &e), 0);
    assert_string_equal(domain.name, "web&1");
    assert_string_equal(domain.uuid, "70872f8f-e240-42e4-a645-c384ca37634b");
    assert_string_equal(domain.nvram, "/var/lib/libvirt/qemu/nvram/web1_VARS.fd");
    assert_true(domain.has_owner);
    assert_int_equal(domain.owner_uid, 64055);
    assert_int_equal(domain.owner_gid, 109);
    assert_true(domain.has_agent);
    assert_int_equal(domain.ndisks, 4);
    assert_string_equal(domain.disks[0].target, "vda");
    assert_string_equal(domain.disks[0].source, "/images/a <b>.qcow2");
    assert_string_equal(domain.disks[0].format, "qcow2");
    assert_string_equal(domain.disks[0].device, "disk");
    assert_false(domain.disks[0].readonly);
    assert_string_equal(domain.disks[1].source, "/dev/vg/x");
    assert_string_equal(domain.disks[1].format, "raw");
    assert_string_equal(domain.disks[2].source, "");
    assert_string_equal(domain.disks[2].device, "cdrom");
    assert_true(domain.disks[2].readonly);
    assert_string_equal(domain.disks[3].source, "rbd:p/x");
    assert_string_equal(domain.disks[3].type, "network");
    xml_domain_clear(&domain);
}

/* A label by name, as where qemu.conf says so, is no number to rely on. */
static void test_domain_with_named_owner(void **unused)
{
    struct xml_domain domain;
    struct rp_error e;

    (void)unused;
    assert_int_equal(xml_parse_domain("<domain><name>x</name><seclabel model='dac'>"
                                      "<label>qemu:qemu</label></seclabel></domain>",
                                      &domain, &e),
                     0);
    assert_false(domain.has_owner);
    assert_false(domain.has_agent);
    assert_int_equal(domain.ndisks, 0);
    xml_domain_clear(&domain);
}

static void test_not_the_xml_expected(void **unused)
{
    struct xml_checkpoint checkpoint;
    struct xml_domain domain;
    struct rp_error e;

    (void)unused;
    assert_true(xml_parse_domain("", &domain, &e) < 0);
    assert_true(xml_parse_domain("<domain><name>", &domain, &e) < 0);
    assert_true(xml_parse_domain("<network/>", &domain, &e) < 0);
    assert_int_equal(e.result, RESULT_FAILED);
    assert_non_null(strstr(e.message, "<domain>"));
    assert_true(xml_parse_checkpoint(domain_text, &checkpoint, &e) < 0);
}

/* A file of the host must not find its way into a name. */
static void test_entities_are_not_followed(void **unused)
{
    struct xml_domain domain;
    struct rp_error e;

    (void)unused;
    if (xml_parse_domain("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
                         "<domain><name>a&x;</name></domain>",
                         &domain, &e) < 0)
        return;
    assert_null(strstr(domain.name, "root"));
    xml_domain_clear(&domain);
}

static void test_checkpoint(void **unused)
{
    struct xml_checkpoint point;
    struct rp_error e;

    (void)unused;
    assert_int_equal(
        xml_parse_checkpoint("<domaincheckpoint><name>tue</name>"
                             "<parent><name>mon</name></parent>"
                             "<creationTime>1790000000</creationTime><disks>"
                             "<disk name='vda' checkpoint='bitmap' bitmap='tue' size='131072'/>"
                             "<disk name='vdb' checkpoint='bitmap' bitmap='tue'/>"
                             "<disk name='vdc' checkpoint='no'/></disks>"
                             "<domain><name>x</name><devices><disk/></devices></domain>"
                             "</domaincheckpoint>",
                             &point, &e),
        0);
    assert_string_equal(point.name, "tue");
    assert_string_equal(point.parent, "mon");
    assert_int_equal(point.created, 1790000000);
    assert_int_equal(point.ndisks, 3);
    assert_true(point.disks[0].has_size);
    assert_int_equal(point.disks[0].size_bytes, 131072);
    assert_string_equal(point.disks[0].bitmap, "tue");
    assert_false(point.disks[1].has_size);
    assert_string_equal(point.disks[2].bitmap, "");
    xml_checkpoint_clear(&point);
}

static void test_backup_socket(void **unused)
{
    struct rp_error e;
    char *path;

    (void)unused;
    assert_int_equal(xml_parse_backup_socket("<domainbackup mode='pull'><server transport='unix' "
                                             "socket='/run/a&amp;b'/></domainbackup>",
                                             &path, &e),
                     0);
    assert_string_equal(path, "/run/a&b");
    free(path);
    assert_int_equal(xml_parse_backup_socket("<domainbackup mode='push'/>", &path, &e), 0);
    assert_string_equal(path, "");
    free(path);
}

static const struct xml_mark_disk marks[] = {
    {.target = "vda",
     .included = true,
     .marked = true,
     .base = "m&n",
     .export_name = "vda",
     .bitmap = "b'a",
     .scratch_file = "/s/\"x\"<y>"},
    {.target = "vdb",
     .included = true,
     .marked = false,
     .export_name = "vdb",
     .bitmap = "",
     .scratch_file = "/s/b"},
    {.target = "sda"},
};

static void test_make_backup(void **unused)
{
    struct rp_error e;
    char *text, *path;

    (void)unused;
    assert_int_equal(xml_make_backup("/run/a&b.sock", marks, 3, &text, &e), 0);
    assert_int_equal(xml_parse_backup_socket(text, &path, &e), 0);
    assert_string_equal(path, "/run/a&b.sock");
    assert_non_null(strstr(text, "incremental=\"m&amp;n\""));
    assert_non_null(strstr(text, "backupmode=\"full\""));
    assert_non_null(strstr(text, "&lt;y&gt;"));
    assert_non_null(strstr(text, "<disk name=\"sda\" backup=\"no\"/>"));
    free(path);
    free(text);
}

static void test_make_checkpoint(void **unused)
{
    struct xml_checkpoint point;
    struct rp_error e;
    char *text;

    (void)unused;
    assert_int_equal(xml_make_checkpoint("a<b", "level & 1", marks, 3, &text, &e), 0);
    assert_int_equal(xml_parse_checkpoint(text, &point, &e), 0);
    assert_string_equal(point.name, "a<b");
    assert_string_equal(point.description, "level & 1");
    assert_int_equal(point.ndisks, 3);
    xml_checkpoint_clear(&point);
    assert_non_null(strstr(text, "<disk name=\"vda\" checkpoint=\"bitmap\"/>"));
    assert_non_null(strstr(text, "<disk name=\"vdb\" checkpoint=\"no\"/>"));
    free(text);

    /* No disks named: libvirt takes all, and its schema wants no empty list. */
    assert_int_equal(xml_make_checkpoint("x", "", NULL, 0, &text, &e), 0);
    assert_null(strstr(text, "disks"));
    assert_null(strstr(text, "description"));
    free(text);
}

static int init(void **unused)
{
    (void)unused;
    xml_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domain),
        cmocka_unit_test(test_nvram_of_source),
        cmocka_unit_test(test_domain_of_checkpoint),
        cmocka_unit_test(test_domain_with_named_owner),
        cmocka_unit_test(test_not_the_xml_expected),
        cmocka_unit_test(test_entities_are_not_followed),
        cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_backup_socket),
        cmocka_unit_test(test_make_backup),
        cmocka_unit_test(test_make_checkpoint),
    };

    return cmocka_run_group_tests(tests, init, NULL);
}
