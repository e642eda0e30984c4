/* SPDX-License-Identifier: MIT */
/* Scenarios of the fault sweep. */
#ifndef TESTS_FAULT_SWEEP_H
#define TESTS_FAULT_SWEEP_H

#include "tests/lib/image.h"

typedef enum StepKind {
    STEP_END,
    STEP_WRITE,
    STEP_ZERO,  /* keeps the clusters */
    STEP_UNMAP, /* zero write that may let go of them */
    STEP_DISCARD,
    STEP_COMPRESSED,
    STEP_FLUSH,
    STEP_RESIZE,   /* to @clusters and @bytes; @at: BlockPrealloc */
    STEP_AMEND,    /* with @options */
    STEP_SNAPSHOT, /* named @options */
    STEP_APPLY,    /* of a disk that is the same */
    STEP_DELETE,
    STEP_BITMAP, /* @at: BlockBitmapAction, of the bitmap @options; a merge is of "a" */
    STEP_COMPACT, /* @at: BlockCompactFlags */
    STEP_REPAIR,  /* all that a check finds */
    STEP_EMPTY,   /* the whole disk shows its backing file */
    STEP_READ,
    STEP_OPEN,
    STEP_CLOSE,
    STEP_CREATE,
} StepKind;

/* [at * cluster + at_bytes, + clusters * cluster + bytes) */
typedef struct Step {
    StepKind kind;
    uint64_t at;
    int64_t at_bytes;
    uint64_t clusters;
    int64_t bytes;
    const char *options;
} Step;

typedef struct Scenario {
    const char *name;
    uint64_t clusters;      /* of the disk, and 512 bytes more; 0: 40 */
    unsigned cluster_size;  /* only with this one; 0: any */
    unsigned refcount_bits; /* ... as above */
    bool lazy;              /* needs lazy refcounts */
    bool no_data_file;
    bool shared; /* not where counts have one bit, nor where no dirty bit tells of a snapshot */
    bool plain;  /* only images that version 2 can have, but for their version */
    bool bitmaps; /* not where the version has none */
    bool backed; /* only images over a backing file */
    bool crash;  /* the image is taken as it is on disk while it is open: not closed */
    BlockPrealloc prealloc; /* of create */
    const char *options;    /* to open with, beside the spec's; may be NULL */
    Step prepare[12];       /* without faults; the image is then flushed and closed */
    Step run[12];           /* with them. Opened before, unless it begins with OPEN or CREATE */
} Scenario;

extern const Scenario scenarios[];
extern const unsigned nscenarios;

/* No scenario touches this cluster: a small write there shows whether a failed request left bytes
 * behind in a cluster that is taken for fresh. */
#define PROBE_CLUSTER 38

#endif
