/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps that a program adds, removes, clears, merges, enables and disables: what each must say.
 *
 * Each of these operations is alone, and the disk is looked at after it; so from the operations up
 * to one of them follows which bitmaps there are, which sectors each must have (merged in, dirtied
 * before it was disabled), and as what it saw the disk when it began to track.
 */
#ifndef CRASH_BITMAPS_H
#define CRASH_BITMAPS_H

#include "mem.h"
#include "model.h"

#include "block/backend.h"

#define BITMAPS_MAX 4

/* An operation as a number: OP_BITMAP's "offset". Of bitmap @k; @other is merged; a new one has a
 * granularity of @bits. */
uint64_t bitmaps_code(BlockBitmapAction what, unsigned k, unsigned other, unsigned bits);
int coroutine_fn bitmaps_co_op(BlockBackend *blk, uint64_t code);
/* It asks for what is not there, or is there already: a program that was made smaller may. */
bool bitmaps_may_fail(int ret);
/* @image, whose disk is @words (@n sectors): does each bitmap say what it must, when the last of
 * these operations that took effect is @list (NOT_YET: none)? NULL, or why not (g_free). */
char *bitmaps_check(const Program *p, const Log *l, uint32_t list, const MemFile *image,
                    const uint64_t *words, uint64_t n);

#endif
