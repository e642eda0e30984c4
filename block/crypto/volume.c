/* SPDX-License-Identifier: MIT */
/*
 * Open volumes.  Short requests are encrypted where they are; longer ones in parts, by one lane of
 * the thread pool for each core but one.  That one is the caller's: while all lanes have work
 * enough, the next part is done where it is, so that all cores have work and no more threads than
 * cores want them; with many requests under way few parts change threads at all.  A cipher without
 * instructions of its own would hold up the loop for too long: all of it goes to the lanes then.
 */
#include "volume-int.h"

#include "util/co-pieces.h"
#include "util/work-lane.h"

#include <stdatomic.h>
#include <string.h>

#define INLINE_MAX (8 * KiB) /* takes a microsecond or two, as long as passing it on */
#define SHORT_MAX (32 * KiB) /* some microseconds, as long as waking a thread */
#define PART (64 * KiB)
#define BACKLOG (2 * PART) /* keeps a lane busy while the caller does a part */
#define LANES_MAX 32
#define AES_KEY 16

struct CryptVolume {
    bool luks;
    Luks l;                /* its key stays for changes of key slots */
    CryptSectors *sectors; /* NULL: locked */
    bool quick;            /* the caller takes part */
    unsigned nlanes;
    WorkLane *lanes[LANES_MAX];
    atomic_uint next; /* lane */
};

/* ---- Opening ---- */

static int make_lanes(CryptVolume *v, GError **errp)
{
    unsigned cores = MIN(g_get_num_processors(), LANES_MAX);

    v->quick = crypt_sectors_quick(v->sectors);
    v->nlanes = v->quick && cores > 1 ? cores - 1 : cores;
    for (unsigned i = 0; i < v->nlanes; i++) {
        v->lanes[i] = work_lane_new();
        if (!v->lanes[i]) {
            return error_set_errno(errp, ENOMEM, "Could not allocate the volume's state");
        }
    }
    return 0;
}

int coroutine_fn crypt_volume_co_open_luks(CryptVolume **ret_v, const CryptHeaderIo *io,
                                           bool detached, const SecureBuf *pass, GError **errp)
{
    g_autoptr(CryptVolume) v = g_new0(CryptVolume, 1);
    int ret = luks_co_open(&v->l, io, detached, pass, errp);

    v->luks = true;
    if (ret == 0 && pass) {
        v->sectors = crypt_sectors_new(&v->l.hdr.spec, v->l.key.data, errp);
        ret = v->sectors ? make_lanes(v, errp) : -EINVAL;
    }
    if (ret == 0) {
        *ret_v = g_steal_pointer(&v);
    }
    return ret;
}

int crypt_volume_open_aes(CryptVolume **ret_v, const SecureBuf *pass, GError **errp)
{
    g_autoptr(CryptVolume) v = g_new0(CryptVolume, 1);
    CryptSpec spec = { crypt_alg_find("aes-128"), CRYPT_CBC, CRYPT_IV_PLAIN64, NULL };
    uint8_t key[AES_KEY] = { 0 };
    int ret = 0;

    if (pass) {
        if (pass->len) {
            memcpy(key, pass->data, MIN(pass->len, sizeof(key)));
        }
        v->sectors = crypt_sectors_new(&spec, key, errp);
        secure_wipe(key, sizeof(key));
        ret = v->sectors ? make_lanes(v, errp) : -EINVAL;
    }
    if (ret == 0) {
        *ret_v = g_steal_pointer(&v);
    }
    return ret;
}

void crypt_volume_free(CryptVolume *v)
{
    if (v) {
        for (unsigned i = 0; i < v->nlanes; i++) {
            work_lane_unref(v->lanes[i]);
        }
        crypt_sectors_free(v->sectors);
        luks_clear(&v->l);
        g_free(v);
    }
}

bool crypt_volume_is_locked(const CryptVolume *v)
{
    return !v->sectors;
}

uint64_t crypt_volume_payload(const CryptVolume *v)
{
    return v->l.hdr.payload * UINT64_C(512);
}

uint64_t crypt_volume_header_bytes(const CryptVolume *v)
{
    return luks_header_end(&v->l.hdr);
}

/* ---- Work ---- */

typedef struct Part {
    const CryptVolume *v;
    bool encrypt;
    uint64_t sector;
    uint8_t *dst;
    const uint8_t *src;
    size_t len;
} Part;

static int part_job(void *opaque)
{
    Part *p = opaque;

    crypt_sectors_run(p->v->sectors, p->encrypt, p->sector, p->dst, p->src, p->len);
    return 0;
}

/* The one with the least to do, from the next in turn on. */
static WorkLane *choose_lane(CryptVolume *v)
{
    unsigned first = atomic_fetch_add_explicit(&v->next, 1, memory_order_relaxed) % v->nlanes;
    WorkLane *best = v->lanes[first];

    for (unsigned i = 1; i < v->nlanes && work_lane_backlog(best); i++) {
        WorkLane *l = v->lanes[(first + i) % v->nlanes];

        best = work_lane_backlog(l) < work_lane_backlog(best) ? l : best;
    }
    return best;
}

/* Is @lane the place for @len bytes, rather than the caller? */
static bool lane_wants(const CryptVolume *v, WorkLane *lane, size_t len)
{
    if (v->quick && work_lane_backlog(lane) * len >= BACKLOG) {
        return false;
    }
    return len > SHORT_MAX || work_lane_pays(lane);
}

static int coroutine_fn co_part(void *opaque)
{
    Part *p = opaque;
    CryptVolume *v = (CryptVolume *)p->v;
    WorkLane *lane = choose_lane(v);

    return lane_wants(v, lane, p->len) ? work_lane_co_run(lane, part_job, p) : part_job(p);
}

static void coroutine_fn co_run_parts(const Part *all)
{
    Part slots[CO_PIECES_MAX];
    CoPieces pieces;
    size_t n;

    co_pieces_init(&pieces);
    for (size_t at = 0; at < all->len; at += n) {
        unsigned slot = co_pieces_slot(&pieces);

        n = MIN(all->len - at, (size_t)PART);
        slots[slot] = *all;
        slots[slot].sector += at / CRYPT_SECTOR;
        slots[slot].dst += at;
        slots[slot].src += at;
        slots[slot].len = n;
        co_pieces_begin(&pieces, slot, co_part, &slots[slot]);
    }
    (void)co_pieces_end(&pieces, 0); /* none fails */
}

void coroutine_fn crypt_volume_co_run(const CryptVolume *v, bool encrypt, uint64_t sector,
                                      uint8_t *dst, const uint8_t *src, size_t len)
{
    Part p = { v, encrypt, sector, dst, src, len };

    g_assert(v->sectors);
    if (len <= INLINE_MAX) {
        (void)part_job(&p);
    } else if (len <= PART) {
        (void)co_part(&p);
    } else {
        co_run_parts(&p);
    }
}

/* ---- Key slots ---- */

int coroutine_fn crypt_volume_co_amend(CryptVolume *v, const CryptHeaderIo *io, Options *o,
                                       Secrets *secrets, const char *prefix, bool force,
                                       GError **errp)
{
    LuksChange c = { .force = force };
    int ret;

    if (!v->luks) {
        return error_set(errp, ENOTSUP, "Only LUKS encryption options can be amended");
    }
    ret = crypt_volume_take_change(o, secrets, prefix, &c, errp);
    return ret < 0 ? ret : luks_co_change(&v->l, io, &c, errp);
}

/* ---- Info ---- */

static void say(Options *o, const char *prefix, const char *key, const char *value)
{
    g_autofree char *name = g_strconcat(prefix, key, NULL);

    opts_set(o, name, value);
}

static void say_int(Options *o, const char *prefix, const char *key, uint64_t value)
{
    g_autofree char *name = g_strconcat(prefix, key, NULL);

    opts_set_int(o, name, (int64_t)value);
}

static void say_bool(Options *o, const char *prefix, const char *key, bool value)
{
    g_autofree char *name = g_strconcat(prefix, key, NULL);

    opts_set_bool(o, name, value);
}

static void describe_slot(const LuksSlot *s, unsigned i, Options *o, const char *prefix)
{
    g_autofree char *p = g_strdup_printf("%sslots.%u.", prefix, i);

    say_bool(o, p, "active", s->active);
    if (s->active) {
        say_int(o, p, "iters", s->iterations);
    }
    say_int(o, p, "key-offset", s->material * UINT64_C(512));
    if (s->active) {
        say_int(o, p, "stripes", s->stripes);
    }
}

void crypt_volume_describe(const CryptVolume *v, Options *o, const char *prefix, bool format,
                           bool detached)
{
    const LuksHeader *h = &v->l.hdr;

    if (!v->luks) {
        say(o, prefix, "format", "aes");
        return;
    }
    say(o, prefix, "ivgen-alg", crypt_ivgen_names[h->spec.ivgen]);
    say_bool(o, prefix, "detached-header", detached);
    say(o, prefix, "hash-alg", crypt_hash_name(h->hash));
    say(o, prefix, "cipher-alg", crypt_alg_name(h->spec.alg));
    say(o, prefix, "uuid", h->uuid);
    if (h->spec.ivgen == CRYPT_IV_ESSIV) {
        say(o, prefix, "ivgen-hash-alg", crypt_hash_name(h->spec.ivgen_hash));
    }
    if (format) {
        say(o, prefix, "format", "luks");
    }
    say(o, prefix, "cipher-mode", crypt_mode_names[h->spec.mode]);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        describe_slot(&h->slots[i], i, o, prefix);
    }
    say_int(o, prefix, "payload-offset", crypt_volume_payload(v));
    say_int(o, prefix, "master-key-iters", h->digest_iterations);
}
