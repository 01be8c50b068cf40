// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The connection to libvirt and its event thread. Turns calls into RPCs and libvirt's errors into
 * ours; keeps no picture of the domains. Calls run in the caller's thread, events in the one
 * thread that runs libvirt's default event loop.
 */
#include "virt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "turns.h"

#define EVENT_CALLBACKS 6

struct virt {
    char *uri; /* NULL: libvirt's default */
    struct virt_events events;
    pthread_t thread;
    atomic_bool stop;
    int wakeup; /* timer that makes the event loop turn when it is to stop */
    atomic_uint_fast64_t rpcs;

    pthread_mutex_t lock; /* protects connection and callbacks; never held over an RPC */
    virConnectPtr connection;
    int callbacks[EVENT_CALLBACKS];
    size_t ncallbacks;
    atomic_bool connected;

    /*
     * libvirt (9.0) looks a checkpoint up before it waits for the domain's job to ask QEMU for its
     * sizes: one that is deleted meanwhile is read after it was freed, and libvirtd dies, or the
     * embedded driver and we with it.
     */
    struct turns sizes;
};

/* ---- errors ---- */

/* libvirt prints every error to stderr unless a handler is set; ours are reported by the caller. */
static void silent(void *opaque __attribute__((unused)), virErrorPtr error __attribute__((unused)))
{
}

static int result_of_code(int code)
{
    switch (code) {
    case VIR_ERR_NO_MEMORY:
        return RESULT_OUT_OF_MEMORY;
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
    case VIR_ERR_CONFIG_UNSUPPORTED:
        return RESULT_NOT_SUPPORTED;
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_OPERATION_DENIED:
        return RESULT_ACCESS_DENIED;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_RPC:
    case VIR_ERR_INVALID_CONN:
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_AGENT_UNRESPONSIVE:
        return RESULT_NOT_AVAILABLE;
    case VIR_ERR_OPERATION_TIMEOUT:
        return RESULT_IN_USE; /* 68: another job kept the domain's lock for 30 s */
    case VIR_ERR_OPERATION_INVALID:
    case VIR_ERR_CHECKPOINT_INCONSISTENT:
        return RESULT_INVALID_STATE;
    case VIR_ERR_NO_DOMAIN_CHECKPOINT:
    case VIR_ERR_INVALID_ARG:
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_INVALID_SCHEMA:
        return RESULT_INVALID_PARAMETER;
    default:
        return RESULT_FAILED;
    }
}

/* Number and text of the error that libvirt keeps for this thread. */
static int fail_libvirt(struct rp_error *e)
{
    virErrorPtr error = virGetLastError();
    int code = error ? error->code : VIR_ERR_INTERNAL_ERROR;
    int rc = rp_fail(e, result_of_code(code), "libvirt: %s",
                     error && error->message ? error->message : "unknown error");

    if (code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_NO_DOMAIN_CHECKPOINT) {
        rc = -ENOENT;
        e->err = ENOENT;
    }
    return rc;
}

/* ---- handles that leave with their scope ---- */

static void put_connection(virConnectPtr *connection)
{
    if (*connection)
        virConnectClose(*connection);
}

static void put_domain(virDomainPtr *domain)
{
    if (*domain)
        virDomainFree(*domain);
}

static void put_checkpoint(virDomainCheckpointPtr *checkpoint)
{
    if (*checkpoint)
        virDomainCheckpointFree(*checkpoint);
}

#define CONNECTION __attribute__((cleanup(put_connection))) virConnectPtr
#define DOMAIN     __attribute__((cleanup(put_domain))) virDomainPtr
#define CHECKPOINT __attribute__((cleanup(put_checkpoint))) virDomainCheckpointPtr

/* A reference to the connection, so that a reconnect meanwhile cannot free it. NULL: none. */
static virConnectPtr get_connection(struct virt *virt, struct rp_error *e)
{
    virConnectPtr connection;

    pthread_mutex_lock(&virt->lock);
    connection = virt->connected ? virt->connection : NULL;
    if (connection)
        virConnectRef(connection);
    pthread_mutex_unlock(&virt->lock);
    if (!connection)
        rp_fail(e, RESULT_NOT_AVAILABLE, "not connected to libvirt");
    return connection;
}

static virDomainPtr get_domain(struct virt *virt, const char *uuid, struct rp_error *e)
{
    CONNECTION connection = get_connection(virt, e);
    virDomainPtr domain = connection ? virDomainLookupByUUIDString(connection, uuid) : NULL;

    if (connection && !domain)
        fail_libvirt(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return domain;
}

static virDomainCheckpointPtr get_checkpoint(struct virt *virt, const char *uuid, const char *name,
                                             struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    virDomainCheckpointPtr checkpoint =
        domain ? virDomainCheckpointLookupByName(domain, name, 0) : NULL;

    if (domain && !checkpoint)
        fail_libvirt(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return checkpoint;
}

/* get_domain() and get_checkpoint() say -ENOENT or why not by *e alone. */
static int missing(const struct rp_error *e)
{
    return -e->err;
}

/* ---- events ---- */

static void tell_domain(struct virt *virt, virDomainPtr domain)
{
    char uuid[VIRT_UUID_SIZE];

    if (virDomainGetUUIDString(domain, uuid) == 0)
        virt->events.domain(virt->events.opaque, uuid);
}

static int on_lifecycle(virConnectPtr connection __attribute__((unused)), virDomainPtr domain,
                        int event __attribute__((unused)), int detail __attribute__((unused)),
                        void *opaque)
{
    tell_domain(opaque, domain);
    return 0;
}

static void on_change(virConnectPtr connection __attribute__((unused)), virDomainPtr domain,
                      const char *what __attribute__((unused)), void *opaque)
{
    tell_domain(opaque, domain);
}

static void on_io_error(virConnectPtr connection __attribute__((unused)), virDomainPtr domain,
                        const char *path __attribute__((unused)),
                        const char *alias __attribute__((unused)),
                        int action __attribute__((unused)), void *opaque)
{
    struct virt *virt = opaque;
    char uuid[VIRT_UUID_SIZE];

    if (virDomainGetUUIDString(domain, uuid) == 0)
        virt->events.io_error(virt->events.opaque, uuid);
}

static void on_agent(virConnectPtr connection __attribute__((unused)), virDomainPtr domain,
                     int state __attribute__((unused)), int reason __attribute__((unused)),
                     void *opaque)
{
    tell_domain(opaque, domain);
}

static void on_job_completed(virConnectPtr connection __attribute__((unused)), virDomainPtr domain,
                             virTypedParameterPtr params __attribute__((unused)),
                             int nparams __attribute__((unused)), void *opaque)
{
    struct virt *virt = opaque;
    char uuid[VIRT_UUID_SIZE];

    if (virDomainGetUUIDString(domain, uuid) == 0)
        virt->events.job_ended(virt->events.opaque, uuid);
}

static void on_close(virConnectPtr connection, int reason __attribute__((unused)), void *opaque)
{
    struct virt *virt = opaque;
    bool current;

    pthread_mutex_lock(&virt->lock);
    current = connection == virt->connection && virt->connected;
    if (current)
        virt->connected = false;
    pthread_mutex_unlock(&virt->lock);
    if (current)
        virt->events.disconnected(virt->events.opaque);
}

static void *event_loop(void *opaque)
{
    struct virt *virt = opaque;

    while (!virt->stop)
        virEventRunDefaultImpl();
    return NULL;
}

static void on_wakeup(int timer, void *opaque __attribute__((unused)))
{
    virEventUpdateTimeout(timer, -1);
}

/* ---- opening and connecting ---- */

int virt_open(const char *uri, const struct virt_events *events, struct virt **ret_virt,
              struct rp_error *e)
{
    static bool registered; /* the default event loop can be registered once in a process */
    struct virt *virt = calloc(1, sizeof *virt);

    if (!virt || (uri && !(virt->uri = strdup(uri)))) {
        free(virt);
        return rp_fail_memory(e);
    }
    virt->events = *events;
    pthread_mutex_init(&virt->lock, NULL);
    turns_init(&virt->sizes);
    virSetErrorFunc(NULL, silent);
    if (virInitialize() < 0 || (!registered && virEventRegisterDefaultImpl() < 0)) {
        fail_libvirt(e);
        goto fail;
    }
    registered = true;
    virt->wakeup = virEventAddTimeout(-1, on_wakeup, NULL, NULL);
    if (virt->wakeup < 0 || pthread_create(&virt->thread, NULL, event_loop, virt) != 0) {
        rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start the event thread");
        goto fail;
    }
    *ret_virt = virt;
    return 0;

fail:
    turns_destroy(&virt->sizes);
    pthread_mutex_destroy(&virt->lock);
    free(virt->uri);
    free(virt);
    return missing(e);
}

/* Takes `connection` out of use. Its callbacks go first: they name virt. */
static void drop(struct virt *virt)
{
    virConnectPtr connection;

    pthread_mutex_lock(&virt->lock);
    connection = virt->connection;
    virt->connection = NULL;
    virt->connected = false;
    pthread_mutex_unlock(&virt->lock);
    if (!connection)
        return;
    for (size_t i = 0; i < virt->ncallbacks; i++)
        virConnectDomainEventDeregisterAny(connection, virt->callbacks[i]);
    virt->ncallbacks = 0;
    virConnectUnregisterCloseCallback(connection, on_close);
    virConnectClose(connection);
}

void virt_close(struct virt *virt)
{
    if (!virt)
        return;
    drop(virt);
    virt->stop = true;
    virEventUpdateTimeout(virt->wakeup, 0);
    pthread_join(virt->thread, NULL);
    virEventRemoveTimeout(virt->wakeup);
    turns_destroy(&virt->sizes);
    pthread_mutex_destroy(&virt->lock);
    free(virt->uri);
    free(virt);
}

static void subscribe(struct virt *virt, virConnectPtr connection)
{
    static const struct {
        int event;
        virConnectDomainEventGenericCallback callback;
    } wanted[] = {
        {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
        {VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed)},
        {VIR_DOMAIN_EVENT_ID_IO_ERROR, VIR_DOMAIN_EVENT_CALLBACK(on_io_error)},
        {VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent)},
        {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_change)},
        {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_change)},
    };

    /* A driver without an event kind refuses it: the others still serve. */
    virt->ncallbacks = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        int id = virConnectDomainEventRegisterAny(connection, NULL, wanted[i].event,
                                                  wanted[i].callback, virt, NULL);
        if (id >= 0)
            virt->callbacks[virt->ncallbacks++] = id;
    }
}

static int fail_connect(const struct virt *virt, struct rp_error *e)
{
    virErrorPtr error = virGetLastError();
    int result = result_of_code(error ? error->code : VIR_ERR_NO_CONNECT);

    /* Whatever else it may be called, a hypervisor that cannot be connected to is not available. */
    if (result != RESULT_ACCESS_DENIED && result != RESULT_OUT_OF_MEMORY)
        result = RESULT_NOT_AVAILABLE;
    return rp_fail(e, result, "cannot connect to libvirt at %s: %s",
                   virt->uri ? virt->uri : "its default URI",
                   error && error->message ? error->message : "unknown error");
}

int virt_connect(struct virt *virt, struct rp_error *e)
{
    virConnectPtr connection;

    drop(virt);
    connection = virConnectOpen(virt->uri);
    atomic_fetch_add(&virt->rpcs, 1);
    if (!connection)
        return fail_connect(virt, e);
    /* Drivers inside the process have no keep-alive and say so: nothing to do then. */
    virConnectSetKeepAlive(connection, VIRT_KEEPALIVE_SECONDS, VIRT_KEEPALIVE_COUNT);
    virConnectRegisterCloseCallback(connection, on_close, virt, NULL);
    subscribe(virt, connection);
    pthread_mutex_lock(&virt->lock);
    virt->connection = connection;
    virt->connected = true;
    pthread_mutex_unlock(&virt->lock);
    return 0;
}

bool virt_is_connected(struct virt *virt)
{
    return virt->connected;
}

uint64_t virt_rpcs(struct virt *virt)
{
    return atomic_load(&virt->rpcs);
}

static void print_version(char *ret, size_t size, const char *name, unsigned long version)
{
    snprintf(ret, size, "%s%s%lu.%lu.%lu", name, *name ? " " : "", version / 1000000,
             version / 1000 % 1000, version % 1000);
}

int virt_get_versions(struct virt *virt, struct virt_versions *ret_versions, struct rp_error *e)
{
    CONNECTION connection = get_connection(virt, e);
    struct virt_versions versions = {0};
    unsigned long version = 0;
    const char *type;
    char *uri;

    if (!connection)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 3);
    type = virConnectGetType(connection);
    uri = virConnectGetURI(connection);
    if (!type || !uri || virConnectGetLibVersion(connection, &version) < 0) {
        free(uri);
        return fail_libvirt(e);
    }
    print_version(versions.libvirt, sizeof versions.libvirt, "", version);
    if (virConnectGetVersion(connection, &version) == 0)
        print_version(versions.hypervisor, sizeof versions.hypervisor, type, version);
    versions.is_test = strcasecmp(type, "test") == 0;
    versions.uri = uri;
    *ret_versions = versions;
    return 0;
}

/* ---- domains ---- */

static const char *state_name(int state)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
        return "running";
    case VIR_DOMAIN_BLOCKED:
        return "blocked";
    case VIR_DOMAIN_PAUSED:
        return "paused";
    case VIR_DOMAIN_SHUTDOWN:
        return "shutting down";
    case VIR_DOMAIN_SHUTOFF:
        return "shut off";
    case VIR_DOMAIN_CRASHED:
        return "crashed";
    case VIR_DOMAIN_PMSUSPENDED:
        return "suspended";
    default:
        return "unknown";
    }
}

void virt_domain_clear(struct virt_domain *domain)
{
    free(domain->name);
    *domain = (struct virt_domain){0};
}

/* What the handle knows without an RPC. */
static int read_handle(virDomainPtr handle, struct virt_domain *domain)
{
    const char *name = virDomainGetName(handle);

    if (!name || virDomainGetUUIDString(handle, domain->uuid) < 0)
        return -EIO;
    domain->state = "unknown";
    domain->name = strdup(name);
    return domain->name ? 0 : -ENOMEM;
}

int virt_list_domains(struct virt *virt, struct virt_domain **ret_domains, size_t *ret_count,
                      struct rp_error *e)
{
    CONNECTION connection = get_connection(virt, e);
    virDomainPtr *handles = NULL;
    struct virt_domain *domains;
    size_t used = 0;
    int count;

    if (!connection)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    count = virConnectListAllDomains(connection, &handles, 0);
    if (count < 0)
        return fail_libvirt(e);
    domains = calloc((size_t)count + 1, sizeof *domains);
    for (int i = 0; i < count; i++) {
        if (domains && read_handle(handles[i], &domains[used]) == 0)
            used++;
        virDomainFree(handles[i]);
    }
    free(handles);
    if (!domains)
        return rp_fail_memory(e);
    *ret_domains = domains;
    *ret_count = used;
    return 0;
}

int virt_get_domain(struct virt *virt, const char *uuid, struct virt_domain *ret_domain,
                    char **ret_xml, struct rp_error *e)
{
    DOMAIN handle = get_domain(virt, uuid, e);
    struct virt_domain domain = {0};
    int state, persistent;
    char *xml;

    if (!handle)
        return missing(e);
    /* Names change by virDomainRename(): the handle was looked up just now, so its is right. */
    if (virDomainGetState(handle, &state, NULL, 0) < 0)
        return fail_libvirt(e);
    persistent = virDomainIsPersistent(handle);
    xml = virDomainGetXMLDesc(handle, 0);
    atomic_fetch_add(&virt->rpcs, 3);
    if (!xml)
        return fail_libvirt(e);
    if (read_handle(handle, &domain) < 0) {
        free(xml);
        return rp_fail_memory(e);
    }
    domain.state = state_name(state);
    domain.active = state != VIR_DOMAIN_SHUTOFF && state != VIR_DOMAIN_CRASHED;
    domain.persistent = persistent == 1;
    *ret_domain = domain;
    *ret_xml = xml;
    return 0;
}

int virt_get_disk_size(struct virt *virt, const char *uuid, const char *target, uint64_t *ret_bytes,
                       struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    virDomainBlockInfo info;

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    if (virDomainGetBlockInfo(domain, target, &info, 0) < 0)
        return fail_libvirt(e);
    *ret_bytes = info.capacity;
    return 0;
}

static int describe_volume(virStorageVolPtr volume, char **ret_path, bool *ret_is_file,
                           struct rp_error *e)
{
    virStorageVolInfo info;
    char *path;

    if (virStorageVolGetInfo(volume, &info) < 0)
        return fail_libvirt(e);
    path = virStorageVolGetPath(volume);
    if (!path)
        return fail_libvirt(e);
    *ret_path = path;
    *ret_is_file = info.type == VIR_STORAGE_VOL_FILE || info.type == VIR_STORAGE_VOL_BLOCK;
    return 0;
}

int virt_find_volume(struct virt *virt, const char *pool_name, const char *volume_name,
                     char **ret_path, bool *ret_is_file, struct rp_error *e)
{
    CONNECTION connection = get_connection(virt, e);
    virStoragePoolPtr pool = connection ? virStoragePoolLookupByName(connection, pool_name) : NULL;
    virStorageVolPtr volume = pool ? virStorageVolLookupByName(pool, volume_name) : NULL;
    int rc;

    atomic_fetch_add(&virt->rpcs, 4);
    rc = volume       ? describe_volume(volume, ret_path, ret_is_file, e)
         : connection ? fail_libvirt(e)
                      : missing(e);
    if (volume)
        virStorageVolFree(volume);
    if (pool)
        virStoragePoolFree(pool);
    return rc;
}

/* ---- checkpoints ---- */

static void walk(struct virt *virt, virDomainCheckpointPtr checkpoint,
                 const struct virt_walker *walker)
{
    const char *name = virDomainCheckpointGetName(checkpoint);
    char *xml;

    if (!name || !walker->wants(walker->opaque, name))
        return;
    atomic_fetch_add(&virt->rpcs, 1);
    xml = virDomainCheckpointGetXMLDesc(checkpoint, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
    if (xml)
        walker->add(walker->opaque, name, xml);
}

int virt_walk_checkpoints(struct virt *virt, const char *uuid, const struct virt_walker *walker,
                          struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    virDomainCheckpointPtr *handles = NULL;
    int count;

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    /* Parents first: a refresh then never meets a child whose parent it does not know. */
    count = virDomainListAllCheckpoints(domain, &handles, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);
    if (count < 0)
        return fail_libvirt(e);
    for (int i = 0; i < count; i++) {
        walk(virt, handles[i], walker);
        virDomainCheckpointFree(handles[i]);
    }
    free(handles);
    return 0;
}

int virt_get_checkpoint_xml(struct virt *virt, const char *uuid, const char *name,
                            enum virt_xml which, char **ret_xml, struct rp_error *e)
{
    static const unsigned flags[] = {
        [VIRT_XML_SHORT] = VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN,
        [VIRT_XML_WHOLE] = 0,
        [VIRT_XML_SIZES] = VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN | VIR_DOMAIN_CHECKPOINT_XML_SIZE,
    };
    CHECKPOINT checkpoint = get_checkpoint(virt, uuid, name, e);
    struct turn turn;
    char *xml;

    if (!checkpoint)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    turns_take(&virt->sizes, &turn, uuid, false);
    xml = virDomainCheckpointGetXMLDesc(checkpoint, flags[which]);
    turns_end(&virt->sizes, &turn);
    if (!xml)
        return fail_libvirt(e);
    *ret_xml = xml;
    return 0;
}

int virt_create_checkpoint(struct virt *virt, const char *uuid, const char *xml, bool redefine,
                           struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    CHECKPOINT checkpoint = NULL;

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    checkpoint = virDomainCheckpointCreateXML(domain, xml,
                                              redefine ? VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE : 0);
    return checkpoint ? 0 : fail_libvirt(e);
}

int virt_delete_checkpoint(struct virt *virt, const char *uuid, const char *name,
                           bool metadata_only, struct rp_error *e)
{
    CHECKPOINT checkpoint = get_checkpoint(virt, uuid, name, e);
    unsigned flags = metadata_only ? VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY : 0;
    struct turn turn;
    int rc;

    if (!checkpoint)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    turns_take(&virt->sizes, &turn, uuid, true);
    rc = virDomainCheckpointDelete(checkpoint, flags) == 0 ? 0 : fail_libvirt(e);
    turns_end(&virt->sizes, &turn);
    return rc;
}

/* ---- backup jobs ---- */

int virt_begin_backup(struct virt *virt, const char *uuid, const char *backup_xml,
                      const char *checkpoint_xml, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return virDomainBackupBegin(domain, backup_xml, checkpoint_xml, 0) == 0 ? 0 : fail_libvirt(e);
}

int virt_get_backup_xml(struct virt *virt, const char *uuid, char **ret_xml, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    char *xml;

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    xml = virDomainBackupGetXMLDesc(domain, 0);
    if (!xml && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN_BACKUP &&
        virGetLastErrorCode() != VIR_ERR_OPERATION_INVALID)
        return fail_libvirt(e);
    *ret_xml = xml;
    return 0;
}

int virt_freeze(struct virt *virt, const char *uuid, bool *ret_owed, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    int frozen;

    *ret_owed = false;
    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 2);
    /* Without it libvirt waits for the agent as long as it takes, which can be for ever. */
    if (virDomainAgentSetResponseTimeout(domain, VIRT_FREEZE_SECONDS, 0) < 0)
        return fail_libvirt(e);
    frozen = virDomainFSFreeze(domain, NULL, 0, 0);
    /* Refused by the agent, say because somebody else has frozen them: then it is theirs to thaw.
     */
    *ret_owed = frozen >= 0 || virGetLastErrorCode() == VIR_ERR_AGENT_UNRESPONSIVE ||
                virGetLastErrorCode() == VIR_ERR_OPERATION_TIMEOUT;
    return frozen >= 0 ? 0 : fail_libvirt(e);
}

int virt_thaw(struct virt *virt, const char *uuid, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return virDomainFSThaw(domain, NULL, 0, 0) >= 0 ? 0 : fail_libvirt(e);
}

int virt_has_job(struct virt *virt, const char *uuid, bool *ret_busy, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    virDomainJobInfo info;

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    if (virDomainGetJobInfo(domain, &info) < 0)
        return fail_libvirt(e);
    *ret_busy = info.type == VIR_DOMAIN_JOB_BOUNDED || info.type == VIR_DOMAIN_JOB_UNBOUNDED;
    return 0;
}

int virt_settle(struct virt *virt, const char *uuid, struct rp_error *e)
{
    virDomainMemoryStatStruct stats[VIR_DOMAIN_MEMORY_STAT_NR];
    DOMAIN domain = get_domain(virt, uuid, e);

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return virDomainMemoryStats(domain, stats, VIR_DOMAIN_MEMORY_STAT_NR, 0) >= 0 ? 0
                                                                                  : fail_libvirt(e);
}

int virt_is_paused_by_io(struct virt *virt, const char *uuid, bool *ret_paused, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);
    int state, reason;

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    if (virDomainGetState(domain, &state, &reason, 0) < 0)
        return fail_libvirt(e);
    *ret_paused = state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR;
    return 0;
}

int virt_resume(struct virt *virt, const char *uuid, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return virDomainResume(domain) == 0 ? 0 : fail_libvirt(e);
}

int virt_abort_job(struct virt *virt, const char *uuid, struct rp_error *e)
{
    DOMAIN domain = get_domain(virt, uuid, e);

    if (!domain)
        return missing(e);
    atomic_fetch_add(&virt->rpcs, 1);
    return virDomainAbortJob(domain) == 0 ? 0 : fail_libvirt(e);
}
