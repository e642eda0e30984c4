/* SPDX-License-Identifier: MIT */
/*
 * What locks guard, told to clang's -Wthread-safety; nothing to other compilers.  A lock is named
 * as an expression of the parameters that are in scope: REQUIRES_LOCK(a->meta_lock) after a
 * function's parameters.  Types of functions cannot be marked; what they are called with, their
 * comments say.
 */
#ifndef UTIL_LOCK_ANNOTATIONS_H
#define UTIL_LOCK_ANNOTATIONS_H

#if defined(__clang__)
#define LOCK_ATTRIBUTE(x) __attribute__((x))
#else
#define LOCK_ATTRIBUTE(x)
#endif

/* On a struct: it is a lock. */
#define LOCK_TYPE(name) LOCK_ATTRIBUTE(capability(name))
/* On a field, for the reader: compilers of C do not find a lock that is a field, too. The functions
 * that use the field are what is checked. */
#define GUARDED_BY(lock)
/* The caller holds it, and still does afterwards. */
#define REQUIRES_LOCK(...) LOCK_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define ACQUIRES_LOCK(...) LOCK_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define RELEASES_LOCK(...) LOCK_ATTRIBUTE(release_capability(__VA_ARGS__))
#define TRIES_LOCK(...) LOCK_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
/* The caller does not hold it: it is taken within, or what is done takes long. */
#define EXCLUDES_LOCK(...) LOCK_ATTRIBUTE(locks_excluded(__VA_ARGS__))
/* Nobody else can see the object (it is being made or unmade), or locks are handed over. */
#define UNCHECKED_LOCKS LOCK_ATTRIBUTE(no_thread_safety_analysis)

#endif
