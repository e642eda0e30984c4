/* SPDX-License-Identifier: MIT */
/* Making and unlocking LUKS volumes.  All that takes long (deriving keys, splitting them) is done
 * by a thread of the pool. */
#include "luks.h"

#include "random.h"
#include "util/aio.h"

#include <errno.h>
#include <string.h>

#define MIN_ITERATIONS 1000

void luks_clear(Luks *l)
{
    secure_buf_clear(&l->key);
    memset(l, 0, sizeof(*l));
}

/* ---- Deriving ---- */

/* How many iterations take @ms; the reference's texts. */
static int count_iterations(const CryptHash *h, size_t len, uint64_t ms, uint64_t share,
                            uint32_t *ret, GError **errp)
{
    uint64_t speed = crypt_hash_pbkdf2_speed(h, len), n;

    if (__builtin_mul_overflow(speed, ms, &n)) {
        return error_set_errno(errp, ERANGE,
                               "PBKDF iterations %" G_GUINT64_FORMAT " too large to scale", speed);
    }
    n = MAX(n / 1000 / share, (uint64_t)MIN_ITERATIONS);
    if (n > UINT32_MAX) {
        return error_set_errno(
            errp, ERANGE, "PBKDF iterations %" G_GUINT64_FORMAT " larger than %u", n, UINT32_MAX);
    }
    *ret = (uint32_t)n;
    return 0;
}

static void digest_of(const LuksHeader *h, const SecureBuf *key, uint8_t *out)
{
    crypt_hash_pbkdf2(h->hash, key->data, key->len, h->digest_salt, LUKS_SALT, h->digest_iterations,
                      out, LUKS_DIGEST);
}

/* The sectors of a slot's material under what @pass makes of its salt; in place. */
static int code_material(const LuksHeader *h, unsigned i, const SecureBuf *pass, bool encrypt,
                         SecureBuf *material, GError **errp)
{
    const LuksSlot *s = &h->slots[i];
    g_auto(SecureBuf) derived = { NULL, 0 };
    g_autoptr(CryptSectors) sectors = NULL;

    if (!secure_buf_init(&derived, h->key_len)) {
        return error_set_errno(errp, ENOMEM, "Could not derive the key");
    }
    crypt_hash_pbkdf2(h->hash, pass->data, pass->len, s->salt, LUKS_SALT, s->iterations,
                      derived.data, derived.len);
    sectors = crypt_sectors_new(&h->spec, derived.data, errp);
    if (!sectors) {
        return -EINVAL;
    }
    crypt_sectors_run(sectors, encrypt, 0, material->data, material->data, material->len);
    return 0;
}

/* ---- Jobs for a thread ---- */

typedef struct SlotJob {
    LuksHeader *h;
    unsigned slot;
    const SecureBuf *pass;
    SecureBuf *key, *material;
    uint64_t iter_ms;
    bool found;
    GError *err;
} SlotJob;

static int try_job(void *opaque)
{
    SlotJob *j = opaque;
    const LuksHeader *h = j->h;
    uint8_t digest[LUKS_DIGEST];
    int ret = code_material(h, j->slot, j->pass, false, j->material, &j->err);

    if (ret == 0) {
        crypt_hash_merge(h->hash, j->material->data, h->key_len, LUKS_STRIPES, j->key->data);
        digest_of(h, j->key, digest);
        j->found = !memcmp(digest, h->digest, LUKS_DIGEST);
    }
    return ret;
}

static int make_job(void *opaque)
{
    SlotJob *j = opaque;
    LuksHeader *h = j->h;
    LuksSlot *s = &h->slots[j->slot];
    int ret = count_iterations(h->hash, h->key_len, j->iter_ms, 1, &s->iterations, &j->err);

    if (ret < 0) {
        return ret;
    }
    crypt_random(s->salt, LUKS_SALT);
    s->stripes = LUKS_STRIPES;
    crypt_hash_split(h->hash, j->key->data, h->key_len, LUKS_STRIPES, j->material->data);
    return code_material(h, j->slot, j->pass, true, j->material, &j->err);
}

static int digest_job(void *opaque)
{
    SlotJob *j = opaque;
    LuksHeader *h = j->h;
    int ret = count_iterations(h->hash, LUKS_DIGEST, j->iter_ms, 8, &h->digest_iterations, &j->err);

    if (ret == 0) {
        crypt_random(h->digest_salt, LUKS_SALT);
        digest_of(h, j->key, h->digest);
    }
    return ret;
}

static int coroutine_fn co_run_job(ThreadPoolFunc *fn, SlotJob *j, GError **errp)
{
    int ret = co_thread_pool_run(fn, j);

    if (j->err) {
        g_propagate_error(errp, j->err);
    }
    return ret;
}

/* ---- Unlocking ---- */

int coroutine_fn luks_co_try_slot(const Luks *l, const LuksIo *io, unsigned i,
                                  const SecureBuf *pass, SecureBuf *key, GError **errp)
{
    size_t bytes = luks_header_material_bytes(&l->hdr);
    uint64_t at = l->hdr.slots[i].material * UINT64_C(512);
    g_auto(SecureBuf) material = { NULL, 0 };
    LuksHeader h = l->hdr;
    SlotJob j = { .h = &h, .slot = i, .pass = pass, .key = key, .material = &material };
    int ret;

    g_assert(key->len == h.key_len);
    if (at > io->bytes || bytes > io->bytes - at) {
        return error_set(errp, EINVAL,
                         "Key material of keyslot %u lies past the end of the LUKS "
                         "header",
                         i);
    }
    if (!secure_buf_init(&material, bytes)) {
        return error_set_errno(errp, ENOMEM, "Could not read key material");
    }
    ret = io->co_read(io->opaque, at, material.data, bytes);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to read key material");
    }
    ret = co_run_job(try_job, &j, errp);
    return ret < 0 ? ret : j.found;
}

static int coroutine_fn co_unlock(Luks *l, const LuksIo *io, const SecureBuf *pass, GError **errp)
{
    int ret = 0;

    if (!secure_buf_init(&l->key, l->hdr.key_len)) {
        return error_set_errno(errp, ENOMEM, "Could not keep the key");
    }
    for (unsigned i = 0; i < LUKS_SLOTS && ret == 0; i++) {
        ret = l->hdr.slots[i].active ? luks_co_try_slot(l, io, i, pass, &l->key, errp) : 0;
    }
    if (ret > 0) {
        return 0;
    }
    secure_buf_clear(&l->key);
    return ret < 0 ? ret : error_set(errp, EINVAL, "Invalid password, cannot unlock any keyslot");
}

int coroutine_fn luks_co_open(Luks *l, const LuksIo *io, bool detached, const SecureBuf *pass,
                              GError **errp)
{
    uint8_t buf[LUKS_HEADER_BYTES];
    int ret;

    memset(l, 0, sizeof(*l));
    if (io->bytes < sizeof(buf)) {
        return error_set(errp, EINVAL, "Volume is not in LUKS format");
    }
    ret = io->co_read(io->opaque, 0, buf, sizeof(buf));
    if (ret < 0) {
        return error_set_errno(errp, ret, "Unable to read LUKS header");
    }
    ret = luks_header_parse(&l->hdr, buf, detached, errp);
    ret = ret < 0 || !pass ? ret : co_unlock(l, io, pass, errp);
    if (ret < 0) {
        luks_clear(l);
    }
    return ret;
}

/* ---- Making ---- */

int coroutine_fn luks_co_make_slot(LuksHeader *h, const SecureBuf *key, unsigned i,
                                   const SecureBuf *pass, uint64_t iter_ms, SecureBuf *material,
                                   GError **errp)
{
    SlotJob j = { .h = h,
                  .slot = i,
                  .pass = pass,
                  .key = (SecureBuf *)key,
                  .material = material,
                  .iter_ms = iter_ms };

    if (!secure_buf_init(material, luks_header_material_bytes(h))) {
        return error_set_errno(errp, ENOMEM, "Could not make key material");
    }
    return co_run_job(make_job, &j, errp);
}

static void make_uuid(char *out)
{
    g_autofree char *s = g_uuid_string_random();

    g_strlcpy(out, s, LUKS_UUID);
}

static void init_header(LuksHeader *h, const LuksParams *p)
{
    memset(h, 0, sizeof(*h));
    h->spec = p->spec;
    h->hash = p->hash;
    h->key_len = (uint32_t)crypt_alg_key_len(p->spec.alg, p->spec.mode);
    luks_header_lay_out(h, p->detached);
}

uint64_t luks_format_bytes(const LuksParams *p)
{
    LuksHeader h;

    init_header(&h, p);
    return ALIGN_UP(luks_header_end(&h), (uint64_t)LUKS_ALIGN);
}

/* Key, digest and slot 0. */
static int coroutine_fn co_fill(Luks *l, const LuksParams *p, const SecureBuf *pass,
                                SecureBuf *material, GError **errp)
{
    SlotJob j = { .h = &l->hdr, .key = &l->key, .iter_ms = p->iter_ms };
    int ret;

    if (!secure_buf_init(&l->key, l->hdr.key_len)) {
        return error_set_errno(errp, ENOMEM, "Could not make a key");
    }
    crypt_random(l->key.data, l->key.len);
    make_uuid(l->hdr.uuid);
    ret = co_run_job(digest_job, &j, errp);
    ret = ret < 0 ? ret : luks_co_make_slot(&l->hdr, &l->key, 0, pass, p->iter_ms, material, errp);
    l->hdr.slots[0].active = true;
    return ret;
}

int coroutine_fn luks_co_format(const LuksParams *p, const SecureBuf *pass, uint8_t **head,
                                size_t *bytes, GError **errp)
{
    g_auto(SecureBuf) material = { NULL, 0 };
    g_autofree uint8_t *buf = NULL;
    Luks l = { 0 };
    int ret;

    init_header(&l.hdr, p);
    *bytes = luks_format_bytes(p);
    buf = g_try_malloc0(*bytes);
    ret = buf ? co_fill(&l, p, pass, &material, errp)
              : error_set_errno(errp, ENOMEM, "Could not make a LUKS header");
    if (ret == 0 && !luks_header_serialise(&l.hdr, buf, errp)) {
        ret = -EINVAL;
    }
    if (ret == 0) {
        memcpy(buf + l.hdr.slots[0].material * (size_t)CRYPT_SECTOR, material.data, material.len);
        *head = g_steal_pointer(&buf);
    }
    luks_clear(&l);
    return ret;
}
