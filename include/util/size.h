/* SPDX-License-Identifier: MIT */
/* Sizes with suffixes, in and out, as the reference's tools read and write them. */
#ifndef UTIL_SIZE_H
#define UTIL_SIZE_H

#include "util/compiler.h"

/* Parse a size: decimal (fraction allowed with a suffix) or hex, optional
 * suffix b k K M G T P E (powers of 1024). @default_suffix 'B' or e.g. 'M' applies
 * when none is given. 0, -EINVAL (not a number, trailing bytes; *end if @end, then trailing
 * bytes are allowed) or -ERANGE. */
int size_parse(const char *s, const char **end, char default_suffix, uint64_t *ret);
/* "1.5 GiB": three significant digits as the reference prints. g_free() it. */
char *size_to_human(uint64_t bytes);

#endif
