/* SPDX-License-Identifier: MIT */
/*
 * Pins: which requests are in flight, so that what they may have looked up stays until they end.
 *
 * A request pins the image from before its first lookup to after its last I/O.  Pins are counted
 * per epoch parity, in stripes against cache line bouncing; what was let go of in epoch E can be
 * seen by no request any more when the epochs up to E have passed.
 *
 * INV-PIN-1  The epoch moves from E to E+1 only when no pin of E-1 is left, so two parities do.
 * INV-PIN-3  A request pins (a sequentially consistent add) before it reads a table; so whoever
 *            sees a count of zero after the change of the table knows that no request holds the old
 *            mapping.
 */
#ifndef QCOW2_PIN_H
#define QCOW2_PIN_H

#include "util/compiler.h"

typedef struct PinState PinState;

/* NULL without memory. */
PinState *qcow2_pin_new(void);
/* NULL is fine; nobody has a pin. */
void qcow2_pin_free(PinState *p);
/* Every request brackets itself; the token is for leave. Any thread, no lock. */
unsigned qcow2_pin_enter(PinState *p);
void qcow2_pin_leave(PinState *p, unsigned token);

uint64_t qcow2_pin_epoch(const PinState *p);
/* The epoch moves, if it may. Callers exclude each other. */
void qcow2_pin_advance(PinState *p);
/* Every request that was pinned in @epoch, or before, has ended. */
bool qcow2_pin_has_passed(const PinState *p, uint64_t epoch);

/* g_free(@mem) with the pins: lookups without a lock may still read it. */
void qcow2_pin_retire(PinState *p, void *mem);

#endif
