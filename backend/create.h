/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orders for reference points: settings that were written to vms/<vm>/create. The functions are
 * those of backend.h of like names.
 */
#ifndef REFPOINTFS_CREATE_H
#define REFPOINTFS_CREATE_H

#include "registry.h"

int create_print_template(struct registry *registry, uint64_t vm, FILE *out, struct rp_error *e);
int create_check(struct registry *registry, uint64_t vm, const char *text, size_t length,
                 bool whole, unsigned *ret_settings, struct rp_error *e);
int create_start(struct registry *registry, uint64_t vm, const char *text, size_t length,
                 uint64_t *ret_refpoint, struct rp_error *e);

#endif
