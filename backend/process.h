/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Other programs: run with a clean environment and no descriptors but the standard three.
 */
#ifndef REFPOINTFS_PROCESS_H
#define REFPOINTFS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

struct process {
    pid_t pid;
    int output; /* what it prints, both streams, as a pipe; -1 once read */
};

/* Starts `arguments` (NULL at the end; [0] is looked up in the standard folders). */
int process_start(char *const *arguments, struct process *ret_process, struct rp_error *e);

/*
 * Waits for its end. A status other than 0, a signal, or `timeout_ms` passing (it is killed then)
 * is a failure, with the first line that it printed as the sentence.
 */
int process_finish(struct process *process, unsigned timeout_ms, struct rp_error *e);

/* True when it has ended; its first line is then *e's sentence, as a failure. */
bool process_has_ended(struct process *process, struct rp_error *e);

/* Ends it, kindly and then by force, and waits. */
void process_stop(struct process *process);

/* Both in one. */
int process_run(char *const *arguments, unsigned timeout_ms, struct rp_error *e);

#endif
