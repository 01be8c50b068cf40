// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The top of the tree: README, service/, and the directories of VMs and jobs. Shows snapshots;
 * any thread.
 */
#include <inttypes.h>

#include "options.h"
#include "record.h"
#include "rows.h"

static const char readme[] =
    "refpointfs: reference points of virtual machines, as files.\n"
    "\n"
    "A reference point marks an instant of a virtual machine. Its disks, or only what changed\n"
    "since an earlier reference point, can be exported as qcow2 files that QEMU boots as they\n"
    "are. Everything is done by files in this tree; refpointfs(1) describes each of them.\n"
    "\n"
    "Below, web1 is a machine and tue a name of your choice; start in this directory.\n"
    "\n"
    "Which machines are there, and what can be done with this one?\n"
    "    ls vms\n"
    "    cat vms/web1/info\n"
    "\n"
    "Mark this instant, and hold its data for an export:\n"
    "    mkdir vms/web1/refpoints/tue\n"
    "    cat vms/web1/refpoints/tue/info\n"
    "\n"
    "Export everything, in full (the parent of the directory must exist):\n"
    "    echo ExportDirectory=/backup/web1/tue > vms/web1/refpoints/tue/export\n"
    "\n"
    "Export only what changed since the reference point mon:\n"
    "    cat > vms/web1/refpoints/tue/export <<END\n"
    "    ExportDirectory=/backup/web1/tue\n"
    "    BaseReferencePoint=mon\n"
    "    END\n"
    "\n"
    "What else can be set? (Comments only: copying it back does nothing.)\n"
    "    cat vms/web1/refpoints/tue/export\n"
    "\n"
    "How far is it, and how did it end? `wait` returns when the job has ended, 0 = all is well:\n"
    "    cat vms/web1/refpoints/tue/job/status\n"
    "    cat vms/web1/refpoints/tue/job/wait\n"
    "\n"
    "Why was a text refused? What do the numbers mean?\n"
    "    grep last_refusal= vms/web1/refpoints/tue/job/status\n"
    "    cat service/results\n"
    "\n"
    "Stop an export; let go of held data; delete a reference point (exports stay):\n"
    "    echo 1 > vms/web1/refpoints/tue/job/cancel\n"
    "    echo 0 > vms/web1/refpoints/tue/hold\n"
    "    rmdir vms/web1/refpoints/tue\n"
    "\n"
    "All jobs that this service remembers, and the service itself:\n"
    "    grep -H state= jobs/*/status\n"
    "    cat service/info service/settings\n";

static int show_readme(const struct node *node, FILE *out, struct rp_error *e)
{
    (void)node, (void)e;
    fputs(readme, out);
    return 0;
}

static int show_info(const struct node *node, FILE *out, struct rp_error *e)
{
    struct service_info info;
    int ret = backend_service_info(node->backend, &info, e);

    if (ret < 0)
        return ret;
    record_text(out, "version", REFPOINTFS_VERSION);
    record_text(out, "uri", info.uri);
    record_bool(out, "connected", info.connected);
    record_text(out, "connection", info.connection);
    record_text(out, "libvirt", info.libvirt);
    record_text(out, "hypervisor", info.hypervisor);
    record_bool(out, "can_hold", info.can_hold);
    record_number(out, "vms", info.vms);
    record_number(out, "refpoints", info.refpoints);
    record_number(out, "holds", info.holds);
    record_number(out, "jobs_queued", info.jobs_queued);
    record_number(out, "jobs_running", info.jobs_running);
    record_number(out, "jobs_ended", info.jobs_ended);
    record_number(out, "rpcs", info.rpcs);
    record_time(out, "started", info.started);
    service_info_clear(&info);
    return 0;
}

/* One result a line: number, name, errno ("-" where it is no failure), meaning; tabs between. */
static int show_results(const struct node *node, FILE *out, struct rp_error *e)
{
    size_t count;
    const struct rp_result_row *row = rp_result_rows(&count);

    (void)node, (void)e;
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%d\t%s\t%s\t%s\n", row[i].result, row[i].name,
                *row[i].errno_name ? row[i].errno_name : "-", row[i].meaning);
    return 0;
}

static int show_settings(const struct node *node, FILE *out, struct rp_error *e)
{
    static const char *const quiesce[] = {
        [QUIESCE_AUTO] = "auto", [QUIESCE_YES] = "yes", [QUIESCE_NO] = "no"};
    const struct backend_options *in_force = backend_options_in_force(node->backend);

    (void)e;
    record_text(out, "uri", in_force->uri);
    record_number(out, "hold", in_force->hold_seconds);
    record_number(out, "jobs", in_force->jobs);
    record_number(out, "bandwidth", in_force->bandwidth_bytes);
    record_text(out, "quiesce", quiesce[in_force->quiesce]);
    record_text(out, "state", in_force->state_dir);
    record_text(out, "scratch", in_force->scratch_dir);
    record_number(out, "scratch_reserve", in_force->scratch_reserve_bytes);
    record_text(out, "run", in_force->run_dir);
    record_text(out, "group", node->options->has_group ? node->options->group_name : "");
    return 0;
}

static const struct attr rows[] = {
    {.path = "", .mode = S_IFDIR | 0555},
    {.path = "README", .mode = S_IFREG | 0444, .show = show_readme, .changes = tree_never_changes},
    {.path = "service", .mode = S_IFDIR | 0555},
    {.path = "service/info",
     .mode = S_IFREG | 0444,
     .topics = TOPIC_LIST | TOPIC_INFO,
     .show = show_info},
    {.path = "service/results",
     .mode = S_IFREG | 0444,
     .show = show_results,
     .changes = tree_never_changes},
    {.path = "service/settings",
     .mode = S_IFREG | 0444,
     .show = show_settings,
     .changes = tree_never_changes},
    {.path = "jobs", .mode = S_IFDIR | 0555, .each = &class_job},
    {.path = "vms", .mode = S_IFDIR | 0555, .each = &class_vm},
};

const struct class class_root = {"service", KIND_SERVICE, sizeof rows / sizeof rows[0], rows};
