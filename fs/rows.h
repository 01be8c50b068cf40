/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tables: which names stand in a directory of each class. Adding a file is one row in
 * rows-*.c, its show or store, and its paragraph in refpointfs.1.scd.
 */
#ifndef REFPOINTFS_ROWS_H
#define REFPOINTFS_ROWS_H

#include "tree.h"

extern const struct class class_root, class_vm, class_refpoint, class_job, class_disk;

/* ---- the files of a job: in jobs/<id>/ and in the job/ of whatever can be exported ---- */

int rows_show_job_status(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_state(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_result(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_progress(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_error(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_settings(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_cancel(const struct node *node, FILE *out, struct rp_error *e);
int rows_show_job_wait(const struct node *node, FILE *out, struct rp_error *e);
extern const struct store rows_store_job_cancel;

/* While a job runs its numbers move on without events. */
enum change rows_job_changes(const struct node *node);

#define JOB_ROW(NAME, MODE, FLAGS, SHOW, CHANGES, STORE)                                           \
    {                                                                                              \
        .path = (NAME), .mode = S_IFREG | (MODE), .topics = TOPIC_JOB,                             \
        .flags = ATTR_JOB_TIME | (FLAGS), .show = (SHOW), .changes = (CHANGES), .store = (STORE)   \
    }

#define JOB_ROW_READ(NAME, SHOW) JOB_ROW(NAME, 0444, 0, SHOW, rows_job_changes, NULL)

/* The rows, below `dir`: "" in jobs/<id>/, "job/" elsewhere. Written once, for all classes. */
#define JOB_ROWS(dir)                                                                              \
    JOB_ROW_READ(dir "status", rows_show_job_status),                                              \
        JOB_ROW_READ(dir "state", rows_show_job_state),                                            \
        JOB_ROW_READ(dir "result", rows_show_job_result),                                          \
        JOB_ROW_READ(dir "progress", rows_show_job_progress),                                      \
        JOB_ROW_READ(dir "error", rows_show_job_error),                                            \
        JOB_ROW_READ(dir "settings", rows_show_job_settings),                                      \
        JOB_ROW(dir "cancel", 0644, 0, rows_show_job_cancel, NULL, &rows_store_job_cancel),        \
        JOB_ROW(dir "wait", 0444, ATTR_HIDDEN | ATTR_WAIT, rows_show_job_wait, NULL, NULL)

/* ---- `export`, of whatever can be exported ---- */

int rows_show_export(const struct node *node, FILE *out, struct rp_error *e);
extern const struct store rows_store_export;

#endif
