/* SPDX-License-Identifier: MIT */
/* The three forms of a file name. */
#ifndef BLOCK_FILENAME_H
#define BLOCK_FILENAME_H

#include "block/common.h"

/* Length of the protocol prefix of @path, without the ':'; 0: none. */
size_t bdrv_protocol_prefix(const char *path);
/* "json:{}" into @options (which win); false on bad text. */
bool bdrv_parse_json_filename(const char *filename, Options *options, GError **errp);

#endif
