/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The variables of a VM's firmware (UEFI's NVRAM): a small file that QEMU writes through, with no
 * bitmap and no backup job of its own. It is copied when a hold begins, and from there to exports.
 */
#ifndef REFPOINTFS_NVRAM_H
#define REFPOINTFS_NVRAM_H

#include "error.h"

/* Copies the regular file `from` to `to`, which must not exist yet; mode 0600. */
int nvram_save(const char *from, const char *to, struct rp_error *e);

/* Copies the regular file `from` to the empty file `to`, and syncs that. */
int nvram_copy(const char *from, int to, struct rp_error *e);

#endif
