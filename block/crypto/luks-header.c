/* SPDX-License-Identifier: MIT */
/* The header of LUKS version 1: see luks-header.h. */
#include "luks-header.h"

#include "util/bytes.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>

#define SLOT_ACTIVE UINT32_C(0x00ac71f3)
#define SLOT_DISABLED UINT32_C(0x0000dead)
#define NAME 32

/* As they lie there; byte offsets. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 6,
    AT_CIPHER = 8,
    AT_MODE = 40,
    AT_HASH = 72,
    AT_PAYLOAD = 104,
    AT_KEY_LEN = 108,
    AT_DIGEST = 112,
    AT_DIGEST_SALT = 132,
    AT_DIGEST_ITERATIONS = 164,
    AT_UUID = 168,
    AT_SLOTS = 208,
    /* in a slot */
    SLOT_STATE = 0,
    SLOT_ITERATIONS = 4,
    SLOT_SALT = 8,
    SLOT_MATERIAL = 40,
    SLOT_STRIPES = 44,
};
G_STATIC_ASSERT(AT_SLOTS + LUKS_SLOTS * LUKS_SLOT_BYTES == LUKS_HEADER_BYTES);

static const uint8_t magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

size_t luks_header_slot_at(unsigned i)
{
    g_assert(i < LUKS_SLOTS);
    return AT_SLOTS + i * LUKS_SLOT_BYTES;
}

/* ---- Places ---- */

size_t luks_header_material_bytes(const LuksHeader *h)
{
    return ALIGN_UP((size_t)h->key_len * LUKS_STRIPES, (size_t)CRYPT_SECTOR);
}

uint64_t luks_header_end(const LuksHeader *h)
{
    uint64_t end = LUKS_HEADER_BYTES;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        end = MAX(end, h->slots[i].material * UINT64_C(512) + luks_header_material_bytes(h));
    }
    return end;
}

unsigned luks_header_active(const LuksHeader *h)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        n += h->slots[i].active;
    }
    return n;
}

void luks_header_lay_out(LuksHeader *h, bool detached)
{
    size_t each = ALIGN_UP(luks_header_material_bytes(h), (size_t)LUKS_ALIGN) / CRYPT_SECTOR;
    uint32_t at = LUKS_ALIGN / CRYPT_SECTOR;

    for (unsigned i = 0; i < LUKS_SLOTS; i++, at += (uint32_t)each) {
        h->slots[i].material = at;
        h->slots[i].stripes = LUKS_STRIPES;
    }
    h->payload = detached ? 0 : at;
}

/* ---- Parse ---- */

static int take_name(const uint8_t *p, char *out, const char *what, GError **errp)
{
    if (!memchr(p, 0, NAME)) {
        return error_set(errp, EINVAL, "LUKS header %s is not NUL terminated", what);
    }
    memcpy(out, p, NAME);
    return 0;
}

static int find_name(const char *name, const char *const *names)
{
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], name)) {
            return i;
        }
    }
    return -1;
}

/* "xts-plain64", "cbc-essiv:sha256". */
static int parse_mode(LuksHeader *h, const char *said, GError **errp)
{
    g_autofree char *text = g_strdup(said);
    char *ivgen = strchr(text, '-'), *hash = ivgen ? strchr(ivgen, ':') : NULL;
    int mode, iv;

    if (!ivgen) {
        return error_set(errp, EINVAL, "Unexpected cipher mode string format '%s'", said);
    }
    *ivgen++ = '\0';
    if (hash) {
        *hash++ = '\0';
        h->spec.ivgen_hash = crypt_hash_find(hash);
        if (!h->spec.ivgen_hash) {
            return error_set(errp, ENOTSUP, "Hash algorithm '%s' is not supported", hash);
        }
    }
    mode = find_name(text, crypt_mode_names);
    iv = find_name(ivgen, crypt_ivgen_names);
    if (mode < 0) {
        return error_set(errp, ENOTSUP, "Cipher mode '%s' is not supported", text);
    }
    if (iv < 0) {
        return error_set(errp, ENOTSUP, "IV generator '%s' is not supported", ivgen);
    }
    h->spec.mode = (CryptMode)mode;
    h->spec.ivgen = (CryptIvgen)iv;
    if (h->spec.ivgen == CRYPT_IV_ESSIV && !h->spec.ivgen_hash) {
        return error_set(errp, EINVAL, "Missing IV generator hash specification");
    }
    return 0;
}

static int parse_names(LuksHeader *h, const uint8_t *b, GError **errp)
{
    char cipher[NAME], mode[NAME], hash[NAME];
    size_t len;
    int ret = take_name(b + AT_CIPHER, cipher, "cipher name", errp);

    ret = ret < 0 ? ret : take_name(b + AT_MODE, mode, "cipher mode", errp);
    ret = ret < 0 ? ret : take_name(b + AT_HASH, hash, "hash spec", errp);
    ret = ret < 0 ? ret : parse_mode(h, mode, errp);
    if (ret < 0) {
        return ret;
    }
    h->hash = crypt_hash_find(hash);
    if (!h->hash) {
        return error_set(errp, ENOTSUP, "Hash algorithm '%s' is not supported", hash);
    }
    h->key_len = ldbe32(b + AT_KEY_LEN);
    if (h->spec.mode == CRYPT_XTS && h->key_len % 2) {
        return error_set(errp, EINVAL, "XTS cipher key length should be a multiple of 2");
    }
    len = h->spec.mode == CRYPT_XTS ? h->key_len / 2 : h->key_len;
    h->spec.alg = crypt_alg_find_family(cipher, len, errp);
    return h->spec.alg ? 0 : -EINVAL;
}

static int parse_slot(LuksSlot *s, const uint8_t *b, unsigned i, GError **errp)
{
    uint32_t state = ldbe32(b + SLOT_STATE);

    s->active = state == SLOT_ACTIVE;
    s->iterations = ldbe32(b + SLOT_ITERATIONS);
    memcpy(s->salt, b + SLOT_SALT, LUKS_SALT);
    s->material = ldbe32(b + SLOT_MATERIAL);
    s->stripes = ldbe32(b + SLOT_STRIPES);
    if (s->stripes != LUKS_STRIPES) {
        return error_set(errp, EINVAL, "Keyslot %u is corrupted (stripes %u != %u)", i, s->stripes,
                         LUKS_STRIPES);
    }
    if (!s->active && state != SLOT_DISABLED) {
        return error_set(errp, EINVAL, "Keyslot %u state (active/disable) is corrupted", i);
    }
    if (s->active && s->iterations == 0) {
        return error_set(errp, EINVAL, "Keyslot %u iteration count is zero", i);
    }
    return 0;
}

static int check_places(const LuksHeader *h, bool detached, GError **errp)
{
    uint64_t each = luks_header_material_bytes(h) / CRYPT_SECTOR;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint64_t at = h->slots[i].material;

        if (at * CRYPT_SECTOR < LUKS_HEADER_BYTES) {
            return error_set(errp, EINVAL, "Keyslot %u is overlapping with the LUKS header", i);
        }
        if (!detached && at + each > h->payload) {
            return error_set(errp, EINVAL, "Keyslot %u is overlapping with the encrypted payload",
                             i);
        }
        for (unsigned j = i + 1; j < LUKS_SLOTS; j++) {
            uint64_t other = h->slots[j].material;

            if (at < other + each && other < at + each) {
                return error_set(errp, EINVAL, "Keyslots %u and %u are overlapping in the header",
                                 i, j);
            }
        }
    }
    return 0;
}

/* INV-LUKS-1: a header that asks for hours of hashing is refused. */
static int check_work(const LuksHeader *h, GError **errp)
{
    uint64_t blocks = DIV_ROUND_UP(h->key_len, crypt_hash_size(h->hash));
    uint64_t digest_blocks = DIV_ROUND_UP((size_t)LUKS_DIGEST, crypt_hash_size(h->hash));
    uint64_t work = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (h->slots[i].active) { /* each passphrase test ends in one of the key */
            work += h->slots[i].iterations * blocks + h->digest_iterations * digest_blocks;
        }
    }
    return work > LUKS_MAX_WORK
               ? error_set(errp, EINVAL,
                           "LUKS key slots ask for %" G_GUINT64_FORMAT
                           " rounds of key derivation, more than the supported maximum of "
                           "%" G_GUINT64_FORMAT,
                           work, LUKS_MAX_WORK)
               : 0;
}

int luks_header_parse(LuksHeader *h, const uint8_t *b, bool detached, GError **errp)
{
    int ret;

    memset(h, 0, sizeof(*h));
    if (memcmp(b + AT_MAGIC, magic, sizeof(magic))) {
        return error_set(errp, EINVAL, "Volume is not in LUKS format");
    }
    if (ldbe16(b + AT_VERSION) != 1) {
        return error_set(errp, ENOTSUP, "LUKS version %u is not supported", ldbe16(b + AT_VERSION));
    }
    ret = parse_names(h, b, errp);
    if (ret < 0) {
        return ret;
    }
    h->payload = ldbe32(b + AT_PAYLOAD);
    memcpy(h->digest, b + AT_DIGEST, LUKS_DIGEST);
    memcpy(h->digest_salt, b + AT_DIGEST_SALT, LUKS_SALT);
    h->digest_iterations = ldbe32(b + AT_DIGEST_ITERATIONS);
    memcpy(h->uuid, b + AT_UUID, LUKS_UUID);
    h->uuid[LUKS_UUID - 1] = '\0';
    if (h->digest_iterations == 0) {
        return error_set(errp, EINVAL, "LUKS key iteration count is zero");
    }
    if (!detached && h->payload < DIV_ROUND_UP(LUKS_HEADER_BYTES, CRYPT_SECTOR)) {
        return error_set(errp, EINVAL, "LUKS payload is overlapping with the header");
    }
    for (unsigned i = 0; i < LUKS_SLOTS && ret == 0; i++) {
        ret = parse_slot(&h->slots[i], b + luks_header_slot_at(i), i, errp);
    }
    ret = ret < 0 ? ret : check_places(h, detached, errp);
    return ret < 0 ? ret : check_work(h, errp);
}

/* ---- Serialise ---- */

static bool put_name(uint8_t *p, const char *name, const char *what, GError **errp)
{
    size_t n = strlen(name);

    if (n >= NAME) {
        error_set(errp, EINVAL, "%s '%s' is too long for LUKS header", what, name);
        return false;
    }
    memcpy(p, name, n);
    return true;
}

bool luks_header_serialise(const LuksHeader *h, uint8_t *b, GError **errp)
{
    const CryptSpec *s = &h->spec;
    g_autofree char *mode = g_strconcat(
        crypt_mode_names[s->mode], "-", crypt_ivgen_names[s->ivgen], s->ivgen_hash ? ":" : NULL,
        s->ivgen_hash ? crypt_hash_name(s->ivgen_hash) : NULL, NULL);

    memset(b, 0, LUKS_HEADER_BYTES);
    memcpy(b + AT_MAGIC, magic, sizeof(magic));
    stbe16(b + AT_VERSION, 1);
    if (!put_name(b + AT_CIPHER, crypt_alg_family(s->alg), "Cipher name", errp) ||
        !put_name(b + AT_MODE, mode, "Cipher mode", errp) ||
        !put_name(b + AT_HASH, crypt_hash_name(h->hash), "Hash name", errp)) {
        return false;
    }
    stbe32(b + AT_PAYLOAD, h->payload);
    stbe32(b + AT_KEY_LEN, h->key_len);
    memcpy(b + AT_DIGEST, h->digest, LUKS_DIGEST);
    memcpy(b + AT_DIGEST_SALT, h->digest_salt, LUKS_SALT);
    stbe32(b + AT_DIGEST_ITERATIONS, h->digest_iterations);
    memcpy(b + AT_UUID, h->uuid, strlen(h->uuid));
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const LuksSlot *slot = &h->slots[i];
        uint8_t *p = b + luks_header_slot_at(i);

        stbe32(p + SLOT_STATE, slot->active ? SLOT_ACTIVE : SLOT_DISABLED);
        stbe32(p + SLOT_ITERATIONS, slot->iterations);
        memcpy(p + SLOT_SALT, slot->salt, LUKS_SALT);
        stbe32(p + SLOT_MATERIAL, slot->material);
        stbe32(p + SLOT_STRIPES, slot->stripes);
    }
    return true;
}
