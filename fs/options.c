// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reading of the command line (options.h): one row of `known` per option of ours; what is in no
 * row is libfuse's. Also decides where state and sockets lie. Main thread.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: refpointfs [URI] MOUNTPOINT [-o OPTION,...]\n"
    "\n"
    "Reference points of virtual machines, and their export as qcow2, as files.\n"
    "URI is a libvirt connection, e.g. qemu:///system; default: libvirt's own default.\n"
    "\n"
    "    -f               stay in the foreground\n"
    "    -d, -o debug     log every request; implies -f\n"
    "    -s               serve with a single thread\n"
    "    -h, --help       print this help\n"
    "    -V, --version    print the version\n"
    "\n"
    "    -o hold=SECONDS  a hold that is not used for so long ends (600)\n"
    "    -o jobs=N        exports that run at once (4)\n"
    "    -o bandwidth=N   bytes per second and job, suffixes K M G; 0 = no limit (0)\n"
    "    -o quiesce=HOW   freeze the guest's file systems at the instant: auto, yes, no (auto)\n"
    "    -o state=DIR     what must survive a restart\n"
    "    -o scratch=DIR   old data of held disks\n"
    "    -o scratch_reserve=N  bytes left free there, suffixes K M G; 0 = a twentieth (0)\n"
    "    -o run=DIR       sockets, where QEMU can reach them\n"
    "    -o group=NAME    members may mark and export, too (with allow_other)\n"
    "    -o syslog        log to syslog even in the foreground\n"
    "    -o max_threads=N threads that serve requests (4)\n"
    "    -o allow_other   all users see the mount; and libfuse's other options\n"
    "\n"
    "All of it is described in refpointfs(1).\n";

const char *options_help(void)
{
    return help;
}

/* ---- values ---- */

struct known {
    const char *name; /* as in `-o name=value` */
    int (*parse)(const struct known *known, const char *value, struct options *options,
                 struct rp_error *e);
    size_t offset; /* of its member in struct options */
    uint64_t min, max;
};

static int fail_value(const struct known *known, const char *value, const char *why,
                      struct rp_error *e)
{
    return rp_fail(e, RESULT_INVALID_PARAMETER, "option %s=%s: %s", known->name, value, why);
}

/* Digits alone: no sign, no white space, nothing behind. */
static int parse_digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    *ret_end = end;
    return -errno;
}

static int parse_number(const struct known *known, const char *value, struct options *options,
                        struct rp_error *e)
{
    uint64_t number;
    const char *end;
    char why[96];

    if (parse_digits(value, &number, &end) < 0 || *end || number < known->min ||
        number > known->max) {
        snprintf(why, sizeof why, "a number from %" PRIu64 " to %" PRIu64 " is expected",
                 known->min, known->max);
        return fail_value(known, value, why, e);
    }
    *(unsigned *)((char *)options + known->offset) = (unsigned)number;
    return 0;
}

static int parse_bytes(const struct known *known, const char *value, struct options *options,
                       struct rp_error *e)
{
    static const char suffixes[] = "KMG";
    uint64_t number;
    const char *end, *suffix;
    unsigned shift = 0;

    if (parse_digits(value, &number, &end) < 0)
        return fail_value(known, value, "a number of bytes is expected", e);
    if (*end && (suffix = strchr(suffixes, toupper((unsigned char)*end)))) {
        shift = 10 * (unsigned)(suffix - suffixes + 1);
        end++;
    }
    if (*end)
        return fail_value(known, value, "the suffix is one of K, M, G", e);
    if (number > UINT64_MAX >> shift)
        return fail_value(known, value, "the number is too large", e);
    *(uint64_t *)((char *)options + known->offset) = number << shift;
    return 0;
}

static int replace(char **slot, char *value, struct rp_error *e)
{
    if (!value)
        return rp_fail_memory(e);
    free(*slot);
    *slot = value;
    return 0;
}

/* The daemon's working directory is another one. */
static int make_absolute(const char *path, char **ret_path, struct rp_error *e)
{
    char *absolute = NULL, *here;

    if (*path == '/')
        return replace(ret_path, strdup(path), e);
    here = getcwd(NULL, 0);
    if (!here)
        return rp_fail_errno(e, errno, "cannot find the working directory");
    if (asprintf(&absolute, "%s/%s", here, path) < 0)
        absolute = NULL;
    free(here);
    return replace(ret_path, absolute, e);
}

static int parse_dir(const struct known *known, const char *value, struct options *options,
                     struct rp_error *e)
{
    if (!*value)
        return fail_value(known, value, "a directory is expected", e);
    return make_absolute(value, (char **)((char *)options + known->offset), e);
}

static int parse_group(const struct known *known, const char *value, struct options *options,
                       struct rp_error *e)
{
    struct group *group = getgrnam(value);
    uint64_t number;
    const char *end;

    if (group)
        number = group->gr_gid;
    else if (parse_digits(value, &number, &end) < 0 || *end || number >= (gid_t)-1)
        return fail_value(known, value, "there is no such group", e);
    options->has_group = true;
    options->group = (gid_t)number;
    return replace(&options->group_name, strdup(value), e);
}

static int parse_quiesce(const struct known *known, const char *value, struct options *options,
                         struct rp_error *e)
{
    static const char *const names[] = {
        [QUIESCE_AUTO] = "auto", [QUIESCE_YES] = "yes", [QUIESCE_NO] = "no"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(value, names[i]) == 0) {
            options->quiesce = (enum backend_quiesce)i;
            return 0;
        }
    return fail_value(known, value, "auto, yes or no is expected", e);
}

static const struct known known[] = {
    /* A year: longer is a typing error, and scratch space is not for ever. */
    {"hold", parse_number, offsetof(struct options, hold_seconds), 1, 31536000},
    /* Each is a thread with two NBD connections and buffers of some megabytes. */
    {"jobs", parse_number, offsetof(struct options, jobs), 1, 64},
    {"max_threads", parse_number, offsetof(struct options, max_threads), 1, 256},
    {"bandwidth", parse_bytes, offsetof(struct options, bandwidth_bytes), 0, 0},
    {"quiesce", parse_quiesce, 0, 0, 0},
    {"state", parse_dir, offsetof(struct options, state_dir), 0, 0},
    {"scratch", parse_dir, offsetof(struct options, scratch_dir), 0, 0},
    {"scratch_reserve", parse_bytes, offsetof(struct options, scratch_reserve_bytes), 0, 0},
    {"run", parse_dir, offsetof(struct options, run_dir), 0, 0},
    {"group", parse_group, 0, 0, 0},
};

/* ---- the command line ---- */

enum key { KEY_HELP, KEY_VERSION, KEY_FOREGROUND, KEY_DEBUG, KEY_SINGLE, KEY_SYSLOG };

static const struct fuse_opt flags[] = {
    FUSE_OPT_KEY("-h", KEY_HELP),
    FUSE_OPT_KEY("--help", KEY_HELP),
    FUSE_OPT_KEY("-V", KEY_VERSION),
    FUSE_OPT_KEY("--version", KEY_VERSION),
    FUSE_OPT_KEY("-f", KEY_FOREGROUND),
    FUSE_OPT_KEY("-d", KEY_DEBUG),
    FUSE_OPT_KEY("debug", KEY_DEBUG),
    FUSE_OPT_KEY("-s", KEY_SINGLE),
    FUSE_OPT_KEY("syslog", KEY_SYSLOG),
    /* What stands in fstab for others to read. */
    FUSE_OPT_KEY("_netdev", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("auto", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("noauto", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("nofail", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("user", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("users", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("nouser", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_KEY("defaults", FUSE_OPT_KEY_DISCARD),
    FUSE_OPT_END,
};

#define POSITIONAL_MAX 2

struct parsing {
    struct options options;
    char *positional[POSITIONAL_MAX];
    size_t npositional;
    bool is_usage;
    struct rp_error *e;
};

static int fail_usage(struct parsing *parsing, const char *sentence, const char *what)
{
    parsing->is_usage = true;
    return rp_fail(parsing->e, RESULT_INVALID_PARAMETER, sentence, what);
}

static int take_positional(struct parsing *parsing, const char *arg)
{
    if (parsing->npositional == POSITIONAL_MAX)
        return fail_usage(parsing, "one argument too many: '%s'", arg);
    parsing->positional[parsing->npositional] = strdup(arg);
    if (!parsing->positional[parsing->npositional])
        return rp_fail_memory(parsing->e);
    parsing->npositional++;
    return 0;
}

/* 0 taken, 1 libfuse's, negative wrong. */
static int take_option(struct parsing *parsing, const char *arg)
{
    size_t length = strcspn(arg, "=");

    if (*arg == '-')
        return fail_usage(parsing, "there is no option '%s'", arg);
    if (strncmp(arg, "x-", 2) == 0)
        return 0; /* for systemd and other readers of fstab */
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].name) != length || strncmp(known[i].name, arg, length) != 0)
            continue;
        if (!arg[length])
            return rp_fail(parsing->e, RESULT_INVALID_PARAMETER, "option %s needs a value", arg);
        return known[i].parse(&known[i], arg + length + 1, &parsing->options, parsing->e);
    }
    return 1;
}

static int take_key(struct parsing *parsing, const char *arg, int key)
{
    struct options *options = &parsing->options;

    switch (key) {
    case FUSE_OPT_KEY_NONOPT:
        return take_positional(parsing, arg);
    case KEY_HELP:
        options->show_help = true;
        return 0;
    case KEY_VERSION:
        options->show_version = true;
        return 0;
    case KEY_FOREGROUND:
        options->foreground = true;
        return 0;
    case KEY_DEBUG:
        options->debug = options->foreground = true;
        return 0;
    case KEY_SINGLE:
        options->single_thread = true;
        return 0;
    case KEY_SYSLOG:
        options->use_syslog = true;
        return 0;
    default:
        return take_option(parsing, arg);
    }
}

/* fuse_opt takes any failure but -1 for "libfuse's". */
static int take_argument(void *opaque, const char *arg, int key, struct fuse_args *out)
{
    int ret = take_key(opaque, arg, key);

    (void)out;
    return ret < 0 ? -1 : ret;
}

/* ---- where things lie ---- */

/*
 * A folder name for a URI: readable, and by its hash different for each. Short, because the path
 * of a unix socket below it has only 107 bytes.
 */
static void make_slug(const char *uri, char *slug, size_t size)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    size_t n = 0;

    if (!uri) {
        snprintf(slug, size, "default");
        return;
    }
    for (const char *s = uri; *s; s++) {
        hash = (hash ^ (unsigned char)*s) * 16777619u;
        bool plain = isalnum((unsigned char)*s) || *s == '.' || *s == '_';
        if (n + 10 < size && (plain || (n > 0 && slug[n - 1] != '-')))
            slug[n++] = plain ? *s : '-';
    }
    while (n > 0 && slug[n - 1] == '-')
        n--;
    snprintf(slug + n, size - n, "-%08" PRIx32, hash);
}

static int hex_value(char c)
{
    const char *digits = "0123456789abcdef", *at = strchr(digits, tolower((unsigned char)c));

    return c && at ? (int)(at - digits) : -1;
}

/* The root of qemu:///embed?root=DIR; NULL for any other URI, or without memory. */
static char *embed_root(const char *uri)
{
    const char *query = uri ? strstr(uri, ":///embed?") : NULL;
    char *root, *out;

    while (query && strncmp(query + 1, "root=", 5) != 0)
        query = strpbrk(query + 1, "?&");
    if (!query)
        return NULL;
    root = out = strdup(query + 1 + 5);
    for (const char *in = root; in && *in && *in != '&'; in++) {
        if (*in == '%' && hex_value(in[1]) >= 0 && hex_value(in[2]) >= 0) {
            *out++ = (char)(hex_value(in[1]) << 4 | hex_value(in[2]));
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    if (out)
        *out = '\0';
    return root;
}

static const char *home(void)
{
    const char *dir = getenv("HOME");
    struct passwd *user = dir && *dir == '/' ? NULL : getpwuid(getuid());

    return user ? user->pw_dir : dir && *dir == '/' ? dir : "/";
}

static char *default_state_dir(const char *slug)
{
    const char *xdg = getenv("XDG_STATE_HOME");
    char *path = NULL;
    int n;

    if (getuid() == 0)
        n = asprintf(&path, "/var/lib/refpointfs/%s", slug);
    else if (xdg && *xdg == '/')
        n = asprintf(&path, "%s/refpointfs/%s", xdg, slug);
    else
        n = asprintf(&path, "%s/.local/state/refpointfs/%s", home(), slug);
    return n < 0 ? NULL : path;
}

static char *default_run_dir(const char *slug)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    char *path = NULL;
    int n;

    if (getuid() == 0)
        n = asprintf(&path, "/run/refpointfs/%s", slug);
    else if (xdg && *xdg == '/')
        n = asprintf(&path, "%s/refpointfs/%s", xdg, slug);
    else
        n = asprintf(&path, "/tmp/refpointfs-%u/%s", (unsigned)getuid(), slug);
    return n < 0 ? NULL : path;
}

/* The embedded driver keeps all it has below its root, and so do we. */
static char *below(const char *root, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/refpointfs/%s", root, name) < 0 ? NULL : path;
}

static int choose_dirs(struct options *options, struct rp_error *e)
{
    char *root = embed_root(options->uri), slug[40];
    int ret = 0;

    make_slug(options->uri, slug, sizeof slug);
    options->own_state_dir = options->state_dir != NULL;
    options->own_run_dir = options->run_dir != NULL;
    if (!options->state_dir)
        ret =
            replace(&options->state_dir, root ? below(root, "state") : default_state_dir(slug), e);
    if (ret == 0 && !options->run_dir)
        ret = replace(&options->run_dir, root ? below(root, "run") : default_run_dir(slug), e);
    free(root);
    return ret;
}

/* Makes what is missing above `path`, which `option` could have said otherwise. */
static int make_parents(const char *path, mode_t mode, const char *option, struct rp_error *e)
{
    char *partial = strdup(path);
    int ret = 0;

    if (!partial)
        return rp_fail_memory(e);
    for (char *slash = strchr(partial + 1, '/'); slash && ret == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(partial, mode) < 0 && errno != EEXIST)
            ret = rp_fail_errno(e, errno, "cannot make the directory %s (-o %s=DIR takes another)",
                                partial, option);
        *slash = '/';
    }
    free(partial);
    return ret;
}

/* Below /tmp anybody may have been first to make a directory of that name. */
static int check_private(const char *path, struct rp_error *e)
{
    char *parent = strndup(path, (size_t)(strrchr(path, '/') - path));
    struct stat st;
    int ret = 0;

    if (!parent)
        return rp_fail_memory(e);
    if (lstat(parent, &st) < 0)
        ret = rp_fail_errno(e, errno, "cannot look at %s", parent);
    else if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 0077))
        ret = rp_fail(e, RESULT_ACCESS_DENIED,
                      "%s is not a private directory of yours; mount with another -o run=DIR",
                      parent);
    free(parent);
    return ret;
}

int options_make_dirs(const struct options *options, struct rp_error *e)
{
    /* QEMU runs as another user than root and must get through to its sockets. */
    mode_t mode = getuid() == 0 ? 0711 : 0700;
    int ret = 0;

    if (!options->own_state_dir)
        ret = make_parents(options->state_dir, mode, "state", e);
    if (ret == 0 && !options->own_run_dir) {
        ret = make_parents(options->run_dir, mode, "run", e);
        if (ret == 0 && strncmp(options->run_dir, "/tmp/refpointfs-", 16) == 0)
            ret = check_private(options->run_dir, e);
    }
    return ret;
}

/* ---- all of it ---- */

static int add_fuse_options(struct options *options, struct rp_error *e)
{
    char *list = NULL, *fsname = NULL;
    int ret = 0;

    /* The kernel decides by modes and owners who may open what. */
    if (asprintf(&fsname, "fsname=%s", options->uri ? options->uri : "refpointfs") < 0)
        return rp_fail_memory(e);
    if (fuse_opt_add_opt(&list, "default_permissions") < 0 ||
        fuse_opt_add_opt(&list, "subtype=refpointfs") < 0 ||
        fuse_opt_add_opt_escaped(&list, fsname) < 0 ||
        (options->debug && fuse_opt_add_opt(&list, "debug") < 0) ||
        fuse_opt_add_arg(&options->fuse_args, "-o") < 0 ||
        fuse_opt_add_arg(&options->fuse_args, list) < 0)
        ret = rp_fail_memory(e);
    free(fsname);
    free(list);
    return ret;
}

static int use_positional(struct parsing *parsing)
{
    struct options *options = &parsing->options;
    char **args = parsing->positional;

    if (parsing->npositional == 0)
        return fail_usage(parsing, "%s", "the mount point is missing");
    const char *mountpoint = args[parsing->npositional - 1];
    if (!*mountpoint)
        return fail_usage(parsing, "%s", "the mount point is empty");
    /* Some callers give an empty source for "none". */
    if (parsing->npositional == 2 && *args[0]) {
        options->uri = args[0];
        args[0] = NULL;
    }
    return make_absolute(mountpoint, &options->mountpoint, parsing->e);
}

static int complete(struct parsing *parsing)
{
    struct options *options = &parsing->options;
    int ret;

    if (options->show_help || options->show_version)
        return 0;
    ret = use_positional(parsing);
    if (ret == 0)
        ret = choose_dirs(options, parsing->e);
    if (ret == 0)
        ret = add_fuse_options(options, parsing->e);
    return ret;
}

int options_parse(int argc, char **argv, struct options *ret_options, bool *ret_is_usage,
                  struct rp_error *e)
{
    struct rp_error local = RP_ERROR_INIT;
    struct parsing parsing = {
        .options = {.hold_seconds = 600, .jobs = 4, .max_threads = 4},
        .e = e ? e : &local,
    };
    int ret = 0;

    parsing.options.fuse_args = (struct fuse_args)FUSE_ARGS_INIT(argc, argv);
    if (fuse_opt_parse(&parsing.options.fuse_args, &parsing, flags, take_argument) < 0) {
        /* Ours have left a sentence; else it is fuse_opt's, which has printed one itself. */
        ret = -parsing.e->err;
        if (ret == 0)
            ret = fail_usage(&parsing, "%s", "the options cannot be read");
    }
    if (ret == 0)
        ret = complete(&parsing);
    for (size_t i = 0; i < POSITIONAL_MAX; i++)
        free(parsing.positional[i]);
    if (ret < 0) {
        *ret_is_usage = parsing.is_usage;
        options_clear(&parsing.options);
        return ret;
    }
    *ret_options = parsing.options;
    return 0;
}

void options_clear(struct options *options)
{
    free(options->uri);
    free(options->mountpoint);
    free(options->state_dir);
    free(options->run_dir);
    free(options->scratch_dir);
    free(options->group_name);
    fuse_opt_free_args(&options->fuse_args);
    *options = (struct options){0};
}
