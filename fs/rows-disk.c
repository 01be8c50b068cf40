// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The files of a disk of a held instant, in vms/<vm>/refpoints/<name>/disks/. For the owner of the
 * mount alone (and -o group=), since they are the guest's data, and where the guest wrote.
 */
#include <errno.h>

#include "rows.h"

static int measure_data(const struct disk_info *info, struct stat *st)
{
    /* Until it is known where the holes are, there are none. */
    tree_set_size(st, info->has_data_bytes ? info->data_bytes : info->size_bytes);
    st->st_size = (off_t)info->size_bytes;
    return 0;
}

static int measure_map(const struct disk_info *info, struct stat *st)
{
    if (!info->has_map)
        return -ENOENT;
    tree_set_size(st, info->map_bytes);
    return 0;
}

static const struct blob blob_data = {.is_data = true, .measure = measure_data};
static const struct blob blob_map = {.measure = measure_map};

static const struct attr rows[] = {
    {.path = ".img", .mode = S_IFREG | 0400, .blob = &blob_data},
    {.path = ".map", .mode = S_IFREG | 0400, .blob = &blob_map},
};

const struct class class_disk = {
    "disk", KIND_DISK, sizeof rows / sizeof rows[0], rows, .is_flat = true,
};
