/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line: `refpointfs [URI] MOUNTPOINT [-o OPTION,...]`, as a person types it and as
 * mount(8) does. Read once, in main(), before there are threads.
 */
#ifndef REFPOINTFS_OPTIONS_H
#define REFPOINTFS_OPTIONS_H

#define FUSE_USE_VERSION 312
#include <fuse_opt.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../backend/backend.h"

struct options {
    char *uri;        /* NULL = libvirt's default */
    char *mountpoint; /* absolute, as all paths here; NULL with show_help or show_version */
    char *state_dir, *run_dir;
    char *scratch_dir;               /* NULL = inside state_dir */
    bool own_state_dir, own_run_dir; /* given by the user: made by nobody but the backend */
    unsigned hold_seconds, jobs, max_threads;
    uint64_t bandwidth_bytes, scratch_reserve_bytes;
    enum backend_quiesce quiesce;
    bool has_group;
    gid_t group;
    char *group_name;
    bool foreground, debug, single_thread, use_syslog;
    bool show_help, show_version;
    struct fuse_args fuse_args; /* what libfuse is to get */
};

/*
 * Defaults filled in, all paths absolute. On failure the message is a sentence that names the
 * option, and *ret_is_usage tells a wrong command line from a wrong value.
 */
int options_parse(int argc, char **argv, struct options *ret_options, bool *ret_is_usage,
                  struct rp_error *e);

void options_clear(struct options *options);

/* The folders above the default state and run directories. */
int options_make_dirs(const struct options *options, struct rp_error *e);

/* The text of --help. */
const char *options_help(void);

#endif
