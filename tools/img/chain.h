/* SPDX-License-Identifier: MIT */
/* An image by its name, in a chain of backing files. */
#ifndef TOOLS_CHAIN_H
#define TOOLS_CHAIN_H

#include "img.h"

/* Are these one file? By their names as they are, or as the host resolves them. */
bool chain_same_file(const char *a, const char *b);
/* The image below @top that @name names, as it is, or as an overlay over it would say it. NULL:
 * none. */
BlockDriverState *chain_find(BlockDriverState *top, const char *name);

#endif
