/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What lies beside the disks in an export directory: checksums, definitions, NVRAM, and the
 * manifest that makes an export of it.
 */
#ifndef REFPOINTFS_PAPERS_H
#define REFPOINTFS_PAPERS_H

#include <stdbool.h>

#include "export.h"
#include "manifest.h"
#include "outdir.h"
#include "virt.h"

/* All borrowed but the manifest. */
struct papers {
    struct virt *virt;
    const struct export_subject *subject;
    struct outdir *outdir;
    bool checksum;
    struct manifest manifest; /* what it says of disks is the caller's to fill in, and to clear */
};

/* Fills in what the manifest says of the subject. -ENOMEM leaves it to be cleared all the same. */
int papers_describe(struct papers *papers, struct rp_error *e);

/* All papers but the manifest; what they are is put into that. Not published. */
int papers_write(struct papers *papers, struct rp_error *e);

/* Not published either: that is what declares the export complete. */
int papers_write_manifest(const struct papers *papers, struct rp_error *e);

#endif
