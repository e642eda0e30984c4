/* SPDX-License-Identifier: MIT */
/*
 * Reading compressed clusters.  The last few are kept unpacked, so that a sequential reader unpacks
 * each once.  What is kept is valid as long as no place of a compressed cluster was freed for other
 * use (compressed_gen): a request that still reads an entry that was let go of keeps its pin until
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

#define KEPT 4
/* From this cluster size on a thread of the pool unpacks. */
#define THREAD_MIN (64 * KiB)

struct DecompressCache {
    SpinLock lock; /* guards all */
    struct {
        uint64_t desc, gen;
        uint8_t *data; /* NULL: none */
    } kept[KEPT];
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
    return 0;
}

void qcow2_decompress_fini(Qcow2 *q)
{
    for (unsigned i = 0; q->decompressed && i < KEPT; i++) {
        g_free(q->decompressed->kept[i].data);
    }
    g_clear_pointer(&q->decompressed, g_free);
}

/* Copy from a kept cluster; false: not there. */
static bool copy_kept(Qcow2 *q, L2Entry e, uint64_t at, IOVector *v, size_t v_offset, size_t len)
{
    struct DecompressCache *c = q->decompressed;
    uint64_t gen = atomic_load(&q->compressed_gen);
    bool found = false;

    spin_lock(&c->lock);
    for (unsigned i = 0; i < KEPT && !found; i++) {
        if (c->kept[i].data && c->kept[i].desc == e.desc && c->kept[i].gen == gen) {
            iov_from_buf(v, v_offset, c->kept[i].data + at, len);
            found = true;
        }
    }
    spin_unlock(&c->lock);
    return found;
}

static void keep(Qcow2 *q, L2Entry e, uint64_t gen, uint8_t *data)
{
    struct DecompressCache *c = q->decompressed;
    uint8_t *old;

    spin_lock(&c->lock);
    old = c->kept[c->next].data;
    c->kept[c->next].desc = e.desc;
    c->kept[c->next].gen = gen;
    c->kept[c->next].data = data;
    c->next = (c->next + 1) % KEPT;
    spin_unlock(&c->lock);
    g_free(old);
}

int coroutine_fn qcow2_decompress_co_read(Qcow2 *q, L2Entry e, uint64_t at, IOVector *v,
                                          size_t v_offset, size_t len)
{
    uint64_t gen = atomic_load(&q->compressed_gen);
    g_autofree uint8_t *buf = NULL;
    int ret;

    g_assert(at + len <= q->geo.cluster_size && v_offset + len <= v->size);
    if (copy_kept(q, e, at, v, v_offset, len)) {
        return 0;
    }
    buf = g_try_malloc(q->geo.cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    ret = qcow2_decompress_co_cluster(q, e, buf);
    if (ret < 0) {
        return ret;
    }
    iov_from_buf(v, v_offset, buf + at, len);
    if (len < q->geo.cluster_size) { /* a whole cluster at once is not asked for again soon */
        keep(q, e, gen, g_steal_pointer(&buf));
    }
    return 0;
}
