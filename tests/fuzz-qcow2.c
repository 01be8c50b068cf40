// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes the reader of qcow2 headers and directories of bitmaps, which are whatever an image has.
 * Laws: nothing crashes; a refusal says why; the numbers are in QEMU's bounds; a bitmap is found by
 * its name; the short reading agrees.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../backend/qcow2-file.h"
#include "fuzz.h"

static void check_facts(const struct qcow2_facts *facts)
{
    fuzz_require(facts->cluster_bytes >= 512 && facts->cluster_bytes <= 2u << 20, "cluster size");
    fuzz_require(!facts->backing || strlen(facts->backing) <= 1023, "length of the backing name");
    fuzz_require(facts->nbitmaps == 0 || facts->version >= 3, "version 2 has no bitmaps");
    for (size_t i = 0; i < facts->nbitmaps; i++) {
        const struct qcow2_bitmap *found = qcow2_file_find_bitmap(facts, facts->bitmaps[i].name);

        fuzz_require(found && found <= &facts->bitmaps[i], "a bitmap is found by its name");
    }
}

static void read_image(const char *path)
{
    struct qcow2_facts facts, numbers;
    struct rp_error e = RP_ERROR_INIT;
    int status = qcow2_file_read(path, &facts, &e);

    if (status < 0) {
        fuzz_check_refusal(status, &e);
        return;
    }
    check_facts(&facts);
    fuzz_require(qcow2_file_read_header(path, &numbers, &e) == 0, "the header can be read");
    fuzz_require(numbers.version == facts.version && numbers.size_bytes == facts.size_bytes &&
                     numbers.cluster_bytes == facts.cluster_bytes && !numbers.bitmaps &&
                     !numbers.backing,
                 "the short reading agrees, and leaves nothing to clear");
    qcow2_file_clear(&facts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("image", MFD_CLOEXEC);

    fuzz_require(fd >= 0 && write(fd, data, size) == (ssize_t)size, "a file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    read_image(path);
    close(fd);
    return 0;
}
