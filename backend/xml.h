/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt's XML, read into structs and made from them; the only file that includes libxml2, so
 * that no name is ever put into XML unescaped. Text in, struct out: no I/O. Any thread.
 *
 * Formats: https://libvirt.org/formatdomain.html, formatcheckpoint.html, formatbackup.html.
 */
#ifndef REFPOINTFS_XML_H
#define REFPOINTFS_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "error.h"

/* Call once before any thread parses (libxml2's xmlInitParser is not thread-safe by itself). */
void xml_init(void);

/* Strings below are owned by the struct they stand in and never NULL unless it says so. */

struct xml_disk {
    char *target; /* "vda" */
    /*
     * Path of a file or block device; else what tells it from others: "rbd:pool/image", the name of
     * a volume, or just the type. "" for empty drives.
     */
    char *source;
    char *pool;   /* of a volume; else "" */
    char *type;   /* "file", "block", "network", "volume", ... */
    char *format; /* driver type: "qcow2", "raw"; "raw" where the XML says nothing */
    char *device; /* "disk", "cdrom", "floppy", "lun" */
    bool readonly;
    bool is_file;      /* source is a path on the VM's host */
    bool is_encrypted; /* by QEMU, with a secret that libvirt keeps */
};

struct xml_domain {
    char *name;
    char *uuid;
    char *nvram;    /* path of the firmware's variables, or "" */
    bool has_owner; /* the live XML's DAC label names the user QEMU runs as */
    uid_t owner_uid;
    gid_t owner_gid;
    bool has_agent; /* the guest agent is connected */
    size_t ndisks;
    struct xml_disk *disks;
};

/* A drive whose medium comes and goes: CD-ROM or floppy. */
bool xml_disk_is_removable(const struct xml_disk *disk);

int xml_parse_domain(const char *text, struct xml_domain *ret_domain, struct rp_error *e);
void xml_domain_clear(struct xml_domain *domain);

struct xml_checkpoint_disk {
    char *target;
    char *bitmap;  /* "" when the checkpoint does not cover this disk */
    bool has_size; /* asked for with sizes and the bitmap is usable */
    uint64_t size_bytes;
};

struct xml_checkpoint {
    char *name;
    char *parent; /* "" for none */
    char *description;
    time_t created;
    size_t ndisks;
    struct xml_checkpoint_disk *disks;
};

/*
 * The <domain> inside a checkpoint's XML as a text of its own, freed by the caller; NULL where it
 * has none.
 */
int xml_take_domain(const char *text, char **ret_domain, struct rp_error *e);

int xml_parse_checkpoint(const char *text, struct xml_checkpoint *ret_checkpoint,
                         struct rp_error *e);
void xml_checkpoint_clear(struct xml_checkpoint *checkpoint);

/* The socket path of a pull-mode backup; *ret_socket is "" for push mode and TCP. Freed by caller.
 */
int xml_parse_backup_socket(const char *text, char **ret_socket, struct rp_error *e);

/* One disk of a backup and checkpoint to be made. */
struct xml_mark_disk {
    const char *target;
    bool included;            /* false: neither marked nor held */
    bool marked;              /* included, and gets the checkpoint's bitmap */
    const char *base;         /* checkpoint the delta starts from; NULL = held in full */
    const char *export_name;  /* NBD export */
    const char *bitmap;       /* name the delta's bitmap is offered under; used when base is set */
    const char *scratch_file; /* where QEMU saves old data */
};

/*
 * A checkpoint that exists in the images already, to be made known to libvirt: bitmaps named as the
 * checkpoint, and the domain's definition as of then. `parent` may be "".
 */
int xml_make_redefinition(const char *name, const char *description, const char *parent,
                          time_t created, const struct xml_mark_disk *disks, size_t ndisks,
                          const char *domain_xml, char **ret_text, struct rp_error *e);

/* Both return allocated text in *ret_text. */
int xml_make_checkpoint(const char *name, const char *description,
                        const struct xml_mark_disk *disks, size_t ndisks, char **ret_text,
                        struct rp_error *e);
int xml_make_backup(const char *socket_path, const struct xml_mark_disk *disks, size_t ndisks,
                    char **ret_text, struct rp_error *e);

#endif
