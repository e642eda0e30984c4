/* SPDX-License-Identifier: MIT */
/*
 * What a fuzz target provides, and what it may use. main.c calls it: from libFuzzer, or on files
 * that are replayed.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include "util/compiler.h"

#include <glib.h>

/* ---- Of the target ---- */

extern const char fuzz_name[];
void fuzz_one(const uint8_t *data, size_t size);
/* Changes @data (@size bytes, room for @max); its new size. 0: no mutator of its own. */
size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed);

/* ---- For the target ---- */

/* A finding: says what, and aborts with the input kept. */
void fuzz_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN;
#define FUZZ_CHECK(cond, ...) ((cond) ? (void)0 : fuzz_fail(__VA_ARGS__))

/* Bytes as libFuzzer changes them; without libFuzzer unchanged. */
size_t fuzz_mutate_bytes(uint8_t *data, size_t size, size_t max);

/* Ceilings per input (limits.c): seconds of CPU, bytes of heap. */
void fuzz_limits_begin(void);
void fuzz_limits_end(void);

#endif
