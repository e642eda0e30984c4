/* SPDX-License-Identifier: MIT */
/* The drivers of the tree, one line each: all that a new one adds beside its own files. */
#include "block/driver/registry.h"
#include "config-host.h"

/* clang-format off */
#define DRIVERS(X) \
    X(file) \
    X(host_device) \
    X(null_co) \
    X(null_aio) \
    X(raw) \
    X(blkdebug) \
    X(copy_on_read) \
    X(pass) \
    X(scratch) \
    X(qcow2) \
    CRYPTO_DRIVERS(X)
#ifdef CONFIG_CRYPTO
#define CRYPTO_DRIVERS(X) X(luks)
#else
#define CRYPTO_DRIVERS(X)
#endif
/* clang-format on */

#define DECLARE(name) extern const BlockDriver bdrv_##name;
DRIVERS(DECLARE)

#define REFER(name) &bdrv_##name,
const BlockDriver *const bdrv_builtin[] = { DRIVERS(REFER) NULL };
