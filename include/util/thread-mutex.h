/* SPDX-License-Identifier: MIT */
/* A mutex between threads, for what may take longer than a spin lock's nanoseconds and is done by
 * no coroutine that yields meanwhile. */
#ifndef UTIL_THREAD_MUTEX_H
#define UTIL_THREAD_MUTEX_H

#include "util/lock-annotations.h"

#include <pthread.h>

typedef struct LOCK_TYPE("mutex") ThreadMutex {
    pthread_mutex_t m; /* for pthread_cond_wait() */
} ThreadMutex;

#define THREAD_MUTEX_INIT                                                                          \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER                                                                  \
    }

static inline void thread_mutex_lock(ThreadMutex *m) ACQUIRES_LOCK(*m) UNCHECKED_LOCKS
{
    pthread_mutex_lock(&m->m);
}

static inline void thread_mutex_unlock(ThreadMutex *m) RELEASES_LOCK(*m) UNCHECKED_LOCKS
{
    pthread_mutex_unlock(&m->m);
}

#endif
