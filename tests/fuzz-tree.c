// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes the tree: sequences of FUSE operations against the fake backend, without a kernel. Laws:
 * nothing crashes; each request is answered exactly once, in the end at the latest; what is read
 * is not longer than asked for; an entry that is found has a number and can be asked for.
 *
 * The functions of libfuse that the product calls to answer stand below, in the place of
 * libfuse's own. What the kernel promises is kept: names are neither empty nor have a slash, only
 * files that are open are read and written, and they are released once, after the last answer.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>

#include "../fs/log.h"
#include "../fs/ops.h"

#define INODES_MAX  64
#define HANDLES_MAX 16
#define STEPS_MAX   64

/* Longer than any wait that an answer may have: a job of the fake backend, a listing. */
#define ANSWER_TIMEOUT_S 20

struct fuse_req {
    struct fuse_ctx ctx;
    size_t max; /* longest answer */
    unsigned answers;
    int err; /* of the answer, 0 = success */
    uint64_t found;
    struct handle_slot *slot; /* the open file it is about, or that is to become open */
    fuse_interrupt_func_t interrupted;
    void *interrupted_data;
    bool is_being_interrupted;
    struct fuse_req *next; /* in the list of all */
};

struct handle_slot {
    bool is_open, is_spare; /* spare: to be opened by a request under way */
    bool is_dir;
    fuse_ino_t inode;
    struct fuse_file_info fi;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static struct fuse_req *requests;
static struct mount *the_mount;
static fuse_ino_t inodes[INODES_MAX];
static size_t ninodes;
static struct handle_slot handles[HANDLES_MAX];

/* ---- in libfuse's place ---- */

static int answer(fuse_req_t req, int err, size_t length)
{
    pthread_mutex_lock(&lock);
    req->answers++;
    fuzz_require(req->answers == 1, "a request is answered once");
    fuzz_require(err >= 0 && err < 200, "an errno is one");
    fuzz_require(length <= req->max, "an answer is no longer than asked for");
    req->err = err;
    if (req->slot && req->slot->is_spare) {
        req->slot->is_open = err == 0;
        req->slot->is_spare = false;
    }
    pthread_cond_broadcast(&answered);
    pthread_mutex_unlock(&lock);
    return 0;
}

static void remember(fuse_req_t req, const struct fuse_entry_param *entry)
{
    fuzz_require(entry->ino != 0 && entry->attr.st_mode != 0, "an entry has a number and a mode");
    pthread_mutex_lock(&lock);
    inodes[ninodes++ % INODES_MAX] = entry->ino;
    pthread_mutex_unlock(&lock);
    req->found = entry->ino;
}

int fuse_reply_err(fuse_req_t req, int err)
{
    return answer(req, err, 0);
}

int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
    remember(req, entry);
    return answer(req, 0, 0);
}

int fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
                      const struct fuse_file_info *fi)
{
    remember(req, entry);
    req->slot->fi = *fi;
    req->slot->inode = entry->ino;
    return answer(req, 0, 0);
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
    req->slot->fi = *fi;
    return answer(req, 0, 0);
}

int fuse_reply_attr(fuse_req_t req, const struct stat *attr, double timeout)
{
    fuzz_require(attr->st_mode != 0 && attr->st_size >= 0 && timeout >= 0, "attributes are some");
    return answer(req, 0, 0);
}

int fuse_reply_buf(fuse_req_t req, const char *buffer, size_t size)
{
    fuzz_require(buffer || size == 0, "an answer has its bytes");
    /* Every byte must be one that may be looked at. */
    for (size_t i = 0; i < size; i++)
        req->found += (unsigned char)buffer[i];
    return answer(req, 0, size);
}

int fuse_reply_write(fuse_req_t req, size_t count)
{
    return answer(req, 0, count);
}

int fuse_reply_statfs(fuse_req_t req, const struct statvfs *st)
{
    fuzz_require(st->f_namemax > 0, "names have some length");
    return answer(req, 0, 0);
}

int fuse_reply_lseek(fuse_req_t req, off_t offset)
{
    fuzz_require(offset >= 0, "an offset is one");
    return answer(req, 0, 0);
}

int fuse_reply_poll(fuse_req_t req, unsigned events)
{
    (void)events;
    return answer(req, 0, 0);
}

const struct fuse_ctx *fuse_req_ctx(fuse_req_t req)
{
    return &req->ctx;
}

int fuse_req_getgroups(fuse_req_t req, int size, gid_t list[])
{
    if (size > 0)
        list[0] = req->ctx.gid;
    return 1;
}

void *fuse_req_userdata(fuse_req_t req)
{
    (void)req;
    return the_mount;
}

/*
 * Like libfuse's it waits for an interrupt that is being delivered: what that is about may be freed
 * afterwards.
 */
void fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t function, void *data)
{
    pthread_mutex_lock(&lock);
    while (req->is_being_interrupted)
        pthread_cond_wait(&answered, &lock);
    req->interrupted = function;
    req->interrupted_data = data;
    pthread_mutex_unlock(&lock);
}

int fuse_req_interrupted(fuse_req_t req)
{
    (void)req;
    return 0;
}

size_t fuse_add_direntry(fuse_req_t req, char *buffer, size_t size, const char *name,
                         const struct stat *st, off_t next)
{
    size_t needed = (strlen(name) + 24 + 7) & ~(size_t)7;

    (void)req;
    fuzz_require(*name && st->st_mode != 0 && next > 0, "an entry of a list has all it needs");
    if (needed <= size)
        memset(buffer, 'd', needed);
    return needed;
}

int fuse_lowlevel_notify_poll(struct fuse_pollhandle *poll)
{
    *(volatile char *)poll = 'n'; /* it must not have been given back yet */
    return 0;
}

void fuse_pollhandle_destroy(struct fuse_pollhandle *poll)
{
    free(poll);
}

int fuse_lowlevel_notify_inval_inode(struct fuse_session *session, fuse_ino_t inode, off_t offset,
                                     off_t length)
{
    (void)session, (void)inode, (void)offset, (void)length;
    return 0;
}

int fuse_lowlevel_notify_inval_entry(struct fuse_session *session, fuse_ino_t parent,
                                     const char *name, size_t length)
{
    (void)session, (void)parent, (void)name, (void)length;
    return 0;
}

/* ---- the input ---- */

struct input {
    const uint8_t *at, *end;
};

static unsigned take(struct input *in, unsigned below)
{
    return in->at < in->end ? *in->at++ % below : 0;
}

static const char *take_name(struct input *in, char *buffer)
{
    static const char *const names[] = {
        "vms",     "vm1",     "refpoints", "r1",           "export",     "create", "hold",
        "job",     "status",  "info",      "wait",         "cancel",     "result", "error",
        "jobs",    "1",       "service",   "settings",     "mon",        "README", "domain.xml",
        "disks",   ".x.swp",  "export~",   "result-32768", "keep-32774", "vanish", ".",
        "vda.img", "vda.map", "progress",  "state",
    };
    unsigned choice = take(in, 40), length;

    if (choice < sizeof names / sizeof *names)
        return names[choice];
    length = 1 + take(in, 255);
    for (unsigned i = 0; i < length; i++) {
        char c = (char)take(in, 256);
        buffer[i] = c == '\0' || c == '/' ? 'x' : c;
    }
    buffer[length] = '\0';
    return buffer;
}

static fuse_ino_t take_inode(struct input *in)
{
    unsigned choice = take(in, INODES_MAX + 8);
    fuse_ino_t inode = FUSE_ROOT_ID;

    pthread_mutex_lock(&lock);
    if (choice == INODES_MAX + 1)
        inode = take(in, 256) << 8 | take(in, 64); /* one that nobody told of */
    else if (choice < INODES_MAX && choice < ninodes)
        inode = inodes[choice];
    pthread_mutex_unlock(&lock);
    return inode;
}

/* A text to write: lines that mean something, and bytes that do not. */
static size_t take_text(struct input *in, char *buffer, size_t size)
{
    static const char *const lines[] = {
        "ExportDirectory=/x/now\n",
        "ExportDirectory=/x/ms-50\n",
        "ExportDirectory=/x/refuse-32773\n",
        "BaseReferencePoint=r1\n",
        "KeepHold=yes\n",
        "# nothing\n",
        "Name=a\n",
        "0\n",
        "1\n",
        "ExportDirectory=/late-32775",
        "Foo=1\n",
        "[export]\n",
    };
    size_t length = 0;

    for (unsigned n = take(in, 4); n > 0; n--) {
        unsigned choice = take(in, 16);

        if (choice < sizeof lines / sizeof *lines) {
            size_t more = strlen(lines[choice]);
            if (length + more > size)
                break;
            memcpy(buffer + length, lines[choice], more);
            length += more;
        } else {
            for (unsigned i = take(in, 64); i > 0 && length < size; i--)
                buffer[length++] = (char)take(in, 256);
        }
    }
    return length;
}

/* ---- requests ---- */

static fuse_req_t new_request(struct input *in, size_t max)
{
    fuse_req_t req = calloc(1, sizeof *req);

    fuzz_require(req != NULL, "memory");
    req->max = max;
    req->ctx = (struct fuse_ctx){.uid = take(in, 8) ? 0 : 1000, .gid = 0, .pid = 1, .umask = 022};
    pthread_mutex_lock(&lock);
    req->next = requests;
    requests = req;
    pthread_mutex_unlock(&lock);
    return req;
}

/* The kernel asks nothing more of an open file while it waits for an answer about it. */
static bool is_busy_locked(const struct handle_slot *slot)
{
    for (const struct fuse_req *req = requests; req; req = req->next)
        if (req->slot == slot && req->answers == 0)
            return true;
    return false;
}

static struct handle_slot *take_handle(struct input *in, bool want_dir)
{
    struct handle_slot *slot = &handles[take(in, HANDLES_MAX)];
    bool is_fit;

    pthread_mutex_lock(&lock);
    is_fit = slot->is_open && slot->is_dir == want_dir && !is_busy_locked(slot);
    pthread_mutex_unlock(&lock);
    return is_fit ? slot : NULL;
}

static struct handle_slot *spare_handle(fuse_ino_t inode, int flags, bool is_dir)
{
    struct handle_slot *found = NULL;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < HANDLES_MAX && !found; i++)
        if (!handles[i].is_open && !handles[i].is_spare && !is_busy_locked(&handles[i]))
            found = &handles[i];
    if (found)
        *found = (struct handle_slot){
            .is_spare = true, .is_dir = is_dir, .inode = inode, .fi = {.flags = flags}};
    pthread_mutex_unlock(&lock);
    return found;
}

static void wait_for_answer(fuse_req_t req)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_TIMEOUT_S;
    pthread_mutex_lock(&lock);
    while (req->answers == 0)
        fuzz_require(pthread_cond_timedwait(&answered, &lock, &until) == 0,
                     "a request is answered");
    pthread_mutex_unlock(&lock);
}

static void interrupt_one(struct input *in)
{
    unsigned skip = take(in, 8);
    fuse_req_t found = NULL;
    fuse_interrupt_func_t function = NULL;

    pthread_mutex_lock(&lock);
    for (fuse_req_t req = requests; req && !found; req = req->next)
        if (req->answers == 0 && req->interrupted && skip-- == 0) {
            found = req;
            function = req->interrupted;
            req->interrupted = NULL;
            req->is_being_interrupted = true;
        }
    pthread_mutex_unlock(&lock);
    if (!found)
        return;
    function(found, found->interrupted_data);
    pthread_mutex_lock(&lock);
    found->is_being_interrupted = false;
    pthread_cond_broadcast(&answered);
    pthread_mutex_unlock(&lock);
}

/* ---- the operations ---- */

static void do_names(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    char buffer[300], other[300];
    fuse_ino_t parent = take_inode(in);
    const char *name = take_name(in, buffer);
    unsigned which = take(in, 8);
    fuse_req_t req = new_request(in, 0);

    if (which < 3 && ops->lookup)
        ops->lookup(req, parent, name);
    else if (which == 3 && ops->mkdir)
        ops->mkdir(req, parent, name, 0755);
    else if (which == 4 && ops->rmdir)
        ops->rmdir(req, parent, name);
    else if (which == 5 && ops->unlink)
        ops->unlink(req, parent, name);
    else if (which == 6 && ops->rename)
        ops->rename(req, parent, name, take(in, 4) ? parent : take_inode(in), take_name(in, other),
                    take(in, 3));
    else if (which == 7 && ops->symlink)
        ops->symlink(req, name, parent, name);
    else
        fuse_reply_err(req, ENOSYS);
    if (which != 3 && which != 4) /* those may take a while: others go on */
        wait_for_answer(req);
}

static void do_open(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    static const int flags[] = {
        O_RDONLY, O_WRONLY, O_WRONLY | O_TRUNC, O_RDWR, O_WRONLY | O_APPEND, O_RDONLY | O_NONBLOCK};
    char buffer[300];
    unsigned which = take(in, 6);
    fuse_ino_t inode = take_inode(in);
    struct handle_slot *slot = spare_handle(inode, flags[take(in, 6)], which == 0);
    struct fuse_file_info fi;
    fuse_req_t req;

    if (!slot)
        return;
    req = new_request(in, 0);
    req->slot = slot;
    fi = slot->fi;
    if (which == 0 && ops->opendir)
        ops->opendir(req, inode, &fi);
    else if (which == 1 && ops->create)
        ops->create(req, inode, take_name(in, buffer), S_IFREG | 0644, &fi);
    else if (which > 1 && ops->open)
        ops->open(req, inode, &fi);
    else
        fuse_reply_err(req, ENOSYS);
    wait_for_answer(req);
}

static void do_read(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    static const size_t sizes[] = {1, 24, 100, 4096, 131072};
    size_t size = sizes[take(in, 5)];
    off_t offset = take(in, 2) ? 0 : take(in, 256) * 7;
    bool is_dir = take(in, 3) == 0;
    struct handle_slot *slot = take_handle(in, is_dir);
    fuse_req_t req;

    if (!slot || (!is_dir && (slot->fi.flags & O_ACCMODE) == O_WRONLY))
        return;
    req = new_request(in, size);
    req->slot = slot;
    if (is_dir && ops->readdir)
        ops->readdir(req, slot->inode, size, offset, &slot->fi);
    else if (ops->read && !is_dir)
        ops->read(req, slot->inode, size, offset, &slot->fi);
    else
        fuse_reply_err(req, ENOSYS);
}

static void do_write(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    char text[4096];
    struct handle_slot *slot = take_handle(in, false);
    off_t offset = take(in, 2) ? take(in, 256) : 0;
    size_t length = take_text(in, text, sizeof text);
    fuse_req_t req;

    if (!slot || (slot->fi.flags & O_ACCMODE) == O_RDONLY)
        return;
    req = new_request(in, length);
    req->slot = slot;
    ops->write(req, slot->inode, text, length, offset, &slot->fi);
    wait_for_answer(req);
}

static void do_attr(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    static const int what[] = {FUSE_SET_ATTR_SIZE, FUSE_SET_ATTR_MODE, FUSE_SET_ATTR_MTIME,
                               FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID};
    struct stat attr = {.st_size = take(in, 4) ? 0 : take(in, 256), .st_mode = S_IFREG | 0600};
    struct handle_slot *slot = take(in, 2) ? take_handle(in, false) : NULL;
    fuse_ino_t inode = slot ? slot->inode : take_inode(in);
    unsigned which = take(in, 5);
    fuse_req_t req = new_request(in, 0);

    req->slot = slot;
    if (which < 2)
        ops->getattr(req, inode, slot ? &slot->fi : NULL);
    else if (which == 2)
        ops->statfs(req, inode);
    else
        ops->setattr(req, inode, &attr, what[take(in, 4)], slot ? &slot->fi : NULL);
    wait_for_answer(req);
}

static void do_seek(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    struct handle_slot *slot = take_handle(in, false);
    off_t offset = take(in, 256);
    int whence = take(in, 2) ? SEEK_DATA : SEEK_HOLE;
    fuse_req_t req;

    if (!slot || !ops->lseek)
        return;
    req = new_request(in, 0);
    req->slot = slot;
    ops->lseek(req, slot->inode, offset, whence, &slot->fi);
    wait_for_answer(req);
}

static void do_poll(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    struct handle_slot *slot = take_handle(in, false);
    struct fuse_pollhandle *poll = NULL;
    fuse_req_t req;

    if (!slot || !ops->poll)
        return;
    if (take(in, 2))
        poll = malloc(16);
    req = new_request(in, 0);
    req->slot = slot;
    ops->poll(req, slot->inode, &slot->fi, poll);
    wait_for_answer(req);
}

static void release(struct input *in, const struct fuse_lowlevel_ops *ops, struct handle_slot *slot)
{
    fuse_req_t req;

    if (!slot->is_dir && ops->flush) {
        req = new_request(in, 0);
        req->slot = slot;
        ops->flush(req, slot->inode, &slot->fi);
        wait_for_answer(req);
    }
    req = new_request(in, 0);
    slot->is_open = false;
    if (slot->is_dir && ops->releasedir)
        ops->releasedir(req, slot->inode, &slot->fi);
    else if (!slot->is_dir && ops->release)
        ops->release(req, slot->inode, &slot->fi);
    else
        fuse_reply_err(req, 0);
    wait_for_answer(req);
}

static void do_close(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    struct handle_slot *slot = take_handle(in, take(in, 3) == 0);
    fuse_req_t req;

    if (!slot)
        return;
    if (take(in, 3) || slot->is_dir) {
        release(in, ops, slot);
        return;
    }
    req = new_request(in, 0);
    req->slot = slot;
    ops->fsync(req, slot->inode, 0, &slot->fi);
    wait_for_answer(req);
}

static void do_step(struct input *in, const struct fuse_lowlevel_ops *ops)
{
    switch (take(in, 10)) {
    case 0:
    case 1:
        do_names(in, ops);
        break;
    case 2:
    case 3:
        do_open(in, ops);
        break;
    case 4:
        do_read(in, ops);
        break;
    case 5:
    case 6:
        do_write(in, ops);
        break;
    case 7:
        do_attr(in, ops);
        break;
    case 8:
        switch (take(in, 3)) {
        case 0:
            do_poll(in, ops);
            break;
        case 1:
            interrupt_one(in);
            break;
        case 2:
            do_seek(in, ops);
            break;
        }
        break;
    case 9:
        do_close(in, ops);
        break;
    }
}

/* ---- a run ---- */

/* As fs/main.c has it; the kernel lets go of what is open, or the connection is cut. */
static void end(struct input *in, const struct fuse_lowlevel_ops *ops, struct backend *backend)
{
    bool is_cut = take(in, 2);

    for (size_t i = 0; i < HANDLES_MAX && !is_cut; i++) {
        pthread_mutex_lock(&lock);
        bool may_close = handles[i].is_open && !is_busy_locked(&handles[i]);
        pthread_mutex_unlock(&lock);
        if (may_close)
            release(in, ops, &handles[i]);
    }
    ops_stop(the_mount);
    ops_drain(the_mount);
    backend_close(backend);
    ops_free(the_mount);
    for (fuse_req_t req = requests, next; req; req = next) {
        next = req->next;
        fuzz_require(req->answers == 1, "in the end every request has its answer");
        free(req);
    }
    requests = NULL;
    ninodes = 0;
    memset(handles, 0, sizeof handles);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *arguments[] = {(char[]){"refpointfs"},
                         (char[]){"fake:///?vms=2&refpoints=2&job_ms=20"},
                         (char[]){"/nowhere"},
                         (char[]){"-o"},
                         (char[]){"state=/nowhere,run=/nowhere"},
                         NULL};
    struct input in = {data, data + size};
    struct backend_events events = {.changed = ops_changed};
    struct rp_error e = RP_ERROR_INIT;
    struct backend_options backend_options;
    struct options options;
    struct backend *backend;
    bool is_usage;

    fuzz_require(options_parse(5, arguments, &options, &is_usage, &e) == 0, "the options are good");
    the_mount = ops_new(&options);
    fuzz_require(the_mount != NULL, "memory");
    events.opaque = the_mount;
    backend_options = (struct backend_options){.uri = options.uri, .hold_seconds = 600, .jobs = 2};
    fuzz_require(backend_open(&backend_options, &events, &backend, &e) == 0, "the fake opens");
    ops_set_backend(the_mount, backend);
    for (unsigned i = 0; i < STEPS_MAX && in.at < in.end; i++)
        do_step(&in, ops_table());
    end(&in, ops_table(), backend);
    options_clear(&options);
    return 0;
}
