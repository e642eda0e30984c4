/* SPDX-License-Identifier: MIT */
/* Pieces of one request: each a coroutine in the owner's loop. */
#include "util/co-pieces.h"

#include "util/aio.h"

typedef struct Start { /* lives until the piece has looked at it, which is at once */
    CoPieces *pieces;
    unsigned slot;
    CoPieceFunc *fn;
    void *piece;
} Start;

void co_pieces_init(CoPieces *p)
{
    *p = (CoPieces){ 0 };
}

static void ended(CoPieces *p, unsigned slot, int ret)
{
    Coroutine *waiter = p->waiter;

    p->busy &= ~(UINT32_C(1) << slot);
    p->ret = p->ret < 0 || ret >= 0 ? p->ret : ret;
    p->waiter = NULL;
    if (waiter) {
        aio_co_wake(waiter);
    }
}

static void coroutine_fn co_piece(void *opaque)
{
    Start s = *(Start *)opaque;

    ended(s.pieces, s.slot, s.fn(s.piece));
}

static void coroutine_fn co_wait_one(CoPieces *p)
{
    p->waiter = coroutine_self();
    coroutine_yield();
}

unsigned coroutine_fn co_pieces_slot(CoPieces *p)
{
    while (p->busy == (UINT32_C(1) << CO_PIECES_MAX) - 1) {
        co_wait_one(p);
    }
    return (unsigned)__builtin_ctz(~p->busy);
}

void coroutine_fn co_pieces_begin(CoPieces *p, unsigned slot, CoPieceFunc *fn, void *piece)
{
    Start s = { .pieces = p, .slot = slot, .fn = fn, .piece = piece };
    Coroutine *co = coroutine_create(co_piece, &s);

    g_assert(!(p->busy >> slot & 1));
    p->busy |= UINT32_C(1) << slot;
    if (co) {
        coroutine_enter(co);
    } else {
        co_piece(&s);
    }
}

int coroutine_fn co_pieces_end(CoPieces *p, int ret)
{
    while (p->busy) {
        co_wait_one(p);
    }
    return p->ret < 0 ? p->ret : ret;
}
