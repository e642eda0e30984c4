/* SPDX-License-Identifier: MIT */
/*
 * Pieces of one request that run together, a bounded number at a time.
 *
 * All of it happens in the loop of the coroutine that begins them, so nothing here is atomic. A
 * piece never outlives the request: its owner calls co_pieces_end() on every way out. A request of
 * one piece needs none of this.
 */
#ifndef UTIL_CO_PIECES_H
#define UTIL_CO_PIECES_H

#include "util/coroutine.h"

DRIVER_API_BEGIN

/* Of one request; also the number of slots. */
#define CO_PIECES_MAX 16

/* 0 or -errno. @piece belongs to it until it returns. */
typedef int coroutine_fn CoPieceFunc(void *piece);

typedef struct CoPieces {
    uint32_t busy;     /* a bit for each slot */
    int ret;           /* of the first piece that failed */
    Coroutine *waiter; /* the owner, while it waits for a piece to end */
} CoPieces;

void co_pieces_init(CoPieces *p);
/* A slot that no piece uses, for an array of CO_PIECES_MAX structs of the owner's; waits until
 * there is one. A piece failed meanwhile: p->ret is its error, and the owner begins no more. */
unsigned coroutine_fn co_pieces_slot(CoPieces *p);
/* Run @fn(@piece), which uses slot @slot, in a coroutine of its own, up to its first sleep; to its
 * end where no coroutine is to be had. */
void coroutine_fn co_pieces_begin(CoPieces *p, unsigned slot, CoPieceFunc *fn, void *piece);
/* All have ended. The error of the first that failed, else @ret, the owner's own. */
int coroutine_fn co_pieces_end(CoPieces *p, int ret);

DRIVER_API_END

#endif
