// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The end of holds: whether a job is theirs, how it is ended, and what is removed afterwards. Runs
 * in the thread that called.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hold.h"
#include "xml.h"

#define END_TIMEOUT_MS 30000
#define END_POLL_MS    5

/* The socket of the domain's backup job in *ret_socket, "" if it has none. Freed by the caller. */
static int current_socket(struct virt *virt, const char *uuid, char **ret_socket,
                          struct rp_error *e)
{
    char *xml = NULL;
    int rc = virt_get_backup_xml(virt, uuid, &xml, e);

    if (rc < 0)
        return rc;
    if (xml) {
        rc = xml_parse_backup_socket(xml, ret_socket, e);
        free(xml);
        return rc;
    }
    *ret_socket = strdup("");
    return *ret_socket ? 0 : rp_fail_memory(e);
}

int hold_is_alive(struct virt *virt, const char *uuid, const struct hold *hold, bool *ret_alive,
                  struct rp_error *e)
{
    char *path;
    int rc = current_socket(virt, uuid, &path, e);

    if (rc < 0)
        return rc;
    *ret_alive = strcmp(path, hold->socket_path) == 0;
    free(path);
    return 0;
}

/*
 * libvirt answers the abort before the job is gone, and refuses a new one until it is. Polled,
 * because the event may come before or after it was waited for, and holds end rarely.
 */
static int wait_until_gone(struct virt *virt, const char *uuid, const struct hold *hold,
                           struct rp_error *e)
{
    bool alive = true;

    for (int waited_ms = 0; waited_ms < END_TIMEOUT_MS; waited_ms += END_POLL_MS) {
        int rc = hold_is_alive(virt, uuid, hold, &alive, e);

        if (rc < 0 || !alive)
            return rc;
        usleep(END_POLL_MS * 1000);
    }
    return rp_fail(e, RESULT_TIMEOUT, "libvirt did not end the backup job within %d s",
                   END_TIMEOUT_MS / 1000);
}

/*
 * Ends the job, and waits for libvirt to take QEMU's block nodes apart and to write down that it
 * did, which it does after the job is gone. The embedded driver does that in this process: were
 * it to end before, QEMU would be left with nodes that nobody knows, and libvirt with a job that
 * is none; QEMU 7.2 was seen to die of it at the next backup.
 */
static int end_job(struct virt *virt, const char *uuid, const struct hold *hold, struct rp_error *e)
{
    struct rp_error ignored;
    int rc = virt_abort_job(virt, uuid, e);

    if (rc == 0)
        rc = wait_until_gone(virt, uuid, hold, e);
    if (rc == 0)
        virt_settle(virt, uuid, &ignored);
    return rc;
}

void hold_remove_leftovers(const struct hold *hold)
{
    unlink(hold->socket_path);
    if (hold->nvram && *hold->nvram)
        unlink(hold->nvram);
    for (size_t i = 0; i < hold->ndisks; i++)
        unlink(hold->disks[i].scratch);
}

int hold_end(struct virt *virt, const char *uuid, const struct hold *hold, struct rp_error *e)
{
    bool alive = false;
    int rc = hold->is_offline ? 0 : hold_is_alive(virt, uuid, hold, &alive, e);

    if (rc == 0 && alive)
        rc = end_job(virt, uuid, hold, e);
    if (rc == -ENOENT)
        rc = 0; /* the domain is gone, and its job with it */
    if (rc == 0)
        hold_remove_leftovers(hold);
    return rc;
}
