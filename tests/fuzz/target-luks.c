/* SPDX-License-Identifier: MIT */
/*
 * The header of a LUKS volume: what is taken from it is within its bounds (INV-LUKS-1), and is the
 * same after it was written and read again. Byte 0, bit 0: the payload is elsewhere.
 */
#include "fuzz.h"

#include "block/crypto/luks-header.h"
#include "util/bytes.h"

#include <string.h>

const char fuzz_name[] = "luks";

static void check_slots(const LuksHeader *h, bool detached)
{
    uint64_t bytes = luks_header_material_bytes(h), work = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const LuksSlot *s = &h->slots[i];
        uint64_t at = s->material * UINT64_C(512);

        FUZZ_CHECK(s->stripes == LUKS_STRIPES, "slot %u: %u stripes", i, s->stripes);
        FUZZ_CHECK(at >= LUKS_HEADER_BYTES, "slot %u over the header", i);
        FUZZ_CHECK(detached || at + bytes <= h->payload * UINT64_C(512), "slot %u over the payload",
                   i);
        FUZZ_CHECK(!s->active || s->iterations > 0, "slot %u has no iterations", i);
        work += s->active ? s->iterations : 0;
    }
    FUZZ_CHECK(work <= LUKS_MAX_WORK, "%" G_GUINT64_FORMAT " iterations", work);
    FUZZ_CHECK(bytes <= (uint64_t)LUKS_KEY_MAX * LUKS_STRIPES,
               "material of %" G_GUINT64_FORMAT " bytes", bytes);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    uint8_t buf[LUKS_HEADER_BYTES] = { 0 }, again[LUKS_HEADER_BYTES];
    bool detached = size > 0 && (data[0] & 1);
    g_autoptr(GError) err = NULL;
    LuksHeader h, n;

    if (size < 1) {
        return;
    }
    memcpy(buf, data + 1, MIN(size - 1, sizeof(buf)));
    if (luks_header_parse(&h, buf, detached, &err) < 0) {
        FUZZ_CHECK(err && err->message[0], "refused without a message");
        return;
    }
    FUZZ_CHECK(h.key_len == crypt_alg_key_len(h.spec.alg, h.spec.mode), "key of %u bytes",
               h.key_len);
    check_slots(&h, detached);
    FUZZ_CHECK(luks_header_serialise(&h, again, NULL), "it cannot be written again");
    FUZZ_CHECK(luks_header_parse(&n, again, detached, NULL) == 0, "written again it is refused");
    FUZZ_CHECK(!memcmp(&h.spec, &n.spec, sizeof(h.spec)) && h.hash == n.hash &&
                   h.payload == n.payload && !strcmp(h.uuid, n.uuid),
               "written again it is another");
}

/* A header that is sound, so that what follows is met at all; with a change or two. */
static size_t make_sound(uint8_t *data, size_t max, uint32_t seed)
{
    static const char *const algs[] = { "aes-128", "aes-256", "cast5-128", "serpent-192" };
    LuksHeader h = { .hash = crypt_hash_find("sha256"), .digest_iterations = 1000 };

    if (max < 1 + LUKS_HEADER_BYTES) {
        return 0;
    }
    h.spec = (CryptSpec){ crypt_alg_find(algs[seed % 4]), CRYPT_CBC, CRYPT_IV_PLAIN64, NULL };
    h.key_len = (uint32_t)crypt_alg_key_len(h.spec.alg, h.spec.mode);
    h.slots[seed / 4 % LUKS_SLOTS] = (LuksSlot){ .active = true, .iterations = 1000 };
    luks_header_lay_out(&h, seed & 64);
    data[0] = seed & 64 ? 1 : 0;
    (void)luks_header_serialise(&h, data + 1, NULL);
    if (seed & 128) { /* a field of a slot, or one of the head */
        size_t at = seed & 256 ? 208 + seed / 512 % 96 * 4 : 104 + seed / 512 % 26 * 4;

        stbe32(data + 1 + at, seed & (1u << 20) ? UINT32_MAX : seed >> 12);
    }
    return 1 + LUKS_HEADER_BYTES;
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    size_t n = seed % 4 == 0 ? make_sound(data, max, seed / 4) : 0;

    return n ? n : fuzz_mutate_bytes(data, size, max);
}
