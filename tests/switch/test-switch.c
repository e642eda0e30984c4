/* SPDX-License-Identifier: MIT */
/*
 * The hand-written switch alone, without GLib, so that it can be cross-compiled and run under an
 * emulator: what a callee keeps is kept (integer and floating-point registers, rounding mode),
 * stacks are aligned, and frames of both sides stay apart.  TAP.
 */
#include "util/coroutine-int.h"

#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Coroutine thread_stack, co[3];
static Coroutine *running; /* who to go back from */
static int failed, points;

static void check(bool ok, const char *what)
{
    printf("%s %d - %s\n", ok ? "ok" : "not ok", ++points, what);
    failed += !ok;
}

static void yield(void)
{
    co_backend_switch(running, &thread_stack);
}

static void enter(Coroutine *c)
{
    running = c;
    co_backend_switch(&thread_stack, c);
}

void coroutine_trampoline(Coroutine *c)
{
    for (;;) {
        c->entry(c->opaque);
        yield();
    }
}

static void make(Coroutine *c, CoroutineEntry *entry, void *opaque)
{
    memset(c, 0, sizeof(*c));
    c->stack_size = 65536;
    c->stack = aligned_alloc(16, c->stack_size);
    c->entry = entry;
    c->opaque = opaque;
    co_backend_init(c);
}

/* More values than there are registers, alive over switches: some are in each register that is
 * kept. */
static __attribute__((noinline)) double churn(uint64_t seed, void (*turn)(void), int rounds)
{
    uint64_t a = seed, b = seed + 1, c = seed + 2, d = seed + 3, e = seed + 4, f = seed + 5,
             g = seed + 6;
    uint64_t h = seed + 7, i = seed + 8, j = seed + 9, k = seed + 10;
    double p = seed, q = p + .5, r = p + .25, s = p * 3, t = p * 5, u = p * 7, v = p * 9,
           w = p * 11;

    for (int n = 0; n < rounds; n++) {
        turn();
        a += b, b ^= c, c += d, d ^= e, e += f, f ^= g, g += h, h ^= i, i += j, j ^= k, k += a;
        p += q, q -= r * .5, r += s * .25, s -= t * .125, t += u * .5, u -= v * .25, v += w * .5,
            w -= p * .125;
    }
    return (double)((a ^ b ^ c ^ d ^ e ^ f ^ g ^ h ^ i ^ j ^ k) >> 12) + p + q + r + s + t + u + v +
           w;
}

static void no_turn(void)
{
}

static double results[3];

static void churn_entry(void *opaque)
{
    int n = (int)(uintptr_t)opaque;

    results[n] = churn((uint64_t)n * 1000 + 7, yield, 50);
}

static int next;

static void enter_next(void)
{
    enter(&co[next++ % 3]);
}

static void test_registers(void)
{
    double mine, want[3];

    for (int i = 0; i < 3; i++) {
        make(&co[i], churn_entry, (void *)(uintptr_t)i);
        want[i] = churn((uint64_t)i * 1000 + 7, no_turn, 50);
    }
    mine = churn(99, enter_next, 200);
    check(mine == churn(99, no_turn, 200), "registers of the thread's own stack are kept");
    for (int i = 0; i < 3; i++) {
        check(results[i] == want[i], "registers of a coroutine are kept");
    }
}

static bool aligned, apart;

static void align_entry(void *opaque)
{
    _Alignas(16) volatile char buf[4000];
    uintptr_t at = (uintptr_t)buf;

    aligned = at % 16 == 0 && (uintptr_t)__builtin_frame_address(0) % 16 == 0;
    apart = at > (uintptr_t)running->stack && at < (uintptr_t)running->stack + running->stack_size;
    memset((void *)buf, 1, sizeof(buf));
    yield();
    apart = apart && buf[0] == 1 && buf[3999] == 1;
}

static void test_stack(void)
{
    make(&co[0], align_entry, NULL);
    enter(&co[0]);
    enter(&co[0]);
    check(aligned, "a new stack is aligned");
    check(apart, "locals are on the coroutine's own stack and stay");
}

static int modes[2];

static void mode_entry(void *opaque)
{
    modes[0] = fegetround();
    fesetround(FE_UPWARD);
    yield();
    modes[1] = fegetround();
}

static void test_rounding(void)
{
    int mine;

    fesetround(FE_TOWARDZERO);
    make(&co[0], mode_entry, NULL);
    fesetround(FE_DOWNWARD);
    enter(&co[0]);
    mine = fegetround();
    fesetround(FE_TONEAREST);
    enter(&co[0]);
    check(modes[0] == FE_TOWARDZERO, "a coroutine begins with the rounding mode of its making");
    check(mine == FE_DOWNWARD && modes[1] == FE_UPWARD && fegetround() == FE_TONEAREST,
          "each side keeps its rounding mode");
}

int main(void)
{
    test_registers();
    test_stack();
    test_rounding();
    printf("1..%d\n", points);
    return failed != 0;
}
