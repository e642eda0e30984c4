/* SPDX-License-Identifier: MIT */
/*
 * LUKS: headers that are refused, passphrases, changes of key slots, and a loss of power at any
 * instant of such a change.
 */
#include "block/crypto/luks.h"
#include "util/aio.h"
#include "util/bytes.h"

#include <string.h>

#define DISK (2 * 1024 * 1024)
#define EVENTS 256

typedef struct Event {
    size_t at, len; /* len 0: a sync */
    uint8_t *data;
} Event;

/* A disk that keeps what was done to it. */
typedef struct Disk {
    uint8_t *now, *begin;
    Event events[EVENTS];
    unsigned n;
    int fail_at; /* the n-th write or sync fails; -1: none */
} Disk;

static int coroutine_fn co_read(void *opaque, uint64_t offset, void *buf, size_t len)
{
    Disk *d = opaque;

    g_assert_cmpuint(offset + len, <=, DISK);
    memcpy(buf, d->now + offset, len);
    return 0;
}

static Event *add_event(Disk *d, size_t at, size_t len)
{
    g_assert_cmpuint(d->n, <, EVENTS);
    d->events[d->n] = (Event){ at, len, NULL };
    return &d->events[d->n++];
}

static bool fails(Disk *d)
{
    return d->fail_at >= 0 && d->fail_at-- == 0;
}

static int coroutine_fn co_write(void *opaque, uint64_t offset, const void *buf, size_t len)
{
    Disk *d = opaque;

    g_assert_cmpuint(offset + len, <=, DISK);
    if (fails(d)) {
        return -EIO;
    }
    add_event(d, offset, len)->data = g_memdup2(buf, len);
    memcpy(d->now + offset, buf, len);
    return 0;
}

static int coroutine_fn co_flush(void *opaque)
{
    Disk *d = opaque;

    if (fails(d)) {
        return -EIO;
    }
    add_event(d, 0, 0);
    return 0;
}

static LuksIo io_of(Disk *d)
{
    return (LuksIo){ co_read, co_write, co_flush, d, DISK };
}

static void forget(Disk *d)
{
    for (unsigned i = 0; i < d->n; i++) {
        g_free(d->events[i].data);
    }
    d->n = 0;
    memcpy(d->begin, d->now, DISK);
}

static SecureBuf text(const char *s)
{
    return (SecureBuf){ (uint8_t *)(uintptr_t)s, strlen(s) };
}

static LuksParams params(void)
{
    return (LuksParams){ .spec = { crypt_alg_find("aes-128"), CRYPT_CBC, CRYPT_IV_PLAIN64, NULL },
                         .hash = crypt_hash_find("sha256") };
}

static void coroutine_fn make_disk(Disk *d, const LuksParams *p, const char *pass)
{
    SecureBuf pw = text(pass);
    g_autofree uint8_t *head = NULL;
    size_t bytes;

    memset(d, 0, sizeof(*d));
    d->fail_at = -1;
    d->now = g_malloc0(DISK);
    d->begin = g_malloc0(DISK);
    g_assert_cmpint(luks_co_format(p, &pw, &head, &bytes, NULL), ==, 0);
    memcpy(d->now, head, bytes);
    forget(d);
}

static void clear_disk(Disk *d)
{
    forget(d);
    g_free(d->now);
    g_free(d->begin);
}

/* "": opened; else what is said. */
static const char *coroutine_fn try_open(Disk *d, const char *pass)
{
    LuksIo io = io_of(d);
    SecureBuf pw = text(pass);
    GError *err = NULL;
    const char *said = "";
    Luks l;

    if (luks_co_open(&l, &io, false, &pw, &err) < 0) {
        said = g_intern_string(err->message);
        g_error_free(err);
    } else {
        luks_clear(&l);
    }
    return said;
}

static const char *coroutine_fn change(Disk *d, const char *with, bool activate, int slot,
                                       const char *old, const char *new, bool force)
{
    LuksIo io = io_of(d);
    SecureBuf pw = text(with), o = text(old ? old : ""), n = text(new ? new : "");
    LuksChange c = { activate, slot, old ? &o : NULL, new ? &n : NULL, 0, false, force };
    g_autoptr(GError) err = NULL;
    Luks l;

    g_assert_cmpint(luks_co_open(&l, &io, false, &pw, NULL), ==, 0);
    (void)luks_co_change(&l, &io, &c, &err);
    luks_clear(&l);
    return err ? g_intern_string(err->message) : "";
}

#define INVALID "Invalid password, cannot unlock any keyslot"

static void coroutine_fn test_slots(void)
{
    LuksParams p = params();
    Disk d;

    make_disk(&d, &p, "one");
    g_assert_cmpstr(try_open(&d, "one"), ==, "");
    g_assert_cmpstr(try_open(&d, "on"), ==, INVALID);
    g_assert_cmpstr(change(&d, "one", true, -1, NULL, "two", false), ==, "");
    g_assert_cmpstr(change(&d, "two", true, 6, NULL, "six", false), ==, "");
    g_assert_cmpstr(change(&d, "two", true, 6, NULL, "x", false), ==,
                    "Refusing to overwrite active keyslot 6 - please erase it first");
    g_assert_cmpstr(change(&d, "six", false, -1, "one", NULL, false), ==, "");
    g_assert_cmpstr(try_open(&d, "one"), ==, INVALID);
    g_assert_cmpstr(try_open(&d, "two"), ==, "");
    g_assert_cmpstr(change(&d, "two", false, 0, NULL, NULL, false), ==,
                    "Given keyslot 0 is already erased (inactive) ");
    g_assert_cmpstr(change(&d, "two", false, 6, "two", NULL, false), ==,
                    "Given keyslot 6 doesn't contain the given old password for erase operation");
    g_assert_cmpstr(change(&d, "two", false, 6, NULL, NULL, false), ==, "");
    g_assert_true(g_str_has_prefix(change(&d, "two", false, 1, NULL, NULL, false),
                                   "Attempt to erase the only active keyslot 1"));
    g_assert_true(g_str_has_prefix(change(&d, "two", false, -1, "two", NULL, false),
                                   "All the active keyslots match"));
    g_assert_cmpstr(change(&d, "two", false, -1, "zzz", NULL, false), ==,
                    "No keyslots match given (old) password for erase operation");
    g_assert_cmpstr(change(&d, "two", false, -1, "two", NULL, true), ==, "");
    g_assert_cmpstr(try_open(&d, "two"), ==, INVALID);
    clear_disk(&d);
}

/* What was erased is gone from the disk, not only from the header. */
static void coroutine_fn test_erased(void)
{
    LuksParams p = params();
    uint8_t before[LUKS_HEADER_BYTES];
    Disk d;

    make_disk(&d, &p, "one");
    memcpy(before, d.now, sizeof(before));
    g_assert_cmpstr(change(&d, "one", true, -1, NULL, "two", false), ==, "");
    g_assert_cmpstr(change(&d, "two", false, 0, NULL, NULL, false), ==, "");
    memcpy(d.now, before, sizeof(before)); /* whoever kept the old header */
    g_assert_cmpstr(try_open(&d, "one"), ==, INVALID);
    clear_disk(&d);
}

/* ---- A loss of power ---- */

/* The disk as it may be when power fails at event @at: all before the last sync, and of the writes
 * since the sectors that bits of @mask (and of a hash, for long ones) choose. */
static void crash(const Disk *d, unsigned at, unsigned mask, uint8_t *disk)
{
    unsigned synced = 0;

    memcpy(disk, d->begin, DISK);
    for (unsigned i = 0; i < at; i++) {
        synced = d->events[i].len == 0 ? i : synced;
    }
    for (unsigned i = 0; i < at; i++) {
        const Event *e = &d->events[i];

        for (size_t n = 0; n < e->len;) {
            size_t s = (e->at + n) / 512, part = MIN(512 - (e->at + n) % 512, e->len - n);
            bool kept = i < synced || mask == 3 || (mask && (s * 2654435761u >> 7 & 1) == mask % 2);

            if (kept) {
                memcpy(disk + e->at + n, e->data + n, part);
            }
            n += part;
        }
    }
}

/* After each crash of what @d has seen, each of @valid opens, and the header is sound. */
static void coroutine_fn assert_crashes(Disk *d, const char *const *valid, const char *either,
                                        const char * or)
{
    Disk c = { .now = g_malloc(DISK), .fail_at = -1 };

    for (unsigned at = 0; at <= d->n; at++) {
        for (unsigned mask = 0; mask < 4; mask++) {
            crash(d, at, mask, c.now);
            for (unsigned i = 0; valid[i]; i++) {
                g_assert_cmpstr(try_open(&c, valid[i]), ==, "");
            }
            if (either && *try_open(&c, either)) {
                g_assert_cmpstr(try_open(&c, or), ==, "");
            }
            g_assert_cmpuint(strlen(try_open(&c, "nobody's")), ==, strlen(INVALID));
        }
    }
    g_free(c.now);
}

/* INV-LUKS-2, INV-LUKS-3: slot 6 lies across two sectors of the header. */
static void coroutine_fn test_power(void)
{
    static const char *const one[] = { "one", NULL }, *const two[] = { "two", NULL };
    static const char *const none[] = { NULL };
    static const int slots[] = { 1, 6, 7 };
    LuksParams p = params();

    for (unsigned i = 0; i < G_N_ELEMENTS(slots); i++) {
        Disk d;

        make_disk(&d, &p, "one");
        g_assert_cmpstr(change(&d, "one", true, slots[i], NULL, "two", false), ==, "");
        assert_crashes(&d, one, NULL, NULL);
        forget(&d);
        g_assert_cmpstr(change(&d, "two", false, 0, NULL, NULL, false), ==, "");
        assert_crashes(&d, two, NULL, NULL);
        forget(&d);
        /* INV-LUKS-4: the only active one is replaced. */
        g_assert_cmpstr(change(&d, "two", true, slots[i], NULL, "three", true), ==, "");
        assert_crashes(&d, none, "two", "three");
        g_assert_cmpstr(try_open(&d, "two"), ==, INVALID);
        g_assert_cmpstr(try_open(&d, "three"), ==, "");
        clear_disk(&d);
    }
}

/* An active slot on any state of the disk opens: never a state without its material. */
static void coroutine_fn test_active_opens(void)
{
    LuksParams p = params();
    Disk d, c = { .now = g_malloc(DISK), .fail_at = -1 };
    LuksHeader h;

    make_disk(&d, &p, "one");
    g_assert_cmpstr(change(&d, "one", true, 6, NULL, "two", false), ==, "");
    g_assert_cmpstr(change(&d, "one", false, 6, NULL, NULL, false), ==, "");
    for (unsigned at = 0; at <= d.n; at++) {
        for (unsigned mask = 0; mask < 4; mask++) {
            crash(&d, at, mask, c.now);
            g_assert_cmpint(luks_header_parse(&h, c.now, false, NULL), ==, 0);
            if (h.slots[6].active) {
                g_assert_cmpstr(try_open(&c, "two"), ==, "");
            }
        }
    }
    g_free(c.now);
    clear_disk(&d);
}

/* Each write and sync fails once: the passphrase that there was still opens, and memory says what
 * the disk says. */
static void coroutine_fn test_faults(void)
{
    LuksParams p = params();
    bool done = false;

    for (int n = 0; !done; n++) {
        Disk d;

        make_disk(&d, &p, "one");
        d.fail_at = n;
        done = !*change(&d, "one", true, 6, NULL, "two", false);
        d.fail_at = -1;
        g_assert_cmpstr(try_open(&d, "one"), ==, "");
        if (done) {
            g_assert_cmpint(n, ==, 6);
            g_assert_cmpstr(try_open(&d, "two"), ==, "");
        } else { /* again, and it is done */
            g_assert_cmpstr(change(&d, "one", true, 6, NULL, "two", true), ==, "");
            g_assert_cmpstr(try_open(&d, "two"), ==, "");
        }
        clear_disk(&d);
    }
}

/* ---- Headers ---- */

typedef struct Bad {
    size_t at;
    uint32_t value;
    unsigned bytes;
    const char *said;
} Bad;

/* INV-LUKS-1 */
static void coroutine_fn test_bad_headers(void)
{
    static const Bad bad[] = {
        { 0, 0x4c554b53, 4, "" },
        { 0, 0x4c554b54, 4, "Volume is not in LUKS format" },
        { 6, 2, 2, "LUKS version 2 is not supported" },
        { 8, 0x61657362, 4, "Algorithm 'aesb' with key size 16 bytes not supported" },
        { 40, 0x63626320, 4, "Unexpected cipher mode string format 'cbc plain64'" },
        { 72, 0x78686132, 4, "Hash algorithm 'xha256' is not supported" },
        { 104, 1, 4, "LUKS payload is overlapping with the header" },
        { 104, 9, 4, "Keyslot 0 is overlapping with the encrypted payload" },
        { 108, 17, 4, "No AES cipher with key size 17 available" },
        { 108, UINT32_MAX, 4, "No AES cipher with key size 4294967295 available" },
        { 164, 0, 4, "LUKS key iteration count is zero" },
        { 164, UINT32_MAX, 4,
          "LUKS key slots ask for 4294968295 rounds of key derivation, more "
          "than the supported maximum of 1073741824" },
        { 208, 7, 4, "Keyslot 0 state (active/disable) is corrupted" },
        { 208 + 4, 0, 4, "Keyslot 0 iteration count is zero" },
        { 208 + 4, UINT32_MAX, 4,
          "LUKS key slots ask for 4294968295 rounds of key derivation, "
          "more than the supported maximum of 1073741824" },
        { 208 + 40, 1, 4, "Keyslot 0 is overlapping with the LUKS header" },
        { 208 + 44, UINT32_MAX, 4, "Keyslot 0 is corrupted (stripes 4294967295 != 4000)" },
        { 208 + 48 + 40, 8, 4, "Keyslots 0 and 1 are overlapping in the header" },
    };
    LuksParams p = params();
    Disk d;

    make_disk(&d, &p, "one");
    stbe32(d.now + 164, 1000);
    stbe32(d.now + 208 + 4, 1000);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint8_t buf[LUKS_HEADER_BYTES];
        g_autoptr(GError) err = NULL;
        LuksHeader h;

        memcpy(buf, d.now, sizeof(buf));
        if (bad[i].bytes == 2) {
            stbe16(buf + bad[i].at, (uint16_t)bad[i].value);
        } else {
            stbe32(buf + bad[i].at, bad[i].value);
        }
        (void)luks_header_parse(&h, buf, false, &err);
        g_assert_cmpstr(err ? err->message : "", ==, bad[i].said);
    }
    memset(d.now + 8, 'a', 32);
    g_assert_cmpstr(try_open(&d, "one"), ==, "LUKS header cipher name is not NUL terminated");
    clear_disk(&d);
}

/* Parsed and written again it is the same. */
static void coroutine_fn test_round(void)
{
    LuksParams p = params();
    uint8_t buf[LUKS_HEADER_BYTES];
    LuksHeader h;
    Disk d;

    p.spec = (CryptSpec){ crypt_alg_find("twofish-256"), CRYPT_CBC, CRYPT_IV_ESSIV,
                          crypt_hash_find("sha256") };
    make_disk(&d, &p, "one");
    g_assert_cmpint(luks_header_parse(&h, d.now, false, NULL), ==, 0);
    g_assert_true(luks_header_serialise(&h, buf, NULL));
    g_assert_cmpmem(buf, sizeof(buf), d.now, sizeof(buf));
    g_assert_cmpstr((char *)d.now + 40, ==, "cbc-essiv:sha256");
    g_assert_cmpstr(try_open(&d, "one"), ==, "");
    clear_disk(&d);
}

/* ---- */

typedef void coroutine_fn TestFunc(void);

static int coroutine_fn run_test(void *opaque)
{
    ((TestFunc *)opaque)();
    return 0;
}

static void as_coroutine(gconstpointer fn)
{
    co_run_sync(run_test, (void *)(uintptr_t)fn);
}

#define ADD(name, fn)                                                                              \
    g_test_add_data_func("/luks/" name, (gconstpointer)(uintptr_t)fn, as_coroutine)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("slots", test_slots);
    ADD("erased", test_erased);
    ADD("power", test_power);
    ADD("active-opens", test_active_opens);
    ADD("faults", test_faults);
    ADD("bad-headers", test_bad_headers);
    ADD("round", test_round);
    return g_test_run();
}
