// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The file system identity of one thread. Linux keeps it apart from the identity used for signals
 * and the like (setfsuid(2)); glibc's wrappers for it, unlike those of setuid(), change the
 * calling thread only. Supplementary groups need the bare system call for the same reason.
 */
#include "caller.h"

#include <grp.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

int caller_enter(const struct caller *caller, struct rp_error *e)
{
    if (geteuid() != 0) {
        if (caller->uid == geteuid())
            return 0;
        return rp_fail(e, RESULT_ACCESS_DENIED,
                       "the service runs as user %u and cannot act for user %u",
                       (unsigned)geteuid(), (unsigned)caller->uid);
    }
    if (syscall(SYS_setgroups, caller->ngroups, caller->groups) < 0)
        return rp_fail(e, RESULT_ACCESS_DENIED, "cannot take the groups of user %u",
                       (unsigned)caller->uid);
    /* The group first: with the user go the rights to change it. */
    setfsgid(caller->gid);
    setfsuid(caller->uid);
    return 0;
}

void caller_leave(void)
{
    if (geteuid() != 0)
        return;
    setfsuid(0);
    setfsgid(getegid());
    /* Root needs no supplementary groups; none is fewer rights than those it was started with. */
    syscall(SYS_setgroups, (size_t)0, NULL);
}
