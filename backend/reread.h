/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The checksum of a file that could not be hashed while it was written, because its beginning was
 * final only at the end.
 */
#ifndef REFPOINTFS_REREAD_H
#define REFPOINTFS_REREAD_H

#include <stdint.h>

#include "error.h"

/*
 * The SHA-256 of the first `file_bytes` bytes of a file that is open for reading. Reads in the
 * caller's thread and hashes in another, which is gone on return. `check` (NULL allowed) is asked
 * between reads; a -errno from it ends the work. A file that is shorter is an error. The
 * descriptor's flags are as before when it returns.
 */
int reread_hash(int fd, uint64_t file_bytes, int (*check)(void *opaque, struct rp_error *e),
                void *opaque, unsigned char *ret_sha256, struct rp_error *e);

#endif
