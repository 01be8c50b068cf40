// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes the settings parser. Laws: nothing crashes; a refusal has a number, an errno and a
 * sentence in UTF-8; what was accepted, printed and parsed again gives the same settings; a text
 * that is acceptable as a whole is never refused while it is still being written.
 *
 * The first byte of an input chooses `of_vm`, the rest is the text.
 */
#include <stdlib.h>
#include <string.h>

#include "../backend/settings.h"
#include "fuzz.h"

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_disks(const struct export_settings *a, const struct export_settings *b)
{
    if (a->ndisks != b->ndisks)
        return false;
    for (size_t i = 0; i < a->ndisks; i++)
        if (strcmp(a->disks[i], b->disks[i]) != 0)
            return false;
    return true;
}

static bool same_settings(const struct export_settings *a, const struct export_settings *b)
{
    return same_text(a->export_directory, b->export_directory) &&
           same_text(a->base_refpoint, b->base_refpoint) && same_disks(a, b) &&
           a->format == b->format && a->compression == b->compression &&
           a->compression_level == b->compression_level && a->checksum == b->checksum &&
           same_text(a->base_export_directory, b->base_export_directory) &&
           a->if_base_lost == b->if_base_lost && a->require_exact == b->require_exact &&
           a->has_bandwidth == b->has_bandwidth && a->bandwidth_bytes == b->bandwidth_bytes &&
           a->timeout_seconds == b->timeout_seconds && a->keep_hold == b->keep_hold &&
           same_text(a->refpoint, b->refpoint);
}

static void check_round_trip(const struct export_settings *settings, bool whole, bool of_vm)
{
    struct export_settings again = {0}, copy = {0};
    struct rp_error e = RP_ERROR_INIT;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    fuzz_require(out != NULL, "memory");
    settings_print(settings, of_vm, out);
    fuzz_require(fclose(out) == 0, "memory");
    fuzz_require(settings_parse(text, length, whole, of_vm, &again, &e) == 0,
                 "what is printed parses");
    fuzz_require(same_settings(settings, &again), "what is printed means the same");
    fuzz_require(settings_copy(settings, &copy, &e) == 0, "can be copied");
    fuzz_require(same_settings(settings, &copy) && copy.count == settings->count,
                 "a copy is the same");
    settings_clear(&copy);
    settings_clear(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct export_settings settings = {0}, pieces = {0};
    struct rp_error e = RP_ERROR_INIT;
    bool of_vm = size > 0 && (data[0] & 1);
    const char *text = size > 0 ? (const char *)data + 1 : "";
    size_t length = size > 0 ? size - 1 : 0;
    int status = settings_parse(text, length, true, of_vm, &settings, &e);

    if (status < 0) {
        fuzz_check_refusal(status, &e);
    } else {
        /* A text of comments alone has no ExportDirectory and needs none. */
        check_round_trip(&settings, settings.count > 0, of_vm);
        fuzz_require(settings_parse(text, length / 2, false, of_vm, &pieces, &e) == 0,
                     "a piece of a good text is not refused");
        settings_clear(&pieces);
    }
    settings_clear(&settings);

    status = settings_parse(text, length, false, of_vm, &settings, &e);
    if (status == 0)
        check_round_trip(&settings, false, of_vm);
    else
        fuzz_check_refusal(status, &e);
    settings_clear(&settings);
    return 0;
}
