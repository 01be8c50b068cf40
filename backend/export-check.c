// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What each disk of an export gets, and whether the settings may have it so. Decides by what the
 * subject says, asks nobody. Any thread.
 */
#include "export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_fit(const struct export_subject *subject, const struct export_settings *settings,
                     const struct export_disk *disk, struct rp_error *e)
{
    unsigned line = settings->line[SETTING_BASE_REFPOINT];

    switch (disk->fit) {
    case FIT_FULL:
    case FIT_EXACT:
    case FIT_LARGER:
        return 0;
    case FIT_LOST:
    case FIT_UNTRACKED:
        if (settings->if_base_lost == SETTINGS_BASE_LOST_FULL)
            return 0;
        return rp_fail(e, disk->fit == FIT_LOST ? RESULT_INVALID_STATE : RESULT_NOT_SUPPORTED,
                       "line %u: no delta of disk '%s' since '%s': %s; IfBaseLost=full exports the "
                       "whole disk",
                       line, disk->target, subject->base, disk->why);
    case FIT_TOO_SHORT:
        return rp_fail(e, RESULT_INVALID_STATE,
                       "line %u: '%s' holds the changes of disk '%s' since '%s' only, not since "
                       "'%s'; export with BaseReferencePoint=%s, or in full, or write 0 to hold",
                       line, subject->refpoint, disk->target, disk->start, subject->base,
                       disk->start);
    case FIT_GONE:
        return rp_fail(e, RESULT_INVALID_STATE,
                       "reference point '%s' covers disk '%s', which VM '%s' has no longer; "
                       "DisksToExport= exports those that it has",
                       subject->refpoint, disk->target, subject->vm_name);
    }
    return 0;
}

bool export_is_wanted(const struct export_settings *settings, const char *target)
{
    for (size_t i = 0; i < settings->ndisks; i++)
        if (strcmp(settings->disks[i], target) == 0)
            return true;
    return settings->ndisks == 0;
}

static bool has_disk(const struct export_subject *subject, const char *target)
{
    for (size_t i = 0; i < subject->ndisks; i++)
        if (strcmp(subject->disks[i].target, target) == 0)
            return true;
    return false;
}

static bool fits(const struct export_disk *disk)
{
    return disk->fit == FIT_FULL || disk->fit == FIT_EXACT || disk->fit == FIT_LARGER;
}

/* May a line that is still to come, IfBaseLost= or a choice of disks, make this disk no fault? */
static bool may_be_mended(const struct export_subject *subject,
                          const struct export_settings *settings, const struct export_disk *disk)
{
    bool is_lost = disk->fit == FIT_LOST || disk->fit == FIT_UNTRACKED;

    if (is_lost && !settings->line[SETTING_IF_BASE_LOST])
        return true;
    for (size_t i = 0; i < subject->ndisks && settings->ndisks == 0; i++)
        if (fits(&subject->disks[i]))
            return true;
    return false;
}

int export_check(const struct export_subject *subject, const struct export_settings *settings,
                 enum text_state state, struct rp_error *e)
{
    for (size_t i = 0; i < settings->ndisks; i++)
        if (!has_disk(subject, settings->disks[i]))
            return rp_fail(
                e, RESULT_INVALID_PARAMETER, "line %u: %s '%s' has no disk '%s'",
                settings->line[SETTING_DISKS], *subject->refpoint ? "reference point" : "VM",
                *subject->refpoint ? subject->refpoint : subject->vm_name, settings->disks[i]);
    for (size_t i = 0; i < subject->ndisks; i++) {
        const struct export_disk *disk = &subject->disks[i];
        int rc =
            export_is_wanted(settings, disk->target) ? check_fit(subject, settings, disk, e) : 0;

        if (rc < 0 && (state != TEXT_GROWING || !may_be_mended(subject, settings, disk)))
            return rc;
    }
    return 0;
}

char *export_explain_disk(const struct export_subject *subject, const struct export_disk *disk)
{
    char *why = NULL;
    size_t length;
    FILE *out = open_memstream(&why, &length);

    if (!out)
        return NULL;
    if (disk->fit == FIT_FULL)
        fputs("no base was asked for", out);
    else if (disk->fit == FIT_EXACT)
        fprintf(out, "changes since %s", subject->base);
    else if (disk->fit == FIT_LARGER)
        fprintf(out, "changes since %s, which include those since %s", disk->start, subject->base);
    else
        fprintf(out, "in full, because IfBaseLost=full and %s", disk->why);
    /* QEMU hands out what the guest sees. Whoever keeps the file should know. */
    if (disk->is_encrypted)
        fputs("; the disk is encrypted, this file is not", out);
    if (fclose(out) == 0)
        return why;
    free(why);
    return NULL;
}
