// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The laws of the tables, and the engine that makes a tree of them. Linked with fs/ (but main.c)
 * and the fake backend. Argument: the man page's source, in which every path must stand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../fs/options.h"
#include "../fs/record.h"
#include "../fs/rows.h"
#include "../fs/tree.h"

static const char *man_path;

struct fixture {
    struct options options;
    struct tree tree;
};

static void no_event(void *opaque, uint64_t serial, unsigned topics)
{
    (void)opaque, (void)serial, (void)topics;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct backend_options options = {
        .uri = "fake:///?vms=40&refpoints=3", .jobs = 4, .hold_seconds = 600};
    struct backend_events events = {.changed = no_event};

    assert_non_null(f);
    tree_init(&f->tree, &f->options);
    assert_int_equal(backend_open(&options, &events, &f->tree.backend, NULL), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    backend_close(f->tree.backend);
    free(f);
    return 0;
}

static void for_each_row(void (*check)(const struct class *class, const struct attr *attr))
{
    for (int kind = KIND_SERVICE; kind <= KIND_DISK; kind++) {
        const struct class *class = tree_class((enum rp_kind)kind);
        assert_int_equal(class->kind, kind);
        assert_in_range(class->count, 1, CLASS_ROWS_MAX);
        for (size_t i = 0; i < class->count; i++)
            check(class, &class->attrs[i]);
    }
}

/* ---- laws ---- */

static void check_functions(const struct class *class, const struct attr *attr)
{
    if (S_ISDIR(attr->mode)) {
        assert_null(attr->show);
        assert_null(attr->blob);
        assert_false(class->is_flat);
        assert_null(attr->store);
        const struct node dir = {.class = class, .attr = attr};
        assert_int_equal(attr->make != NULL || tree_has_stores(&dir), (attr->mode & 0222) != 0);
        assert_int_equal(attr->make != NULL, attr->remove != NULL);
        assert_true(attr->each || !attr->make);
    } else {
        assert_true(S_ISREG(attr->mode));
        assert_int_equal(attr->show || attr->blob, (attr->mode & 0444) != 0);
        assert_false(attr->show && attr->blob);
        assert_int_equal(attr->store != NULL, (attr->mode & 0222) != 0);
        assert_null(attr->each);
        assert_true(*attr->path);
        assert_true(attr != &class->attrs[0] || class->is_flat);
    }
}

static void test_show_and_store_follow_the_mode(void **state)
{
    (void)state;
    for_each_row(check_functions);
}

static void check_store(const struct class *class, const struct attr *attr)
{
    (void)class;
    if (!attr->store)
        return;
    assert_non_null(attr->store->check);
    assert_non_null(attr->store->commit);
    assert_true(attr->store->max >= 4096);
}

static void test_stores_can_check_and_commit(void **state)
{
    (void)state;
    for_each_row(check_store);
}

/* By everybody; but for the guest's own data, by its owner. */
static void check_listed_readable(const struct class *class, const struct attr *attr)
{
    (void)class;
    assert_int_equal(attr->mode & 0444, attr->blob ? 0400 : 0444);
    if (attr->flags & ATTR_WAIT)
        assert_true(attr->flags & ATTR_HIDDEN);
}

static void test_everything_listed_can_be_read_and_what_blocks_is_hidden(void **state)
{
    (void)state;
    for_each_row(check_listed_readable);
}

static const struct attr *row_of(const struct class *class, const char *path, size_t length)
{
    for (size_t i = 0; i < class->count; i++)
        if (strlen(class->attrs[i].path) == length &&
            strncmp(class->attrs[i].path, path, length) == 0)
            return &class->attrs[i];
    return NULL;
}

static void check_parent(const struct class *class, const struct attr *attr)
{
    const char *slash = strrchr(attr->path, '/');
    const struct attr *parent = row_of(class, attr->path, slash ? (size_t)(slash - attr->path) : 0);

    if (class->is_flat) {
        assert_null(slash);
    } else {
        assert_non_null(parent);
        assert_true(S_ISDIR(parent->mode));
        assert_null(parent->each);
    }
    assert_ptr_equal(row_of(class, attr->path, strlen(attr->path)), attr);
}

static void test_parents_exist_and_names_are_unique(void **state)
{
    (void)state;
    for_each_row(check_parent);
}

static char *man;

static void check_documented(const struct class *class, const struct attr *attr)
{
    char marked[128];

    (void)class;
    if (!*attr->path)
        return;
    snprintf(marked, sizeof marked, "*%s*", attr->path);
    if (!strstr(man, marked))
        fail_msg("%s does not stand in %s", marked, man_path);
}

static void test_every_path_stands_in_the_man_page(void **state)
{
    FILE *in = fopen(man_path, "r");
    size_t n = 0;

    (void)state;
    assert_non_null(in);
    assert_true(getdelim(&man, &n, '\0', in) > 0);
    fclose(in);
    for_each_row(check_documented);
    free(man);
}

/* ---- the engine ---- */

static struct node root(const struct fixture *f)
{
    struct node node;

    assert_int_equal(tree_node(&f->tree, 1, &node), 0);
    return node;
}

static struct node walk(const struct fixture *f, const char *path)
{
    struct node node = root(f), next;
    char copy[256], *rest = copy, *name;

    snprintf(copy, sizeof copy, "%s", path);
    while ((name = strsep(&rest, "/"))) {
        if (tree_lookup(&f->tree, &node, name, &next) < 0)
            fail_msg("%s: there is no %s", path, name);
        node = next;
    }
    return node;
}

static void test_inode_one_is_the_root(void **state)
{
    struct node node = root(*state);

    assert_int_equal(node.serial, 0);
    assert_string_equal(node.attr->path, "");
    assert_int_equal(tree_inode(&node), 1);
}

static void test_inodes_lead_back_to_their_rows(void **state)
{
    struct fixture *f = *state;
    struct node node = walk(f, "vms/vm7/refpoints/r2/job/status"), again;

    assert_string_equal(node.attr->path, "job/status");
    assert_int_equal(tree_node(&f->tree, tree_inode(&node), &again), 0);
    assert_ptr_equal(again.attr, node.attr);
    assert_int_equal(again.serial, node.serial);
}

static void test_numbers_without_a_row_are_no_inodes(void **state)
{
    struct fixture *f = *state;
    struct node node;

    assert_int_equal(tree_node(&f->tree, 0, &node), -ENOENT);
    assert_int_equal(tree_node(&f->tree, 255, &node), -ENOENT);
    assert_int_equal(tree_node(&f->tree, 7 << 8, &node), -ENOENT);
}

static void test_a_name_is_looked_up_whole(void **state)
{
    struct fixture *f = *state;
    struct node refpoint = walk(f, "vms/vm1/refpoints/r1"), node;

    assert_int_equal(tree_lookup(&f->tree, &refpoint, "job/status", &node), -ENOENT);
    assert_int_equal(tree_lookup(&f->tree, &refpoint, "jo", &node), -ENOENT);
    assert_int_equal(tree_lookup(&f->tree, &refpoint, "", &node), -ENOENT);
    struct node file = walk(f, "vms/vm1/refpoints/r1/info");
    assert_int_equal(tree_lookup(&f->tree, &file, "x", &node), -ENOTDIR);
}

static void test_the_size_is_that_of_the_text(void **state)
{
    struct fixture *f = *state;
    struct node node = walk(f, "vms/vm1/info");
    struct stat st;
    char *text;
    size_t length;

    assert_int_equal(tree_stat(&f->tree, &node, &st), 0);
    assert_int_equal(tree_render(&node, &text, &length, NULL), 0);
    assert_int_equal(st.st_size, length);
    assert_int_equal(st.st_blocks, (length + 511) / 512);
    free(text);
}

static void test_wait_shows_as_empty(void **state)
{
    struct fixture *f = *state;
    struct node node = walk(f, "vms/vm1/refpoints/r1/job/wait");
    struct stat st;

    assert_int_equal(tree_stat(&f->tree, &node, &st), 0);
    assert_int_equal(st.st_size, 0);
}

struct seen {
    char names[128][RP_NAME_SIZE];
    size_t count, stop_after;
    off_t last;
};

static bool see(void *opaque, const char *name, uint64_t inode, mode_t mode, off_t next)
{
    struct seen *seen = opaque;

    assert_true(inode != 0 && (mode & S_IFMT) != 0);
    assert_true(next > seen->last);
    if (seen->stop_after && seen->count == seen->stop_after)
        return false;
    assert_in_range(seen->count, 0, 127);
    snprintf(seen->names[seen->count++], RP_NAME_SIZE, "%s", name);
    seen->last = next;
    return true;
}

static bool has(const struct seen *seen, const char *name)
{
    for (size_t i = 0; i < seen->count; i++)
        if (strcmp(seen->names[i], name) == 0)
            return true;
    return false;
}

static void test_wait_is_found_but_not_listed(void **state)
{
    struct fixture *f = *state;
    struct node dir = walk(f, "vms/vm1/refpoints/r1/job");
    struct seen seen = {.count = 0};

    assert_int_equal(tree_list(&f->tree, &dir, 0, see, &seen), 0);
    assert_true(has(&seen, "status"));
    assert_false(has(&seen, "wait"));
}

static void test_a_listing_goes_on_where_it_stopped(void **state)
{
    struct fixture *f = *state;
    struct node dir = walk(f, "vms");
    struct seen all = {.count = 0}, pieces = {.count = 0};

    tree_list(&f->tree, &dir, 0, see, &all);
    assert_int_equal(all.count, 42); /* with . and .. */
    do {
        pieces.stop_after = pieces.count + 1;
        tree_list(&f->tree, &dir, pieces.last, see, &pieces);
    } while (pieces.count == pieces.stop_after);
    assert_int_equal(pieces.count, all.count);
    assert_memory_equal(pieces.names, all.names, all.count * RP_NAME_SIZE);
}

static void test_a_listing_survives_what_goes_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct node dir = walk(f, "vms/vm5/refpoints");
    struct seen seen = {.stop_after = 3}; /* ., .., r1 */

    tree_list(&f->tree, &dir, 0, see, &seen);
    struct node gone = walk(f, "vms/vm5/refpoints/r1");
    assert_int_equal(backend_refpoint_delete(f->tree.backend, gone.serial, NULL), 0);
    seen.stop_after = 0;
    tree_list(&f->tree, &dir, seen.last, see, &seen);
    assert_int_equal(seen.count, 5);
    assert_string_equal(seen.names[3], "r2");
    assert_string_equal(seen.names[4], "r3");
}

/* A disk has no directory: its files stand where it is listed, by its name and theirs. */
static void test_files_of_a_flat_class_stand_beside_each_other(void **state)
{
    struct fixture *f = *state;
    struct node vm = walk(f, "vms/vm9"), dir, image, map, node;
    struct seen seen = {.stop_after = 3}; /* ., .., vda.img */
    struct stat st;
    uint64_t serial;

    assert_int_equal(
        backend_refpoint_create(f->tree.backend, vm.serial, "held", NULL, &serial, NULL), 0);
    dir = walk(f, "vms/vm9/refpoints/held/disks");
    image = walk(f, "vms/vm9/refpoints/held/disks/vda.img");
    map = walk(f, "vms/vm9/refpoints/held/disks/vda.map");
    assert_int_equal(image.serial, map.serial);
    assert_int_equal(rp_serial_kind(image.serial), KIND_DISK);
    assert_int_equal(tree_lookup(&f->tree, &dir, "vda", &node), -ENOENT);
    assert_int_equal(tree_lookup(&f->tree, &dir, ".img", &node), -ENOENT);
    assert_int_equal(tree_lookup(&f->tree, &dir, "vdb.img", &node), -ENOENT);
    assert_int_equal(tree_stat(&f->tree, &image, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
    assert_int_equal(st.st_size, (4 << 20) + 512);
    assert_int_equal(st.st_blocks, (2 << 20) / 512 + 1);

    tree_list(&f->tree, &dir, 0, see, &seen);
    seen.stop_after = 0;
    tree_list(&f->tree, &dir, seen.last, see, &seen);
    assert_int_equal(seen.count, 4);
    assert_string_equal(seen.names[2], "vda.img");
    assert_string_equal(seen.names[3], "vda.map");

    /* Held again, it is another file. */
    assert_int_equal(backend_hold_release(f->tree.backend, serial, NULL), 0);
    assert_int_equal(tree_stat(&f->tree, &image, &st), -ENOENT);
    assert_int_equal(tree_lookup(&f->tree, &dir, "vda.img", &node), -ENOENT);
}

static void test_what_has_gone_answers_enoent(void **state)
{
    struct fixture *f = *state;
    struct node dir = walk(f, "vms/vm6/refpoints/r1"), file = walk(f, "vms/vm6/refpoints/r1/info");
    struct seen seen = {.count = 0};
    struct stat st;

    assert_int_equal(backend_refpoint_delete(f->tree.backend, dir.serial, NULL), 0);
    assert_int_equal(tree_stat(&f->tree, &dir, &st), -ENOENT);
    assert_int_equal(tree_stat(&f->tree, &file, &st), -ENOENT);
    assert_int_equal(tree_list(&f->tree, &dir, 0, see, &seen), -ENOENT);
}

static void test_a_group_may_do_what_the_owner_may(void **state)
{
    struct fixture *f = *state;
    uint64_t serial;
    struct node file = walk(f, "vms/vm1/refpoints/r2/hold"), other = walk(f, "README");
    struct stat st;

    f->options.has_group = true;
    f->options.group = 4711;
    assert_int_equal(tree_stat(&f->tree, &file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0664);
    assert_int_equal(st.st_gid, 4711);
    assert_int_equal(tree_stat(&f->tree, &other, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_not_equal(st.st_gid, 4711);
    assert_int_equal(backend_refpoint_create(f->tree.backend, walk(f, "vms/vm8").serial, "held",
                                             NULL, &serial, NULL),
                     0);
    file = walk(f, "vms/vm8/refpoints/held/disks/vda.img");
    assert_int_equal(tree_stat(&f->tree, &file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0440);
    assert_int_equal(st.st_gid, 4711);
    f->options.has_group = false;
}

/* ---- records ---- */

static void test_a_value_is_one_line_whatever_it_holds(void **state)
{
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    (void)state;
    record_text(out, "key", "a\nforged=1\r\x7f");
    record_text(out, "none", NULL);
    fclose(out);
    assert_string_equal(text, "key=a\\012forged=1\\015\\177\nnone=\n");
    free(text);
}

static void test_times_are_utc(void **state)
{
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    (void)state;
    record_time(out, "a", (struct timespec){86400 + 3661, 999999999});
    record_time(out, "b", (struct timespec){0, 0});
    fclose(out);
    assert_string_equal(text, "a=1970-01-02T01:01:01Z\nb=\n");
    free(text);
}

static void test_every_file_can_be_rendered(void **state)
{
    struct fixture *f = *state;
    struct node nodes[] = {root(f), walk(f, "vms/vm1"), walk(f, "vms/vm1/refpoints/r2")};

    for (size_t n = 0; n < sizeof nodes / sizeof nodes[0]; n++) {
        for (size_t i = 0; i < nodes[n].class->count; i++) {
            struct node node = nodes[n];
            size_t length;
            char *text;

            node.attr = &node.class->attrs[i];
            if (!node.attr->show)
                continue;
            assert_int_equal(tree_render(&node, &text, &length, NULL), 0);
            assert_int_equal(strlen(text), length);
            assert_true(length == 0 || text[length - 1] == '\n');
            free(text);
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_show_and_store_follow_the_mode),
        cmocka_unit_test(test_stores_can_check_and_commit),
        cmocka_unit_test(test_everything_listed_can_be_read_and_what_blocks_is_hidden),
        cmocka_unit_test(test_parents_exist_and_names_are_unique),
        cmocka_unit_test(test_every_path_stands_in_the_man_page),
        cmocka_unit_test(test_inode_one_is_the_root),
        cmocka_unit_test(test_inodes_lead_back_to_their_rows),
        cmocka_unit_test(test_numbers_without_a_row_are_no_inodes),
        cmocka_unit_test(test_a_name_is_looked_up_whole),
        cmocka_unit_test(test_the_size_is_that_of_the_text),
        cmocka_unit_test(test_wait_shows_as_empty),
        cmocka_unit_test(test_wait_is_found_but_not_listed),
        cmocka_unit_test(test_a_listing_goes_on_where_it_stopped),
        cmocka_unit_test(test_a_listing_survives_what_goes_meanwhile),
        cmocka_unit_test(test_files_of_a_flat_class_stand_beside_each_other),
        cmocka_unit_test(test_what_has_gone_answers_enoent),
        cmocka_unit_test(test_a_group_may_do_what_the_owner_may),
        cmocka_unit_test(test_a_value_is_one_line_whatever_it_holds),
        cmocka_unit_test(test_times_are_utc),
        cmocka_unit_test(test_every_file_can_be_rendered),
    };

    man_path = argc > 1 ? argv[1] : "fs/refpointfs.1.scd";
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
