/* SPDX-License-Identifier: MIT */
#include "open-opts.h"

BlockBackend *open_opts(const char *options, int flags)
{
    Options *o = opts_new();
    GError *err = NULL;
    BlockBackend *blk;

    g_assert_true(opts_parse(o, options, NULL, NULL));
    blk = blk_open(NULL, o, flags, &err);
    g_assert_no_error(err);
    return blk;
}
