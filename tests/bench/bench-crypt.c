/* SPDX-License-Identifier: MIT */
/*
 * What an encrypted image costs beside its cipher: the cipher alone on all cores, then requests on
 * a LUKS volume whose payload is null-co (no copy, no device), 64 in flight, in turn.
 *
 * Usage: bench-crypt [SECONDS [FOLDER]]   (1, /dev/shm: the header goes there for the time being)
 * Prints a line for each cipher and size: cipher=… size=… op=… cipher_mib=… image_mib=…
 * of_cipher=… and of_cipher_cpu=…, the same for each second of processor time, which other load on
 * the machine disturbs least.  The memory of both is there before the clock starts, and the cipher
 * alone has what it writes to in the processor's cache, as good as it can be.
 */
#include "block/backend.h"
#include "block/crypto/sectors.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEPTH 64

static atomic_bool stop;
static atomic_uint_fast64_t done;
static pthread_barrier_t ready;

static const struct Kind {
    const char *name;
    CryptMode mode;
    CryptIvgen ivgen;
    const char *ivgen_hash;
} kinds[] = {
    { "aes-256-xts-plain64", CRYPT_XTS, CRYPT_IV_PLAIN64, NULL },
    { "aes-256-cbc-essiv:sha256", CRYPT_CBC, CRYPT_IV_ESSIV, "sha256" },
};

typedef struct Speed {
    double mib, cpu_mib; /* a second, a second of processor time */
    int64_t start_ns;
    double start_cpu;
} Speed;

static double cpu_seconds(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static Speed begin(void)
{
    atomic_store(&done, 0);
    return (Speed){ .start_ns = aio_clock_ns(), .start_cpu = cpu_seconds() };
}

static Speed end(Speed s)
{
    double mib = (double)atomic_load(&done) / 1048576;

    s.mib = mib / ((double)(aio_clock_ns() - s.start_ns) / 1e9);
    s.cpu_mib = mib / (cpu_seconds() - s.start_cpu);
    return s;
}

/* ---- The cipher alone ---- */

typedef struct Bare {
    const CryptSectors *sectors;
    size_t size;
    bool encrypt;
} Bare;

/* Over as much memory as the requests in flight have, all threads together; into one piece that
 * stays in the cache, or where it is. */
static void *bare_thread(void *opaque)
{
    const Bare *b = opaque;
    size_t n = DEPTH / MIN(g_get_num_processors(), DEPTH), all = n * b->size;
    uint8_t *buf = mem_align_try(4096, all), *out = mem_align_try(4096, b->size);

    memset(buf, 0x5a, all);
    memset(out, 0, b->size);
    pthread_barrier_wait(&ready);
    for (size_t i = 0; !atomic_load(&stop); i = (i + 1) % n) {
        uint8_t *src = buf + i * b->size;

        crypt_sectors_run(b->sectors, b->encrypt, 0, b->encrypt ? out : src, src, b->size);
        atomic_fetch_add(&done, b->size);
    }
    mem_align_free(buf);
    mem_align_free(out);
    return NULL;
}

static Speed bare(const struct Kind *kind, size_t size, bool encrypt, double seconds)
{
    CryptSpec spec = { crypt_alg_find("aes-256"), kind->mode, kind->ivgen,
                       kind->ivgen_hash ? crypt_hash_find(kind->ivgen_hash) : NULL };
    uint8_t key[64] = { 1, 2, 3 };
    g_autoptr(CryptSectors) s = crypt_sectors_new(&spec, key, NULL);
    Bare b = { s, size, encrypt };
    pthread_t t[64];
    unsigned n = MIN(g_get_num_processors(), 64);
    Speed speed;

    atomic_store(&stop, false);
    pthread_barrier_init(&ready, NULL, n + 1);
    for (unsigned i = 0; i < n; i++) {
        pthread_create(&t[i], NULL, bare_thread, &b);
    }
    pthread_barrier_wait(&ready);
    speed = begin();
    usleep((useconds_t)(seconds * 1e6));
    speed = end(speed);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(t[i], NULL);
    }
    pthread_barrier_destroy(&ready);
    return speed;
}

/* ---- The image ---- */

typedef struct Work {
    BlockBackend *blk;
    size_t size;
    bool write;
    int64_t end_ns;
    int in_flight, begun;
    uint8_t *memory; /* of all */
} Work;

static void coroutine_fn worker(void *opaque)
{
    Work *w = opaque;
    void *buf = w->memory + (size_t)w->begun++ * w->size;
    IOVector v;

    for (int64_t at = 0; aio_clock_ns() < w->end_ns; at = (at + (int64_t)w->size) % (1 << 30)) {
        int ret;

        iov_init_buf(&v, buf, w->size);
        ret = w->write ? blk_co_pwritev(w->blk, at, &v, 0) : blk_co_preadv(w->blk, at, &v, 0);
        g_assert(ret == 0);
        atomic_fetch_add(&done, w->size);
    }
    w->in_flight--;
}

static Speed image(BlockBackend *blk, size_t size, bool write, double seconds)
{
    Work w = { .blk = blk, .size = size, .write = write, .in_flight = DEPTH };
    Speed speed;

    w.memory = mem_align_try(4096, DEPTH * size);
    memset(w.memory, 0x5a, DEPTH * size);
    speed = begin();
    w.end_ns = speed.start_ns + (int64_t)(seconds * 1e9);
    for (int i = 0; i < DEPTH; i++) {
        coroutine_enter(coroutine_create(worker, &w));
    }
    AIO_WAIT_WHILE(aio_current(), w.in_flight > 0);
    speed = end(speed);
    mem_align_free(w.memory);
    return speed;
}

static BlockBackend *make(const struct Kind *kind, const char *header)
{
    g_autoptr(Secrets) secrets = secrets_new();
    Options *o = opts_new();
    GError *err = NULL;
    BlockBackend *blk;

    secrets_add(secrets, "s", "moss", 4, NULL);
    opts_set_secrets(o, secrets);
    opts_set(o, "key-secret", "s");
    opts_set(o, "iter-time", "1");
    opts_set(o, "detached-header", "on");
    opts_set(o, "size", "0");
    opts_set(o, "cipher-mode", crypt_mode_names[kind->mode]);
    opts_set(o, "ivgen-alg", crypt_ivgen_names[kind->ivgen]);
    if (kind->ivgen_hash) {
        opts_set(o, "ivgen-hash-alg", kind->ivgen_hash);
    }
    if (blk_create(header, "luks", o, &err) < 0) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    o = opts_new();
    opts_set_secrets(o, secrets);
    opts_set(o, "driver", "luks");
    opts_set(o, "key-secret", "s");
    opts_set(o, "header.driver", "file");
    opts_set(o, "header.filename", header);
    opts_set(o, "file.driver", "null-co");
    opts_set(o, "file.size", "2G");
    opts_set(o, "file.read-zeroes", "off");
    blk = blk_open(NULL, o, BLK_O_RDWR, &err);
    if (!blk) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    return blk;
}

/* In turn, and the best of both: other load disturbs both. */
static void compare(BlockBackend *blk, const struct Kind *kind, size_t size, bool write,
                    double seconds)
{
    Speed b = { 0 }, m = { 0 };

    for (int rep = 0; rep < 4; rep++) {
        Speed x = bare(kind, size, write, seconds / 4);
        Speed y = image(blk, size, write, seconds / 4);

        b.mib = MAX(b.mib, x.mib);
        b.cpu_mib = MAX(b.cpu_mib, x.cpu_mib);
        m.mib = MAX(m.mib, y.mib);
        m.cpu_mib = MAX(m.cpu_mib, y.cpu_mib);
    }
    printf("cipher=%s size=%zu op=%s cipher_mib=%.0f image_mib=%.0f of_cipher=%.2f "
           "of_cipher_cpu=%.2f\n",
           kind->name, size, write ? "write" : "read", b.mib, m.mib, m.mib / b.mib,
           m.cpu_mib / b.cpu_mib);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = { 4096, 16384, 65536, 1048576 };
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    g_autofree char *header =
        g_strdup_printf("%s/bench-crypt.%d", argc > 2 ? argv[2] : "/dev/shm", (int)getpid());
    int ret = 0;

    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
        BlockBackend *blk = make(&kinds[k], header);

        unlink(header);
        for (size_t i = 0; i < 2 * G_N_ELEMENTS(sizes); i++) {
            compare(blk, &kinds[k], sizes[i / 2], i % 2, seconds);
        }
        ret |= blk_close(blk) < 0;
    }
    return ret;
}
