// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes what is read of libvirt's XML: definitions, checkpoints, backups. Laws: nothing crashes; a
 * refusal says why; all strings are there; a definition can be made a part of a checkpoint's and
 * comes out of it again with the same name and disks.
 */
#include "../backend/xml.h"
#include "fuzz.h"

static void check_redefinition(const char *text, const struct xml_domain *domain)
{
    struct xml_mark_disk disks[2] = {{.target = "vda", .marked = true}, {.target = "v&<b"}};
    struct xml_checkpoint checkpoint;
    struct rp_error e = RP_ERROR_INIT;
    char *made, *taken = NULL;
    struct xml_domain again;

    fuzz_require(xml_make_redefinition("mon", "a <b> & c", "", 1, disks, 2, text, &made, &e) == 0,
                 "a definition can be made a part of a checkpoint");
    fuzz_require(xml_parse_checkpoint(made, &checkpoint, &e) == 0, "what is made can be read");
    fuzz_require(checkpoint.ndisks == 2 && strcmp(checkpoint.disks[1].target, "v&<b") == 0 &&
                     strcmp(checkpoint.description, "a <b> & c") == 0,
                 "names are as they were");
    xml_checkpoint_clear(&checkpoint);
    fuzz_require(xml_take_domain(made, &taken, &e) == 0 && taken, "the definition is in it");
    fuzz_require(xml_parse_domain(taken, &again, &e) == 0, "and can be read");
    fuzz_require(again.ndisks == domain->ndisks, "it has as many disks");
    xml_domain_clear(&again);
    free(taken);
    free(made);
}

static void check_domain(const char *text)
{
    struct rp_error e = RP_ERROR_INIT;
    struct xml_domain domain;
    int status = xml_parse_domain(text, &domain, &e);

    if (status < 0) {
        fuzz_check_refusal(status, &e);
        return;
    }
    fuzz_require(domain.name && domain.uuid && domain.nvram, "strings are there");
    for (size_t i = 0; i < domain.ndisks; i++)
        fuzz_require(domain.disks[i].target && domain.disks[i].source && domain.disks[i].type &&
                         domain.disks[i].format && domain.disks[i].device,
                     "strings of disks are there");
    check_redefinition(text, &domain);
    xml_domain_clear(&domain);
}

static void check_checkpoint(const char *text)
{
    struct rp_error e = RP_ERROR_INIT;
    struct xml_checkpoint checkpoint;
    char *domain = NULL;
    int status = xml_parse_checkpoint(text, &checkpoint, &e);

    if (status < 0) {
        fuzz_check_refusal(status, &e);
    } else {
        fuzz_require(checkpoint.name && checkpoint.parent && checkpoint.description,
                     "strings are there");
        xml_checkpoint_clear(&checkpoint);
    }
    status = xml_take_domain(text, &domain, &e);
    if (status < 0)
        fuzz_check_refusal(status, &e);
    free(domain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_ready;
    struct rp_error e = RP_ERROR_INIT;
    char *text = fuzz_text(data, size), *socket;

    if (!is_ready)
        xml_init();
    is_ready = true;
    check_domain(text);
    check_checkpoint(text);
    if (xml_parse_backup_socket(text, &socket, &e) == 0)
        free(socket);
    free(text);
    return 0;
}
