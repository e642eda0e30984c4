/* SPDX-License-Identifier: MIT */
/* The drivers there are: found by name, by protocol, by the first bytes of a file. */
#ifndef BLOCK_DRIVER_REGISTRY_H
#define BLOCK_DRIVER_REGISTRY_H

#include "block/core.h"

/* ---- defaults.c ---- */
/* Fills in the callbacks that @drv leaves NULL, and its features. */
void bdrv_driver_complete(BlockDriver *drv);

/* ---- registry.c ---- */
const BlockDriver *bdrv_find_driver(const char *name); /* format or protocol, by format_name */
/* Best guess from the first bytes. NULL: a format that has no driver here, *foreign is its name. */
const BlockDriver *bdrv_probe(const uint8_t *buf, size_t len, const char *filename,
                              const char **foreign);

/* For a name without a protocol: file, or host_device. */
const BlockDriver *bdrv_plain_file_driver(const char *filename);
bool bdrv_is_protocol_driver(const BlockDriver *drv);
/* For what is made up here (temporary overlays): the first format that can be created and has a
 * backing file. */
const BlockDriver *bdrv_overlay_driver(void);

/* ---- foreign.c ---- */
/* The same for formats without a driver: a name, or NULL with *score 0. */
const char *bdrv_probe_foreign(const uint8_t *buf, size_t len, const char *filename, int *score);

/* ---- ../drivers.c ---- */
extern const BlockDriver *const bdrv_builtin[]; /* NULL-terminated */

#endif
