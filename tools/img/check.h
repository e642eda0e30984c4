/* SPDX-License-Identifier: MIT */
/* check --dry-run. */
#ifndef IMG_CHECK_H
#define IMG_CHECK_H

#include "img.h"

/* What a repair would do. */
typedef struct DryRun {
    GPtrArray *findings;
    int ret;      /* < 0: it would fail */
    int64_t left; /* errors and leaks that a check would find then */
} DryRun;

/* What repair @fix would do to the image @name, which @blk has open for reading. NULL: told why
 * that cannot be said. */
DryRun *img_check_dry_run(BlockBackend *blk, const char *name, bool image_opts, unsigned fix);
void img_check_dry_run_free(DryRun *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DryRun, img_check_dry_run_free)
void img_check_print_findings(const DryRun *d);
void img_check_findings_json(const DryRun *d, JsonObject *into);

#endif
