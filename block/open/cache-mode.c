/* SPDX-License-Identifier: MIT */
/* The names of cache modes, as -t and -T take them. */
#include "block/backend.h"

#include <string.h>

bool blk_parse_cache_mode(const char *mode, int *flags, bool *writethrough)
{
    static const struct {
        const char *name;
        int flags;
        bool writethrough;
    } modes[] = {
        { "none", BLK_O_NOCACHE, false },      { "off", BLK_O_NOCACHE, false },
        { "directsync", BLK_O_NOCACHE, true }, { "writeback", 0, false },
        { "unsafe", BLK_O_NO_FLUSH, false },   { "writethrough", 0, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(mode, modes[i].name)) {
            *flags = (*flags & ~(BLK_O_NOCACHE | BLK_O_NO_FLUSH)) | modes[i].flags;
            *writethrough = modes[i].writethrough;
            return true;
        }
    }
    return false;
}
