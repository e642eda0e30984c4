/* SPDX-License-Identifier: MIT */
/* A process that forks: the child has a graph of its own, and a lock that nobody holds. */
#include "block/graph/graph.h"

static void after_fork(bool child) UNCHECKED_LOCKS
{
    if (child) {
        bdrv_names_forget();
    }
    bdrv_graph_unlock();
}

static gpointer register_at_fork(gpointer unused)
{
    aio_at_fork(bdrv_graph_lock, after_fork);
    return NULL;
}

void bdrv_graph_survive_fork(void)
{
    static GOnce once = G_ONCE_INIT;

    g_once(&once, register_at_fork, NULL);
}
