/* SPDX-License-Identifier: MIT */
/* A qcow2 image by hand. */
#include "mem-image.h"

#include "block/qcow2/refcount-codec.h"
#include "mem-driver.h"
#include "util/bytes.h"

#define CLUSTER(im) ((im)->geo.cluster_size)

uint64_t mem_image_alloc(MemImage *im)
{
    uint64_t at = im->next;

    im->next += CLUSTER(im);
    g_assert_cmpuint(im->next, <=, MEM_CAPACITY);
    qcow2_refcount_codec_set(im->refcount_order, im->data + im->refblock, at >> im->cluster_bits,
                             1);
    return at;
}

void mem_image_init(MemImage *im)
{
    Qcow2Header h = { .version = 3,
                      .cluster_bits = im->cluster_bits,
                      .size = im->size,
                      .refcount_order = im->refcount_order,
                      .header_length = 112 };
    uint64_t reftable, l1_bytes;

    qcow2_geometry_init(&im->geo, 3, im->cluster_bits, im->refcount_order, im->extended_l2, false,
                        false);
    im->data = g_malloc0(MEM_CAPACITY);
    im->refblock = 2 * CLUSTER(im);
    im->next = 0;
    mem_image_alloc(im); /* the header */
    reftable = mem_image_alloc(im);
    mem_image_alloc(im); /* the refcount block */
    stbe64(im->data + reftable, im->refblock);
    im->l1 = im->next;
    h.l1_size = (uint32_t)geo_l1_entries(&im->geo, im->size);
    l1_bytes = h.l1_size * UINT64_C(8);
    while (im->next < im->l1 + l1_bytes) {
        mem_image_alloc(im);
    }
    h.l1_offset = im->l1;
    h.reftable_offset = reftable;
    h.reftable_clusters = 1;
    h.incompatible = im->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0;
    g_assert_cmpint(qcow2_header_serialise(&h, im->data, CLUSTER(im), NULL), ==, 0);
}

void mem_image_clear(MemImage *im)
{
    g_clear_pointer(&im->data, g_free);
}

void *mem_image_l2(MemImage *im, uint64_t i)
{
    uint8_t *entry = im->data + im->l1 + i * 8;

    if (!ldbe64(entry)) {
        stbe64(entry, mem_image_alloc(im) | L2E_COPIED);
    }
    return im->data + (ldbe64(entry) & QCOW2_OFFSET_MASK);
}

BlockBackend *mem_image_open(MemImage *im, const char *options)
{
    Options *o = opts_new();
    GError *err = NULL;
    BlockBackend *blk;

    g_assert_true(opts_parse(o, "driver=qcow2,file.driver=test-mem", NULL, NULL));
    if (options) {
        g_assert_true(opts_parse(o, options, NULL, NULL));
    }
    mem_preload(im->data, im->next);
    blk = blk_open(NULL, o, BLK_O_RDWR | BLK_O_UNMAP, &err);
    g_assert_no_error(err);
    return blk;
}
