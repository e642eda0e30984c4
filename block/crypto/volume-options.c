/* SPDX-License-Identifier: MIT */
/* What options say of a volume to be made, opened or amended; with the reference's texts. */
#include "volume-int.h"

#include <errno.h>
#include <string.h>

/* All that the reference has names for; those that nobody builds are refused by name. */
static const char *const cipher_names[] = { "aes-128",     "aes-192",     "aes-256",
                                            "des",         "3des",        "cast5-128",
                                            "serpent-128", "serpent-192", "serpent-256",
                                            "twofish-128", "twofish-192", "twofish-256",
                                            "sm4",         NULL };
static const char *const hash_names[] = { "md5",    "sha1",      "sha224", "sha256", "sha384",
                                          "sha512", "ripemd160", "sm3",    NULL };
static const char *const slot_states[] = { "active", "inactive", NULL };

enum { CIPHER_AES_256 = 2, HASH_SHA256 = 3 };

/* ---- To be made ---- */

static int take_spec(Options *o, LuksParams *p, GError **errp)
{
    int cipher, mode, ivgen, ivgen_hash, hash;

    if (!opts_take_enum(o, "cipher-alg", cipher_names, CIPHER_AES_256, &cipher, errp) ||
        !opts_take_enum(o, "cipher-mode", crypt_mode_names, CRYPT_XTS, &mode, errp) ||
        !opts_take_enum(o, "ivgen-alg", crypt_ivgen_names, CRYPT_IV_PLAIN64, &ivgen, errp) ||
        !opts_take_enum(o, "ivgen-hash-alg", hash_names, -1, &ivgen_hash, errp) ||
        !opts_take_enum(o, "hash-alg", hash_names, HASH_SHA256, &hash, errp) ||
        !opts_take_uint(o, "iter-time", CRYPT_DEFAULT_ITER_MS, &p->iter_ms, errp)) {
        return -EINVAL;
    }
    p->spec.alg = crypt_alg_find(cipher_names[cipher]);
    p->spec.mode = (CryptMode)mode;
    p->spec.ivgen = (CryptIvgen)ivgen;
    p->hash = crypt_hash_find(hash_names[hash]);
    if (ivgen_hash < 0 && p->spec.ivgen == CRYPT_IV_ESSIV) {
        ivgen_hash = HASH_SHA256;
    }
    p->spec.ivgen_hash = ivgen_hash < 0 ? NULL : crypt_hash_find(hash_names[ivgen_hash]);
    return p->spec.alg
               ? 0
               : error_set(errp, ENOTSUP, "Algorithm '%s' not supported", cipher_names[cipher]);
}

/* What goes together at all: tried with a key of zeroes. */
static int check_spec(const CryptSpec *s, GError **errp)
{
    uint8_t zeroes[LUKS_KEY_MAX] = { 0 };
    g_autoptr(CryptSectors) sectors = crypt_sectors_new(s, zeroes, errp);

    return sectors ? 0 : -EINVAL;
}

static int check_left(const Options *o, const char *prefix, GError **errp)
{
    const char *key = opts_first_key(o);

    return key ? error_set(errp, EINVAL, "Parameter '%s%s' is unexpected", prefix, key) : 0;
}

static int take_key(Options *o, Secrets *secrets, const char *prefix, const SecureBuf **pass,
                    GError **errp)
{
    g_autofree char *id = opts_take_str(o, "key-secret");

    if (!id) {
        return error_set(errp, EINVAL, "Parameter '%skey-secret' is required for cipher", prefix);
    }
    *pass = secrets_find_text(secrets, id, errp);
    return *pass ? 0 : -EINVAL;
}

CryptCreate *crypt_create_take(Options *o, Secrets *secrets, bool luks, const char *prefix,
                               bool detached, GError **errp)
{
    g_autoptr(CryptCreate) c = g_new0(CryptCreate, 1);
    g_autofree char *id = g_strdup(opts_peek(o, "key-secret"));
    int ret;

    c->luks = luks;
    c->p.detached = detached;
    c->secrets = secrets_ref(secrets);
    opts_del(o, "key-secret");
    ret = luks ? take_spec(o, &c->p, errp) : 0;
    ret = ret < 0 ? ret : check_left(o, prefix, errp);
    if (id) {
        opts_set(o, "key-secret", id);
    }
    ret = ret < 0 ? ret : take_key(o, secrets, prefix, &c->pass, errp);
    ret = ret < 0 || !luks ? ret : check_spec(&c->p.spec, errp);
    return ret < 0 ? NULL : g_steal_pointer(&c);
}

void crypt_create_free(CryptCreate *c)
{
    if (c) {
        secrets_unref(c->secrets);
        g_free(c);
    }
}

bool crypt_create_is_luks(const CryptCreate *c)
{
    return c->luks;
}

uint64_t crypt_create_bytes(const CryptCreate *c)
{
    return c->luks ? luks_format_bytes(&c->p) : 0;
}

int coroutine_fn crypt_create_co_format(const CryptCreate *c, uint8_t **head, GError **errp)
{
    size_t bytes;

    g_assert(c->luks);
    return luks_co_format(&c->p, c->pass, head, &bytes, errp);
}

/* ---- To be opened ---- */

int crypt_volume_take_key(Options *o, Secrets *secrets, bool luks, const char *prefix,
                          bool optional, const SecureBuf **pass, GError **errp)
{
    g_autofree char *format = *prefix ? opts_take_str(o, "format") : NULL;
    g_autofree char *id = opts_take_str(o, "key-secret");
    const char *own = luks ? "luks" : "aes", *left = opts_first_key(o);

    *pass = NULL;
    if (format && strcmp(format, own)) {
        return error_set(errp, EINVAL,
                         "Header reported '%s' encryption format but options specify '%s'", own,
                         format);
    }
    if (left && *prefix) {
        return error_set(errp, EINVAL, "Parameter '%s' is unexpected", left);
    }
    if (optional) {
        return 0;
    }
    if (id) {
        opts_set(o, "key-secret", id);
    }
    return take_key(o, secrets, prefix, pass, errp);
}

/* ---- To be amended ---- */

/* A number as opts_take_uint(), named in full where it is none. */
static bool take_number(Options *o, const char *prefix, const char *key, uint64_t def,
                        uint64_t *ret, GError **errp)
{
    g_autofree char *full = g_strconcat(prefix, key, NULL), *value = opts_take_str(o, key);

    if (value) {
        opts_set(o, full, value);
    }
    return opts_take_uint(o, full, def, ret, errp);
}

static int take_iter_time(Options *o, const char *prefix, LuksChange *c, GError **errp)
{
    g_autofree char *value = g_strdup(opts_peek(o, "iter-time"));

    c->iter_given = value;
    if (!take_number(o, prefix, "iter-time", CRYPT_DEFAULT_ITER_MS, &c->iter_ms, errp)) {
        return -EINVAL;
    }
    return value && c->iter_ms > INT64_MAX && *value != '-'
               ? error_set(errp, EINVAL, "Parameter 'iter-time' expects integer")
               : 0;
}

static int take_slot(Options *o, const char *prefix, LuksChange *c, GError **errp)
{
    uint64_t slot;

    c->slot = -1;
    if (!opts_has(o, "keyslot")) {
        return 0;
    }
    if (!take_number(o, prefix, "keyslot", 0, &slot, errp)) {
        return -EINVAL;
    }
    if (slot >= LUKS_SLOTS) {
        return error_set(errp, EINVAL, "Invalid keyslot %u specified, must be between 0 and %u",
                         (unsigned)slot, LUKS_SLOTS - 1);
    }
    c->slot = (int)slot;
    return 0;
}

static int take_secret(Options *o, const char *key, Secrets *secrets, const SecureBuf **pass,
                       GError **errp)
{
    g_autofree char *id = opts_take_str(o, key);

    *pass = id ? secrets_find_text(secrets, id, errp) : NULL;
    return id && !*pass ? -EINVAL : 0;
}

int crypt_volume_take_change(Options *o, Secrets *secrets, const char *prefix, LuksChange *c,
                             GError **errp)
{
    int state, ret;

    if (!opts_has(o, "state")) {
        return error_set(errp, EINVAL, "Parameter 'state' is missing");
    }
    if (!opts_take_enum(o, "state", slot_states, 0, &state, errp)) {
        return -EINVAL;
    }
    c->activate = state == 0;
    ret = take_iter_time(o, prefix, c, errp);
    ret = ret < 0 ? ret : take_slot(o, prefix, c, errp);
    ret = ret < 0 ? ret : take_secret(o, "new-secret", secrets, &c->new_pass, errp);
    return ret < 0 ? ret : take_secret(o, "old-secret", secrets, &c->old_pass, errp);
}
