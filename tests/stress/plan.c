/* SPDX-License-Identifier: MIT */
/* What a seed decides. */
#include "stress.h"

#include "tests/lib/rand.h"

static bool chance(Round *r, unsigned percent)
{
    return rand_below(&r->rand, 100) < percent;
}

static void plan_options(Round *r)
{
    ImageSpec *s = &r->spec;
    GString *o = g_string_new("discard=unmap");

    if (chance(r, 50)) { /* small caches: slices come and go */
        unsigned l2 = 512u << rand_below(&r->rand, 4), ref = 512u << rand_below(&r->rand, 4);

        g_string_append_printf(
            o, ",l2-cache-size=%u,refcount-cache-size=%u,l2-cache-entry-size=512", l2, ref);
    }
    if (!s->v2 && chance(r, 15)) {
        g_string_append(o, ",discard-no-unref=on");
    }
    if (chance(r, 20)) {
        g_string_append(o, ",pass-discard-other=on");
    }
    g_strlcpy(s->options, o->str, sizeof(s->options));
    g_string_free(o, TRUE);
}

static void plan_image(Round *r)
{
    static const unsigned cluster_sizes[] = { 512,      512,      1024,      2048,      4096,
                                              4096,     8192,     16384,     16384,     32 * KiB,
                                              64 * KiB, 64 * KiB, 128 * KiB, 256 * KiB, 512 * KiB,
                                              1 * MiB,  2 * MiB };
    ImageSpec *s = &r->spec;
    unsigned clusters;

    s->cluster_size = cluster_sizes[rand_below(&r->rand, G_N_ELEMENTS(cluster_sizes))];
    clusters = s->cluster_size > 65536    ? (unsigned)(4 * MiB / s->cluster_size)
               : s->cluster_size == 65536 ? 12
                                          : rand_range(&r->rand, 20, 200);
    s->size = (uint64_t)clusters * s->cluster_size +
              (chance(r, 50) ? 512 * rand_below(&r->rand, s->cluster_size / 512) : 0);
    s->refcount_bits = 16;
    s->v2 = chance(r, 8);
    s->backing =
        chance(r, 40) ? (int64_t)(512 * rand_range(&r->rand, 1, (unsigned)(s->size / 256))) : 0;
    if (!s->v2) {
        s->refcount_bits = 1u << rand_below(&r->rand, 7);
        s->extended_l2 = s->cluster_size >= 16384 && chance(r, 60);
        s->lazy_refcounts = chance(r, 30);
        s->zstd = chance(r, 40);
        s->data_file = chance(r, 15);
        s->data_raw = s->data_file && !s->backing && chance(r, 50);
        if (chance(r, 20) && (s->extended_l2 || !s->backing)) {
            s->prealloc = BLK_PREALLOC_METADATA;
        }
        s->raw_by_others = s->data_raw && s->prealloc == BLK_PREALLOC_OFF && chance(r, 30);
    }
    plan_options(r);
}

void round_plan(Round *r, uint64_t seed)
{
    static const unsigned aligns[] = { 1, 1, 1, 512, 4096 };

    memset(r, 0, sizeof(*r));
    r->seed = r->rand = r->snapshot_rand = seed;
    plan_image(r);
    r->threads = rand_range(&r->rand, 1, MAX_THREADS);
    r->depth = rand_range(&r->rand, 1, 12);
    /* (Version 2 has no zero flag: a shrink that fails in the middle shows the backing file.) */
    r->resizes = chance(r, 40) && !(r->spec.v2 && r->spec.backing);
    r->faulty = chance(r, 40);
    r->smallest = (int64_t)(r->spec.size / 2);
    r->setup = (FakeSetup){ .yields = rand_below(&r->rand, 5),
                            .align = aligns[rand_below(&r->rand, G_N_ELEMENTS(aligns))],
                            .max_transfer = chance(r, 20) ? 4096 * rand_range(&r->rand, 1, 4) : 0,
                            .no_zero = chance(r, 20) };
    atomic_init(&r->next_op, 1);
}

static void add_cut(GArray *cuts, int64_t max, int64_t at)
{
    if (at > 0 && at < max) {
        g_array_append_val(cuts, at);
    }
}

static int compare(gconstpointer a, gconstpointer b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* A size that the disk may get. */
static void add_size(Round *r, GArray *cuts, int64_t max, int64_t at)
{
    if (at >= r->smallest && at <= max) {
        add_cut(cuts, max, at);
        g_array_append_val(r->sizes, at);
    }
}

/* Edges of clusters and subclusters, bytes beside them, and any bytes; past the size, room to
 * grow. */
void round_cuts(Round *r, GArray *cuts)
{
    int64_t cs = r->spec.cluster_size, max = (int64_t)r->spec.size + 8 * cs, zero = 0;
    unsigned out = 0;

    r->sizes = g_array_new(FALSE, FALSE, sizeof(int64_t));
    g_array_append_val(cuts, zero);
    g_array_append_val(cuts, max);
    add_cut(cuts, max, (int64_t)r->spec.size);
    for (int64_t at = 0; at < max; at += cs) {
        add_cut(cuts, max, at);
        add_cut(cuts, max, at + (int64_t)rand_below(&r->rand, (unsigned)cs));
        add_cut(cuts, max, at + rand_below(&r->rand, 32) * cs / 32);
        if (chance(r, 20)) {
            add_cut(cuts, max, at - 1);
            add_cut(cuts, max, at + 512);
        }
    }
    for (unsigned i = 0; i < 100; i++) {
        add_cut(cuts, max, (int64_t)rand_below(&r->rand, (unsigned)max));
    }
    for (int64_t at = ROUND_UP(r->smallest, cs); at <= max; at += cs) {
        add_size(r, cuts, max, at);
    }
    for (unsigned i = 0; i < 30; i++) {
        add_size(r, cuts, max, 512 * (int64_t)rand_below(&r->rand, (unsigned)(max / 512 + 1)));
    }
    g_array_sort(cuts, compare);
    for (unsigned i = 0; i < cuts->len; i++) {
        int64_t v = g_array_index(cuts, int64_t, i);

        if (out == 0 || v != g_array_index(cuts, int64_t, out - 1)) {
            g_array_index(cuts, int64_t, out++) = v;
        }
    }
    g_array_set_size(cuts, out);
}

void round_describe(const Round *r, char *buf, size_t len)
{
    char image[300];

    image_describe(&r->spec, image, sizeof(image));
    g_snprintf(buf, len, "%s; %u threads x %u, %u yields, align %u, max_transfer %u%s%s%s", image,
               r->threads, r->depth, r->setup.yields, r->setup.align, r->setup.max_transfer,
               r->setup.no_zero ? ", no zero" : "", r->resizes ? ", resizes" : "",
               r->faulty ? ", faults" : "");
}
