/* SPDX-License-Identifier: MIT */
/*
 * The ceilings of one input: a second of CPU time (not of the clock: the machine may be busy; six
 * with a sanitizer), and 64 MiB of heap more than before. With a sanitizer each allocation is
 * counted; without one the growth of the resident set stands for it.
 */
#include "fuzz.h"

#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_BYTES (INT64_C(64) * MiB)

static int64_t cpu_start;

static int64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HOOKS 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define HOOKS 1
#endif

/* The sanitizers' own work is not the library's. */
#ifdef HOOKS
#define MAX_CPU_NS INT64_C(6000000000)
#else
#define MAX_CPU_NS INT64_C(1000000000)
#endif

#ifdef HOOKS
int __sanitizer_install_malloc_and_free_hooks(void (*m)(const volatile void *, size_t),
                                              void (*f)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static _Atomic int64_t now, peak;
static bool installed;

static void on_malloc(const volatile void *p, size_t n)
{
    int64_t v = atomic_fetch_add(&now, (int64_t)n) + (int64_t)n;

    if (v > atomic_load(&peak)) {
        atomic_store(&peak, v);
    }
}

static void on_free(const volatile void *p)
{
    if (p) {
        atomic_fetch_sub(&now, (int64_t)__sanitizer_get_allocated_size(p));
    }
}

static void memory_begin(void)
{
    if (!installed) {
        installed = true;
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    }
    atomic_store(&now, 0);
    atomic_store(&peak, 0);
}

static int64_t memory_peak(void)
{
    return atomic_load(&peak);
}
#else
static int64_t rss_start, max_start;

static int64_t max_rss(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return r.ru_maxrss * INT64_C(1024);
}

static int64_t rss(void)
{
    g_autofree char *s = NULL;

    if (!g_file_get_contents("/proc/self/statm", &s, NULL, NULL) || !strchr(s, ' ')) {
        return max_rss();
    }
    return g_ascii_strtoll(strchr(s, ' '), NULL, 10) * sysconf(_SC_PAGESIZE);
}

static void memory_begin(void)
{
    rss_start = rss();
    max_start = max_rss();
}

static int64_t memory_peak(void)
{
    int64_t m = max_rss();

    return m > max_start ? m - rss_start : 0;
}
#endif

void fuzz_limits_begin(void)
{
    memory_begin();
    cpu_start = cpu_ns();
}

void fuzz_limits_end(void)
{
    int64_t ns = cpu_ns() - cpu_start, bytes = memory_peak();

    FUZZ_CHECK(ns <= MAX_CPU_NS, "%.2f s of CPU time for one input", (double)ns / 1e9);
    FUZZ_CHECK(bytes <= MAX_BYTES, "%.1f MiB of memory for one input", (double)bytes / (double)MiB);
}
