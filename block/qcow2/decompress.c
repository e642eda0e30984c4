/* SPDX-License-Identifier: MIT */
/*
 * Reading compressed clusters.  The last few are kept unpacked, so that a sequential reader unpacks
 * each once, and so do readers of parts at a time: the others wait for the one that does.  What is
 * kept is valid as long as no place of a compressed cluster was freed for other use
 * (compressed_gen): a request that still reads an entry that was let go of keeps its pin until
 * after keep().
 */
#include "compress.h"
#include "config-host.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>
#ifdef CONFIG_LIBDEFLATE
#include <libdeflate.h>
#endif
#ifdef CONFIG_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

/* So many of them are kept as fit into KEPT_BYTES, within these. */
#define KEPT_MIN 4
#define KEPT_MAX 32
#define KEPT_BYTES (2 * MiB)
/* From this cluster size on a thread of the pool unpacks. */
#define THREAD_MIN (64 * KiB)

/* A cluster that a request unpacks, to be kept; on its stack. */
typedef struct Unpacking {
    struct Unpacking *next;
    uint64_t desc, gen;
} Unpacking;

struct DecompressCache {
    SpinLock lock; /* guards all */
    Unpacking *unpacking;
    CoQueue queue; /* who wants what is being unpacked */
    unsigned n;    /* of kept, that are used */
    struct {
        uint64_t desc, gen;
        uint8_t *data; /* NULL: none */
    } kept[KEPT_MAX];
    unsigned next;
};

/* ---- The codecs; exactly @out_len bytes must come out ---- */

/* The reference for what is valid: a stream may be longer than its cluster, or end in rubbish that
 * nobody gets to. */
static int unpack_zlib(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    z_stream z = { .next_in = (uint8_t *)(uintptr_t)in,
                   .avail_in = (unsigned)in_len,
                   .next_out = out,
                   .avail_out = (unsigned)out_len };
    int r;

    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return -ENOMEM;
    }
    r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

#ifdef CONFIG_LIBDEFLATE
/* Faster, and takes whole streams of the right length only: the few others are zlib's. */
static int unpack_deflate(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    size_t used, got;
    enum libdeflate_result r;

    if (!d) {
        return -ENOMEM;
    }
    r = libdeflate_deflate_decompress_ex(d, in, in_len, out, out_len, &used, &got);
    libdeflate_free_decompressor(d);
    return r == LIBDEFLATE_SUCCESS && got == out_len ? 0 : unpack_zlib(in, in_len, out, out_len);
}
#else
static int unpack_deflate(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    return unpack_zlib(in, in_len, out, out_len);
}
#endif

#ifdef CONFIG_ZSTD
static int unpack_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    /* In one go, straight into @out: the streaming form takes a window of the size that the frame
     * asks for. What follows the frame is the rest of its last sector. */
    size_t frame = ZSTD_findFrameCompressedSize(in, in_len), got;

    if (ZSTD_isError(frame)) {
        return -EIO; /* bad, or cut off */
    }
    got = ZSTD_decompress(out, out_len, in, frame);
    if (ZSTD_isError(got) && ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation) {
        return -ENOMEM;
    }
    return got == out_len ? 0 : -EIO;
}
#else
static int unpack_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    return -ENOTSUP;
}
#endif

typedef struct UnpackJob {
    bool zstd;
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
} UnpackJob;

static int unpack_job(void *opaque)
{
    UnpackJob *j = opaque;

    return j->zstd ? unpack_zstd(j->in, j->in_len, j->out, j->out_len)
                   : unpack_deflate(j->in, j->in_len, j->out, j->out_len);
}

/* ---- Reading ---- */

int coroutine_fn qcow2_decompress_co_cluster(Qcow2 *q, L2Entry e, void *buf)
{
    UnpackJob j = { .zstd = q->hdr.compression_type == QCOW2_COMPRESSION_ZSTD,
                    .out = buf,
                    .out_len = q->geo.cluster_size };
    uint64_t host, bytes;
    g_autofree uint8_t *in = NULL;
    int64_t length = bdrv_co_getlength(q->file->bs);
    int ret;

    g_assert(e.desc & L2E_COMPRESSED);
    qcow2_l2_compressed_range(&q->geo, e, &host, &bytes);
    if (length < 0 || host >= (uint64_t)length) {
        return -EIO;
    }
    bytes = MIN(bytes, (uint64_t)length - host); /* the last sector may be cut short */
    in = g_try_malloc(bytes);
    if (!in) {
        return -ENOMEM;
    }
    bdrv_co_debug_event(q->file, BLKDBG_READ_COMPRESSED);
    ret = bdrv_co_pread(q->file, (int64_t)host, (int64_t)bytes, in, 0);
    if (ret < 0) {
        return ret;
    }
    j.in = in;
    j.in_len = bytes;
    return (int64_t)q->geo.cluster_size >= THREAD_MIN ? co_thread_pool_run(unpack_job, &j)
                                                      : unpack_job(&j);
}

int qcow2_decompress_init(Qcow2 *q)
{
    q->decompressed = g_new0(struct DecompressCache, 1);
    spin_init(&q->decompressed->lock);
    co_queue_init(&q->decompressed->queue);
    q->decompressed->n =
        (unsigned)CLAMP(KEPT_BYTES / q->geo.cluster_size, (uint64_t)KEPT_MIN, (uint64_t)KEPT_MAX);
    return 0;
}

void qcow2_decompress_fini(Qcow2 *q)
{
    for (unsigned i = 0; q->decompressed && i < KEPT_MAX; i++) {
        g_free(q->decompressed->kept[i].data);
    }
    g_clear_pointer(&q->decompressed, g_free);
}

static bool copy_kept(struct DecompressCache *c, uint64_t desc, uint64_t gen, uint64_t at,
                      IOVector *v, size_t v_offset, size_t len)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->kept[i].data && c->kept[i].desc == desc && c->kept[i].gen == gen) {
            iov_from_buf(v, v_offset, c->kept[i].data + at, len);
            return true;
        }
    }
    return false;
}

static bool is_unpacking(const struct DecompressCache *c, uint64_t desc, uint64_t gen)
{
    const Unpacking *u = c->unpacking;

    while (u && (u->desc != desc || u->gen != gen)) {
        u = u->next;
    }
    return u != NULL;
}

/* Copy from a kept cluster, also one that somebody is about to keep. False: this request unpacks
 * it, and @u says so to others (if it @keeps it; else nobody waits). */
static bool coroutine_fn co_copy_or_begin(Qcow2 *q, Unpacking *u, bool keeps, uint64_t at,
                                          IOVector *v, size_t v_offset, size_t len)
{
    struct DecompressCache *c = q->decompressed;
    bool found;

    spin_lock(&c->lock);
    for (;;) {
        u->gen = atomic_load(&q->compressed_gen);
        found = copy_kept(c, u->desc, u->gen, at, v, v_offset, len);
        if (found || !is_unpacking(c, u->desc, u->gen)) {
            break;
        }
        co_queue_wait_spin(&c->queue, &c->lock);
    }
    if (!found && keeps) {
        u->next = c->unpacking;
        c->unpacking = u;
    }
    spin_unlock(&c->lock);
    return found;
}

/* @data (NULL: it could not be unpacked) is kept, and who waits looks again. */
static void end_unpacking(Qcow2 *q, const Unpacking *u, uint8_t *data)
{
    struct DecompressCache *c = q->decompressed;
    Unpacking **at = &c->unpacking;
    uint8_t *old = NULL;

    spin_lock(&c->lock);
    while (*at != u) {
        at = &(*at)->next;
    }
    *at = u->next;
    if (data) {
        old = c->kept[c->next].data;
        c->kept[c->next].desc = u->desc;
        c->kept[c->next].gen = u->gen;
        c->kept[c->next].data = data;
        c->next = (c->next + 1) % c->n;
    }
    spin_unlock(&c->lock);
    co_queue_all(&c->queue);
    g_free(old);
}

int coroutine_fn qcow2_decompress_co_read(Qcow2 *q, L2Entry e, uint64_t at, IOVector *v,
                                          size_t v_offset, size_t len)
{
    bool keeps = len < q->geo.cluster_size; /* a whole one at once is not asked for again soon */
    Unpacking u = { .desc = e.desc };
    g_autofree uint8_t *buf = NULL;
    int ret;

    g_assert(at + len <= q->geo.cluster_size && v_offset + len <= v->size);
    if (co_copy_or_begin(q, &u, keeps, at, v, v_offset, len)) {
        return 0;
    }
    buf = g_try_malloc(q->geo.cluster_size);
    ret = buf ? qcow2_decompress_co_cluster(q, e, buf) : -ENOMEM;
    if (ret == 0) {
        iov_from_buf(v, v_offset, buf + at, len);
    }
    if (keeps) {
        end_unpacking(q, &u, ret == 0 ? g_steal_pointer(&buf) : NULL);
    }
    return ret;
}
