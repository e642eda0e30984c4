/* SPDX-License-Identifier: MIT */
/*
 * What an image may make its user do: which files it may name (backing file, data file), and how
 * much it may take. The user of a root says it in options; every node that is opened on the word of
 * an image below that root inherits it, and no image can loosen it.
 *
 *   references=any            what QEMU does (the default)
 *   references=none           no file but the given one
 *   references=same-folder    plain names of regular files in the image's own folder, no links
 *   references=list           names that references.0, references.1 … hold, to the letter
 *   limits.virtual-size=S     bytes that an image may be long
 *   limits.metadata=S         bytes of memory for tables and caches of an image
 *   limits.table-size=S       bytes of an L1 table or of a refcount table
 *   limits.chain-depth=N      images in a backing chain, the given one included
 *
 * What the user names himself in options (backing.file.filename=…) is not an image's word.
 */
#ifndef BLOCK_POLICY_H
#define BLOCK_POLICY_H

#include "block/common.h"

/*
 * Opens @reference, which @image names, and returns a descriptor that the library takes over (open
 * for writing if @writable), or -errno to refuse. @image and @reference are as written, unchecked.
 */
typedef int BlockOpenReference(const char *image, const char *reference, bool writable,
                               void *opaque);

/* Caps in bytes; UINT64_MAX: none but the format's own. */
typedef struct BlockCaps {
    uint64_t virtual_size, metadata, table_size;
} BlockCaps;

#endif
