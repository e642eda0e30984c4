/* SPDX-License-Identifier: MIT */
/* What an image is to be created like, checked. */
#ifndef QCOW2_CREATE_H
#define QCOW2_CREATE_H

#include "qcow2.h"

typedef struct Qcow2CreateParams {
    uint64_t size;
    int version;
    unsigned cluster_bits, refcount_order;
    bool extended_l2, lazy_refcounts, data_file_raw;
    int compression;            /* Qcow2CompressionType */
    uint64_t compression_level; /* that the image remembers; 0: none */
    BlockPrealloc prealloc;
    char *backing_file, *backing_format, *data_file;
    CryptCreate *crypt; /* NULL: not encrypted */
    char *key_secret;   /* to open what was made */
} Qcow2CreateParams;

/* Takes the format's options out of @o. On an error *p is still to be cleared. */
int qcow2_create_options_take(Options *o, Qcow2CreateParams *p, GError **errp);
/* The cluster size alone, as its logarithm. */
int qcow2_create_options_cluster_bits(Options *o, unsigned *bits, GError **errp);
/* The refcount width alone (@def bits, where it is not given), as its logarithm. */
int qcow2_create_options_refcount_order(Options *o, uint64_t def, unsigned *order, GError **errp);
void qcow2_create_options_clear(Qcow2CreateParams *p);

#endif
