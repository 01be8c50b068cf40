/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orders: settings that were written to an `export`, from the text to the queued job, and what
 * job/ then shows. The functions are those of backend.h of like names.
 */
#ifndef REFPOINTFS_ORDER_H
#define REFPOINTFS_ORDER_H

#include "backend.h"
#include "job.h"
#include "registry.h"
#include "settings.h"

struct order_desk {
    struct registry *registry;
    struct job_queue *queue;
    const struct backend_options *options;
    struct backend_events events;
};

/* The name of the base that settings ask for, allocated; NULL in *ret_name where they ask for none.
 */
int order_base_name(const struct export_settings *settings, const char *vm_name, char **ret_name,
                    struct rp_error *e);

int order_print_template(struct order_desk *desk, uint64_t owner, FILE *out, struct rp_error *e);
int order_may_begin(struct order_desk *desk, uint64_t owner, struct rp_error *e);
void order_receiving(struct order_desk *desk, uint64_t owner, int delta);
int order_check(struct order_desk *desk, uint64_t owner, const char *text, size_t length,
                enum text_state state, const struct caller *caller, unsigned *ret_settings,
                struct rp_error *e);
void order_refused(struct order_desk *desk, uint64_t owner, const struct rp_error *e);
int order_start(struct order_desk *desk, uint64_t owner, const char *text, size_t length,
                const struct caller *caller, uint64_t *ret_job, struct rp_error *e);
int order_get_job(struct order_desk *desk, uint64_t owner, uint64_t *ret_job);
int order_get_info(struct order_desk *desk, uint64_t owner, struct job_info *ret_info,
                   struct rp_error *e);
int order_get_state(struct order_desk *desk, uint64_t owner, enum job_state *ret_state,
                    int *ret_result);

#endif
