/* SPDX-License-Identifier: MIT */
/* Compiler marks and small arithmetic macros that every layer uses. */
#ifndef UTIL_COMPILER_H
#define UTIL_COMPILER_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Marks a function that may yield: call it from a coroutine only. */
#define coroutine_fn

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What watches over the rest, in builds with -Doracles=true and in debug builds. */
#ifdef CONFIG_ORACLES
#define ORACLE(call) (call)
#else
#define ORACLE(call) ((void)0)
#endif

/* n and m are of one type, m a power of two. */
#define ALIGN_DOWN(n, m) ((n) & ~((__typeof__(n))(m)-1))
#define ALIGN_UP(n, m) ALIGN_DOWN((n) + (m)-1, (m))
#define IS_ALIGNED(n, m) (((n) & ((__typeof__(n))(m)-1)) == 0)
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define ROUND_UP(n, d) (DIV_ROUND_UP(n, d) * (d))

#define KiB (INT64_C(1) << 10)
#define MiB (INT64_C(1) << 20)
#define GiB (INT64_C(1) << 30)
#define TiB (INT64_C(1) << 40)

/* Between these stands what a driver may call: a driver in a module takes it from the program that
 * loads it. */
#define DRIVER_API_BEGIN _Pragma("GCC visibility push(default)")
#define DRIVER_API_END _Pragma("GCC visibility pop")

#endif
