// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The settings INI: one table of keys, from which parsing, printing, copying and the template all
 * come. A new key is one row (and a kind, where none fits). Text in, struct out: knows nothing of
 * VMs or directories, does no I/O. No state; any thread.
 */
#include "settings.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "ini.h"
#include "settings-kinds.h"

/* ---- the table ---- */

_Static_assert(4 * SETTINGS_VALUE_MAX + SETTINGS_DISKS_MAX * (SETTINGS_DISK_MAX + 1) + 1024 <=
                   SETTINGS_TEXT_MAX,
               "the longest settings, printed, must be short enough to be parsed");

static const char *const formats[] = {"qcow2", "raw", NULL};
static const char *const checksums[] = {"sha256", "none", NULL};
static const char *const base_lost[] = {"fail", "full", NULL};
static const char *const consistencies[] = {"auto", "1", "2", NULL};

#define AT(member) offsetof(struct export_settings, member)

/* Where a key can stand. */
#define IN(scope)  (1u << (scope))
#define IN_EXPORTS (IN(SETTINGS_OF_REFPOINT) | IN(SETTINGS_OF_VM))
#define IN_ALL     (IN_EXPORTS | IN(SETTINGS_OF_CREATE))

/* key, kind, field, words, default, example, help, scopes */
static const struct settings_row rows[SETTING_COUNT] = {
    [SETTING_NAME] = {"Name", &settings_kind_text, AT(name), NULL, NULL, "tue",
                      "Required: the name of the reference point to make.", IN(SETTINGS_OF_CREATE)},
    [SETTING_EXPORT_DIRECTORY] =
        {"ExportDirectory", &settings_kind_path, AT(export_directory), NULL, NULL,
         "/backup/web1/tue",
         "Required: full path of the directory to export to. It is made if its parent\n"
         "exists, and refused if it already holds an export.",
         IN_EXPORTS},
    [SETTING_BASE_REFPOINT] =
        {"BaseReferencePoint", &settings_kind_text, AT(base_refpoint), NULL, NULL, "mon",
         "Only what changed since this reference point of the same VM: a name, or a path\n"
         "such as ../mon. Without it an export is full, and a hold has the changes since\n"
         "the newest sound reference point.",
         IN_ALL},
    [SETTING_DISKS] =
        {"DisksToExport", &settings_kind_disks, AT(disks), NULL, NULL, "vda,vdb",
         "Disks, separated by commas or spaces, or the key repeated. Without it every disk.",
         IN_ALL},
    [SETTING_FORMAT] = {"Format", &settings_kind_choice, AT(format), formats, "qcow2", NULL,
                        "qcow2, or raw (full exports only).", IN_EXPORTS},
    [SETTING_COMPRESSION] =
        {"Compression", &settings_kind_compression, AT(compression), NULL, "none", NULL,
         "none, zstd (which is zstd:1), or zstd:LEVEL with a level from 1 to 19.", IN_EXPORTS},
    [SETTING_CHECKSUM] = {"Checksum", &settings_kind_choice, AT(checksum), checksums, "sha256",
                          NULL, "sha256 (for sha256sum -c SHA256SUMS), or none.", IN_EXPORTS},
    [SETTING_BASE_EXPORT_DIRECTORY] =
        {"BaseExportDirectory", &settings_kind_path, AT(base_export_directory), NULL, NULL,
         "/backup/web1/mon",
         "Full path of the base's export. Without it, where the base was last exported.",
         IN_EXPORTS},
    [SETTING_IF_BASE_LOST] =
        {"IfBaseLost", &settings_kind_choice, AT(if_base_lost), base_lost, "fail", NULL,
         "For a disk whose change record is missing or broken: fail, or export it in full.",
         IN_EXPORTS},
    [SETTING_REQUIRE_EXACT] =
        {"RequireExact", &settings_kind_yes_no, AT(require_exact), NULL, "no", NULL,
         "yes: refuse, instead of exporting a later moment than the reference point's.",
         IN_EXPORTS},
    [SETTING_BANDWIDTH] =
        {"Bandwidth", &settings_kind_bandwidth, AT(bandwidth_bytes), NULL, NULL, "50M",
         "Bytes per second; K, M and G are powers of 1024; 0 is no limit. Without it the\n"
         "mount's setting holds.",
         IN_EXPORTS},
    [SETTING_TIMEOUT] = {"Timeout", &settings_kind_seconds, AT(timeout_seconds), NULL, "0", NULL,
                         "Seconds for the whole job; 0 is no limit.", IN_EXPORTS},
    [SETTING_KEEP_HOLD] = {"KeepHold", &settings_kind_yes_no, AT(keep_hold), NULL, "no", NULL,
                           "yes: keep holding the instant's data after a successful export.",
                           IN_EXPORTS},
    [SETTING_REFPOINT] = {"ReferencePoint", &settings_kind_text, AT(refpoint), NULL, NULL, "tue",
                          "Make a reference point of this name at the exported instant.",
                          IN(SETTINGS_OF_VM)},
    [SETTING_CONSISTENCY] =
        {"ConsistencyLevel", &settings_kind_choice, AT(consistency), consistencies, "auto", NULL,
         "1: application consistent, or none at all; 2: crash consistent; auto: as the\n"
         "mount's setting has it.",
         IN(SETTINGS_OF_CREATE)},
    [SETTING_HOLD] =
        {"Hold", &settings_kind_seconds, AT(hold_seconds), NULL, "0", NULL,
         "Seconds that the instant is held when nobody uses it; 0: the mount's setting.",
         IN(SETTINGS_OF_CREATE)},
};

const char *settings_key(enum setting setting)
{
    return rows[setting].key;
}

/* ---- reading ---- */

struct parse {
    struct export_settings settings;
    enum settings_scope scope;
    unsigned section_line; /* of [export]; 0 = not seen */
};

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Edit distance without case (Levenshtein, one line of the matrix at a time). */
static size_t distance(const char *a, const char *b)
{
    size_t line[INI_NAME_MAX + 1];
    size_t width = strlen(b);

    for (size_t j = 0; j <= width; j++)
        line[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = line[0];
        line[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t change = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
            diagonal = line[j];
            line[j] = smallest(line[j] + 1, line[j - 1] + 1, change);
        }
    }
    return line[width];
}

static bool is_in_scope(const struct settings_row *row, enum settings_scope scope)
{
    return row->scopes & IN(scope);
}

static const char *why_out_of_scope(const struct settings_row *row)
{
    if (row->scopes == IN(SETTINGS_OF_VM))
        return "can be set only in the VM's own export file";
    return row->scopes & IN_EXPORTS ? "can be set only in an export file"
                                    : "can be set only in the VM's create file";
}

/* The key that `name` is most likely meant to be, or NULL: a few slips away, or cut short. */
static const char *nearest_key(const char *name, enum settings_scope scope)
{
    const char *nearest = NULL;
    size_t least = strlen(name) / 3 + 1; /* more slips than that are another word */

    for (size_t i = 0; i < SETTING_COUNT; i++) {
        size_t slips = distance(name, rows[i].key);
        if (!is_in_scope(&rows[i], scope))
            continue;
        if (strlen(name) >= 4 && strncasecmp(name, rows[i].key, strlen(name)) == 0)
            return rows[i].key;
        if (slips <= least && (!nearest || slips < least)) {
            nearest = rows[i].key;
            least = slips;
        }
    }
    return nearest;
}

static int find_row(const struct parse *p, const char *name, enum setting *ret_setting,
                    struct rp_error *e)
{
    const char *nearest;

    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (strcasecmp(name, rows[i].key) != 0)
            continue;
        if (!is_in_scope(&rows[i], p->scope))
            return rp_fail(e, RESULT_INVALID_PARAMETER, "%s %s", rows[i].key,
                           why_out_of_scope(&rows[i]));
        *ret_setting = (enum setting)i;
        return 0;
    }
    nearest = nearest_key(name, p->scope);
    if (nearest)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "unknown key '%s'; did you mean '%s'?", name,
                       nearest);
    return rp_fail(e, RESULT_INVALID_PARAMETER, "unknown key '%s'", name);
}

/* A path is shown in status files and terminals: what would garble them is refused up front. */
static int check_value(const struct settings_row *row, const char *value, struct rp_error *e)
{
    if (*value == '\0')
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "%s has no value; leave the line out to get the default", row->key);
    for (const char *s = value; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return rp_fail(e, RESULT_INVALID_PARAMETER,
                           "%s has a control character (0x%02x) at byte %zu of its value", row->key,
                           (unsigned char)*s, (size_t)(s - value) + 1);
    return 0;
}

static int take_setting(struct parse *p, const char *name, const char *value, unsigned line,
                        struct rp_error *e)
{
    enum setting setting = SETTING_COUNT;
    const struct settings_row *row;
    int status = find_row(p, name, &setting, e);

    if (status < 0)
        return status;
    row = &rows[setting];
    if (p->settings.line[setting] && !row->kind->can_repeat)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s is set already, on line %u", row->key,
                       p->settings.line[setting]);
    status = check_value(row, value, e);
    if (status < 0)
        return status;
    status = row->kind->parse(row, value, &p->settings, e);
    if (status < 0)
        return status;
    if (!p->settings.line[setting])
        p->settings.line[setting] = line;
    p->settings.count++;
    return 0;
}

static int take_entry(void *opaque, const char *section, const char *name, const char *value,
                      unsigned line, struct rp_error *e)
{
    int status = take_setting(opaque, name, value, line, e);

    (void)section; /* judged by take_section() */
    if (status < 0)
        rp_error_prefix(e, "line %u: ", line);
    return status;
}

static int take_section(void *opaque, const char *section, unsigned line, struct rp_error *e)
{
    struct parse *p = opaque;

    if (strcasecmp(section, "export") != 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "line %u: unknown section [%s]; the only one is [export]", line, section);
    if (p->section_line)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "line %u: section [export] stands already on line %u", line,
                       p->section_line);
    p->section_line = line;
    return 0;
}

/* IfBaseLost without a base is fine: scripts send it always, and it promises nothing untrue. */
static int check_together(const struct export_settings *s, enum settings_scope scope,
                          struct rp_error *e)
{
    if (s->count == 0)
        return 0;
    if (scope == SETTINGS_OF_CREATE)
        return s->name ? 0 : rp_fail(e, RESULT_INVALID_PARAMETER, "Name is missing");
    if (!s->export_directory)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "ExportDirectory is missing");
    if (s->format == SETTINGS_FORMAT_RAW && s->base_refpoint)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "line %u: raw cannot hold a delta; leave out BaseReferencePoint, or use "
                       "Format=qcow2",
                       s->line[SETTING_FORMAT]);
    if (s->format == SETTINGS_FORMAT_RAW && s->compression != SETTINGS_COMPRESSION_NONE)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "line %u: raw cannot be compressed; leave out Compression, or use "
                       "Format=qcow2",
                       s->line[SETTING_FORMAT]);
    /* Most likely the base was forgotten: a full export would be a costly surprise. */
    if (s->base_export_directory && !s->base_refpoint)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "line %u: BaseExportDirectory needs BaseReferencePoint",
                       s->line[SETTING_BASE_EXPORT_DIRECTORY]);
    return 0;
}

int settings_parse(const char *text, size_t length, bool whole, enum settings_scope scope,
                   struct export_settings *ret_settings, struct rp_error *e)
{
    struct parse p = {.scope = scope};
    int status;

    if (length > SETTINGS_TEXT_MAX) {
        rp_fail(e, RESULT_INVALID_PARAMETER, "the text has %zu bytes, but can have at most %d",
                length, SETTINGS_TEXT_MAX);
        if (e)
            e->err = EFBIG;
        return -EFBIG;
    }
    status = ini_read_sections(text, length, whole, take_entry, take_section, &p, e);
    if (status == 0 && whole)
        status = check_together(&p.settings, scope, e);
    if (status < 0) {
        settings_clear(&p.settings);
        return status;
    }
    *ret_settings = p.settings;
    return 0;
}

/* ---- keeping ---- */

void settings_clear(struct export_settings *settings)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (rows[i].kind->clear)
            rows[i].kind->clear(&rows[i], settings);
    memset(settings, 0, sizeof *settings);
}

int settings_copy(const struct export_settings *settings, struct export_settings *ret_copy,
                  struct rp_error *e)
{
    struct export_settings copy = *settings;
    int status = 0;

    copy.export_directory = copy.base_refpoint = NULL;
    copy.base_export_directory = copy.refpoint = copy.name = NULL;
    copy.disks = NULL;
    copy.ndisks = 0;
    for (size_t i = 0; i < SETTING_COUNT && status == 0; i++)
        if (rows[i].kind->copy && rows[i].kind->is_set(&rows[i], settings))
            status = rows[i].kind->copy(&rows[i], settings, &copy);
    if (status < 0) {
        settings_clear(&copy);
        return rp_fail_memory(e);
    }
    *ret_copy = copy;
    return 0;
}

/* ---- printing ---- */

void settings_print(const struct export_settings *settings, enum settings_scope scope, FILE *out)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct settings_row *row = &rows[i];
        if (!is_in_scope(row, scope) || (row->kind->is_set && !row->kind->is_set(row, settings)))
            continue;
        fprintf(out, "%s=", row->key);
        row->kind->print(row, settings, out);
        fputc('\n', out);
    }
}

/* Prints lines as comments, whatever bytes they hold: no line of the template may be a setting. */
static void print_comment(const char *indent, const char *lines, FILE *out)
{
    fprintf(out, "#%s", indent);
    for (; *lines; lines++) {
        fputc(*lines, out);
        if (*lines == '\n')
            fprintf(out, "#%s", indent);
    }
    fputc('\n', out);
}

static void print_choices(const char *what, const char *choices, FILE *out)
{
    if (!choices || !*choices)
        return;
    fprintf(out, "#   %s:\n", what);
    print_comment("     ", choices, out);
}

static const char *const introductions[] = {
    [SETTINGS_OF_REFPOINT] =
        "# Settings of an export. Write lines of the form NAME=VALUE to this file: the export\n"
        "# starts when it is closed. End the last line too, so that mistakes in it are reported\n"
        "# at once. This text holds only comments and starts nothing. What is given after each\n"
        "# name is the default, or an example where there is none.\n",
    [SETTINGS_OF_VM] =
        "# Settings of an export of the VM as it is now. Write lines of the form NAME=VALUE to\n"
        "# this file: the export starts when it is closed. End the last line too, so that\n"
        "# mistakes in it are reported at once. This text holds only comments and starts\n"
        "# nothing. What is given after each name is the default, or an example where there is\n"
        "# none.\n",
    [SETTINGS_OF_CREATE] =
        "# Settings of a new reference point. Write lines of the form NAME=VALUE to this file:\n"
        "# it is made when the file is closed. End the last line too, so that mistakes in it\n"
        "# are reported at once. This text holds only comments and makes nothing. What is given\n"
        "# after each name is the default, or an example where there is none.\n",
};

void settings_print_template(FILE *out, enum settings_scope scope, const char *disks,
                             const char *bases)
{
    fputs(introductions[scope], out);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct settings_row *row = &rows[i];
        if (!is_in_scope(row, scope))
            continue;
        fprintf(out, "#\n#%s=%s\n", row->key, row->initial ? row->initial : row->example);
        print_comment("   ", row->help, out);
        if (i == SETTING_DISKS)
            print_choices("Here", disks, out);
        if (i == SETTING_BASE_REFPOINT)
            print_choices("Here", bases, out);
    }
}
