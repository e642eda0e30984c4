/* SPDX-License-Identifier: MIT */
/*
 * Guest data of encrypted images.  What lies in the data file is encrypted sector by sector, but
 * for compressed clusters, which others may have left and nobody here writes.
 *
 * INV-CRYPT-1  All guest data passes through these two functions on its way to and from the data
 *              file; nothing takes what the file has there, zeroes included, for what the guest
 *              reads.
 */
#ifndef QCOW2_CRYPT_H
#define QCOW2_CRYPT_H

#include "qcow2.h"

#define QCOW2_CRYPT_AES 1u
#define QCOW2_CRYPT_LUKS 2u

/* Takes "encrypt.*" out of @o. With BLK_O_NO_IO no secret is needed, and no data can be read. */
int coroutine_fn qcow2_crypt_co_open(Qcow2 *q, Options *o, int flags, GError **errp);
void qcow2_crypt_fini(Qcow2 *q);
/* The LUKS header has key material past the end that the image's header says: its clusters are not
 * known to be in use. */
static inline bool qcow2_crypt_header_is_cut(const Qcow2 *q)
{
    return q->crypt && q->hdr.crypt_method == QCOW2_CRYPT_LUKS &&
           crypt_volume_header_bytes(q->crypt) > q->hdr.crypto_length;
}
/* Into what info says of the format. */
void qcow2_crypt_describe(const Qcow2 *q, Options *o);

/* Key slots, as the options "state" … of @o say; alone on the image. What is on disk when:
 * INV-LUKS-2 to 4. */
int coroutine_fn qcow2_crypt_co_amend(Qcow2 *q, Options *o, Secrets *secrets, bool force,
                                      GError **errp);
/* Whether there are any. */
int qcow2_crypt_check_amend(const Qcow2 *q, GError **errp);

/* The encrypted ways; host and guest offsets and lengths are whole sectors. */
int coroutine_fn qcow2_crypt_co_read(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v);
int coroutine_fn qcow2_crypt_co_write(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v,
                                      unsigned flags);

/* Guest data at @guest, which lies at @host of the data file. */
static inline int coroutine_fn qcow2_data_co_read(Qcow2 *q, uint64_t host, uint64_t guest,
                                                  IOVector *v)
{
    return likely(!q->crypt) ? bdrv_co_preadv(q->data, (int64_t)host, v, 0)
                             : qcow2_crypt_co_read(q, host, guest, v);
}

static inline int coroutine_fn qcow2_data_co_write(Qcow2 *q, uint64_t host, uint64_t guest,
                                                   IOVector *v, unsigned flags)
{
    return likely(!q->crypt) ? bdrv_co_pwritev(q->data, (int64_t)host, v, flags)
                             : qcow2_crypt_co_write(q, host, guest, v, flags);
}

#endif
