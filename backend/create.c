// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From the text in `create` to a reference point: mkdir with more to say. Any thread;
 * create_start() is slow.
 */
#include "create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"
#include "settings.h"

/* A hold longer than this is no hold but a leak of scratch space. */
#define HOLD_SECONDS_MAX (7u * 24 * 3600)

int create_print_template(struct registry *registry, uint64_t vm, FILE *out, struct rp_error *e)
{
    struct vm_info info;
    char *disks = NULL;
    size_t length;
    FILE *text;
    int rc = registry_vm_info(registry, vm, &info, e);

    if (rc < 0)
        return rc;
    text = open_memstream(&disks, &length);
    for (size_t i = 0; text && i < info.ndisks; i++)
        if (info.disks[i].tracked)
            fprintf(text, "%s ", info.disks[i].target);
    if (text)
        fclose(text);
    settings_print_template(out, SETTINGS_OF_CREATE, disks, NULL);
    free(disks);
    vm_info_clear(&info);
    return 0;
}

/* Names the line where a setting alone is at fault. */
static int at_line(const struct export_settings *settings, enum setting setting, int rc,
                   struct rp_error *e)
{
    if (rc < 0)
        rp_error_prefix(e, "line %u: ", settings->line[setting]);
    return rc;
}

/* Parses, and makes a spec of it; both borrow from each other until settings_clear(). */
static int read_spec(struct registry *registry, uint64_t vm, const char *text, size_t length,
                     bool whole, struct export_settings *settings, char **base,
                     struct registry_spec *ret_spec, struct rp_error *e)
{
    char *vm_name, *none;
    int rc = settings_parse(text, length, whole, SETTINGS_OF_CREATE, settings, e);

    if (rc < 0)
        return rc;
    rc = registry_names(registry, vm, &vm_name, &none, e);
    if (rc == 0) {
        rc = order_base_name(settings, vm_name, base, e);
        free(vm_name);
        free(none);
    }
    if (rc == 0 && settings->hold_seconds > HOLD_SECONDS_MAX)
        rc = at_line(settings, SETTING_HOLD,
                     rp_fail(e, RESULT_INVALID_PARAMETER, "Hold can be %u seconds at most",
                             HOLD_SECONDS_MAX),
                     e);
    *ret_spec = (struct registry_spec){
        .name = settings->name,
        .base = *base,
        .disks = settings->disks,
        .ndisks = settings->ndisks,
        .consistency = settings->consistency,
        .hold_seconds = (unsigned)settings->hold_seconds,
    };
    if (rc < 0)
        settings_clear(settings);
    return rc;
}

int create_check(struct registry *registry, uint64_t vm, const char *text, size_t length,
                 bool whole, unsigned *ret_settings, struct rp_error *e)
{
    struct export_settings settings;
    struct registry_spec spec;
    char *base = NULL;
    unsigned count;
    int rc = read_spec(registry, vm, text, length, whole, &settings, &base, &spec, e);

    if (rc < 0)
        return rc;
    count = settings.count;
    if (settings.ndisks)
        registry_freshen(registry, vm, 0);
    if (settings.name)
        rc = at_line(&settings, SETTING_NAME, registry_check_name(registry, vm, settings.name, e),
                     e);
    if (rc == 0 && base)
        rc = at_line(&settings, SETTING_BASE_REFPOINT, registry_check_base(registry, vm, base, e),
                     e);
    if (rc == 0 && settings.ndisks)
        rc = at_line(&settings, SETTING_DISKS, registry_check_disks(registry, vm, &spec, e), e);
    settings_clear(&settings);
    free(base);
    if (rc == 0)
        *ret_settings = count;
    return rc;
}

int create_start(struct registry *registry, uint64_t vm, const char *text, size_t length,
                 uint64_t *ret_refpoint, struct rp_error *e)
{
    struct export_settings settings;
    struct registry_spec spec;
    char *base = NULL;
    int rc = read_spec(registry, vm, text, length, true, &settings, &base, &spec, e);

    if (rc < 0) {
        registry_refused(registry, vm, e);
        return rc;
    }
    *ret_refpoint = 0;
    if (settings.count > 0)
        rc = registry_create(registry, vm, &spec, ret_refpoint, e);
    settings_clear(&settings);
    free(base);
    return rc;
}
