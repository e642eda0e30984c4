/* SPDX-License-Identifier: MIT */
/*
 * Keys are wiped: once a volume is closed, its key is nowhere in the memory of the process, the
 * stacks of threads and coroutines included.
 */
#include "block/crypto/luks.h"
#include "block/secret.h"
#include "util/aio.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MASK 0x5a /* the copy that is looked for must not be found */
#define KEY_MAX 64
#define CHUNK (1024 * 1024)
#define MAPPING_MAX (UINT64_C(1) << 30) /* a sanitizer's shadow is longer */

typedef struct Masked {
    uint8_t bytes[KEY_MAX];
    size_t len;
} Masked;

static uint8_t chunk[CHUNK];

/* How often the first half of @m is in @buf: a key's context begins with the key. */
static unsigned count_in(const Masked *m, const uint8_t *buf, size_t len)
{
    unsigned n = 0;
    size_t want = m->len / 2;

    for (size_t i = 0; i + want <= len; i++) {
        size_t k = 0;

        while (k < want && (buf[i + k] ^ MASK) == m->bytes[k]) {
            k++;
        }
        n += k == want;
    }
    return n;
}

static unsigned count_in_mapping(const Masked *m, int mem, uint64_t from, uint64_t to)
{
    unsigned n = 0;

    for (uint64_t at = from; at < to; at += CHUNK - KEY_MAX) {
        ssize_t got;

        if (at < (uintptr_t)chunk + sizeof(chunk) && at + CHUNK > (uintptr_t)chunk) {
            continue; /* it is what is read into */
        }
        got = pread(mem, chunk, MIN(to - at, (uint64_t)CHUNK), (off_t)at);
        n += got > 0 ? count_in(m, chunk, (size_t)got) : 0;
    }
    memset(chunk, 0, sizeof(chunk));
    return n;
}

/* In all memory that the process can write. */
static unsigned count_key(const Masked *m)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    unsigned long from, to;
    char line[512], perms[8];
    unsigned n = 0;

    g_assert_nonnull(maps);
    g_assert_cmpint(mem, >=, 0);
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) == 3 && g_str_has_prefix(perms, "rw") &&
            to - from < MAPPING_MAX) {
            n += count_in_mapping(m, mem, from, to);
        }
    }
    close(mem);
    fclose(maps);
    return n;
}

/* ---- A volume ---- */

typedef struct Head {
    uint8_t *bytes;
    size_t len;
} Head;

static int coroutine_fn co_read(void *opaque, uint64_t offset, void *buf, size_t len)
{
    Head *h = opaque;

    g_assert_cmpuint(offset + len, <=, h->len);
    memcpy(buf, h->bytes + offset, len);
    return 0;
}

static int coroutine_fn co_write(void *opaque, uint64_t offset, const void *buf, size_t len)
{
    Head *h = opaque;

    memcpy(h->bytes + offset, buf, len);
    return 0;
}

static int coroutine_fn co_flush(void *opaque)
{
    return 0;
}

static void coroutine_fn learn(const LuksIo *io, const SecureBuf *pass, Masked *m)
{
    Luks l;

    g_assert_cmpint(luks_co_open(&l, io, false, pass, NULL), ==, 0);
    m->len = l.key.len;
    for (size_t i = 0; i < m->len; i++) {
        m->bytes[i] = l.key.data[i] ^ MASK;
    }
    luks_clear(&l);
}

static int coroutine_fn co_main(void *opaque)
{
    const LuksParams *p = opaque;
    char text[] = "moss", other[] = "fern";
    SecureBuf pass = { (uint8_t *)text, 4 }, next = { (uint8_t *)other, 4 };
    LuksChange change = { true, -1, NULL, &next, 1, true, false };
    g_autofree uint8_t *data = g_malloc0(CHUNK), *bytes = NULL;
    g_autoptr(CryptVolume) v = NULL;
    Head head = { NULL, 0 };
    LuksIo io = { co_read, co_write, co_flush, &head, 0 };
    Masked m;
    Luks l;

    g_assert_cmpint(luks_co_format(p, &pass, &bytes, &head.len, NULL), ==, 0);
    head.bytes = bytes;
    io.bytes = head.len;
    learn(&io, &pass, &m);
    g_assert_cmpuint(count_key(&m), ==, 0);

    g_assert_cmpint(luks_co_open(&l, &io, false, &pass, NULL), ==, 0);
    g_assert_cmpint(luks_co_change(&l, &io, &change, NULL), ==, 0);
    luks_clear(&l);
    g_assert_cmpint(crypt_volume_co_open_luks(&v, &io, false, &next, NULL), ==, 0);
    g_assert_cmpuint(count_key(&m), >, 0); /* the search finds what is there */
    for (int i = 0; i < 4; i++) {
        crypt_volume_co_run(v, i % 2 == 0, 0, data, data, i < 2 ? CHUNK : 4096);
    }
    g_clear_pointer(&v, crypt_volume_free);
    g_assert_cmpuint(count_key(&m), ==, 0);
    return 0;
}

static void test_kind(gconstpointer opaque)
{
    co_run_sync(co_main, (void *)(uintptr_t)opaque);
}

int main(int argc, char **argv)
{
    LuksParams xts = { .spec = { crypt_alg_find("aes-256"), CRYPT_XTS, CRYPT_IV_PLAIN64, NULL },
                       .hash = crypt_hash_find("sha256"),
                       .iter_ms = 1 };
    LuksParams essiv = { .spec = { crypt_alg_find("aes-256"), CRYPT_CBC, CRYPT_IV_ESSIV,
                                   crypt_hash_find("sha256") },
                         .hash = crypt_hash_find("sha1"),
                         .iter_ms = 1 };
    LuksParams serpent = xts;

    serpent.spec.alg = crypt_alg_find("serpent-256");
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/luks-wipe/xts", &xts, test_kind);
    g_test_add_data_func("/luks-wipe/essiv", &essiv, test_kind);
    g_test_add_data_func("/luks-wipe/serpent", &serpent, test_kind);
    return g_test_run();
}
