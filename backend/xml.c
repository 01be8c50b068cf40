// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reads and makes libvirt's XML through libxml2. Knows the few elements this service needs and
 * nothing of what they are used for. Entities and the network are off: the XML comes from
 * libvirt, but domain names and metadata in it come from users.
 */
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>
#include <libxml/tree.h>

static void silent(void *opaque __attribute__((unused)), const char *format __attribute__((unused)),
                   ...)
{
}

void xml_init(void)
{
    xmlInitParser();
    xmlSetGenericErrorFunc(NULL, silent);
}

/* ---- reading ---- */

static xmlDoc *parse_with(const char *text, const char *root, int options, struct rp_error *e)
{
    xmlDoc *doc =
        xmlReadMemory(text, (int)strlen(text), NULL, NULL,
                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | options);
    xmlNode *top = doc ? xmlDocGetRootElement(doc) : NULL;

    /* libvirt sends no entities: who declares some means no good, or would be misunderstood. */
    if (!top || !xmlStrEqual(top->name, BAD_CAST root) || doc->intSubset) {
        xmlFreeDoc(doc);
        rp_fail(e, RESULT_FAILED, "libvirt answered XML that is not a <%s>", root);
        return NULL;
    }
    return doc;
}

static xmlDoc *parse(const char *text, const char *root, struct rp_error *e)
{
    return parse_with(text, root, 0, e);
}

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && xmlStrEqual(node->name, BAD_CAST name);
}

/* The first child element of that name; NULL if there is none or `parent` is NULL. */
static xmlNode *child(const xmlNode *parent, const char *name)
{
    for (xmlNode *node = parent ? parent->children : NULL; node; node = node->next)
        if (is_element(node, name))
            return node;
    return NULL;
}

static size_t count_children(const xmlNode *parent, const char *name)
{
    size_t count = 0;

    for (xmlNode *node = parent ? parent->children : NULL; node; node = node->next)
        count += is_element(node, name);
    return count;
}

/* A copy from libc's heap, so that owners need not know libxml2; "" for NULL. */
static char *take(xmlChar *string)
{
    char *copy = strdup(string ? (char *)string : "");

    xmlFree(string);
    return copy;
}

static char *content(const xmlNode *node)
{
    return take(node ? xmlNodeGetContent(node) : NULL);
}

static char *attribute(const xmlNode *node, const char *name)
{
    return take(node ? xmlGetProp((xmlNode *)node, BAD_CAST name) : NULL);
}

/* An attribute's value, or `fallback` where the attribute is absent or empty. */
static char *attribute_or(const xmlNode *node, const char *name, const char *fallback)
{
    char *value = attribute(node, name);

    if (!value || *value)
        return value;
    free(value);
    return strdup(fallback);
}

static bool attribute_is(const xmlNode *node, const char *name, const char *value)
{
    char *is = attribute(node, name);
    bool equal = is && strcmp(is, value) == 0;

    free(is);
    return equal;
}

static bool attribute_u64(const xmlNode *node, const char *name, uint64_t *ret_value)
{
    char *text = attribute(node, name), *end = NULL;
    bool ok = false;

    if (text && *text >= '0' && *text <= '9') {
        errno = 0;
        uint64_t value = strtoull(text, &end, 10);
        ok = errno == 0 && *end == '\0';
        if (ok)
            *ret_value = value;
    }
    free(text);
    return ok;
}

/* "nbd:name"; which host serves it is for domain.xml to tell. */
static char *network_source(const xmlNode *source)
{
    char *protocol = attribute(source, "protocol"), *name = attribute(source, "name"), *text = NULL;

    if (protocol && name && asprintf(&text, "%s:%s", protocol, name) < 0)
        text = NULL;
    free(protocol);
    free(name);
    return text;
}

/* Of each type of disk, what says where its data is; of types not listed the type has to do. */
static int read_source(const xmlNode *source, struct xml_disk *disk)
{
    static const struct {
        const char *type, *attribute;
        bool is_file;
    } kinds[] = {{"file", "file", true},
                 {"block", "dev", true},
                 {"dir", "dir", false},
                 {"volume", "volume", false}};

    disk->pool = strcmp(disk->type, "volume") == 0 ? attribute(source, "pool") : strdup("");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !disk->source; i++) {
        if (strcmp(disk->type, kinds[i].type) != 0)
            continue;
        disk->is_file = kinds[i].is_file;
        disk->source = attribute(source, kinds[i].attribute);
        if (!disk->source)
            return -ENOMEM;
    }
    if (!disk->source && source && strcmp(disk->type, "network") == 0)
        disk->source = network_source(source);
    else if (!disk->source)
        disk->source = strdup(source ? disk->type : "");
    return disk->source && disk->pool ? 0 : -ENOMEM;
}

static int read_disk(const xmlNode *node, struct xml_disk *ret_disk)
{
    ret_disk->target = attribute(child(node, "target"), "dev");
    ret_disk->type = attribute_or(node, "type", "file");
    if (!ret_disk->type || read_source(child(node, "source"), ret_disk) < 0)
        return -ENOMEM;
    ret_disk->format = attribute_or(child(node, "driver"), "type", "raw");
    ret_disk->device = attribute_or(node, "device", "disk");
    ret_disk->readonly = child(node, "readonly") != NULL;
    ret_disk->is_encrypted =
        child(child(node, "source"), "encryption") || child(node, "encryption");
    return ret_disk->target && ret_disk->format && ret_disk->device ? 0 : -ENOMEM;
}

bool xml_disk_is_removable(const struct xml_disk *disk)
{
    return strcmp(disk->device, "cdrom") == 0 || strcmp(disk->device, "floppy") == 0;
}

/* "+64055:+64055", or names where the configuration says so, which are left alone. */
static void read_owner(const xmlNode *label, struct xml_domain *domain)
{
    char *text = content(label);
    unsigned long uid, gid;
    char *end;

    if (text && *text == '+') {
        uid = strtoul(text + 1, &end, 10);
        if (end[0] == ':' && end[1] == '+') {
            gid = strtoul(end + 2, &end, 10);
            if (*end == '\0') {
                domain->has_owner = true;
                domain->owner_uid = (uid_t)uid;
                domain->owner_gid = (gid_t)gid;
            }
        }
    }
    free(text);
}

/* libvirt's name for the guest agent's channel, and what it says of a channel that is in use. */
static bool is_agent(const xmlNode *target)
{
    return attribute_is(target, "name", "org.qemu.guest_agent.0") &&
           attribute_is(target, "state", "connected");
}

/* The path as text or, since libvirt 8.5, as a source; other sources than files have no path. */
static char *read_nvram(const xmlNode *nvram)
{
    const xmlNode *source = child(nvram, "source");

    return source ? attribute(source, "file") : content(nvram);
}

static int read_domain(const xmlNode *top, struct xml_domain *domain)
{
    const xmlNode *devices = child(top, "devices");

    domain->name = content(child(top, "name"));
    domain->uuid = content(child(top, "uuid"));
    domain->nvram = read_nvram(child(child(top, "os"), "nvram"));
    domain->disks = calloc(count_children(devices, "disk") + 1, sizeof *domain->disks);
    if (!domain->name || !domain->uuid || !domain->nvram || !domain->disks)
        return -ENOMEM;

    for (xmlNode *node = top->children; node; node = node->next)
        if (is_element(node, "seclabel") && attribute_is(node, "model", "dac"))
            read_owner(child(node, "label"), domain);

    for (xmlNode *node = devices ? devices->children : NULL; node; node = node->next)
        if (is_element(node, "channel"))
            domain->has_agent |= is_agent(child(node, "target"));

    for (xmlNode *node = devices ? devices->children : NULL; node; node = node->next)
        if (is_element(node, "disk") && read_disk(node, &domain->disks[domain->ndisks++]) < 0)
            return -ENOMEM;
    return 0;
}

int xml_parse_domain(const char *text, struct xml_domain *ret_domain, struct rp_error *e)
{
    struct xml_domain domain = {0};
    xmlDoc *doc = parse(text, "domain", e);

    if (!doc)
        return -EIO;
    if (read_domain(xmlDocGetRootElement(doc), &domain) < 0) {
        xmlFreeDoc(doc);
        xml_domain_clear(&domain);
        return rp_fail_memory(e);
    }
    xmlFreeDoc(doc);
    *ret_domain = domain;
    return 0;
}

void xml_domain_clear(struct xml_domain *domain)
{
    for (size_t i = 0; i < domain->ndisks; i++) {
        free(domain->disks[i].target);
        free(domain->disks[i].source);
        free(domain->disks[i].pool);
        free(domain->disks[i].type);
        free(domain->disks[i].format);
        free(domain->disks[i].device);
    }
    free(domain->disks);
    free(domain->name);
    free(domain->uuid);
    free(domain->nvram);
    *domain = (struct xml_domain){0};
}

static int read_checkpoint_disk(const xmlNode *node, struct xml_checkpoint_disk *ret_disk)
{
    bool covered = !attribute_is(node, "checkpoint", "no");

    ret_disk->target = attribute(node, "name");
    ret_disk->bitmap = covered ? attribute(node, "bitmap") : strdup("");
    ret_disk->has_size = attribute_u64(node, "size", &ret_disk->size_bytes);
    return ret_disk->target && ret_disk->bitmap ? 0 : -ENOMEM;
}

static int read_checkpoint(const xmlNode *top, struct xml_checkpoint *checkpoint)
{
    const xmlNode *disks = child(top, "disks");
    char *created = content(child(top, "creationTime"));

    checkpoint->name = content(child(top, "name"));
    checkpoint->parent = content(child(child(top, "parent"), "name"));
    checkpoint->description = content(child(top, "description"));
    checkpoint->disks = calloc(count_children(disks, "disk") + 1, sizeof *checkpoint->disks);
    if (!created || !checkpoint->name || !checkpoint->parent || !checkpoint->description ||
        !checkpoint->disks) {
        free(created);
        return -ENOMEM;
    }
    checkpoint->created = (time_t)strtoll(created, NULL, 10);
    free(created);

    for (xmlNode *node = disks ? disks->children : NULL; node; node = node->next)
        if (is_element(node, "disk") &&
            read_checkpoint_disk(node, &checkpoint->disks[checkpoint->ndisks++]) < 0)
            return -ENOMEM;
    return 0;
}

int xml_parse_checkpoint(const char *text, struct xml_checkpoint *ret_checkpoint,
                         struct rp_error *e)
{
    struct xml_checkpoint checkpoint = {0};
    xmlDoc *doc = parse(text, "domaincheckpoint", e);

    if (!doc)
        return -EIO;
    if (read_checkpoint(xmlDocGetRootElement(doc), &checkpoint) < 0) {
        xmlFreeDoc(doc);
        xml_checkpoint_clear(&checkpoint);
        return rp_fail_memory(e);
    }
    xmlFreeDoc(doc);
    *ret_checkpoint = checkpoint;
    return 0;
}

void xml_checkpoint_clear(struct xml_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->ndisks; i++) {
        free(checkpoint->disks[i].target);
        free(checkpoint->disks[i].bitmap);
    }
    free(checkpoint->disks);
    free(checkpoint->name);
    free(checkpoint->parent);
    free(checkpoint->description);
    *checkpoint = (struct xml_checkpoint){0};
}

int xml_parse_backup_socket(const char *text, char **ret_socket, struct rp_error *e)
{
    xmlDoc *doc = parse(text, "domainbackup", e);
    char *path;

    if (!doc)
        return -EIO;
    path = attribute(child(xmlDocGetRootElement(doc), "server"), "socket");
    xmlFreeDoc(doc);
    if (!path)
        return rp_fail_memory(e);
    *ret_socket = path;
    return 0;
}

int xml_take_domain(const char *text, char **ret_domain, struct rp_error *e)
{
    /* Without its blanks: they indented it as a part of something else. */
    xmlDoc *doc = parse_with(text, "domaincheckpoint", XML_PARSE_NOBLANKS, e);
    xmlNode *domain = doc ? child(xmlDocGetRootElement(doc), "domain") : NULL;
    xmlBuffer *buffer = domain ? xmlBufferCreate() : NULL;
    char *copy = NULL;

    if (!doc)
        return -EIO;
    if (buffer && xmlNodeDump(buffer, doc, domain, 0, 1) > 0 &&
        asprintf(&copy, "%s\n", (const char *)xmlBufferContent(buffer)) < 0)
        copy = NULL;
    xmlBufferFree(buffer);
    xmlFreeDoc(doc);
    if (domain && !copy)
        return rp_fail_memory(e);
    *ret_domain = copy;
    return 0;
}

/* ---- making ---- */

/* libxml2 reports lack of memory by NULL; `*ok` gathers it so that each line need not check. */
static xmlNode *add(xmlNode *parent, const char *name, bool *ok)
{
    xmlNode *node = *ok ? xmlNewChild(parent, NULL, BAD_CAST name, NULL) : NULL;

    *ok = *ok && node;
    return node;
}

static void set(xmlNode *node, const char *name, const char *value, bool *ok)
{
    *ok = *ok && xmlNewProp(node, BAD_CAST name, BAD_CAST value);
}

static int render(xmlDoc *doc, bool ok, char **ret_text, struct rp_error *e)
{
    xmlChar *text = NULL;
    int length = 0;

    if (ok)
        xmlDocDumpMemoryEnc(doc, &text, &length, "UTF-8");
    xmlFreeDoc(doc);
    if (!text)
        return rp_fail_memory(e);
    *ret_text = take(text);
    return *ret_text ? 0 : rp_fail_memory(e);
}

static xmlNode *new_document(const char *root, xmlDoc **ret_doc, bool *ok)
{
    xmlNode *top;

    *ret_doc = xmlNewDoc(BAD_CAST "1.0");
    top = xmlNewNode(NULL, BAD_CAST root);
    *ok = *ret_doc && top;
    if (*ok)
        xmlDocSetRootElement(*ret_doc, top);
    else
        xmlFreeNode(top);
    return top;
}

static void add_text(xmlNode *parent, const char *name, const char *text, bool *ok)
{
    *ok = *ok && xmlNewTextChild(parent, NULL, BAD_CAST name, BAD_CAST text);
}

int xml_make_checkpoint(const char *name, const char *description,
                        const struct xml_mark_disk *disks, size_t ndisks, char **ret_text,
                        struct rp_error *e)
{
    xmlDoc *doc;
    bool ok;
    xmlNode *top = new_document("domaincheckpoint", &doc, &ok), *list;

    add_text(top, "name", name, &ok);
    if (*description)
        add_text(top, "description", description, &ok);
    /* The schema wants at least one disk in a list; no list means all of them. */
    list = ndisks ? add(top, "disks", &ok) : NULL;
    for (size_t i = 0; i < ndisks && ok; i++) {
        xmlNode *disk = add(list, "disk", &ok);
        set(disk, "name", disks[i].target, &ok);
        set(disk, "checkpoint", disks[i].marked ? "bitmap" : "no", &ok);
    }
    return render(doc, ok, ret_text, e);
}

static void add_redefined_disks(xmlNode *top, const char *name, const struct xml_mark_disk *disks,
                                size_t ndisks, bool *ok)
{
    xmlNode *list = add(top, "disks", ok);

    for (size_t i = 0; i < ndisks && *ok; i++) {
        xmlNode *disk = add(list, "disk", ok);
        set(disk, "name", disks[i].target, ok);
        set(disk, "checkpoint", disks[i].marked ? "bitmap" : "no", ok);
        if (disks[i].marked)
            set(disk, "bitmap", name, ok);
    }
}

int xml_make_redefinition(const char *name, const char *description, const char *parent,
                          time_t created, const struct xml_mark_disk *disks, size_t ndisks,
                          const char *domain_xml, char **ret_text, struct rp_error *e)
{
    xmlDoc *domain = parse(domain_xml, "domain", e), *doc;
    char time[32];
    xmlNode *top, *copy;
    bool ok;

    if (!domain)
        return -EIO;
    top = new_document("domaincheckpoint", &doc, &ok);
    add_text(top, "name", name, &ok);
    if (*description)
        add_text(top, "description", description, &ok);
    if (*parent)
        add_text(add(top, "parent", &ok), "name", parent, &ok);
    snprintf(time, sizeof time, "%lld", (long long)created);
    add_text(top, "creationTime", time, &ok);
    add_redefined_disks(top, name, disks, ndisks, &ok);
    copy = ok ? xmlDocCopyNode(xmlDocGetRootElement(domain), doc, 1) : NULL;
    ok = copy && xmlAddChild(top, copy);
    xmlFreeDoc(domain);
    return render(doc, ok, ret_text, e);
}

static void add_backup_disk(xmlNode *list, const struct xml_mark_disk *mark, bool *ok)
{
    xmlNode *disk = add(list, "disk", ok), *scratch;

    set(disk, "name", mark->target, ok);
    set(disk, "backup", mark->included ? "yes" : "no", ok);
    if (!mark->included)
        return;
    set(disk, "type", "file", ok);
    set(disk, "backupmode", mark->base ? "incremental" : "full", ok);
    if (mark->base) {
        set(disk, "incremental", mark->base, ok);
        set(disk, "exportbitmap", mark->bitmap, ok);
    }
    set(disk, "exportname", mark->export_name, ok);
    scratch = add(disk, "scratch", ok);
    set(scratch, "file", mark->scratch_file, ok);
}

int xml_make_backup(const char *socket_path, const struct xml_mark_disk *disks, size_t ndisks,
                    char **ret_text, struct rp_error *e)
{
    xmlDoc *doc;
    bool ok;
    xmlNode *top = new_document("domainbackup", &doc, &ok);
    xmlNode *server, *list;

    set(top, "mode", "pull", &ok);
    server = add(top, "server", &ok);
    set(server, "transport", "unix", &ok);
    set(server, "socket", socket_path, &ok);
    list = add(top, "disks", &ok);
    for (size_t i = 0; i < ndisks && ok; i++)
        add_backup_disk(list, &disks[i], &ok);
    return render(doc, ok, ret_text, e);
}
