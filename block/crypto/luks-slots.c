/* SPDX-License-Identifier: MIT */
/*
 * Changes of key slots, safe against a loss of power at any instant.
 *
 * A slot is activated in three steps, a sync after each: its material; its record, inactive; its
 * state.  It goes in two: its state; then random bytes over its material.
 */
#include "luks.h"

#include "random.h"

#include <errno.h>
#include <string.h>

#define STATE_BYTES 4

/* ---- What is on disk ---- */

/* Bytes [from, to) of slot @i's record as memory has it, and a sync. */
static int coroutine_fn co_write_record(Luks *l, const LuksIo *io, unsigned i, size_t from,
                                        size_t to, GError **errp)
{
    uint8_t buf[LUKS_HEADER_BYTES];
    size_t at = luks_header_slot_at(i) + from;
    int ret;

    if (!luks_header_serialise(&l->hdr, buf, errp)) {
        return -EINVAL;
    }
    ret = io->co_write(io->opaque, at, buf + at, to - from);
    ret = ret < 0 ? ret : io->co_flush(io->opaque);
    return ret < 0 ? error_set_errno(errp, ret, "Unable to write LUKS header") : 0;
}

static int coroutine_fn co_write_state(Luks *l, const LuksIo *io, unsigned i, bool active,
                                       GError **errp)
{
    bool was = l->hdr.slots[i].active;
    int ret;

    l->hdr.slots[i].active = active;
    ret = co_write_record(l, io, i, 0, STATE_BYTES, errp);
    if (ret < 0) {
        l->hdr.slots[i].active = was;
    }
    return ret;
}

static int coroutine_fn co_write_material(const Luks *l, const LuksIo *io, unsigned i,
                                          const SecureBuf *material, GError **errp)
{
    uint64_t at = l->hdr.slots[i].material * UINT64_C(512);
    int ret = at > io->bytes || material->len > io->bytes - at ? -EINVAL : 0;

    ret = ret < 0 ? ret : io->co_write(io->opaque, at, material->data, material->len);
    ret = ret < 0 ? ret : io->co_flush(io->opaque);
    return ret < 0 ? error_set_errno(errp, ret, "Failed to write to keyslot %u", i) : 0;
}

/* INV-LUKS-2 */
static int coroutine_fn co_activate(Luks *l, const LuksIo *io, unsigned i, const SecureBuf *pass,
                                    uint64_t iter_ms, GError **errp)
{
    g_auto(SecureBuf) material = { NULL, 0 };
    int ret;

    g_assert(!l->hdr.slots[i].active);
    ret = luks_co_make_slot(&l->hdr, &l->key, i, pass, iter_ms, &material, errp);
    ret = ret < 0 ? ret : co_write_material(l, io, i, &material, errp);
    ret = ret < 0 ? ret : co_write_record(l, io, i, 0, LUKS_SLOT_BYTES, errp);
    return ret < 0 ? ret : co_write_state(l, io, i, true, errp);
}

/* INV-LUKS-3 */
static int coroutine_fn co_deactivate(Luks *l, const LuksIo *io, unsigned i, GError **errp)
{
    g_auto(SecureBuf) noise = { NULL, 0 };
    int ret;

    if (!secure_buf_init(&noise, luks_header_material_bytes(&l->hdr))) {
        return error_set_errno(errp, ENOMEM, "Failed to erase keyslot %u", i);
    }
    crypt_random(noise.data, noise.len);
    ret = co_write_state(l, io, i, false, errp);
    return ret < 0 ? ret : co_write_material(l, io, i, &noise, errp);
}

/* ---- Activation ---- */

static int free_slot(const LuksHeader *h)
{
    for (int i = 0; i < LUKS_SLOTS; i++) {
        if (!h->slots[i].active) {
            return i;
        }
    }
    return -1;
}

/* Over an active slot, by force. INV-LUKS-4 */
static int coroutine_fn co_replace(Luks *l, const LuksIo *io, unsigned i, const LuksChange *c,
                                   GError **errp)
{
    int spare = luks_header_active(&l->hdr) == 1 ? free_slot(&l->hdr) : -1;
    int ret = 0;

    if (spare >= 0) {
        ret = co_activate(l, io, (unsigned)spare, c->new_pass, c->iter_ms, errp);
    }
    ret = ret < 0 ? ret : co_deactivate(l, io, i, errp);
    ret = ret < 0 ? ret : co_activate(l, io, i, c->new_pass, c->iter_ms, errp);
    return ret < 0 || spare < 0 ? ret : co_deactivate(l, io, (unsigned)spare, errp);
}

static int coroutine_fn co_add(Luks *l, const LuksIo *io, const LuksChange *c, GError **errp)
{
    int i = c->slot >= 0 ? c->slot : free_slot(&l->hdr);

    if (!c->new_pass) {
        return error_set(errp, EINVAL, "'new-secret' is required to activate a keyslot");
    }
    if (c->old_pass) {
        return error_set(errp, EINVAL, "'old-secret' must not be given when activating keyslots");
    }
    if (i < 0) {
        return error_set(errp, EINVAL, "Can't add a keyslot - all keyslots are in use");
    }
    if (l->hdr.slots[i].active && !c->force) {
        return error_set(errp, EINVAL,
                         "Refusing to overwrite active keyslot %i - please erase it first", i);
    }
    return l->hdr.slots[i].active ? co_replace(l, io, (unsigned)i, c, errp)
                                  : co_activate(l, io, (unsigned)i, c->new_pass, c->iter_ms, errp);
}

/* ---- Deactivation ---- */

static int coroutine_fn co_matches(const Luks *l, const LuksIo *io, unsigned i,
                                   const SecureBuf *pass, GError **errp)
{
    g_auto(SecureBuf) key = { NULL, 0 };

    if (!secure_buf_init(&key, l->hdr.key_len)) {
        return error_set_errno(errp, ENOMEM, "Could not keep the key");
    }
    return luks_co_try_slot(l, io, i, pass, &key, errp);
}

static int coroutine_fn co_erase_one(Luks *l, const LuksIo *io, const LuksChange *c, GError **errp)
{
    unsigned i = (unsigned)c->slot;
    bool active = l->hdr.slots[i].active;

    if (active && c->old_pass) {
        int ret = co_matches(l, io, i, c->old_pass, errp);

        if (ret < 0) {
            return ret;
        }
        if (ret == 0) {
            return error_set(errp, EINVAL,
                             "Given keyslot %u doesn't contain the given old password for erase "
                             "operation",
                             i);
        }
    }
    if (!active && !c->force) {
        return error_set(errp, EINVAL, "Given keyslot %u is already erased (inactive) ", i);
    }
    if (active && !c->force && luks_header_active(&l->hdr) == 1) {
        return error_set(errp, EINVAL,
                         "Attempt to erase the only active keyslot %u which will erase all the "
                         "data in the image irreversibly - refusing operation",
                         i);
    }
    return co_deactivate(l, io, i, errp);
}

static int coroutine_fn co_erase_matching(Luks *l, const LuksIo *io, const LuksChange *c,
                                          GError **errp)
{
    unsigned found = 0, n = 0;
    int ret = 0;

    for (unsigned i = 0; i < LUKS_SLOTS && ret >= 0; i++) {
        ret = l->hdr.slots[i].active ? co_matches(l, io, i, c->old_pass, errp) : 0;
        if (ret > 0) {
            found |= 1u << i;
            n++;
        }
    }
    if (ret < 0) {
        return ret;
    }
    if (!found) {
        return error_set(errp, EINVAL,
                         "No keyslots match given (old) password for erase operation");
    }
    if (n == luks_header_active(&l->hdr) && !c->force) {
        return error_set(errp, EINVAL,
                         "All the active keyslots match the (old) password that was given and "
                         "erasing them will erase all the data in the image irreversibly - "
                         "refusing operation");
    }
    ret = 0;
    for (unsigned i = 0; i < LUKS_SLOTS && ret == 0; i++) {
        ret = found >> i & 1 ? co_deactivate(l, io, i, errp) : 0;
    }
    return ret;
}

static int coroutine_fn co_erase(Luks *l, const LuksIo *io, const LuksChange *c, GError **errp)
{
    if (c->new_pass) {
        return error_set(errp, EINVAL, "'new-secret' must not be given when erasing keyslots");
    }
    if (c->iter_given) {
        return error_set(errp, EINVAL, "'iter-time' must not be given when erasing keyslots");
    }
    if (c->slot < 0 && !c->old_pass) {
        return error_set(errp, EINVAL,
                         "To erase keyslot(s), either explicit keyslot index or the password "
                         "currently contained in them must be given");
    }
    return c->slot >= 0 ? co_erase_one(l, io, c, errp) : co_erase_matching(l, io, c, errp);
}

int coroutine_fn luks_co_change(Luks *l, const LuksIo *io, const LuksChange *c, GError **errp)
{
    g_assert(c->slot < LUKS_SLOTS);
    if (c->activate && !l->key.data) {
        return error_set(errp, EINVAL, "The volume is locked");
    }
    return c->activate ? co_add(l, io, c, errp) : co_erase(l, io, c, errp);
}
