// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes one call of the product fail: the N-th from now, of all that can, or the next one in a
 * place of the product where none has failed yet. Linked into refpointfs-fault with --wrap for each
 * function below, so that only calls in the product's own objects come here, and the product itself
 * knows nothing of it.
 *
 * The file named by FAULT_FILE is shared with the test: see struct fault. Left out are calls whose
 * failure the product has no answer to but to leave something behind (unlink, rmdir, close), and
 * those where a library cannot tell failure from absence (xmlGetProp).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libnbd.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <openssl/evp.h>
#include <zstd.h>

#define NEW_PLACE    (-1)
#define FAULT_PLACES 4000

/* As tests/fault.py has it. */
struct fault {
    _Atomic int64_t countdown; /* 1: the next call fails; 0: none; NEW_PLACE */
    _Atomic int64_t calls;     /* so far */
    _Atomic int64_t struck;    /* how many failed so far */
    char what[64];             /* the last that failed */
    _Atomic uint64_t from;     /* and where it was called, relative to the program's beginning */
    uint64_t places[FAULT_PLACES]; /* where one failed, until the first that is 0 */
};

static struct fault *fault;
extern const char __executable_start;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULT_FILE");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    void *at =
        fd >= 0 ? mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        close(fd);
    fault = at == MAP_FAILED ? NULL : at;
}

/* True for one caller, and for one place once; -1 in countdown becomes 0 then. */
static bool takes_place(uint64_t place)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    size_t i = 0;
    bool taken = false;

    pthread_mutex_lock(&lock);
    while (i < FAULT_PLACES && fault->places[i] && fault->places[i] != place)
        i++;
    if (i < FAULT_PLACES && !fault->places[i] && atomic_load(&fault->countdown) == NEW_PLACE) {
        fault->places[i] = place;
        atomic_store(&fault->countdown, 0);
        taken = true;
    }
    pthread_mutex_unlock(&lock);
    return taken;
}

static bool strikes(const char *name, const void *from)
{
    uint64_t place = (uintptr_t)from - (uintptr_t)&__executable_start;
    int64_t countdown;

    if (!fault)
        return false;
    atomic_fetch_add(&fault->calls, 1);
    countdown = atomic_load(&fault->countdown);
    if (countdown == NEW_PLACE ? !takes_place(place)
                               : countdown <= 0 || atomic_fetch_sub(&fault->countdown, 1) != 1)
        return false;
    snprintf(fault->what, sizeof fault->what, "%s", name);
    fault->from = place;
    atomic_fetch_add(&fault->struck, 1);
    return true;
}

/* TYPE NAME(PARAMETERS), called on with ARGUMENTS; when struck FAILURE with errno ERROR. */
#define FAULT(type, name, parameters, arguments, failure, error)                                   \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        if (strikes(#name, __builtin_return_address(0))) {                                         \
            errno = error;                                                                         \
            return failure;                                                                        \
        }                                                                                          \
        return __real_##name arguments;                                                            \
    }

/* ---- memory ---- */

FAULT(void *, malloc, (size_t size), (size), NULL, ENOMEM)
FAULT(void *, calloc, (size_t n, size_t size), (n, size), NULL, ENOMEM)
FAULT(void *, reallocarray, (void *at, size_t n, size_t size), (at, n, size), NULL, ENOMEM)
FAULT(char *, strdup, (const char *text), (text), NULL, ENOMEM)
FAULT(char *, strndup, (const char *text, size_t n), (text, n), NULL, ENOMEM)
FAULT(FILE *, open_memstream, (char **text, size_t *size), (text, size), NULL, ENOMEM)
FAULT(int, posix_memalign, (void **at, size_t alignment, size_t size), (at, alignment, size),
      ENOMEM, ENOMEM)

int __wrap_asprintf(char **text, const char *format, ...);
int __wrap_asprintf(char **text, const char *format, ...)
{
    va_list arguments;
    int length;

    if (strikes("asprintf", __builtin_return_address(0))) {
        *text = (char *)(uintptr_t)0x1; /* what a failure leaves there must not be used */
        errno = ENOMEM;
        return -1;
    }
    va_start(arguments, format);
    length = vasprintf(text, format, arguments);
    va_end(arguments);
    return length;
}

/* ---- files ---- */

/* The mode is there to be taken when the flags say that a file may be made. */
static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    if (strikes("open", __builtin_return_address(0))) {
        errno = EMFILE;
        return -1;
    }
    va_start(arguments, flags);
    mode = mode_of(flags, arguments);
    va_end(arguments);
    return __real_open64(path, flags, mode);
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    if (strikes("openat", __builtin_return_address(0))) {
        errno = ENOSPC;
        return -1;
    }
    va_start(arguments, flags);
    mode = mode_of(flags, arguments);
    va_end(arguments);
    return __real_openat64(dir, path, flags, mode);
}

FAULT(FILE *, fopen64, (const char *path, const char *mode), (path, mode), NULL, EMFILE)
FAULT(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC)
FAULT(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), -1, EIO)
FAULT(ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
      -1, ENOSPC)
FAULT(ssize_t, pread64, (int fd, void *data, size_t size, off_t at), (fd, data, size, at), -1, EIO)
FAULT(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), -1, EIO)
FAULT(int, fsync, (int fd), (fd), -1, EIO)
FAULT(int, ftruncate64, (int fd, off_t size), (fd, size), -1, EIO)
FAULT(int, fstat64, (int fd, struct stat *st), (fd, st), -1, EIO)
FAULT(int, stat64, (const char *path, struct stat *st), (path, st), -1, EIO)
FAULT(int, fstatat64, (int dir, const char *path, struct stat *st, int flags),
      (dir, path, st, flags), -1, EIO)
FAULT(int, faccessat, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags),
      -1, EIO)
FAULT(int, rename, (const char *from, const char *to), (from, to), -1, EIO)
FAULT(int, renameat, (int dir, const char *from, int into, const char *to), (dir, from, into, to),
      -1, EIO)
FAULT(int, renameat2, (int dir, const char *from, int into, const char *to, unsigned flags),
      (dir, from, into, to, flags), -1, EIO)
FAULT(int, linkat, (int dir, const char *from, int into, const char *to, int flags),
      (dir, from, into, to, flags), -1, EIO)
FAULT(char *, realpath, (const char *path, char *into), (path, into), NULL, EIO)
FAULT(int, lchown, (const char *path, uid_t uid, gid_t gid), (path, uid, gid), -1, EPERM)
FAULT(int, chmod, (const char *path, mode_t mode), (path, mode), -1, EPERM)

/* ---- threads and processes ---- */

FAULT(int, pthread_create,
      (pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *opaque),
      (thread, attr, run, opaque), EAGAIN, EAGAIN)
FAULT(int, posix_spawnp,
      (pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions,
       const posix_spawnattr_t *attr, char *const arguments[], char *const environment[]),
      (pid, file, actions, attr, arguments, environment), EAGAIN, EAGAIN)
FAULT(int, pipe2, (int *fds, int flags), (fds, flags), -1, EMFILE)
FAULT(int, eventfd, (unsigned value, int flags), (value, flags), -1, EMFILE)

/* ---- libraries ---- */

FAULT(xmlDoc *, xmlReadMemory,
      (const char *text, int size, const char *url, const char *encoding, int options),
      (text, size, url, encoding, options), NULL, ENOMEM)
FAULT(xmlDoc *, xmlNewDoc, (const xmlChar *version), (version), NULL, ENOMEM)
FAULT(xmlNode *, xmlNewNode, (xmlNs * ns, const xmlChar *name), (ns, name), NULL, ENOMEM)
FAULT(xmlNode *, xmlNewChild,
      (xmlNode * parent, xmlNs *ns, const xmlChar *name, const xmlChar *content),
      (parent, ns, name, content), NULL, ENOMEM)
FAULT(xmlNode *, xmlNewTextChild,
      (xmlNode * parent, xmlNs *ns, const xmlChar *name, const xmlChar *content),
      (parent, ns, name, content), NULL, ENOMEM)
FAULT(xmlAttr *, xmlNewProp, (xmlNode * node, const xmlChar *name, const xmlChar *value),
      (node, name, value), NULL, ENOMEM)
FAULT(xmlBuffer *, xmlBufferCreate, (void), (), NULL, ENOMEM)
FAULT(EVP_MD_CTX *, EVP_MD_CTX_new, (void), (), NULL, ENOMEM)
FAULT(int, EVP_DigestInit_ex, (EVP_MD_CTX * context, const EVP_MD *type, ENGINE *engine),
      (context, type, engine), 0, 0)
FAULT(int, EVP_DigestUpdate, (EVP_MD_CTX * context, const void *data, size_t size),
      (context, data, size), 0, 0)
FAULT(int, EVP_DigestFinal_ex, (EVP_MD_CTX * context, unsigned char *digest, unsigned *size),
      (context, digest, size), 0, 0)
FAULT(ZSTD_CCtx *, ZSTD_createCCtx, (void), (), NULL, ENOMEM)

FAULT(struct nbd_handle *, nbd_create, (void), (), NULL, ENOMEM)
FAULT(int, nbd_aio_connect_unix, (struct nbd_handle * nbd, const char *path), (nbd, path), -1,
      ECONNREFUSED)
FAULT(int, nbd_set_export_name, (struct nbd_handle * nbd, const char *name), (nbd, name), -1,
      ENOMEM)
FAULT(int, nbd_add_meta_context, (struct nbd_handle * nbd, const char *name), (nbd, name), -1,
      ENOMEM)
FAULT(int, nbd_aio_opt_go, (struct nbd_handle * nbd, nbd_completion_callback callback),
      (nbd, callback), -1, EINVAL)
FAULT(int64_t, nbd_get_size, (struct nbd_handle * nbd), (nbd), -1, EINVAL)
FAULT(int64_t, nbd_get_block_size, (struct nbd_handle * nbd, int which), (nbd, which), -1, EINVAL)
FAULT(int, nbd_can_meta_context, (struct nbd_handle * nbd, const char *name), (nbd, name), -1,
      EINVAL)
FAULT(int, nbd_aio_notify_read, (struct nbd_handle * nbd), (nbd), -1, ECONNRESET)
FAULT(int, nbd_aio_notify_write, (struct nbd_handle * nbd), (nbd), -1, ECONNRESET)

/* libvirt keeps its error for the thread; one that has none is a failure all the same. */
#define VIRT(type, name, parameters, arguments, failure)                                           \
    FAULT(type, name, parameters, arguments, (virResetLastError(), failure), 0)

VIRT(virDomainPtr, virDomainLookupByUUIDString, (virConnectPtr conn, const char *uuid),
     (conn, uuid), NULL)
VIRT(char *, virDomainGetXMLDesc, (virDomainPtr domain, unsigned flags), (domain, flags), NULL)
VIRT(int, virDomainGetState, (virDomainPtr domain, int *state, int *reason, unsigned flags),
     (domain, state, reason, flags), -1)
VIRT(int, virDomainIsPersistent, (virDomainPtr domain), (domain), -1)
VIRT(int, virDomainGetJobInfo, (virDomainPtr domain, virDomainJobInfoPtr info), (domain, info), -1)
VIRT(int, virDomainGetBlockInfo,
     (virDomainPtr domain, const char *disk, virDomainBlockInfoPtr info, unsigned flags),
     (domain, disk, info, flags), -1)
VIRT(int, virDomainMemoryStats,
     (virDomainPtr domain, virDomainMemoryStatPtr stats, unsigned count, unsigned flags),
     (domain, stats, count, flags), -1)
VIRT(int, virDomainListAllCheckpoints,
     (virDomainPtr domain, virDomainCheckpointPtr **checkpoints, unsigned flags),
     (domain, checkpoints, flags), -1)
VIRT(virDomainCheckpointPtr, virDomainCheckpointLookupByName,
     (virDomainPtr domain, const char *name, unsigned flags), (domain, name, flags), NULL)
VIRT(char *, virDomainCheckpointGetXMLDesc, (virDomainCheckpointPtr checkpoint, unsigned flags),
     (checkpoint, flags), NULL)
VIRT(int, virDomainCheckpointDelete, (virDomainCheckpointPtr checkpoint, unsigned flags),
     (checkpoint, flags), -1)
VIRT(virDomainCheckpointPtr, virDomainCheckpointCreateXML,
     (virDomainPtr domain, const char *xml, unsigned flags), (domain, xml, flags), NULL)
VIRT(int, virDomainBackupBegin,
     (virDomainPtr domain, const char *backup, const char *checkpoint, unsigned flags),
     (domain, backup, checkpoint, flags), -1)
VIRT(char *, virDomainBackupGetXMLDesc, (virDomainPtr domain, unsigned flags), (domain, flags),
     NULL)
VIRT(int, virDomainAbortJob, (virDomainPtr domain), (domain), -1)
