/* SPDX-License-Identifier: MIT */
/* Header extensions: backing format, data file name, feature names, bitmaps; unknown ones kept. */
#ifndef QCOW2_HEADER_EXT_H
#define QCOW2_HEADER_EXT_H

#include "header.h"

int qcow2_header_ext_parse(Qcow2Header *h, const uint8_t *buf, size_t len, GError **errp);
/* Append all extensions (the table of feature names if @names) and the end mark at @at; where they
 * end, or 0: no room. Short ones come first, the names last: what the first sector has room for is
 * changed at once (header-plan.h). */
size_t qcow2_header_ext_put(const Qcow2Header *h, uint8_t *buf, size_t len, size_t at, bool names);
/* What names bitmaps that are not to be believed (their autoclear bit is gone) is left out from now
 * on. */
bool qcow2_header_ext_has_old_bitmaps(const Qcow2Header *h);
void qcow2_header_ext_drop_old_bitmaps(Qcow2Header *h);
/* The level of compression that the image remembers, 0: none, in place of any that it has. */
void qcow2_header_ext_set_level(Qcow2Header *h, uint32_t level);
/* Where the extensions in @buf end, the end mark included; they begin at @at. */
size_t qcow2_header_ext_end(const uint8_t *buf, size_t len, size_t at);
/* "a, b, Unknown incompatible feature: 40" for @bits, from the image's own feature table.
 * g_free(). */
char *qcow2_header_ext_feature_names(const Qcow2Header *h, const uint8_t *buf, size_t len,
                                     uint64_t bits);

#endif
