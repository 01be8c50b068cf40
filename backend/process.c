// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Other programs, run and waited for. Knows nothing of what they do. Any thread; a struct process
 * belongs to one at a time.
 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS      10
#define STOP_KIND_MS 5000

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The standard three and nothing else: a hold's socket or somebody's file must not leak. */
static int set_up(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, int output)
{
    sigset_t none, all;
    int err;

    sigemptyset(&none);
    sigfillset(&all);
    err = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (!err)
        err = posix_spawn_file_actions_adddup2(actions, output, 1);
    if (!err)
        err = posix_spawn_file_actions_adddup2(actions, output, 2);
    if (!err)
        err = posix_spawn_file_actions_addclosefrom_np(actions, 3);
    if (!err)
        err = posix_spawnattr_setsigmask(attributes, &none);
    if (!err)
        err = posix_spawnattr_setsigdefault(attributes, &all);
    if (!err)
        err = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return err;
}

int process_start(char *const *arguments, struct process *ret_process, struct rp_error *e)
{
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static char locale[] = "LC_ALL=C.UTF-8";
    char *const environment[] = {path, locale, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int pipe[2], err;
    pid_t pid;

    if (pipe2(pipe, O_CLOEXEC) < 0)
        return rp_fail_errno(e, errno, "cannot make a pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    err = set_up(&actions, &attributes, pipe[1]);
    if (!err)
        err = posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(pipe[1]);
    if (err) {
        close(pipe[0]);
        return rp_fail_errno(e, err, "cannot run %s", arguments[0]);
    }
    *ret_process = (struct process){.pid = pid, .output = pipe[0]};
    return 0;
}

/* The first line of what it printed; programs say there what is wrong. */
static void read_sentence(struct process *process, char *text, size_t size)
{
    size_t length = 0;
    ssize_t got;

    fcntl(process->output, F_SETFL, O_NONBLOCK);
    while (length + 1 < size && (got = read(process->output, text + length, size - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    text[strcspn(text, "\n")] = '\0';
    close(process->output);
    process->output = -1;
}

static int judge(struct process *process, int status, struct rp_error *e)
{
    char sentence[RP_MESSAGE_SIZE];

    read_sentence(process, sentence, sizeof sentence);
    process->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (*sentence)
        return rp_fail(e, RESULT_FAILED, "%s", sentence);
    if (WIFSIGNALED(status))
        return rp_fail(e, RESULT_FAILED, "it was killed by signal %d", WTERMSIG(status));
    return rp_fail(e, RESULT_FAILED, "it ended with status %d", WEXITSTATUS(status));
}

bool process_has_ended(struct process *process, struct rp_error *e)
{
    int status;

    if (process->pid == 0)
        return true;
    if (waitpid(process->pid, &status, WNOHANG) != process->pid)
        return false;
    if (judge(process, status, e) == 0)
        rp_fail(e, RESULT_FAILED, "it ended by itself");
    return true;
}

int process_finish(struct process *process, unsigned timeout_ms, struct rp_error *e)
{
    int64_t end = now_ms() + timeout_ms;
    int status;

    while (waitpid(process->pid, &status, WNOHANG) != process->pid) {
        if (now_ms() > end) {
            process_stop(process);
            return rp_fail(e, RESULT_TIMEOUT, "it did not end within %u s", timeout_ms / 1000);
        }
        poll(NULL, 0, POLL_MS);
    }
    return judge(process, status, e);
}

void process_stop(struct process *process)
{
    int64_t end = now_ms() + STOP_KIND_MS;
    int status;

    if (process->pid) {
        kill(process->pid, SIGTERM);
        while (waitpid(process->pid, &status, WNOHANG) == 0) {
            if (now_ms() > end)
                kill(process->pid, SIGKILL);
            poll(NULL, 0, POLL_MS);
        }
        process->pid = 0;
    }
    if (process->output >= 0)
        close(process->output);
    process->output = -1;
}

int process_run(char *const *arguments, unsigned timeout_ms, struct rp_error *e)
{
    struct process process;
    int rc = process_start(arguments, &process, e);

    if (rc == 0)
        rc = process_finish(&process, timeout_ms, e);
    if (rc < 0)
        rp_error_prefix(e, "%s: ", arguments[0]);
    return rc;
}
