/* SPDX-License-Identifier: MIT */
/* IVs from numbers of sectors, and the cipher with them. */
#include "sectors.h"

#include "util/error.h"
#include "util/secure-buf.h"

#include <errno.h>
#include <string.h>

#define IVS 64 /* sectors at a time: the IVs lie on the stack */

const char *const crypt_ivgen_names[] = { "plain", "plain64", "essiv", NULL };

struct CryptSectors {
    CryptCipher *cipher;
    CryptIvgen ivgen;
    CryptCipher *essiv; /* NULL: another generator */
};

/* ESSIV: the same family, with the hash of the key as its key. */
static CryptCipher *make_essiv(const CryptSpec *spec, const uint8_t *key, GError **errp)
{
    const char *family = crypt_alg_family(spec->alg);
    uint8_t salt[CRYPT_HASH_MAX];
    const CryptAlg *a;
    CryptCipher *c = NULL;

    if (!spec->ivgen_hash) {
        error_set(errp, EINVAL, "Missing IV generator hash specification");
        return NULL;
    }
    if (crypt_alg_block(spec->alg) != CRYPT_BLOCK_MAX) {
        error_set(errp, ENOTSUP, "Cipher %s not supported with essiv", crypt_alg_name(spec->alg));
        return NULL;
    }
    a = crypt_alg_find_family(family, crypt_hash_size(spec->ivgen_hash), errp);
    if (a) {
        crypt_hash_two(spec->ivgen_hash, NULL, 0, key, crypt_alg_key_len(spec->alg, spec->mode),
                       salt);
        c = crypt_cipher_new(a, CRYPT_ECB, salt, errp);
        secure_wipe(salt, sizeof(salt));
    }
    return c;
}

CryptSectors *crypt_sectors_new(const CryptSpec *spec, const uint8_t *key, GError **errp)
{
    g_autoptr(CryptSectors) s = g_new0(CryptSectors, 1);

    s->ivgen = spec->ivgen;
    if (spec->ivgen == CRYPT_IV_ESSIV) {
        s->essiv = make_essiv(spec, key, errp);
        if (!s->essiv) {
            return NULL;
        }
    }
    s->cipher = crypt_cipher_new(spec->alg, spec->mode, key, errp);
    return s->cipher ? g_steal_pointer(&s) : NULL;
}

void crypt_sectors_free(CryptSectors *s)
{
    if (s) {
        crypt_cipher_free(s->cipher);
        crypt_cipher_free(s->essiv);
        g_free(s);
    }
}

bool crypt_sectors_quick(const CryptSectors *s)
{
    return crypt_cipher_quick(s->cipher);
}

static void fill_ivs(const CryptSectors *s, uint64_t sector, size_t n, uint8_t *ivs)
{
    size_t len = crypt_cipher_iv_len(s->cipher);

    memset(ivs, 0, n * len);
    for (size_t i = 0; i < n; i++) {
        uint64_t number = GUINT64_TO_LE(sector + i);

        /* (Little endian: the low half comes first.) */
        memcpy(ivs + i * len, &number, s->ivgen == CRYPT_IV_PLAIN ? 4 : 8);
    }
    if (s->essiv) {
        crypt_cipher_run(s->essiv, true, NULL, 1, n * len, ivs, ivs);
    }
}

void crypt_sectors_run(const CryptSectors *s, bool encrypt, uint64_t sector, uint8_t *dst,
                       const uint8_t *src, size_t len)
{
    uint8_t ivs[IVS * CRYPT_BLOCK_MAX];

    g_assert(len % CRYPT_SECTOR == 0);
    while (len) {
        size_t n = MIN(len / CRYPT_SECTOR, (size_t)IVS);

        fill_ivs(s, sector, n, ivs);
        crypt_cipher_run(s->cipher, encrypt, ivs, n, CRYPT_SECTOR, dst, src);
        sector += n;
        dst += n * CRYPT_SECTOR;
        src += n * CRYPT_SECTOR;
        len -= n * CRYPT_SECTOR;
    }
}
