/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How far the kernel reads ahead on this mount.
 */
#ifndef REFPOINTFS_READAHEAD_H
#define REFPOINTFS_READAHEAD_H

/*
 * Lets the kernel read ahead as far as one request of FUSE can reach, instead of the 128 KiB that
 * it starts every FUSE mount with: for files opened from now on. Only root may; without that, and
 * where /sys cannot be written, all stays as it is. The mount must have been answering already.
 */
void readahead_raise(const char *mountpoint);

#endif
