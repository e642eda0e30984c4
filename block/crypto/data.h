/* SPDX-License-Identifier: MIT */
/* The way of data between an encrypted format and its file. */
#ifndef CRYPTO_DATA_H
#define CRYPTO_DATA_H

#include "block/io.h"
#include "volume.h"

/* @v, whole sectors, at byte @at of @file; the first of them is number @sector for the cipher. */
int coroutine_fn crypt_data_co_read(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                    uint64_t sector, IOVector *v);
int coroutine_fn crypt_data_co_write(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                     uint64_t sector, IOVector *v, unsigned flags);

#endif
