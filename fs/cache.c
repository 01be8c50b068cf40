// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The texts that are kept, the objects' epochs, and what the kernel is told (cache.h). Knows no
 * file's meaning. Lock: cache->lock, held for a few instructions, inside none and around none.
 */
#include "cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A power of two. Objects that share an epoch cost each other a look more, never a true answer. */
#define EPOCHS 4096

/*
 * Texts kept, a power of two: enough for a file of each of a thousand VMs to be polled, and 1 MiB
 * of memory at the usual length of a status. Two that want one place take turns.
 */
#define TEXTS 2048

#define PAGE_BYTES 4096

struct text {
    uint64_t inode; /* 0: none */
    uint64_t epoch;
    long long made_ms;
    struct snapshot *snapshot;
    struct snapshot *told; /* by whose size the kernel reads pages; NULL: it was not told */
    uint64_t told_epoch;
    bool in_kernel; /* its page there, if it has one, is of this epoch */
    bool is_old;    /* it may have a page from before: until that is thrown away */
};

/* No object's serial: several that share an epoch. */
#define SEVERAL UINT64_MAX

struct epoch {
    atomic_uint_fast64_t number;
    atomic_uint_fast64_t granted; /* whose attributes or pages the kernel may have; 0: none */
    atomic_llong begun_ms;
};

struct cache {
    const struct tree *tree;
    struct fuse_session *session;
    atomic_bool stopped;
    struct epoch epochs[EPOCHS];
    pthread_mutex_t lock; /* protects texts */
    struct text texts[TEXTS];
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* ---- epochs ---- */

static struct epoch *epoch_of(struct cache *cache, uint64_t serial)
{
    return &cache->epochs[(serial >> 2 ^ serial << 10) % EPOCHS];
}

/*
 * Says first that the kernel may get something, then looks at the epoch and only later at the
 * object: an event in between either finds that there is something to take back, or came before
 * what will be printed.
 */
static uint64_t grant(struct cache *cache, uint64_t serial)
{
    struct epoch *epoch = epoch_of(cache, serial);
    uint_fast64_t now = atomic_load(&epoch->granted);

    /* The service, serial 0, is always several. */
    while (now != SEVERAL && (now != serial || serial == 0))
        if (atomic_compare_exchange_weak(&epoch->granted, &now,
                                         now == 0 && serial != 0 ? serial : SEVERAL))
            break;
    return atomic_load(&epoch->number);
}

/* Ends the epoch. True when the kernel may have something of this object. */
static bool end_epoch(struct cache *cache, uint64_t serial)
{
    struct epoch *epoch = epoch_of(cache, serial);
    uint_fast64_t mine = serial;

    atomic_store(&epoch->begun_ms, now_ms());
    atomic_fetch_add(&epoch->number, 1);
    return (serial != 0 && atomic_compare_exchange_strong(&epoch->granted, &mine, 0)) ||
           atomic_load(&epoch->granted) == SEVERAL;
}

static bool is_still(struct cache *cache, uint64_t serial)
{
    return now_ms() - atomic_load(&epoch_of(cache, serial)->begun_ms) >= CACHE_MS;
}

/* ---- texts ---- */

static struct text *text_of(struct cache *cache, uint64_t inode)
{
    return &cache->texts[(inode ^ inode >> 8 ^ inode >> 17) % TEXTS];
}

static bool is_good_locked(const struct text *text, uint64_t inode, uint64_t epoch)
{
    return text->inode == inode && text->epoch == epoch && now_ms() - text->made_ms < CACHE_MS;
}

static bool is_same(const struct snapshot *a, const struct snapshot *b)
{
    return a->length == b->length && memcmp(a->text, b->text, a->length) == 0 &&
           a->st.st_mtim.tv_sec == b->st.st_mtim.tv_sec &&
           a->st.st_mtim.tv_nsec == b->st.st_mtim.tv_nsec;
}

/* Puts it in unless one of a later epoch is there; what has to go is put into `ret_stale`. */
static void keep_locked(struct text *text, uint64_t inode, uint64_t epoch,
                        struct snapshot *snapshot, struct snapshot *ret_stale[2])
{
    if (text->inode == inode && text->epoch > epoch)
        return;
    ret_stale[0] = text->snapshot;
    if (text->inode != inode) {
        ret_stale[1] = text->told;
        text->told = NULL;
        text->is_old = false;
    }
    text->in_kernel = text->inode == inode && text->epoch == epoch && text->in_kernel &&
                      is_same(text->snapshot, snapshot);
    text->inode = inode;
    text->epoch = epoch;
    text->made_ms = now_ms();
    text->snapshot = snapshot_ref(snapshot);
}

/* With whether what the kernel has is as good. */
static int get(struct cache *cache, const struct node *node, uint64_t epoch,
               struct snapshot **ret_snapshot, bool *ret_in_kernel, struct rp_error *e)
{
    uint64_t inode = tree_inode(node);
    struct text *text = text_of(cache, inode);
    struct snapshot *snapshot = NULL, *stale[2] = {NULL, NULL};
    int ret;

    pthread_mutex_lock(&cache->lock);
    if (is_good_locked(text, inode, epoch)) {
        snapshot = snapshot_ref(text->snapshot);
        *ret_in_kernel = text->in_kernel;
    }
    pthread_mutex_unlock(&cache->lock);
    if (!snapshot) {
        ret = snapshot_new(cache->tree, node, &snapshot, e);
        if (ret < 0)
            return ret;
        *ret_in_kernel = false;
        if (snapshot->length <= PAGE_BYTES) {
            pthread_mutex_lock(&cache->lock);
            keep_locked(text, inode, epoch, snapshot, stale);
            *ret_in_kernel = text->inode == inode && text->epoch == epoch && text->in_kernel;
            pthread_mutex_unlock(&cache->lock);
            snapshot_unref(stale[0]);
            snapshot_unref(stale[1]);
        }
    }
    *ret_snapshot = snapshot;
    return 0;
}

/* The kernel will read by this size, until it is told another. */
static void tell(struct cache *cache, const struct node *node, uint64_t epoch,
                 struct snapshot *snapshot, struct stat *ret_stat)
{
    uint64_t inode = tree_inode(node);
    struct text *text = text_of(cache, inode);
    struct snapshot *before = NULL;

    *ret_stat = snapshot->st;
    pthread_mutex_lock(&cache->lock);
    if (text->inode == inode) {
        before = text->told;
        text->told = snapshot_ref(snapshot);
        text->told_epoch = epoch;
        /* Another time makes it throw away what it has. */
        if (text->is_old)
            ret_stat->st_mtim.tv_nsec ^= 1;
    }
    pthread_mutex_unlock(&cache->lock);
    snapshot_unref(before);
}

int cache_stat(struct cache *cache, const struct node *node, const struct policy *policy,
               struct stat *ret_stat)
{
    struct snapshot *snapshot;
    bool in_kernel;
    uint64_t epoch;
    int ret;

    if (!node->attr->settled) {
        if (policy->attr_timeout > 0)
            grant(cache, node->serial);
        return tree_stat(cache->tree, node, ret_stat);
    }
    epoch = grant(cache, node->serial);
    /* Not settled just now: what is kept may be behind in what comes without events. */
    ret = policy->may_keep ? get(cache, node, epoch, &snapshot, &in_kernel, NULL)
                           : snapshot_new(cache->tree, node, &snapshot, NULL);
    if (ret < 0)
        return ret == -ENOENT || ret == -ENOMEM ? ret : tree_stat(cache->tree, node, ret_stat);
    tell(cache, node, epoch, snapshot, ret_stat);
    snapshot_unref(snapshot);
    return 0;
}

/* ---- the kernel ---- */

/* With `pages`, they are thrown away; else only the attributes, which never waits. */
static void take_back(struct cache *cache, uint64_t inode, bool pages)
{
    /* Nearly always the kernel does not have it, or the mount is going: nothing to do then. */
    if (cache->session && !atomic_load(&cache->stopped))
        (void)fuse_lowlevel_notify_inval_inode(cache->session, inode, pages ? 0 : -1, 0);
}

int cache_open(struct cache *cache, const struct node *node, struct cache_opened *ret_opened,
               struct rp_error *e)
{
    struct cache_opened opened = {.epoch = grant(cache, node->serial)};
    int ret = get(cache, node, opened.epoch, &opened.snapshot, &opened.keep, e);

    if (ret < 0)
        return ret;
    opened.may_keep = opened.snapshot->length <= PAGE_BYTES && is_still(cache, node->serial);
    if (opened.may_keep && !opened.keep)
        take_back(cache, tree_inode(node), false);
    *ret_opened = opened;
    return 0;
}

int cache_read(struct cache *cache, const struct node *node, uint64_t epoch,
               struct snapshot **ret_snapshot, bool *ret_is_old)
{
    uint64_t inode = tree_inode(node), now = grant(cache, node->serial);
    struct text *text = text_of(cache, inode);
    bool in_kernel;

    *ret_is_old = false;
    pthread_mutex_lock(&cache->lock);
    if (text->inode == inode && text->told) {
        *ret_snapshot = snapshot_ref(text->told);
        *ret_is_old = text->is_old = text->is_old || text->told_epoch != now;
        text->in_kernel |= text->told_epoch == epoch && text->epoch == epoch && !text->is_old;
    } else {
        *ret_snapshot = NULL;
    }
    pthread_mutex_unlock(&cache->lock);
    return *ret_snapshot ? 0 : get(cache, node, now, ret_snapshot, &in_kernel, NULL);
}

static void take_back_all(struct cache *cache, uint64_t serial, bool pages)
{
    const struct class *class = tree_class(rp_serial_kind(serial));
    struct node node = {.serial = serial, .class = class};

    for (size_t i = 0; i < class->count; i++) {
        node.attr = &class->attrs[i];
        if (node.attr->settled)
            take_back(cache, tree_inode(&node), pages);
        else if (tree_is_dir(&node))
            take_back(cache, tree_inode(&node), false);
    }
}

void cache_changed(struct cache *cache, uint64_t serial, bool may_wait)
{
    if (end_epoch(cache, serial))
        take_back_all(cache, serial, may_wait);
}

void cache_drop_pages(struct cache *cache, uint64_t serial)
{
    take_back_all(cache, serial, true);
    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < TEXTS; i++)
        if (cache->texts[i].inode && tree_serial(cache->texts[i].inode) == serial)
            cache->texts[i].is_old = false;
    pthread_mutex_unlock(&cache->lock);
}

/* ---- beginning and end ---- */

struct cache *cache_new(const struct tree *tree)
{
    struct cache *cache = calloc(1, sizeof *cache);

    if (!cache)
        return NULL;
    cache->tree = tree;
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void cache_set_session(struct cache *cache, struct fuse_session *session)
{
    cache->session = session;
}

void cache_stop(struct cache *cache)
{
    atomic_store(&cache->stopped, true);
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < TEXTS; i++) {
        snapshot_unref(cache->texts[i].snapshot);
        snapshot_unref(cache->texts[i].told);
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}
