// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Rows into inodes, names, listings and attributes (tree.h). Owns nothing but the tables' layout,
 * which follows from their paths and is computed each time it is asked for: a table has some ten
 * short rows. Knows no file's meaning. Any thread, no lock.
 */
#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "options.h"
#include "rows.h"

#define ROW_BITS 8
#define ROW_MASK ((1u << ROW_BITS) - 1)

/*
 * Offsets in a listing: 1 "." and 2 "..", then OFFSET_ROWS + row, then of live objects the inode
 * number. As serials ascend and are never used twice, such an offset stays right whatever comes and
 * goes.
 */
#define OFFSET_ROWS 3

_Static_assert(OFFSET_ROWS + CLASS_ROWS_MAX < 1 << ROW_BITS, "rows fit below live objects");
_Static_assert(CLASS_ROWS_MAX <= ROW_MASK, "rows fit into an inode number");

/* Waiting for a list from libvirt is worth it for so long; then what is known will do. */
#define REFRESH_TIMEOUT_MS 500

/* For how long the kernel may keep the name of a row, below an object whose name it keeps. */
#define ROW_NAME_S 60.0

static const struct class *const classes[] = {
    [KIND_SERVICE] = &class_root, [KIND_VM] = &class_vm,     [KIND_REFPOINT] = &class_refpoint,
    [KIND_JOB] = &class_job,      [KIND_DISK] = &class_disk,
};

#define KINDS (sizeof classes / sizeof classes[0])

/* For attributes of what does not change but may end: how long a program goes on with what the
 * kernel has of a disk that is not held any more. */
#define BLOB_ATTR_TIMEOUT_S 0.1

const struct class *tree_class(enum rp_kind kind)
{
    return classes[kind];
}

void tree_init(struct tree *tree, const struct options *options)
{
    *tree = (struct tree){.options = options, .uid = getuid(), .gid = getgid()};
    clock_gettime(CLOCK_REALTIME, &tree->started);
}

static size_t row_of(const struct node *node)
{
    return (size_t)(node->attr - node->class->attrs);
}

uint64_t tree_inode(const struct node *node)
{
    return node->serial << ROW_BITS | (row_of(node) + 1);
}

uint64_t tree_serial(uint64_t inode)
{
    return inode >> ROW_BITS;
}

static struct node node_at(const struct tree *tree, uint64_t serial, const struct attr *attr)
{
    return (struct node){
        .backend = tree->backend,
        .options = tree->options,
        .serial = serial,
        .class = classes[rp_serial_kind(serial)],
        .attr = attr,
    };
}

int tree_node(const struct tree *tree, uint64_t inode, struct node *ret_node)
{
    uint64_t serial = tree_serial(inode);
    enum rp_kind kind = rp_serial_kind(serial);
    size_t row = inode & ROW_MASK;

    if (kind >= KINDS || row < 1 || row > classes[kind]->count)
        return -ENOENT;
    *ret_node = node_at(tree, serial, &classes[kind]->attrs[row - 1]);
    return 0;
}

/*
 * The last component of the path when the row stands directly in `dir`, else NULL. The object's
 * own directory, path "", stands in none.
 */
static const char *leaf_in(const struct attr *dir, const struct attr *attr)
{
    size_t length = strlen(dir->path);
    const char *leaf = attr->path;

    if (!*attr->path)
        return NULL;
    if (length > 0) {
        if (strncmp(attr->path, dir->path, length) != 0 || attr->path[length] != '/')
            return NULL;
        leaf += length + 1;
    }
    return strchr(leaf, '/') ? NULL : leaf;
}

uint64_t tree_parent_inode(const struct node *node)
{
    struct node parent = *node;

    for (size_t i = 0; i < node->class->count; i++) {
        parent.attr = &node->class->attrs[i];
        if (S_ISDIR(parent.attr->mode) && leaf_in(parent.attr, node->attr))
            return tree_inode(&parent);
    }
    return 1;
}

/* The row of a flat class whose path the name ends in, with something before it; or NULL. */
static const struct attr *row_by_suffix(const struct class *class, const char *name,
                                        size_t *ret_length)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < class->count; i++) {
        size_t suffix = strlen(class->attrs[i].path);

        if (length <= suffix || strcmp(name + length - suffix, class->attrs[i].path) != 0)
            continue;
        *ret_length = length - suffix;
        return &class->attrs[i];
    }
    return NULL;
}

bool tree_exists(const struct node *node)
{
    struct child self;

    return node->serial == 0 || backend_stat(node->backend, node->serial, &self) == 0;
}

static int lookup_child(const struct tree *tree, const struct node *dir, const char *name,
                        struct node *ret_node)
{
    const struct class *class = dir->attr->each;
    const struct attr *attr = &class->attrs[0];
    char object[RP_NAME_SIZE];
    size_t length = strlen(name);
    uint64_t serial;
    int ret;

    if (class->is_flat)
        attr = row_by_suffix(class, name, &length);
    if (!attr)
        return -ENOENT;
    memcpy(object, name, length);
    object[length] = '\0';
    ret = backend_child(tree->backend, dir->serial, class->kind, object, &serial);
    if (ret < 0)
        return ret;
    *ret_node = node_at(tree, serial, attr);
    return 0;
}

int tree_lookup(const struct tree *tree, const struct node *dir, const char *name,
                struct node *ret_node)
{
    if (!tree_is_dir(dir))
        return -ENOTDIR;
    if (strlen(name) >= RP_NAME_SIZE)
        return -ENAMETOOLONG;
    if (dir->attr->each)
        return lookup_child(tree, dir, name, ret_node);

    for (size_t i = 0; i < dir->class->count; i++) {
        const char *leaf = leaf_in(dir->attr, &dir->class->attrs[i]);
        if (leaf && strcmp(leaf, name) == 0) {
            *ret_node = node_at(tree, dir->serial, &dir->class->attrs[i]);
            return 0;
        }
    }
    return -ENOENT;
}

bool tree_has_stores(const struct node *dir)
{
    if (!tree_is_dir(dir) || dir->attr->each)
        return false;
    for (size_t i = 0; i < dir->class->count; i++)
        if (dir->class->attrs[i].store && leaf_in(dir->attr, &dir->class->attrs[i]))
            return true;
    return false;
}

int tree_render(const struct node *node, char **ret_text, size_t *ret_length, struct rp_error *e)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    int ret;

    if (!out)
        return rp_fail_memory(e);
    ret = node->attr->show(node, out, e);
    /* A memory stream fails only for want of memory, and then must not pass for a short text. */
    if (ret == 0 && ferror(out))
        ret = rp_fail_memory(e);
    if (fclose(out) != 0 && ret == 0)
        ret = rp_fail_memory(e);
    if (ret < 0) {
        free(text);
        return ret;
    }
    *ret_text = text;
    *ret_length = length;
    return 0;
}

static int time_of(const struct tree *tree, const struct node *node, struct timespec *ret_time)
{
    struct child child;
    uint64_t job;
    int ret;

    if (node->serial == 0) {
        *ret_time = tree->started;
        return 0;
    }
    ret = backend_stat(tree->backend, node->serial, &child);
    if (ret < 0)
        return ret;
    *ret_time = child.changed;
    if ((node->attr->flags & ATTR_JOB_TIME) && rp_serial_kind(node->serial) != KIND_JOB &&
        backend_job_of(node->backend, node->serial, &job) == 0 &&
        backend_stat(tree->backend, job, &child) == 0)
        *ret_time = child.changed;
    return 0;
}

int tree_stat_sizeless(const struct tree *tree, const struct node *node, struct stat *ret_stat)
{
    struct stat st = {
        .st_ino = tree_inode(node),
        .st_mode = node->attr->mode,
        .st_nlink = 1, /* for a directory: "not counted", so that find(1) draws no conclusions */
        .st_uid = tree->uid,
        .st_gid = tree->gid,
        .st_blksize = 4096,
    };
    int ret = time_of(tree, node, &st.st_mtim);

    if (ret < 0)
        return ret;
    if (tree->options->has_group && ((st.st_mode & 0222) || !(st.st_mode & 0004))) {
        st.st_mode |= (st.st_mode & 0600) >> 3;
        st.st_gid = tree->options->group;
    }
    st.st_atim = st.st_ctim = st.st_mtim;
    *ret_stat = st;
    return 0;
}

void tree_set_size(struct stat *st, size_t length)
{
    st->st_size = (off_t)length;
    st->st_blocks = (blkcnt_t)((length + 511) / 512);
}

static int measure(const struct node *node, struct stat *st)
{
    struct disk_info info;
    int ret = backend_disk_info(node->backend, node->serial, &info, NULL);

    return ret < 0 ? ret : node->attr->blob->measure(&info, st);
}

static int render_size(const struct node *node, struct stat *st)
{
    size_t length;
    char *text;
    int ret = tree_render(node, &text, &length, NULL);

    if (ret == 0) {
        tree_set_size(st, length);
        free(text);
    }
    /* A text that cannot be had just now must not make its name vanish from `ls -l`. */
    return ret == -ENOENT || ret == -ENOMEM ? ret : 0;
}

int tree_stat(const struct tree *tree, const struct node *node, struct stat *ret_stat)
{
    struct stat st;
    int ret = tree_stat_sizeless(tree, node, &st);

    if (ret == 0 && node->attr->blob)
        ret = measure(node, &st);
    else if (ret == 0 && !tree_is_dir(node) && !(node->attr->flags & ATTR_WAIT))
        ret = render_size(node, &st);
    if (ret == 0)
        *ret_stat = st;
    return ret;
}

struct policy tree_policy(const struct node *node)
{
    const struct attr *attr = node->attr;
    /* What its name leads to is always the same row of the same object; but who replaces a file
     * that can be written must find what is there now. */
    double entry_timeout = attr->store ? 0 : *attr->path ? ROW_NAME_S : CACHE_S;

    if (attr->blob)
        return (struct policy){.attr_timeout = BLOB_ATTR_TIMEOUT_S, .keep_pages = true};
    if (tree_is_dir(node))
        return (struct policy){entry_timeout, CACHE_S, CACHE_S, false};
    switch (attr->changes ? attr->changes(node) : CHANGES_FREELY) {
    case CHANGES_NO_MORE:
        return (struct policy){entry_timeout, CACHE_S, CACHE_S, true};
    case CHANGES_BY_EVENTS:
        /* What comes with a new name cannot be taken back before the kernel has both. */
        return (struct policy){entry_timeout, CACHE_S, 0, false};
    default:
        return (struct policy){entry_timeout, 0, 0, false};
    }
}

enum change tree_never_changes(const struct node *node)
{
    (void)node;
    return CHANGES_NO_MORE;
}

void tree_describe(const struct node *node, char *buffer, size_t size)
{
    struct child object = {.name = ""};

    if (node->serial != 0 && backend_stat(node->backend, node->serial, &object) < 0)
        snprintf(object.name, sizeof object.name, "(gone)");
    bool joined = *object.name && *node->attr->path && !node->class->is_flat;
    snprintf(buffer, size, "%s%s%s", object.name, joined ? "/" : "", node->attr->path);
}

static bool list_dots(const struct node *dir, off_t offset, tree_entry_function *entry,
                      void *opaque)
{
    if (offset < 1 && !entry(opaque, ".", tree_inode(dir), S_IFDIR, 1))
        return false;
    return offset >= 2 || entry(opaque, "..", tree_parent_inode(dir), S_IFDIR, 2);
}

static bool list_rows(const struct tree *tree, const struct node *dir, off_t offset,
                      tree_entry_function *entry, void *opaque)
{
    for (size_t i = 0; i < dir->class->count; i++) {
        const struct attr *attr = &dir->class->attrs[i];
        const char *leaf = leaf_in(dir->attr, attr);
        off_t here = (off_t)(OFFSET_ROWS + i);

        if (!leaf || (attr->flags & ATTR_HIDDEN) || here <= offset)
            continue;
        struct node node = node_at(tree, dir->serial, attr);
        if (!entry(opaque, leaf, tree_inode(&node), attr->mode, here))
            return false;
    }
    return true;
}

/* The files of an object of a flat class, or its directory. False when the listing is full. */
static bool list_object(const struct tree *tree, const struct class *class,
                        const struct child *child, off_t offset, tree_entry_function *entry,
                        void *opaque)
{
    size_t count = class->is_flat ? class->count : 1;
    char name[2 * RP_NAME_SIZE];
    struct stat st;

    for (size_t i = 0; i < count; i++) {
        struct node node = node_at(tree, child->serial, &class->attrs[i]);
        off_t here = (off_t)tree_inode(&node);

        if (here <= offset || (node.attr->blob && measure(&node, &st) < 0))
            continue;
        snprintf(name, sizeof name, "%s%s", child->name, node.attr->path);
        if (!entry(opaque, name, tree_inode(&node), node.attr->mode, here))
            return false;
    }
    return true;
}

static void list_children(const struct tree *tree, const struct node *dir, off_t offset,
                          tree_entry_function *entry, void *opaque)
{
    const struct class *class = dir->attr->each;
    /* Of the object that was listed last there may be more. */
    uint64_t last = (uint64_t)offset >> ROW_BITS, after = last > 0 ? last - 1 : 0;
    struct child children[32];
    size_t n;

    do {
        n = backend_children(tree->backend, dir->serial, class->kind, after, children,
                             sizeof children / sizeof children[0]);
        for (size_t i = 0; i < n; i++) {
            after = children[i].serial;
            if (!list_object(tree, class, &children[i], offset, entry, opaque))
                return;
        }
    } while (n > 0);
}

int tree_list(const struct tree *tree, const struct node *dir, off_t offset,
              tree_entry_function *entry, void *opaque)
{
    if (!tree_is_dir(dir))
        return -ENOTDIR;
    if (offset < 0)
        return -EINVAL;
    if (!tree_exists(dir))
        return -ENOENT;
    if (!list_dots(dir, offset, entry, opaque) || !list_rows(tree, dir, offset, entry, opaque))
        return 0;
    if (dir->attr->each)
        list_children(tree, dir, offset, entry, opaque);
    return 0;
}

bool tree_is_stale(const struct node *dir)
{
    return dir->attr->each && backend_is_stale(dir->backend, dir->serial, dir->attr->each->kind);
}

void tree_refresh(const struct node *dir)
{
    backend_refresh(dir->backend, dir->serial, dir->attr->each->kind, REFRESH_TIMEOUT_MS);
}

void tree_refresh_later(const struct node *dir)
{
    backend_refresh(dir->backend, dir->serial, dir->attr->each->kind, 0);
}

bool tree_is_whole_when_found(const struct node *dir)
{
    return dir->attr->each && dir->attr->each->kind != KIND_VM;
}
