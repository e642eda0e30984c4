/* SPDX-License-Identifier: MIT */
/*
 * The header of LUKS version 1 in memory: parse, validate, serialise.  Pure.
 *
 * INV-LUKS-1  What a parsed header says is within its bounds: names end, the cipher, the mode and
 *             the hash are ours, no area of key material overlaps the header, another one or the
 *             payload, and all passphrase tests together cost less than LUKS_MAX_WORK.
 */
#ifndef CRYPTO_LUKS_HEADER_H
#define CRYPTO_LUKS_HEADER_H

#include "sectors.h"

#define LUKS_HEADER_BYTES 592
#define LUKS_SLOTS 8
#define LUKS_STRIPES 4000
#define LUKS_SALT 32
#define LUKS_DIGEST 20
#define LUKS_UUID 40
#define LUKS_ALIGN 4096 /* of what we lay out */
#define LUKS_KEY_MAX 64
/* Blocks of PBKDF2 times their iterations, over all slots and the key's digest: some minutes. */
#define LUKS_MAX_WORK (UINT64_C(1) << 30)

typedef struct LuksSlot {
    bool active;
    uint32_t iterations;
    uint8_t salt[LUKS_SALT];
    uint32_t material; /* sector of it */
    uint32_t stripes;
} LuksSlot;

typedef struct LuksHeader {
    CryptSpec spec;
    const CryptHash *hash;
    uint32_t payload; /* sector */
    uint32_t key_len;
    uint8_t digest[LUKS_DIGEST], digest_salt[LUKS_SALT];
    uint32_t digest_iterations;
    char uuid[LUKS_UUID];
    LuksSlot slots[LUKS_SLOTS];
} LuksHeader;

/* @buf has LUKS_HEADER_BYTES. @detached: the payload is elsewhere. 0, or -errno with the
 * reference's texts: -EINVAL for damage, -ENOTSUP for what is not ours. */
int luks_header_parse(LuksHeader *h, const uint8_t *buf, bool detached, GError **errp);
/* LUKS_HEADER_BYTES of it. False with @errp: a name is too long. */
bool luks_header_serialise(const LuksHeader *h, uint8_t *buf, GError **errp);
/* Where slot @i's record lies, and how many bytes of the header it has. */
size_t luks_header_slot_at(unsigned i);
#define LUKS_SLOT_BYTES 48
/* Places for all key material after the header, and the payload after it; the key's length is
 * set. */
void luks_header_lay_out(LuksHeader *h, bool detached);
/* Bytes of a slot's key material, in whole sectors. */
size_t luks_header_material_bytes(const LuksHeader *h);
/* Bytes up to the end of the last key material. */
uint64_t luks_header_end(const LuksHeader *h);
unsigned luks_header_active(const LuksHeader *h); /* slots */

#endif
