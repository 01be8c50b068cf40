/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tree: tables of rows, and what inode numbers, lookup, listing and stat make of them. The
 * engine knows rows and objects, never what a file means; a new file is a new row (rows.h).
 *
 * inode = serial << 8 | (row + 1): an object's serial (backend.h; its low bits name the class)
 * and the row in the class's table. Nothing is allocated for a name that was looked up and nothing
 * has to be forgotten; row 0 of the service is inode 1, FUSE's root.
 *
 * All functions here answer from memory, hold no lock and may run in any thread; the exception is
 * tree_refresh(), which waits.
 */
#ifndef REFPOINTFS_TREE_H
#define REFPOINTFS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "../backend/backend.h"

struct attr;
struct class;
struct options;

/* One name: a row of one object. By value; the object may have gone (then -ENOENT). */
struct node {
    struct backend *backend;
    const struct options *options;
    uint64_t serial;
    const struct class *class;
    const struct attr *attr;
};

/*
 * How a written text reaches its object. A text is gathered in the open file (handle.c), checked
 * while it arrives, and committed once. Members that may be NULL say so.
 */
struct store {
    size_t max; /* longest text; past it EFBIG */
    /*
     * A single value: committed inside the WRITE that completes it, because shells see the errors
     * of write(2) alone. Otherwise a text is committed when its file is closed for good.
     */
    bool at_write;
    /* May a text be written now? NULL = always. Memory. */
    int (*begin)(const struct node *node, struct rp_error *e);
    /*
     * Would it be taken? Before it is TEXT_WHOLE more may follow. *ret_values: how many values it
     * holds; 0 = nothing to commit. Slow.
     */
    int (*check)(const struct node *node, const char *text, size_t length, enum text_state state,
                 const struct caller *caller, unsigned *ret_values, struct rp_error *e);
    /*
     * 1: it is taken, and the open file counts as having let go of it (see receiving). Slow. A
     * failure is remembered where the user can read it by the backend.
     */
    int (*commit)(const struct node *node, const char *text, size_t length,
                  const struct caller *caller, struct rp_error *e);
    /* An open file has text in hand (+1), or let go of it (-1). May be NULL. Memory. */
    void (*receiving)(const struct node *node, int delta);
    /* A text was refused before commit: remember why. May be NULL. Memory. */
    void (*refused)(const struct node *node, const struct rp_error *e);
};

/* A file of a held disk: not printed as a whole but read in place, however large it is (disk.h). */
struct blob {
    bool is_data; /* the disk's bytes; else the text of its map */
    /* Fills in size and blocks. -ENOENT: they are not known yet, and so there is no such file. */
    int (*measure)(const struct disk_info *info, struct stat *st);
};

enum attr_flags {
    ATTR_HIDDEN = 1, /* found by lookup, not listed */
    ATTR_WAIT = 2,   /* a read is answered when the job has ended (wait.c); shows as size 0 */
    /*
     * Reads as it is at once but also changes under a job's feet: its mtime is that of the job, so
     * that rsync and make notice.
     */
    ATTR_JOB_TIME = 4,
};

/* How what a file shows changes, and so what the kernel may keep of it (cache.h). */
enum change {
    CHANGES_FREELY,    /* without events, too */
    CHANGES_BY_EVENTS, /* as things stand: those that say otherwise begin with an event */
    CHANGES_NO_MORE,
};

/* One row = one name in a directory of this class. show, or else blob, exists iff mode & 0444 on a
 * file. */
struct attr {
    /* "" the object's directory itself, "export", "job/status"; of a flat class ".img" */
    const char *path;
    mode_t mode;     /* with its type; what the row gives before -o group= */
    unsigned topics; /* enum topic: what makes poll() report POLLPRI; 0 = never */
    unsigned flags;  /* enum attr_flags */
    /* Prints a snapshot, never waits. */
    int (*show)(const struct node *node, FILE *out, struct rp_error *e);
    const struct blob *blob;                         /* instead of show */
    enum change (*changes)(const struct node *node); /* NULL = freely. Memory */
    const struct store *store;                       /* exists iff mode & 0222 on a file */
    /* A directory whose entries are live objects of this class; it has no rows below it. */
    const struct class *each;
    /*
     * mkdir and rmdir in it; both or neither. A directory has mode & 0222 iff it has them, or a
     * file that can be written (tree_has_stores()). Slow.
     */
    int (*make)(const struct node *dir, const char *name, const struct caller *caller,
                uint64_t *ret_serial, struct rp_error *e);
    int (*remove)(const struct node *dir, uint64_t serial, struct rp_error *e);
};

#define CLASS_ROWS_MAX 64

struct class
{
    const char *name;
    enum rp_kind kind;
    size_t count;
    const struct attr *attrs; /* attrs[0] is the directory itself, path "" */
    /* Its objects have no directories. Each row is a file in the directory that lists them, by the
     * object's name with the row's path behind it. */
    bool is_flat;
};

struct tree {
    struct backend *backend;       /* set before the first request is served */
    const struct options *options; /* borrowed */
    uid_t uid;
    gid_t gid;
    struct timespec started;
};

void tree_init(struct tree *tree, const struct options *options);

/* The classes by kind, for what walks all tables. */
const struct class *tree_class(enum rp_kind kind);

uint64_t tree_inode(const struct node *node);

/* The object behind an inode number. */
uint64_t tree_serial(uint64_t inode);

/* -ENOENT for a number that no row has; does not ask whether the object still exists. */
int tree_node(const struct tree *tree, uint64_t inode, struct node *ret_node);

/* `name` in the directory `dir`, from what is known now. */
int tree_lookup(const struct tree *tree, const struct node *dir, const char *name,
                struct node *ret_node);

/* Is the object still there? */
bool tree_exists(const struct node *node);

/* The directory that the row stands in; for an object's own directory the root's. */
uint64_t tree_parent_inode(const struct node *node);

/*
 * Does a file that can be written stand in this directory? Then files may be made and renamed
 * beside it (spool.h), as programs do that save.
 */
bool tree_has_stores(const struct node *dir);

static inline bool tree_is_dir(const struct node *node)
{
    return S_ISDIR(node->attr->mode);
}

/*
 * Prints the file's text; *ret_text is freed by the caller and has a NUL behind its `ret_length`
 * bytes.
 */
int tree_render(const struct node *node, char **ret_text, size_t *ret_length, struct rp_error *e);

/* Everything but the size (0 for files). */
int tree_stat_sizeless(const struct tree *tree, const struct node *node, struct stat *ret_stat);

/* With the exact size, for which a file is rendered. */
int tree_stat(const struct tree *tree, const struct node *node, struct stat *ret_stat);

/* Fills in size and blocks: tar -S takes a file without blocks for one hole. */
void tree_set_size(struct stat *st, size_t length);

/*
 * How the kernel may treat the node; the one place where that is chosen (how that is kept true:
 * cache.h). What is not kept is seen as it is now at every look, and its size is exact. What a held
 * disk reads as does not change, and held again, it is another inode. Whether it is still held, the
 * kernel asks again at every read that comes later than the attributes' timeout, even of what it
 * has kept.
 */
struct policy {
    /* Seconds. The last is for attributes that come with a name. */
    double entry_timeout, attr_timeout, entry_attr_timeout;
    /*
     * What other openers have read is true for all. If not, it is read past the kernel's pages, by
     * which reads can also be interrupted and O_NONBLOCK arrives.
     */
    bool keep_pages;
};
struct policy tree_policy(const struct node *node);

/* For `changes` of what never does. */
enum change tree_never_changes(const struct node *node);

/* "tue/export", for the log. */
void tree_describe(const struct node *node, char *buffer, size_t size);

/*
 * Calls `entry` for each name after `offset` (0 to begin) until it returns false. `next` is the
 * offset that goes on behind this entry; it stays valid while other names come and go.
 */
typedef bool tree_entry_function(void *opaque, const char *name, uint64_t inode, mode_t mode,
                                 off_t next);
int tree_list(const struct tree *tree, const struct node *dir, off_t offset,
              tree_entry_function *entry, void *opaque);

/* Does the list of objects in this directory have to be asked for again? Then tree_refresh(). */
bool tree_is_stale(const struct node *dir);
void tree_refresh(const struct node *dir);       /* slow */
void tree_refresh_later(const struct node *dir); /* only asks; memory */

/*
 * May what was found in a stale directory be used at once? A point can, for its name comes with all
 * that is known of it; of a VM only the name may be known yet.
 */
bool tree_is_whole_when_found(const struct node *dir);

#endif
