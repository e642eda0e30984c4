/* SPDX-License-Identifier: MIT */
/* Opening an input's image, with the options that its control bytes choose. No other file is
 * opened. */
#ifndef FUZZ_OPEN_H
#define FUZZ_OPEN_H

#include "block/backend.h"
#include "image.h"

#include <inttypes.h>

#define FUZZ_BACKING_PATTERN 0x5b

/* Bits of control byte 0. */
enum {
    CTL_BACKING = 1,
    CTL_DATA_FILE = 2,
    CTL_LAZY = 4,
    CTL_NO_UNREF = 8,
    CTL_DISCARD_OTHER = 16,
    CTL_SMALL_CACHE = 32,
};

/* Before the first open of an input: its image, a new empty data file, a new backing file. */
void fuzz_files_begin(MemFile *file);
/* NULL: refused. */
BlockBackend *fuzz_open(const Image *img, int flags, GError **err);
/* Options that name no file and no way to one; what might is taken out. */
void fuzz_tame_options(Options *o);

#endif
