// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Hashing blocks in file order. The only file of the copy that knows libcrypto; knows nothing of
 * what is hashed. Its own thread, which ends at the ring's end or first error.
 */
#include "hasher.h"

#include <openssl/evp.h>

/* Long enough for libcrypto's full speed, short enough to stay in the cache. */
static const unsigned char zeros[64 * 1024];

/* How many zeros are hashed between two looks at whether to go on: some tens of milliseconds. */
#define ZEROS_PER_TOUCH (UINT64_C(16) << 20)

static int fail_digest(struct rp_error *e)
{
    return rp_fail(e, RESULT_FAILED, "libcrypto could not compute the SHA-256");
}

/* Ends early, and without an error of its own, when the copy is given up. */
static int hash_zeros(struct hasher *h, EVP_MD_CTX *context, uint64_t length, struct rp_error *e)
{
    uint64_t untouched = 0;

    while (length > 0) {
        size_t n = length < sizeof zeros ? (size_t)length : sizeof zeros;

        if (EVP_DigestUpdate(context, zeros, n) != 1)
            return fail_digest(e);
        length -= n;
        untouched += n;
        if (untouched >= ZEROS_PER_TOUCH) {
            untouched = 0;
            if (!ring_touch(h->ring))
                return 0;
        }
    }
    return 0;
}

static int hash_blocks(struct hasher *h, EVP_MD_CTX *context, struct rp_error *e)
{
    struct ring_block *block;
    uint64_t at = 0;
    int rc;

    while ((block = ring_next(h->ring, RING_HASHER))) {
        rc = hash_zeros(h, context, block->offset - at, e);
        if (rc < 0)
            return rc;
        if (EVP_DigestUpdate(context, block->data, block->length) != 1)
            return fail_digest(e);
        at = block->offset + block->length;
        ring_release(h->ring, RING_HASHER, block);
    }
    return ring_touch(h->ring) ? hash_zeros(h, context, h->file_bytes - at, e) : 0;
}

void *hasher_run(void *opaque)
{
    struct hasher *h = opaque;
    struct rp_error e = RP_ERROR_INIT;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int rc;

    if (!context)
        rc = rp_fail_memory(&e);
    else if (EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        rc = fail_digest(&e);
    else
        rc = hash_blocks(h, context, &e);
    if (rc == 0 && EVP_DigestFinal_ex(context, h->sha256, NULL) != 1)
        rc = fail_digest(&e);
    if (rc < 0)
        ring_fail(h->ring, &e);
    EVP_MD_CTX_free(context);
    ring_leave(h->ring);
    return NULL;
}
