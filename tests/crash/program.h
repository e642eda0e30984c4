/* SPDX-License-Identifier: MIT */
/*
 * A program: an image with its options, and what the guest does to it.  Made by a workload from a
 * seed, so that workload, seed and the text of the operations say all.
 *
 * The guest works in sectors of 512 bytes.  Each write fills its sectors with words that name the
 * operation and the sector, so that what stands in a sector tells who wrote it (content.h).
 */
#ifndef CRASH_PROGRAM_H
#define CRASH_PROGRAM_H

#include "util/compiler.h"

#include <glib.h>

#define SECTOR 512

typedef enum OpType {
    OP_WRITE,
    OP_ZERO,
    OP_UNMAP /* zero, may unmap */,
    OP_DISCARD,
    OP_COMPRESS,
    OP_FUA, /* a write that is on the disk when it ends */
    OP_FLUSH,
    OP_RESIZE,   /* "bytes" is the new size */
    OP_COMPACT,  /* "offset" 1: in the guest's order */
    OP_AMEND,    /* with the "offset"th options (program_amend_options) */
    OP_BACKING,  /* the backing file's name becomes the "offset"th (program_backing_name) */
    OP_REMAKE,   /* "offset" is the new geometry: program_remake() */
    OP_REPAIR,   /* check, and repair all that it finds */
    OP_SNAPSHOT, /* an internal one, the "offset"th: its name is k and that */
    OP_APPLY,    /* the disk becomes what the "offset"th holds */
    OP_DELETE,   /* the "offset"th goes */
    OP_BITMAP,   /* of a persistent bitmap: "offset" is what (bitmaps.h) */
    OP_EMPTY,    /* all shows the backing file */
    OP_DIE,   /* with the "offset"th write or sync from here on the process dies: OP_KILL follows */
    OP_FAULT, /* the "offset"th write to the files from here on fails, once (ENOSPC) */
    OP_REOPEN, /* close and open */
    OP_KILL,   /* the process dies, and a new one opens the image */
    OP_POWER,  /* power fails at some event before; what is left is opened again */
    OP_CREATE, /* the image; recorded when it comes first */
    OP_CLOSE,  /* always last, not in the text */
} OpType;

typedef struct Op {
    OpType type;
    bool with;   /* begins while the one before is under way: another lane of requests */
    bool then;   /* begins when the one before has ended, in its lane, while other lanes go on */
    bool noisy;  /* data that cannot be compressed */
    bool setup;  /* not recorded */
    uint32_t id; /* of the data; kept when others are shrunk away */
    uint64_t offset, bytes;
} Op;

typedef struct ImageConfig {
    unsigned cluster_bits, refcount_bits, version;
    bool extended, lazy, zstd, no_unref, punch_other, no_unmap;
    bool encrypted; /* AES, for LUKS takes its time at each open */
    bool snapshot; /* an internal one is taken before the recording, where the reference is there */
    bool bitmap;   /* a persistent one, likewise */
    unsigned backing; /* 0 none, 1 raw, 2 qcow2 */
    uint64_t backing_size;
    unsigned data_file; /* 0 none, 1, 2 raw, 3 raw by others: no entry shows it */
    unsigned prealloc;  /* BlockPrealloc */
    uint64_t size;
    unsigned damage; /* the seed of defects that the image has when the recording begins; 0: none */
    uint64_t device; /* the image is on a device of so many bytes; 0: in a file */
    unsigned l2_cache; /* bytes; 0 by default */
} ImageConfig;

typedef struct Program {
    const char *workload;
    uint64_t seed;
    ImageConfig cfg;
    const char *fixed; /* options that the workload does not choose; NULL: none */
    GArray *ops;       /* of Op */
} Program;

typedef struct Workload {
    const char *name, *what;
    void (*make)(Program *p, GRand *r);
} Workload;
extern const Workload workloads[];

/* NULL: @fixed cannot be parsed. */
Program *program_make(const Workload *w, uint64_t seed, const char *fixed);
Program *program_copy(const Program *p);
void program_free(Program *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Program, program_free)
Op *program_op(const Program *p, guint i);
Op *program_add(Program *p, OpType type, uint64_t offset, uint64_t bytes);
char *program_ops_text(const Program *p);
bool program_parse_ops(Program *p, const char *text); /* replaces them */
char *program_config_text(const Program *p);
/* The fixed options, and what they need besides: "cluster_bits=9,lazy=1". */
bool program_fix(Program *p);
/* Options of an amendment, or NULL: there are no more. */
const char *program_amend_options(uint64_t n);
/* Names of the one backing file, each of another length. g_free(). */
char *program_backing_name(const Program *p, uint64_t n);
/* Another geometry of the image (OP_REMAKE); what its version lacks is left out. */
Op *program_remake(Program *p, unsigned cluster_bits, unsigned refcount_order, bool extended,
                   bool zstd);
/* Largest size that the guest's disk has. */
uint64_t program_max_size(const Program *p);

#endif
