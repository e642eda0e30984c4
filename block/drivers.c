/* SPDX-License-Identifier: MIT */
/* The drivers of the tree, one line each: all that a new one adds beside its own files. */
#include "block/driver/registry.h"

/* clang-format off */
#define DRIVERS(X) \
    X(file) \
    X(host_device) \
    X(null_co) \
    X(null_aio) \
    X(raw) \
    X(blkdebug) \
    X(pass) \
    X(qcow2)
/* clang-format on */

#define DECLARE(name) extern const BlockDriver bdrv_##name;
DRIVERS(DECLARE)

#define REFER(name) &bdrv_##name,
const BlockDriver *const bdrv_builtin[] = { DRIVERS(REFER) NULL };
