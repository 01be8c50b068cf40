// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes the reader of export.ini, which lies in directories that others may write. Laws: nothing
 * crashes; a refusal says why; what was read, printed and read again is the same; the same manifest
 * cut short anywhere is refused, or does not say more disks than the whole one.
 */
#include "../backend/manifest.h"
#include "fuzz.h"

static char *print(const struct manifest *manifest, size_t *ret_length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_length);

    fuzz_require(out != NULL, "memory");
    manifest_print(manifest, out);
    fuzz_require(fclose(out) == 0, "memory");
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest manifest, again;
    struct rp_error e = RP_ERROR_INIT;
    char *text, *text_again;
    size_t length, length_again, ndisks;
    int status = manifest_parse((const char *)data, size, &manifest, &e);

    if (status < 0) {
        fuzz_check_refusal(status, &e);
        return 0;
    }
    ndisks = manifest.ndisks;
    text = print(&manifest, &length);
    manifest_clear(&manifest);
    /* What cannot stand in a line is printed as something that can: from then on it is stable. */
    if (manifest_parse(text, length, &again, &e) == 0) {
        text_again = print(&again, &length_again);
        fuzz_require(length == length_again && memcmp(text, text_again, length) == 0,
                     "what is printed means the same");
        free(text_again);
        manifest_clear(&again);
    }
    if (manifest_parse(text, length / 2, &again, &e) == 0) {
        fuzz_require(again.ndisks <= ndisks, "a piece has no more disks");
        manifest_clear(&again);
    }
    free(text);
    return 0;
}
