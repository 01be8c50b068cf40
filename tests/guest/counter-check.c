// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * counter-check IMAGE.raw [MIN MAX]: proves that a raw image of the guest's disk shows one instant.
 *
 * Prints K, the number of the last write, and exits 0 if every slot holds exactly what it must hold
 * when K was the last write that finished (see counter.S), and MIN <= K <= MAX where given. Else
 * says which slot contradicts and exits 1; 2 when the image cannot be read. A write of one sector
 * is taken for atomic, as disks do.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR_BYTES 512
#define SLOTS        256
#define SLOT_BYTES   (128 * SECTOR_BYTES)

static const char magic[] = "refpointfs-count";

static uint64_t number_at(const uint8_t *bytes, size_t count)
{
    uint64_t number = 0;

    while (count-- > 0)
        number = number << 8 | bytes[count];
    return number;
}

/* The number a sector holds, 0 for one never written. False: it is neither. */
static bool read_number(const uint8_t *sector, uint64_t *ret_number)
{
    uint64_t number = number_at(sector + 16, 8);
    static const uint8_t zeros[SECTOR_BYTES];

    if (memcmp(sector, zeros, SECTOR_BYTES) == 0) {
        *ret_number = 0;
        return true;
    }
    if (memcmp(sector, magic, strlen(magic)) != 0 || number_at(sector + 24, 8) != ~number ||
        number == 0)
        return false;
    for (size_t i = 32; i < SECTOR_BYTES; i += 4)
        if (number_at(sector + i, 4) != (number & UINT32_MAX))
            return false;
    *ret_number = number;
    return true;
}

static int read_slots(const char *name, uint64_t numbers[SLOTS])
{
    uint8_t sector[SECTOR_BYTES];
    int fd = open(name, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return 2;
    }
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (pread(fd, sector, sizeof sector, (off_t)SLOT_BYTES * (slot + 1)) != sizeof sector) {
            fprintf(stderr, "%s: slot %u cannot be read\n", name, slot);
            close(fd);
            return 2;
        }
        if (!read_number(sector, &numbers[slot])) {
            printf("slot %u holds no write of the guest\n", slot);
            close(fd);
            return 1;
        }
    }
    close(fd);
    return 0;
}

/* What `slot` holds when `last` was the last write: the greatest number up to it, 0 for none. */
static uint64_t number_due(unsigned slot, uint64_t last)
{
    uint64_t steps_back = (last - slot) % SLOTS;

    return last > steps_back ? last - steps_back : 0;
}

static int check_slots(const uint64_t numbers[SLOTS], uint64_t *ret_last)
{
    uint64_t last = 0;

    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (numbers[slot] > last)
            last = numbers[slot];
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        uint64_t due = number_due(slot, last);
        if (numbers[slot] == due)
            continue;
        printf("slot %u holds %" PRIu64 ", but must hold %" PRIu64 " when %" PRIu64
               " was the last write\n",
               slot, numbers[slot], due, last);
        return 1;
    }
    *ret_last = last;
    return 0;
}

static bool parse_bound(const char *text, uint64_t *ret_bound)
{
    char *end;

    errno = 0;
    *ret_bound = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
}

int main(int argc, char **argv)
{
    uint64_t numbers[SLOTS] = {0}, last = 0, min = 0, max = UINT64_MAX;
    int status;

    if ((argc != 2 && argc != 4) ||
        (argc == 4 && (!parse_bound(argv[2], &min) || !parse_bound(argv[3], &max)))) {
        fprintf(stderr, "usage: counter-check IMAGE.raw [MIN MAX]\n");
        return 2;
    }
    status = read_slots(argv[1], numbers);
    if (status == 0)
        status = check_slots(numbers, &last);
    if (status != 0)
        return status;
    if (last < min || last > max) {
        printf("the last write is %" PRIu64 ", but must be from %" PRIu64 " to %" PRIu64 "\n", last,
               min, max);
        return 1;
    }
    printf("%" PRIu64 "\n", last);
    return 0;
}
