/* SPDX-License-Identifier: MIT */
/* Open options of an image and the memory that its caches may take. */
#ifndef QCOW2_OPTIONS_H
#define QCOW2_OPTIONS_H

#include "qcow2.h"

typedef struct Qcow2Options {
    uint64_t l2_cache_bytes, ref_cache_bytes; /* 0: by default */
    uint64_t l2_slice_bytes;
    uint64_t clean_interval_s;
    bool lazy_refcounts, lazy_given;
    bool discard_request, discard_other, discard_no_unref;
    bool level_given;
    uint64_t compression_level; /* of compressed writes; 0: the type's own */
    bool discard_snapshot;      /* of what the deletion of a snapshot lets go of */
    unsigned overlap_kinds;     /* MetadataKind */
} Qcow2Options;

int qcow2_options_take(const Geometry *g, Options *o, int flags, Qcow2Options *ret, GError **errp);

/* budget.c: one amount of memory for the caches of all images that do not name sizes themselves.
 * Takes up to @want, at least @floor; give it back when the image is closed. Any thread. */
uint64_t qcow2_budget_take(uint64_t want, uint64_t floor);
void qcow2_budget_return(uint64_t bytes);

#endif
