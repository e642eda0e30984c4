/* SPDX-License-Identifier: MIT */
/*
 * Ciphers of nettle.  Its XTS goes block by block, at a tenth of the speed that its AES has for
 * longer pieces; so XTS is done here over several sectors at a time: all tweaks, one pass of the
 * cipher, all tweaks again.
 */
#include "cipher.h"

#include "util/error.h"
#include "util/secure-buf.h"

#include <nettle/aes.h>
#include <nettle/cast128.h>
#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/serpent.h>
#include <nettle/twofish.h>
#include <string.h>

#define BATCH 4096 /* bytes that XTS does at a time, on the stack */

struct CryptAlg {
    const char *name, *family, *title;
    size_t key_len, block, context;
    void (*set_encrypt)(void *ctx, const uint8_t *key);
    void (*set_decrypt)(void *ctx, const uint8_t *key);
    nettle_cipher_func *encrypt, *decrypt;
};

#define SET_KEY(name, type, fn)                                                                    \
    static void name(void *ctx, const uint8_t *key)                                                \
    {                                                                                              \
        fn((type *)ctx, key);                                                                      \
    }
SET_KEY(aes128_e, struct aes128_ctx, aes128_set_encrypt_key)
SET_KEY(aes128_d, struct aes128_ctx, aes128_set_decrypt_key)
SET_KEY(aes192_e, struct aes192_ctx, aes192_set_encrypt_key)
SET_KEY(aes192_d, struct aes192_ctx, aes192_set_decrypt_key)
SET_KEY(aes256_e, struct aes256_ctx, aes256_set_encrypt_key)
SET_KEY(aes256_d, struct aes256_ctx, aes256_set_decrypt_key)
SET_KEY(cast128_k, struct cast128_ctx, cast128_set_key)
SET_KEY(serpent128_k, struct serpent_ctx, serpent128_set_key)
SET_KEY(serpent192_k, struct serpent_ctx, serpent192_set_key)
SET_KEY(serpent256_k, struct serpent_ctx, serpent256_set_key)
SET_KEY(twofish128_k, struct twofish_ctx, twofish128_set_key)
SET_KEY(twofish192_k, struct twofish_ctx, twofish192_set_key)
SET_KEY(twofish256_k, struct twofish_ctx, twofish256_set_key)

#define PASS(name, type, fn)                                                                       \
    static void name(const void *ctx, size_t len, uint8_t *dst, const uint8_t *src)                \
    {                                                                                              \
        fn((const type *)ctx, len, dst, src);                                                      \
    }
PASS(aes128_enc, struct aes128_ctx, aes128_encrypt)
PASS(aes128_dec, struct aes128_ctx, aes128_decrypt)
PASS(aes192_enc, struct aes192_ctx, aes192_encrypt)
PASS(aes192_dec, struct aes192_ctx, aes192_decrypt)
PASS(aes256_enc, struct aes256_ctx, aes256_encrypt)
PASS(aes256_dec, struct aes256_ctx, aes256_decrypt)
PASS(cast128_enc, struct cast128_ctx, cast128_encrypt)
PASS(cast128_dec, struct cast128_ctx, cast128_decrypt)
PASS(serpent_enc, struct serpent_ctx, serpent_encrypt)
PASS(serpent_dec, struct serpent_ctx, serpent_decrypt)
PASS(twofish_enc, struct twofish_ctx, twofish_encrypt)
PASS(twofish_dec, struct twofish_ctx, twofish_decrypt)

static const CryptAlg algs[] = {
    { "aes-128", "aes", "AES", 16, 16, sizeof(struct aes128_ctx), aes128_e, aes128_d, aes128_enc,
      aes128_dec },
    { "aes-192", "aes", "AES", 24, 16, sizeof(struct aes192_ctx), aes192_e, aes192_d, aes192_enc,
      aes192_dec },
    { "aes-256", "aes", "AES", 32, 16, sizeof(struct aes256_ctx), aes256_e, aes256_d, aes256_enc,
      aes256_dec },
    { "cast5-128", "cast5", "CAST5", 16, 8, sizeof(struct cast128_ctx), cast128_k, cast128_k,
      cast128_enc, cast128_dec },
    { "serpent-128", "serpent", "Serpent", 16, 16, sizeof(struct serpent_ctx), serpent128_k,
      serpent128_k, serpent_enc, serpent_dec },
    { "serpent-192", "serpent", "Serpent", 24, 16, sizeof(struct serpent_ctx), serpent192_k,
      serpent192_k, serpent_enc, serpent_dec },
    { "serpent-256", "serpent", "Serpent", 32, 16, sizeof(struct serpent_ctx), serpent256_k,
      serpent256_k, serpent_enc, serpent_dec },
    { "twofish-128", "twofish", "Twofish", 16, 16, sizeof(struct twofish_ctx), twofish128_k,
      twofish128_k, twofish_enc, twofish_dec },
    { "twofish-192", "twofish", "Twofish", 24, 16, sizeof(struct twofish_ctx), twofish192_k,
      twofish192_k, twofish_enc, twofish_dec },
    { "twofish-256", "twofish", "Twofish", 32, 16, sizeof(struct twofish_ctx), twofish256_k,
      twofish256_k, twofish_enc, twofish_dec },
};

const char *const crypt_mode_names[] = { "ecb", "cbc", "xts", "ctr", NULL };

struct CryptCipher {
    const CryptAlg *alg;
    CryptMode mode;
    SecureBuf keys; /* the contexts below lie in it */
    void *enc, *dec, *tweak;
};

/* ---- Algorithms ---- */

const CryptAlg *crypt_alg_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(algs); i++) {
        if (!strcmp(algs[i].name, name)) {
            return &algs[i];
        }
    }
    return NULL;
}

const CryptAlg *crypt_alg_find_family(const char *family, size_t key_len, GError **errp)
{
    const char *title = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(algs); i++) {
        if (!strcmp(algs[i].family, family)) {
            title = algs[i].title;
            if (algs[i].key_len == key_len) {
                return &algs[i];
            }
        }
    }
    if (title) {
        error_set(errp, EINVAL, "No %s cipher with key size %zu available", title, key_len);
    } else {
        error_set(errp, ENOTSUP, "Algorithm '%s' with key size %zu bytes not supported", family,
                  key_len);
    }
    return NULL;
}

const char *crypt_alg_name(const CryptAlg *a)
{
    return a->name;
}

const char *crypt_alg_family(const CryptAlg *a)
{
    return a->family;
}

size_t crypt_alg_key_len(const CryptAlg *a, CryptMode mode)
{
    return mode == CRYPT_XTS ? a->key_len * 2 : a->key_len;
}

size_t crypt_alg_block(const CryptAlg *a)
{
    return a->block;
}

/* ---- Making ---- */

CryptCipher *crypt_cipher_new(const CryptAlg *a, CryptMode mode, const uint8_t *key, GError **errp)
{
    size_t room = ALIGN_UP(a->context, (size_t)64);
    g_autoptr(CryptCipher) c = g_new0(CryptCipher, 1);

    if (mode == CRYPT_XTS && a->block != 16) {
        error_set(errp, ENOTSUP, "Unsupported cipher mode xts");
        return NULL;
    }
    if (!secure_buf_init(&c->keys, room * 3)) {
        error_set_errno(errp, ENOMEM, "Could not keep the key");
        return NULL;
    }
    c->alg = a;
    c->mode = mode;
    c->enc = c->keys.data;
    c->dec = c->keys.data + room;
    c->tweak = c->keys.data + 2 * room;
    a->set_encrypt(c->enc, key);
    a->set_decrypt(c->dec, key);
    if (mode == CRYPT_XTS) {
        a->set_encrypt(c->tweak, key + a->key_len);
    }
    return g_steal_pointer(&c);
}

void crypt_cipher_free(CryptCipher *c)
{
    if (c) {
        secure_buf_clear(&c->keys);
        g_free(c);
    }
}

bool crypt_cipher_quick(const CryptCipher *c)
{
    return !strcmp(c->alg->family, "aes");
}

size_t crypt_cipher_iv_len(const CryptCipher *c)
{
    return c->alg->block;
}

/* ---- XTS (IEEE 1619): whole blocks ---- */

/* As two numbers, the low one first; a vector, so that a block takes few instructions. */
typedef uint64_t Tweak __attribute__((vector_size(16), aligned(16)));

#define CHAINS 4 /* units whose tweaks are made side by side: each one waits for the one before */

/* Between numbers and the bytes of them; both ways. */
static inline Tweak swapped(Tweak t)
{
    return (Tweak){ GUINT64_TO_LE(t[0]), GUINT64_TO_LE(t[1]) };
}

static inline Tweak doubled(Tweak t)
{
    Tweak carry = (Tweak){ t[1], t[0] } >> 63;

    return (t + t) ^ (-carry & (Tweak){ 0x87, 1 });
}

static inline Tweak load(const uint8_t *p)
{
    Tweak t;

    memcpy(&t, p, sizeof(t));
    return t;
}

static inline void xor_block(uint8_t *dst, const uint8_t *src, Tweak t)
{
    t ^= load(src);
    memcpy(dst, &t, sizeof(t));
}

/* The tweaks of @n units of @blocks each, from what @first has. */
static inline void fill_chains(Tweak *out, const uint8_t *first, size_t n, size_t blocks)
{
    Tweak t[CHAINS];

    for (size_t u = 0; u < n; u++) {
        t[u] = swapped(load(first + u * sizeof(Tweak)));
    }
    for (size_t i = 0; i < blocks; i++) {
        for (size_t u = 0; u < n; u++) {
            out[u * blocks + i] = swapped(t[u]);
            t[u] = doubled(t[u]);
        }
    }
}

static void fill_tweaks(Tweak *out, const uint8_t *first, size_t units, size_t blocks)
{
    size_t u = 0;

    for (; u + CHAINS <= units; u += CHAINS) {
        fill_chains(out + u * blocks, first + u * sizeof(Tweak), CHAINS, blocks);
    }
    for (; u < units; u++) {
        fill_chains(out + u * blocks, first + u * sizeof(Tweak), 1, blocks);
    }
}

static void xor_tweaks(uint8_t *dst, const uint8_t *src, const Tweak *tweaks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        xor_block(dst + i * sizeof(Tweak), src + i * sizeof(Tweak), tweaks[i]);
    }
}

/* @units of @unit bytes, BATCH in all at most. */
static void xts_batch(const CryptCipher *c, nettle_cipher_func *fn, const void *ctx,
                      const uint8_t *ivs, size_t units, size_t unit, uint8_t *dst,
                      const uint8_t *src)
{
    Tweak tweaks[BATCH / sizeof(Tweak)];
    uint8_t first[BATCH];
    size_t n = units * unit / sizeof(Tweak);

    c->alg->encrypt(c->tweak, units * sizeof(Tweak), first, ivs);
    fill_tweaks(tweaks, first, units, unit / sizeof(Tweak));
    xor_tweaks(dst, src, tweaks, n);
    fn(ctx, units * unit, dst, dst);
    xor_tweaks(dst, dst, tweaks, n);
}

static void xts(const CryptCipher *c, bool encrypt, const uint8_t *ivs, size_t units, size_t unit,
                uint8_t *dst, const uint8_t *src)
{
    nettle_cipher_func *fn = encrypt ? c->alg->encrypt : c->alg->decrypt;
    const void *ctx = encrypt ? c->enc : c->dec;
    size_t many = BATCH / unit;

    g_assert(unit % sizeof(Tweak) == 0 && many > 0);
    for (size_t i = 0; i < units; i += many) {
        size_t n = MIN(many, units - i);

        xts_batch(c, fn, ctx, ivs + i * sizeof(Tweak), n, unit, dst + i * unit, src + i * unit);
    }
}

/* ---- All ---- */

/* One unit of a mode that has no way of its own. */
static void run_one(const CryptCipher *c, bool encrypt, uint8_t *iv, size_t len, uint8_t *dst,
                    const uint8_t *src)
{
    const CryptAlg *a = c->alg;

    switch (c->mode) {
    case CRYPT_CBC:
        if (encrypt) {
            cbc_encrypt(c->enc, a->encrypt, a->block, iv, len, dst, src);
        } else {
            cbc_decrypt(c->dec, a->decrypt, a->block, iv, len, dst, src);
        }
        return;
    case CRYPT_CTR:
        ctr_crypt(c->enc, a->encrypt, a->block, iv, len, dst, src);
        return;
    case CRYPT_ECB:
    case CRYPT_XTS:
        break;
    }
    g_assert_not_reached();
}

void crypt_cipher_run(const CryptCipher *c, bool encrypt, const uint8_t *ivs, size_t units,
                      size_t unit, uint8_t *dst, const uint8_t *src)
{
    const CryptAlg *a = c->alg;
    uint8_t iv[CRYPT_BLOCK_MAX];

    g_assert(c->mode == CRYPT_CTR || unit % a->block == 0);
    if (c->mode == CRYPT_XTS) {
        xts(c, encrypt, ivs, units, unit, dst, src);
        return;
    }
    if (c->mode == CRYPT_ECB) {
        if (encrypt) {
            a->encrypt(c->enc, units * unit, dst, src);
        } else {
            a->decrypt(c->dec, units * unit, dst, src);
        }
        return;
    }
    for (size_t i = 0; i < units; i++) {
        memcpy(iv, ivs + i * a->block, a->block);
        run_one(c, encrypt, iv, unit, dst + i * unit, src + i * unit);
    }
}
