/* SPDX-License-Identifier: MIT */
/* Inside of the luks driver: what luks.c and luks-create.c share. */
#ifndef FORMAT_LUKS_H
#define FORMAT_LUKS_H

#include "block/crypto/volume.h"
#include "block/io.h"

extern const BlockCreateOption luks_create_options[];
int coroutine_fn luks_co_create(const char *filename, Options *opts, GError **errp);
int coroutine_fn luks_co_measure(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                 GError **errp);

#endif
