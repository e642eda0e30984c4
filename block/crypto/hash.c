/* SPDX-License-Identifier: MIT */
/* Hashes of nettle, PBKDF2 (RFC 8018) and the anti-forensic splitter of LUKS over them. */
#include "hash.h"

#include "random.h"
#include "util/bytes.h"
#include "util/secure-buf.h"

#include <nettle/hmac.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/sm3.h>
#include <string.h>
#include <time.h>

struct CryptHash {
    const char *name;
    const struct nettle_hash *h;
};

static const CryptHash hashes[] = {
    { "md5", &nettle_md5 },
    { "sha1", &nettle_sha1 },
    { "sha224", &nettle_sha224 },
    { "sha256", &nettle_sha256 },
    { "sha384", &nettle_sha384 },
    { "sha512", &nettle_sha512 },
    { "ripemd160", &nettle_ripemd160 },
    { "sm3", &nettle_sm3 },
};

/* Of nettle's contexts; the largest of the table is that of SHA-512. */
#define CONTEXT_MAX 512

typedef union HashContext {
    uint8_t bytes[CONTEXT_MAX];
    uint64_t align;
} HashContext;

const CryptHash *crypt_hash_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hashes); i++) {
        if (!strcmp(hashes[i].name, name)) {
            g_assert(hashes[i].h->context_size <= CONTEXT_MAX);
            return &hashes[i];
        }
    }
    return NULL;
}

const char *crypt_hash_name(const CryptHash *h)
{
    return h->name;
}

size_t crypt_hash_size(const CryptHash *h)
{
    return h->h->digest_size;
}

void crypt_hash_two(const CryptHash *h, const void *head, size_t head_len, const void *data,
                    size_t len, uint8_t *out)
{
    HashContext c;

    h->h->init(&c);
    h->h->update(&c, head_len, head);
    h->h->update(&c, len, data);
    h->h->digest(&c, h->h->digest_size, out);
    secure_wipe(&c, sizeof(c));
}

/* ---- PBKDF2 ---- */

typedef struct Hmac {
    const struct nettle_hash *h;
    HashContext outer, inner, state;
} Hmac;

static void mac_update(void *mac, size_t len, const uint8_t *data)
{
    Hmac *m = mac;

    hmac_update(&m->state, m->h, len, data);
}

static void mac_digest(void *mac, size_t len, uint8_t *out)
{
    Hmac *m = mac;

    hmac_digest(&m->outer, &m->inner, &m->state, m->h, len, out);
}

void crypt_hash_pbkdf2(const CryptHash *h, const void *pass, size_t pass_len, const uint8_t *salt,
                       size_t salt_len, uint32_t iterations, uint8_t *out, size_t out_len)
{
    Hmac m = { .h = h->h };

    g_assert(iterations > 0 && out_len > 0);
    hmac_set_key(&m.outer, &m.inner, &m.state, m.h, pass_len, pass);
    pbkdf2(&m, mac_update, mac_digest, m.h->digest_size, iterations, salt_len, salt, out_len, out);
    secure_wipe(&m, sizeof(m));
}

static int64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

uint64_t crypt_hash_pbkdf2_speed(const CryptHash *h, size_t out_len)
{
    uint8_t out[CRYPT_HASH_MAX * 4];
    uint32_t n = 1 << 12;

    g_assert(out_len <= sizeof(out));
    for (;; n *= 2) { /* until the clock says something */
        int64_t begin = thread_ns(), ns;

        crypt_hash_pbkdf2(h, "cowlet", 6, (const uint8_t *)"cowlet's salt", 13, n, out, out_len);
        ns = thread_ns() - begin;
        if (ns > 5000000 || n >= 1u << 24) {
            return n * UINT64_C(1000000000) / (uint64_t)MAX(ns, 1);
        }
    }
}

/* ---- Anti-forensic splitter ---- */

/* Each digest's worth of @block becomes the hash of its number and itself. */
static void diffuse(const CryptHash *h, uint8_t *block, size_t len)
{
    size_t size = crypt_hash_size(h);
    uint8_t out[CRYPT_HASH_MAX], number[4];

    for (size_t at = 0; at < len; at += size) {
        size_t n = MIN(size, len - at);

        stbe32(number, (uint32_t)(at / size));
        crypt_hash_two(h, number, sizeof(number), block + at, n, out);
        memcpy(block + at, out, n);
    }
    secure_wipe(out, sizeof(out));
}

static void mix(const CryptHash *h, uint8_t *block, const uint8_t *stripe, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        block[i] ^= stripe[i];
    }
    diffuse(h, block, len);
}

void crypt_hash_split(const CryptHash *h, const uint8_t *key, size_t len, uint32_t stripes,
                      uint8_t *split)
{
    uint8_t *last = split + (size_t)(stripes - 1) * len;

    g_assert(stripes > 0);
    memset(last, 0, len); /* it gathers the others, then hides the key */
    for (uint32_t i = 0; i + 1 < stripes; i++) {
        crypt_random(split + i * len, len);
        mix(h, last, split + i * len, len);
    }
    for (size_t i = 0; i < len; i++) {
        last[i] ^= key[i];
    }
}

void crypt_hash_merge(const CryptHash *h, const uint8_t *split, size_t len, uint32_t stripes,
                      uint8_t *key)
{
    g_assert(stripes > 0);
    memset(key, 0, len);
    for (uint32_t i = 0; i + 1 < stripes; i++) {
        mix(h, key, split + i * len, len);
    }
    for (size_t i = 0; i < len; i++) {
        key[i] ^= split[(size_t)(stripes - 1) * len + i];
    }
}
