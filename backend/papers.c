// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writes the papers of an export. Knows what they say, not how disks are copied. Runs in the
 * export's worker.
 */
#include "papers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hasher.h"
#include "nvram.h"
#include "reread.h"
#include "xml.h"

/* The name that refpoint-restore looks for. */
#define PAPERS_NVRAM "nvram.fd"

int papers_describe(struct papers *papers, struct rp_error *e)
{
    const struct export_subject *subject = papers->subject;
    struct manifest *manifest = &papers->manifest;

    *manifest = (struct manifest){
        .vm = strdup(subject->vm_name),
        .uuid = strdup(subject->uuid),
        .refpoint = strdup(subject->refpoint),
        .id = strdup(subject->id),
        .base = strdup(subject->base ? subject->base : ""),
        .base_id = strdup(subject->base_id),
        .nvram = strdup(""),
        .nvram_why = strdup(subject->hold->nvram_why),
        .left_out = strdup(""),
        .moment = subject->moment,
        .exact = subject->exact == EXACT_YES,
        .consistency_level = subject->consistency_level,
        .result = RESULT_COMPLETED,
    };
    return manifest->vm && manifest->uuid && manifest->refpoint && manifest->id && manifest->base &&
                   manifest->base_id && manifest->nvram && manifest->nvram_why && manifest->left_out
               ? 0
               : rp_fail_memory(e);
}

/* Takes over `text`. */
static int write_text(const struct papers *papers, const char *name, char *text, struct rp_error *e)
{
    int rc = text ? outdir_write(papers->outdir, name, text, strlen(text), e) : rp_fail_memory(e);

    free(text);
    return rc;
}

/* ---- NVRAM ---- */

static int hash_nvram(int fd, char *ret_hex, struct rp_error *e)
{
    unsigned char sha256[HASHER_SHA256_BYTES];
    struct stat st;
    int rc;

    if (fstat(fd, &st) < 0)
        return rp_fail_errno(e, errno, "cannot look at the copy of the NVRAM");
    rc = reread_hash(fd, (uint64_t)st.st_size, NULL, NULL, sha256, e);
    if (rc == 0)
        manifest_print_sha256(sha256, ret_hex);
    return rc;
}

/* `ret_hex` is untouched where there is no NVRAM, or no checksum was asked for. */
static int write_nvram(struct papers *papers, char *ret_hex, struct rp_error *e)
{
    const char *from = papers->subject->hold->nvram;
    char *name;
    int fd, rc;

    if (!*from)
        return 0;
    name = strdup(PAPERS_NVRAM);
    if (!name)
        return rp_fail_memory(e);
    free(papers->manifest.nvram);
    papers->manifest.nvram = name;
    rc = outdir_refuse_existing(papers->outdir, PAPERS_NVRAM, e);
    if (rc == 0)
        rc = outdir_create(papers->outdir, PAPERS_NVRAM, &fd, e);
    if (rc == 0)
        rc = nvram_copy(from, fd, e);
    return rc == 0 && papers->checksum ? hash_nvram(fd, ret_hex, e) : rc;
}

/* ---- the rest ---- */

static int write_checksums(const struct papers *papers, const char *nvram_hex, struct rp_error *e)
{
    const struct manifest *manifest = &papers->manifest;
    char *text = NULL;
    size_t length;
    FILE *out;

    if (!papers->checksum)
        return 0;
    out = open_memstream(&text, &length);
    if (!out)
        return rp_fail_memory(e);
    for (size_t i = 0; i < manifest->ndisks; i++)
        fprintf(out, "%s  %s\n", manifest->disks[i].sha256, manifest->disks[i].file);
    if (*nvram_hex)
        fprintf(out, "%s  %s\n", nvram_hex, manifest->nvram);
    fclose(out);
    return write_text(papers, "SHA256SUMS", text, e);
}

/*
 * The machine as it was at the instant is what its checkpoint keeps of it: disks may have come and
 * gone since. NULL in *ret_domain where that says nothing.
 */
static int write_checkpoint(const struct papers *papers, char **ret_domain, struct rp_error *e)
{
    const struct export_subject *subject = papers->subject;
    char *xml;
    int rc = virt_get_checkpoint_xml(papers->virt, subject->uuid, subject->refpoint, VIRT_XML_WHOLE,
                                     &xml, e);

    if (rc < 0)
        return rc;
    if (subject->exact == EXACT_YES)
        rc = xml_take_domain(xml, ret_domain, e);
    if (rc < 0) {
        free(xml);
        return rc;
    }
    return write_text(papers, "checkpoint.xml", xml, e);
}

/*
 * Disks that were not asked for, that no reference point covers, or whose data QEMU does not see: a
 * machine that is restored is without them.
 */
static int list_left_out(struct manifest *manifest, const char *xml, struct rp_error *e)
{
    struct xml_domain domain;
    char *text = NULL;
    size_t length;
    FILE *out;
    int rc = xml_parse_domain(xml, &domain, e);

    if (rc < 0)
        return rc;
    out = open_memstream(&text, &length);
    for (size_t i = 0; out && i < domain.ndisks; i++) {
        const struct xml_disk *disk = &domain.disks[i];

        if (*disk->source && !xml_disk_is_removable(disk) &&
            !manifest_find_disk(manifest, disk->target))
            fprintf(out, "%s%s", ftell(out) > 0 ? " " : "", disk->target);
    }
    xml_domain_clear(&domain);
    if (!out || fclose(out) != 0) {
        free(text);
        return rp_fail_memory(e);
    }
    free(manifest->left_out);
    manifest->left_out = text;
    return 0;
}

static int write_definitions(struct papers *papers, struct rp_error *e)
{
    const struct export_subject *subject = papers->subject;
    struct virt_domain domain;
    char *xml = NULL;
    int rc = *subject->refpoint ? write_checkpoint(papers, &xml, e) : 0;

    if (rc == 0 && !xml) {
        rc = virt_get_domain(papers->virt, subject->uuid, &domain, &xml, e);
        if (rc == 0)
            virt_domain_clear(&domain);
    }
    if (rc == 0)
        rc = list_left_out(&papers->manifest, xml, e);
    if (rc < 0) {
        free(xml);
        return rc;
    }
    return write_text(papers, "domain.xml", xml, e);
}

int papers_write(struct papers *papers, struct rp_error *e)
{
    char nvram_hex[MANIFEST_SHA256_SIZE] = "";
    int rc = write_nvram(papers, nvram_hex, e);

    if (rc == 0)
        rc = write_checksums(papers, nvram_hex, e);
    return rc == 0 ? write_definitions(papers, e) : rc;
}

int papers_write_manifest(const struct papers *papers, struct rp_error *e)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (out) {
        manifest_print(&papers->manifest, out);
        /* Half a manifest would pass for a whole one. */
        if (ferror(out) || fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    return write_text(papers, OUTDIR_MANIFEST, text, e);
}
