// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From the command line to a served mount and back to an orderly end. Knows the order of things
 * and nothing else. Main thread; the only one that takes signals.
 *
 * The process that serves is forked first of all: neither threads nor libvirt's connection
 * survive a fork. The one that was started waits at a pipe until the other is ready, so that its
 * exit status tells whether there is a mount now.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "ops.h"
#include "options.h"

#define FUSE_SUPER_MAGIC 0x65735546

enum { EXIT_USAGE = 2 };

/*
 * Threads come and go with jobs, and what was freed stays with the arena of the thread that had it:
 * with glibc's eight for each core the service grew to several times of what it used.
 */
#define MEMORY_ARENAS 2

static int fail(const struct rp_error *e)
{
    log_message(LOG_ERR, "%s", e->message);
    return EXIT_FAILURE;
}

/* ---- before anything is started ---- */

static int check_mountpoint(const char *path, struct rp_error *e)
{
    struct statfs fs;
    struct stat st;

    if (stat(path, &st) < 0 && errno == ENOTCONN)
        return rp_fail_errno(e, ENOTCONN,
                             "a mount without its server is in the way; `fusermount3 -u %s` first",
                             path);
    if (stat(path, &st) < 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "cannot use the mount point %s: %s%s", path,
                       strerror(errno), errno == ENOENT ? "; make it first" : "");
    if (!S_ISDIR(st.st_mode))
        return rp_fail_errno(e, ENOTDIR, "cannot use the mount point %s", path);
    if (statfs(path, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC && st.st_ino == 1)
        return rp_fail(e, RESULT_IN_USE,
                       "something is mounted at %s already; `fusermount3 -u %s` ends it", path,
                       path);
    /* fusermount3 requires it; root may mount anywhere. */
    if (access(path, W_OK) < 0)
        return rp_fail(e, RESULT_ACCESS_DENIED,
                       "cannot use the mount point %s: %s; take a directory that you may write to",
                       path, strerror(errno));
    return 0;
}

/* Opened as libfuse or fusermount3 would: with the rights of the user. */
static int check_fuse(struct rp_error *e)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        return 0;
    }
    if (errno == ENOENT)
        return rp_fail(e, RESULT_NOT_AVAILABLE,
                       "/dev/fuse is missing; load the kernel's module with `modprobe fuse`, or "
                       "give this container the device");
    if (errno == ENODEV || errno == ENXIO)
        return rp_fail(e, RESULT_NOT_AVAILABLE,
                       "the kernel has no FUSE now; load its module with `modprobe fuse`");
    return rp_fail(e, RESULT_ACCESS_DENIED,
                   "cannot open /dev/fuse: %s; its mode or the rules of this container are in the "
                   "way",
                   strerror(errno));
}

/* ---- becoming a daemon ---- */

/* The parent's part: the child's first byte says that it serves; without one, it has failed. */
static int wait_until_ready(int fd, pid_t child)
{
    char byte;
    int status;
    ssize_t n;

    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return EXIT_SUCCESS;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_FAILURE;
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

/*
 * Returns in the process that is to serve, with the end of the pipe that reports readiness; the
 * other one never returns.
 */
static int fork_server(int *ret_ready, struct rp_error *e)
{
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return rp_fail_errno(e, errno, "cannot make a pipe");
    child = fork();
    if (child < 0) {
        int err = errno;
        close(ends[0]);
        close(ends[1]);
        return rp_fail_errno(e, err, "cannot fork");
    }
    if (child > 0) {
        close(ends[1]);
        _exit(wait_until_ready(ends[0], child));
    }
    close(ends[0]);
    setsid();
    *ret_ready = ends[1];
    return 0;
}

/* Until now stderr was the caller's; from now on nobody is there. */
static void leave_terminal(int ready)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (chdir("/") < 0)
        log_message(LOG_WARNING, "cannot change to /: %s", strerror(errno));
    log_use_syslog();
    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        if (null > 2)
            close(null);
    }
    /* It fails only when the caller did not wait. */
    if (write(ready, "", 1) < 0)
        log_message(LOG_WARNING, "nobody waits for the mount");
    close(ready);
}

/* ---- serving ---- */

/*
 * Signals end libfuse's loop only when the main thread gets them, so all threads that the backend
 * starts are born with them blocked.
 */
static int open_backend(const struct options *options, struct mount *mount,
                        struct backend **ret_backend, struct rp_error *e)
{
    const struct backend_options wanted = {
        .uri = options->uri,
        .state_dir = options->state_dir,
        .run_dir = options->run_dir,
        .scratch_dir = options->scratch_dir,
        .scratch_reserve_bytes = options->scratch_reserve_bytes,
        .hold_seconds = options->hold_seconds,
        .jobs = options->jobs,
        .bandwidth_bytes = options->bandwidth_bytes,
        .quiesce = options->quiesce,
    };
    const struct backend_events events = {.changed = ops_changed, .opaque = mount};
    sigset_t all, before;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    ret = backend_open(&wanted, &events, ret_backend, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ret;
}

/* The last word to whoever started it: a mistake in the URI would show only as an empty tree. */
static void warn_if_unreached(struct backend *backend)
{
    /* Who mounts waits for a libvirt of this machine, but not for one that does not answer. */
    const struct timespec pause = {.tv_nsec = 20 * 1000000};
    struct service_info info = {.connecting = true};
    struct rp_error e = RP_ERROR_INIT;

    for (int i = 0; i < 50 && info.connecting; i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        service_info_clear(&info);
        if (backend_service_info(backend, &info, &e) < 0)
            return;
    }
    if (!info.connected && !info.connecting)
        log_message(LOG_WARNING, "mounted, and trying on, but: %s", info.connection);
    service_info_clear(&info);
}

static int loop(struct fuse_session *session, const struct options *options)
{
    struct fuse_loop_config *config;
    int ret;

    if (options->single_thread)
        return fuse_session_loop(session);
    config = fuse_loop_cfg_create();
    if (!config)
        return -ENOMEM;
    fuse_loop_cfg_set_clone_fd(config, 1);
    fuse_loop_cfg_set_max_threads(config, options->max_threads);
    ret = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    return ret;
}

/* Mounted, and ended again in whatever way; `ready` is -1 in the foreground. */
static int serve(struct fuse_session *session, struct mount *mount, const struct options *options,
                 int ready, struct rp_error *e)
{
    struct backend *backend;
    int ret = open_backend(options, mount, &backend, e);

    if (ret < 0) {
        fuse_session_unmount(session);
        return ret;
    }
    ops_set_backend(mount, backend);
    if (ready >= 0) {
        warn_if_unreached(backend);
        leave_terminal(ready);
    } else if (options->use_syslog)
        log_use_syslog();
    log_message(LOG_DEBUG, "serving %s", options->mountpoint);
    ret = loop(session, options);
    signal(SIGALRM, SIG_IGN);

    ops_stop(mount);
    fuse_session_unmount(session);
    ops_drain(mount);
    backend_close(backend);
    return ret < 0 ? rp_fail_errno(e, -ret, "the mount broke") : 0;
}

/* libfuse says why only to the log; what fusermount3 had to say stands on stderr. */
static int mount_session(struct fuse_session *session, const struct options *options,
                         struct rp_error *e)
{
    char why[128] = "";
    int ret;

    log_catch_fuse(why, sizeof why);
    ret = fuse_session_mount(session, options->mountpoint);
    log_catch_fuse(NULL, 0);
    if (ret < 0)
        return rp_fail(e, RESULT_FAILED, "cannot mount at %s%s%s", options->mountpoint,
                       *why ? ": " : "", why);
    return 0;
}

/* ---- signals ---- */

static const int end_signals[] = {SIGHUP, SIGINT, SIGTERM, SIGALRM};

static struct fuse_session *signalled; /* for on_signal() */

/*
 * libfuse's loop looks whether it should end, and then waits for a signal: one that came between
 * the two would wake nobody. So one comes again, each second until the loop has ended.
 */
static void on_signal(int number)
{
    (void)number;
    fuse_session_exit(signalled);
    alarm(1);
}

/* What whoever started it ignores stays ignored: nohup. */
static int take_signals(struct fuse_session *session)
{
    const struct sigaction ours = {.sa_handler = on_signal};
    struct sigaction old;

    signalled = session;
    for (size_t i = 0; i < sizeof end_signals / sizeof *end_signals; i++)
        if (sigaction(end_signals[i], NULL, &old) < 0 ||
            (old.sa_handler != SIG_IGN && sigaction(end_signals[i], &ours, NULL) < 0))
            return -errno;
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

static void ignore_signals(void)
{
    for (size_t i = 0; i < sizeof end_signals / sizeof *end_signals; i++)
        signal(end_signals[i], SIG_IGN);
}

static int mount_and_serve(struct options *options, struct mount *mount, int ready,
                           struct rp_error *e)
{
    struct fuse_session *session;
    char why[128] = "";
    int ret;

    log_catch_fuse(why, sizeof why);
    session = fuse_session_new(&options->fuse_args, ops_table(), sizeof *ops_table(), mount);
    log_catch_fuse(NULL, 0);
    if (!session)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s; refpointfs --help lists the options",
                       *why ? why : "the options cannot be used");
    ops_set_session(mount, session);
    ret = take_signals(session);
    if (ret < 0)
        rp_fail_errno(e, -ret, "cannot take signals");
    else
        ret = mount_session(session, options, e);
    if (ret == 0)
        ret = serve(session, mount, options, ready, e);
    /* All is closed: one more signal must not make a failure of an orderly end. */
    ignore_signals();
    fuse_session_destroy(session);
    return ret;
}

static int run(struct options *options, struct rp_error *e)
{
    struct mount *mount;
    int ready = -1;
    int ret = check_mountpoint(options->mountpoint, e);

    if (ret == 0)
        ret = check_fuse(e);
    if (ret == 0)
        ret = options_make_dirs(options, e);
    if (ret == 0 && !options->foreground)
        ret = fork_server(&ready, e);
    if (ret < 0)
        return ret;
    mount = ops_new(options);
    if (!mount)
        return rp_fail_memory(e);
    ret = mount_and_serve(options, mount, ready, e);
    ops_free(mount);
    return ret;
}

static int explain(const struct rp_error *e, bool is_usage)
{
    fprintf(stderr, "refpointfs: %s\n", e->message);
    if (!is_usage)
        return EXIT_FAILURE;
    fputs("usage: refpointfs [URI] MOUNTPOINT [-o OPTION,...]; --help says more\n", stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct rp_error e = RP_ERROR_INIT;
    struct options options;
    bool is_usage = false;
    int status = EXIT_SUCCESS;

    mallopt(M_ARENA_MAX, MEMORY_ARENAS);
    if (options_parse(argc, argv, &options, &is_usage, &e) < 0)
        return explain(&e, is_usage);
    log_open("refpointfs", options.debug);
    if (options.show_help)
        fputs(options_help(), stdout);
    else if (options.show_version)
        printf("refpointfs %s\n", REFPOINTFS_VERSION);
    else if (run(&options, &e) < 0)
        status = fail(&e);
    options_clear(&options);
    return status;
}
