/* SPDX-License-Identifier: MIT */
/*
 * The lock of the graph's upward side.
 *
 * INV-GRAPH-1  A node that has a name may be shared by images that several threads open and close
 * at a time. What joins it to them (its list of parents, what they hold of it, the table of names)
 * is guarded by graph_lock, which nobody holds over a yield, nor while calling a user.
 */
#include "block/graph/graph.h"

#include <pthread.h>

static pthread_mutex_t graph_lock = PTHREAD_MUTEX_INITIALIZER;

void bdrv_graph_lock(void)
{
    pthread_mutex_lock(&graph_lock);
}

void bdrv_graph_unlock(void)
{
    pthread_mutex_unlock(&graph_lock);
}
