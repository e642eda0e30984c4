/* SPDX-License-Identifier: MIT */
/*
 * What an encrypted image costs beside its cipher: the cipher alone on all cores, then requests on
 * a LUKS volume whose payload is null-co (no copy, no device), 64 in flight, in turn.
 *
 * Usage: bench-crypt [SECONDS [FOLDER]]   (1, /dev/shm: the header goes there for the time being)
 * Prints a line for each size: size=… op=… cipher_mib=… image_mib=… of_cipher=… and
 * of_cipher_cpu=…, the same for each second of processor time, which other load on the machine
 * disturbs least.
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

/* Over as much memory as the requests in flight have, all threads together. */
static void *bare_thread(void *opaque)
{
    const Bare *b = opaque;
    size_t n = DEPTH / MIN(g_get_num_processors(), DEPTH), all = n * b->size;
    uint8_t *buf = mem_align_try(4096, all), *out = mem_align_try(4096, all);

    memset(buf, 0x5a, all);
    memset(out, 0, all);
    for (size_t i = 0; !atomic_load(&stop); i = (i + 1) % n) {
        uint8_t *src = buf + i * b->size;

        crypt_sectors_run(b->sectors, b->encrypt, 0, b->encrypt ? out + i * b->size : src, src,
                          b->size);
        atomic_fetch_add(&done, b->size);
    }
    mem_align_free(buf);
    mem_align_free(out);
    return NULL;
}

static Speed bare(size_t size, bool encrypt, double seconds)
{
    CryptSpec spec = { crypt_alg_find("aes-256"), CRYPT_XTS, CRYPT_IV_PLAIN64, NULL };
    uint8_t key[64] = { 1, 2, 3 };
    g_autoptr(CryptSectors) s = crypt_sectors_new(&spec, key, NULL);
    Bare b = { s, size, encrypt };
    pthread_t t[64];
    unsigned n = MIN(g_get_num_processors(), 64);
    Speed speed = begin();

    atomic_store(&stop, false);
    for (unsigned i = 0; i < n; i++) {
        pthread_create(&t[i], NULL, bare_thread, &b);
    }
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&stop, true);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(t[i], NULL);
    }
    return end(speed);
}

/* ---- The image ---- */

typedef struct Work {
    BlockBackend *blk;
    size_t size;
    bool write;
    int64_t end_ns;
    int in_flight;
} Work;

static void coroutine_fn worker(void *opaque)
{
    Work *w = opaque;
    void *buf = mem_align_try(4096, w->size);
    IOVector v;

    memset(buf, 0x5a, w->size);
    for (int64_t at = 0; aio_clock_ns() < w->end_ns; at = (at + (int64_t)w->size) % (1 << 30)) {
        int ret;

        iov_init_buf(&v, buf, w->size);
        ret = w->write ? blk_co_pwritev(w->blk, at, &v, 0) : blk_co_preadv(w->blk, at, &v, 0);
        g_assert(ret == 0);
        atomic_fetch_add(&done, w->size);
    }
    mem_align_free(buf);
    w->in_flight--;
}

static Speed image(BlockBackend *blk, size_t size, bool write, double seconds)
{
    Speed speed = begin();
    Work w = { blk, size, write, speed.start_ns + (int64_t)(seconds * 1e9), DEPTH };

    for (int i = 0; i < DEPTH; i++) {
        coroutine_enter(coroutine_create(worker, &w));
    }
    AIO_WAIT_WHILE(aio_current(), w.in_flight > 0);
    return end(speed);
}

static BlockBackend *make(const char *header)
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

int main(int argc, char **argv)
{
    static const size_t sizes[] = { 4096, 65536, 262144, 1048576 };
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    g_autofree char *header =
        g_strdup_printf("%s/bench-crypt.%d", argc > 2 ? argv[2] : "/dev/shm", (int)getpid());
    BlockBackend *blk = make(header);

    unlink(header);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (int write = 0; write < 2; write++) {
            Speed b = { 0 }, m = { 0 };

            for (int rep = 0; rep < 3; rep++) { /* in turn: other load disturbs both */
                Speed x = bare(sizes[i], write, seconds / 3);
                Speed y = image(blk, sizes[i], write, seconds / 3);

                b.mib = MAX(b.mib, x.mib);
                b.cpu_mib = MAX(b.cpu_mib, x.cpu_mib);
                m.mib = MAX(m.mib, y.mib);
                m.cpu_mib = MAX(m.cpu_mib, y.cpu_mib);
            }
            printf("size=%zu op=%s cipher_mib=%.0f image_mib=%.0f of_cipher=%.2f "
                   "of_cipher_cpu=%.2f\n",
                   sizes[i], write ? "write" : "read", b.mib, m.mib, m.mib / b.mib,
                   m.cpu_mib / b.cpu_mib);
            fflush(stdout);
        }
    }
    return blk_close(blk) < 0;
}
