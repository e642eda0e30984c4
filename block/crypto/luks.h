/* SPDX-License-Identifier: MIT */
/*
 * A LUKS volume's keys: making one, unlocking it, changing its slots.  Where the header lies is the
 * caller's to say (LuksIo).
 *
 * What is on disk when:
 *
 * INV-LUKS-2  A slot's key material and the rest of its record are on stable storage before its
 *             state says that it is active; the state lies within one sector, so that the write of
 *             it does not tear.
 * INV-LUKS-3  A slot's state on stable storage says that it is inactive before its material is
 *             written over: an active slot opens the volume at any instant.
 * INV-LUKS-4  A slot that is replaced while it is the only active one has its successor active in
 *             another slot meanwhile.
 */
#ifndef CRYPTO_LUKS_H
#define CRYPTO_LUKS_H

#include "luks-header.h"
#include "volume.h"

typedef CryptHeaderIo LuksIo;

typedef struct Luks {
    LuksHeader hdr;
    SecureBuf key; /* empty: locked */
} Luks;

void luks_clear(Luks *l); /* wipes; a zeroed one is fine */

/* What a volume is to be like. */
typedef struct LuksParams {
    CryptSpec spec;
    const CryptHash *hash;
    uint64_t iter_ms; /* of PBKDF2 */
    bool detached;
} LuksParams;

/* The header and first slot of a new volume, in memory: *@head (g_free) has *@bytes,
 * to be written before anything names it. */
int coroutine_fn luks_co_format(const LuksParams *p, const SecureBuf *pass, uint8_t **head,
                                size_t *bytes, GError **errp);
/* How long that would be. */
uint64_t luks_format_bytes(const LuksParams *p);
/* Read the header; with @pass, find the key too. */
int coroutine_fn luks_co_open(Luks *l, const LuksIo *io, bool detached, const SecureBuf *pass,
                              GError **errp);
/* Does @pass open slot @i? 1: yes, and the key is in @key (key_len bytes); 0: no; -errno. */
int coroutine_fn luks_co_try_slot(const Luks *l, const LuksIo *io, unsigned i,
                                  const SecureBuf *pass, SecureBuf *key, GError **errp);

/* luks-slots.c: a change of key slots; what the options of an amend say. */
typedef struct LuksChange {
    bool activate;             /* else: deactivate */
    int slot;                  /* below LUKS_SLOTS; -1: not said */
    const SecureBuf *old_pass; /* NULL: not given */
    const SecureBuf *new_pass;
    uint64_t iter_ms; /* of an activation */
    bool iter_given;
    bool force; /* also what leaves no active slot, or was done before */
} LuksChange;
/* @l is unlocked (for an activation), and holds what is on disk afterwards, whatever it returns. */
int coroutine_fn luks_co_change(Luks *l, const LuksIo *io, const LuksChange *c, GError **errp);

/* Shared by the two: makes slot @i's record (inactive) and its material for @pass. */
int coroutine_fn luks_co_make_slot(LuksHeader *h, const SecureBuf *key, unsigned i,
                                   const SecureBuf *pass, uint64_t iter_ms, SecureBuf *material,
                                   GError **errp);

#endif
