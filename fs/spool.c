// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Small files in memory (spool.h). Owns them all, in one list, for there are few and they soon go;
 * knows neither the tree nor FUSE. Any thread; everything is done under one lock.
 */
#include "spool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INODE_BIT ((uint64_t)1 << 63)
#define ROOM_MIN  ((size_t)4096)

/* A file, or with `hides` only a name that hides another. */
struct spool_file {
    struct spool_file *next;
    uint64_t dir;
    uid_t uid;  /* whose it is; chown(2) changes what is shown, not this */
    char *name; /* NULL: unlinked, and lives until it is closed */
    bool hides;
    bool taken;
    unsigned opens;
    long long expires_ms; /* while nobody has it open */
    struct stat st;
    char *text;
    size_t room;
};

struct spool {
    atomic_size_t count; /* read without the lock by those who look whether there is anything */
    /* Protects all below, and every file. */
    pthread_mutex_t lock;
    struct spool_file *first;
    uint64_t last_number;
    size_t bytes; /* the sum of all room */
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

struct spool *spool_new(void)
{
    struct spool *spool = calloc(1, sizeof *spool);

    if (spool)
        pthread_mutex_init(&spool->lock, NULL);
    return spool;
}

static void free_file(struct spool *spool, struct spool_file *file)
{
    spool->bytes -= file->room;
    spool->count--;
    free(file->name);
    free(file->text);
    free(file);
}

void spool_free(struct spool *spool)
{
    if (!spool)
        return;
    while (spool->first) {
        struct spool_file *file = spool->first;
        spool->first = file->next;
        free_file(spool, file);
    }
    pthread_mutex_destroy(&spool->lock);
    free(spool);
}

/* ---- the list ---- */

static void remove_locked(struct spool *spool, struct spool_file *file)
{
    struct spool_file **link = &spool->first;

    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    free_file(spool, file);
}

/*
 * Every operation begins with this: what was left alone for too long goes before anything is
 * found, and nothing goes while a file is in hand.
 */
static void lock_and_sweep(struct spool *spool)
{
    long long now = now_ms();

    pthread_mutex_lock(&spool->lock);
    for (struct spool_file *file = spool->first, *next; file; file = next) {
        next = file->next;
        if (file->opens == 0 && file->expires_ms <= now)
            remove_locked(spool, file);
    }
}

static struct spool_file *find_locked(struct spool *spool, const struct spool_key *key)
{
    struct spool_file *file = spool->first;

    while (file && (file->dir != key->dir || file->uid != key->uid || !file->name ||
                    strcmp(file->name, key->name) != 0))
        file = file->next;
    return file;
}

/* A file proper, not what hides a name. */
static struct spool_file *find_file_locked(struct spool *spool, const struct spool_key *key)
{
    struct spool_file *file = find_locked(spool, key);

    return file && !file->hides ? file : NULL;
}

static struct spool_file *find_inode_locked(struct spool *spool, uint64_t inode)
{
    struct spool_file *file = spool->first;

    while (file && (file->hides || file->st.st_ino != inode))
        file = file->next;
    return file;
}

static void lose_name_locked(struct spool *spool, struct spool_file *file)
{
    free(file->name);
    file->name = NULL;
    if (file->opens == 0)
        remove_locked(spool, file);
}

static void keep_for(struct spool_file *file, long long ms)
{
    file->expires_ms = now_ms() + ms;
}

/* May this user have one more name, or so many more bytes? */
static int check_share_locked(const struct spool *spool, uid_t uid, size_t names, size_t bytes)
{
    const struct spool_file *file;

    if (spool->count + names > SPOOL_NAMES || spool->bytes + bytes > SPOOL_BYTES)
        return -ENOSPC;
    for (file = spool->first; file; file = file->next) {
        if (file->uid != uid)
            continue;
        names++;
        bytes += file->room;
    }
    return names > SPOOL_NAMES / SPOOL_USER_SHARE || bytes > SPOOL_BYTES / SPOOL_USER_SHARE
               ? -EDQUOT
               : 0;
}

/* Its name must not be taken. */
static int add_locked(struct spool *spool, const struct spool_key *key,
                      struct spool_file **ret_file)
{
    struct spool_file *file;
    int ret = check_share_locked(spool, key->uid, 1, 0);

    if (ret < 0)
        return ret;
    file = calloc(1, sizeof *file);
    if (!file)
        return -ENOMEM;
    file->name = strdup(key->name);
    if (!file->name) {
        free(file);
        return -ENOMEM;
    }
    file->dir = key->dir;
    file->uid = key->uid;
    file->next = spool->first;
    spool->first = file;
    spool->count++;
    *ret_file = file;
    return 0;
}

/* ---- names ---- */

enum spool_found spool_lookup(struct spool *spool, const struct spool_key *key,
                              struct stat *ret_stat)
{
    enum spool_found found = SPOOL_NOTHING;
    struct spool_file *file;

    if (spool->count == 0)
        return SPOOL_NOTHING;
    lock_and_sweep(spool);
    file = find_locked(spool, key);
    if (file)
        found = file->hides ? SPOOL_HIDDEN : SPOOL_FILE;
    if (found == SPOOL_FILE)
        *ret_stat = file->st;
    pthread_mutex_unlock(&spool->lock);
    return found;
}

int spool_create(struct spool *spool, const struct spool_key *key, mode_t mode, gid_t gid,
                 struct spool_file **ret_file)
{
    struct spool_file *file;
    int ret;

    lock_and_sweep(spool);
    ret = find_locked(spool, key) ? -EEXIST : add_locked(spool, key, &file);
    if (ret == 0) {
        file->opens = 1;
        file->st = (struct stat){
            .st_ino = INODE_BIT | ++spool->last_number,
            .st_mode = S_IFREG | (mode & 0777),
            .st_nlink = 1,
            .st_uid = key->uid,
            .st_gid = gid,
            .st_blksize = 4096,
        };
        clock_gettime(CLOCK_REALTIME, &file->st.st_mtim);
        file->st.st_atim = file->st.st_ctim = file->st.st_mtim;
        *ret_file = file;
    }
    pthread_mutex_unlock(&spool->lock);
    return ret;
}

int spool_unlink(struct spool *spool, const struct spool_key *key)
{
    struct spool_file *file;

    lock_and_sweep(spool);
    file = find_file_locked(spool, key);
    if (file)
        lose_name_locked(spool, file);
    pthread_mutex_unlock(&spool->lock);
    return file ? 0 : -ENOENT;
}

static int rename_locked(struct spool *spool, const struct spool_key *key, const char *new_name,
                         bool keep)
{
    struct spool_key new_key = {.dir = key->dir, .uid = key->uid, .name = new_name};
    struct spool_file *file = find_file_locked(spool, key);
    struct spool_file *there = find_locked(spool, &new_key);
    char *name;

    if (!file)
        return -ENOENT;
    if (there && keep)
        return -EEXIST;
    if (there == file)
        return 0;
    name = strdup(new_name);
    if (!name)
        return -ENOMEM;
    if (there)
        lose_name_locked(spool, there);
    free(file->name);
    file->name = name;
    keep_for(file, SPOOL_KEEP_MS);
    return 0;
}

int spool_rename(struct spool *spool, const struct spool_key *key, const char *new_name, bool keep)
{
    int ret;

    lock_and_sweep(spool);
    ret = rename_locked(spool, key, new_name, keep);
    pthread_mutex_unlock(&spool->lock);
    return ret;
}

int spool_hide(struct spool *spool, const struct spool_key *key)
{
    struct spool_file *file;
    int ret = 0;

    lock_and_sweep(spool);
    file = find_locked(spool, key);
    if (!file)
        ret = add_locked(spool, key, &file);
    if (ret == 0) {
        file->hides = true;
        keep_for(file, SPOOL_HIDDEN_MS);
    }
    pthread_mutex_unlock(&spool->lock);
    return ret;
}

void spool_show(struct spool *spool, const struct spool_key *key)
{
    struct spool_file *file;

    lock_and_sweep(spool);
    file = find_locked(spool, key);
    if (file && file->hides)
        lose_name_locked(spool, file);
    pthread_mutex_unlock(&spool->lock);
}

/* ---- files ---- */

int spool_open(struct spool *spool, uint64_t inode, struct spool_file **ret_file)
{
    struct spool_file *file;

    lock_and_sweep(spool);
    file = find_inode_locked(spool, inode);
    if (file) {
        file->opens++;
        *ret_file = file;
    }
    pthread_mutex_unlock(&spool->lock);
    return file ? 0 : -ESTALE;
}

static void close_locked(struct spool *spool, struct spool_file *file)
{
    if (--file->opens > 0)
        return;
    if (file->name)
        keep_for(file, SPOOL_KEEP_MS);
    else
        remove_locked(spool, file);
}

void spool_close(struct spool *spool, struct spool_file *file)
{
    lock_and_sweep(spool);
    close_locked(spool, file);
    pthread_mutex_unlock(&spool->lock);
}

int spool_stat(struct spool *spool, uint64_t inode, struct stat *ret_stat)
{
    struct spool_file *file;

    lock_and_sweep(spool);
    file = find_inode_locked(spool, inode);
    if (file)
        *ret_stat = file->st;
    pthread_mutex_unlock(&spool->lock);
    return file ? 0 : -ESTALE;
}

static int reserve_locked(struct spool *spool, struct spool_file *file, size_t size)
{
    size_t room = file->room ? file->room : ROOM_MIN;
    char *text;
    int ret;

    if (size > SPOOL_FILE_BYTES)
        return -EFBIG;
    if (size <= file->room)
        return 0;
    while (room < size)
        room *= 2;
    ret = check_share_locked(spool, file->uid, 0, room - file->room);
    if (ret < 0)
        return ret;
    text = realloc(file->text, room);
    if (!text)
        return -ENOMEM;
    spool->bytes += room - file->room;
    file->text = text;
    file->room = room;
    return 0;
}

/* What lies between the end and a new end reads as zeros. */
static int resize_locked(struct spool *spool, struct spool_file *file, size_t size)
{
    size_t before = (size_t)file->st.st_size;
    int ret = reserve_locked(spool, file, size);

    if (ret < 0)
        return ret;
    if (size > before)
        memset(file->text + before, 0, size - before);
    file->st.st_size = (off_t)size;
    file->st.st_blocks = (blkcnt_t)((size + 511) / 512);
    return 0;
}

static int set_stat_locked(struct spool *spool, struct spool_file *file, const struct stat *st)
{
    int ret = 0;

    if (st->st_size < 0)
        return -EINVAL;
    if (st->st_size != file->st.st_size)
        ret = file->taken ? -ESTALE : resize_locked(spool, file, (size_t)st->st_size);
    if (ret < 0)
        return ret;
    file->st.st_mode = S_IFREG | (st->st_mode & 0777);
    file->st.st_uid = st->st_uid;
    file->st.st_gid = st->st_gid;
    file->st.st_atim = st->st_atim;
    file->st.st_mtim = st->st_mtim;
    clock_gettime(CLOCK_REALTIME, &file->st.st_ctim);
    return 0;
}

int spool_set_stat(struct spool *spool, uint64_t inode, struct stat *st)
{
    struct spool_file *file;
    int ret = -ESTALE;

    lock_and_sweep(spool);
    file = find_inode_locked(spool, inode);
    if (file)
        ret = set_stat_locked(spool, file, st);
    if (ret == 0)
        *st = file->st;
    pthread_mutex_unlock(&spool->lock);
    return ret;
}

ssize_t spool_read(struct spool *spool, struct spool_file *file, char *buffer, size_t size,
                   off_t offset)
{
    size_t length;

    if (offset < 0)
        return -EINVAL;
    lock_and_sweep(spool);
    length = (size_t)file->st.st_size;
    if ((size_t)offset >= length)
        size = 0;
    else if (size > length - (size_t)offset)
        size = length - (size_t)offset;
    if (size > 0)
        memcpy(buffer, file->text + offset, size);
    pthread_mutex_unlock(&spool->lock);
    return (ssize_t)size;
}

static int write_locked(struct spool *spool, struct spool_file *file, const char *data, size_t size,
                        size_t offset)
{
    int ret = 0;

    if (file->taken)
        return -ESTALE;
    if (size == 0)
        return 0;
    if (offset > SPOOL_FILE_BYTES || size > SPOOL_FILE_BYTES - offset)
        return -EFBIG;
    if (offset + size > (size_t)file->st.st_size)
        ret = resize_locked(spool, file, offset + size);
    if (ret < 0)
        return ret;
    memcpy(file->text + offset, data, size);
    clock_gettime(CLOCK_REALTIME, &file->st.st_mtim);
    file->st.st_ctim = file->st.st_mtim;
    return 0;
}

int spool_write(struct spool *spool, struct spool_file *file, const char *data, size_t size,
                off_t offset)
{
    int ret;

    if (offset < 0)
        return -EINVAL;
    lock_and_sweep(spool);
    ret = write_locked(spool, file, data, size, (size_t)offset);
    pthread_mutex_unlock(&spool->lock);
    return ret;
}

static int copy_locked(const struct spool_file *file, size_t max, char **ret_text,
                       size_t *ret_length)
{
    size_t length = (size_t)file->st.st_size;
    char *text;

    if (length > max)
        return -EFBIG;
    text = malloc(length + 1);
    if (!text)
        return -ENOMEM;
    if (length > 0)
        memcpy(text, file->text, length);
    text[length] = '\0';
    *ret_text = text;
    *ret_length = length;
    return 0;
}

int spool_take(struct spool *spool, const struct spool_key *key, size_t max,
               struct spool_file **ret_file, char **ret_text, size_t *ret_length)
{
    struct spool_file *file;
    int ret;

    lock_and_sweep(spool);
    file = find_file_locked(spool, key);
    ret = file ? copy_locked(file, max, ret_text, ret_length) : -ENOENT;
    if (ret == 0) {
        file->opens++;
        *ret_file = file;
    }
    pthread_mutex_unlock(&spool->lock);
    return ret;
}

void spool_settle(struct spool *spool, struct spool_file *file, bool taken)
{
    lock_and_sweep(spool);
    if (taken) {
        file->taken = true;
        lose_name_locked(spool, file);
    }
    close_locked(spool, file);
    pthread_mutex_unlock(&spool->lock);
}
