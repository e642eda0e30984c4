/* SPDX-License-Identifier: MIT */
/* qcow2 images on fake files, as tests want them: create, open, check by us and by the
 * reference. */
#ifndef TESTS_LIB_IMAGE_H
#define TESTS_LIB_IMAGE_H

#include "block/backend.h"

typedef struct ImageSpec {
    uint64_t size;
    unsigned cluster_size, refcount_bits;
    bool v2, extended_l2, lazy_refcounts, zstd;
    bool data_file, data_raw;
    bool raw_by_others; /* data_raw, but no entry shows any of the data file */
    int64_t backing;    /* size of a raw backing file; 0: none. It holds image_backing_fill(). */
    BlockPrealloc prealloc;
    char options[160]; /* more options to open with; "" */
} ImageSpec;

#define IMAGE_NAME "img"
#define IMAGE_BASE "base"
#define IMAGE_DATA "data"
extern const char *const image_files[3];

/* Files fake:img, fake:base, fake:data. */
int image_create(const ImageSpec *s, GError **errp);
BlockBackend *image_open(const ImageSpec *s, int flags, GError **errp);
uint8_t image_backing_fill(uint64_t offset); /* never 0 */
void image_describe(const ImageSpec *s, char *buf, size_t len);

/* Opens it read-only and checks; 0 or -errno. */
int image_check(const ImageSpec *s, BlockCheckResult *res, BlockReportFunc *report, void *opaque);

/* Does the reference's check agree that nothing is worse than leaks, and (@content not NULL) does
 * it read that? NULL: yes, or no reference is installed; else what it says. g_free(). Never with
 * the image open. */
bool image_has_reference(void); /* whoever asks one that is not there says so */
char *image_ask_reference(const ImageSpec *s, const uint8_t *content, uint64_t bytes);

#endif
