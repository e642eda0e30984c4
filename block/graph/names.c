/* SPDX-License-Identifier: MIT */
/*
 * Names of nodes, unique in the process, as the reference's.
 *
 * INV-NAME-1  The table holds the nodes that were given a name, under the graph's lock.
 */
#include "block/graph/graph.h"

#include <string.h>

#define NODE_NAME_MAX 31

static GHashTable *names; /* char * of the node -> BlockDriverState *; INV-NAME-1 */
static atomic_uint next_name;

static bool is_well_formed(const char *name)
{
    if (!g_ascii_isalpha(name[0])) {
        return false;
    }
    for (const char *p = name; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("-._", *p)) {
            return false;
        }
    }
    return true;
}

bool bdrv_name_register(BlockDriverState *bs, const char *name, GError **errp)
{
    bool taken;

    if (!name) {
        bs->node_name = g_strdup_printf("#block%03u", atomic_fetch_add(&next_name, 1) % 1000);
        return true;
    }
    if (!is_well_formed(name)) {
        error_set(errp, EINVAL, "Invalid node-name: '%s'", name);
        return false;
    }
    if (strlen(name) > NODE_NAME_MAX) {
        error_set(errp, EINVAL, "Node name too long");
        return false;
    }
    bdrv_graph_lock();
    if (!names) {
        names = g_hash_table_new(g_str_hash, g_str_equal);
    }
    taken = g_hash_table_contains(names, name);
    if (!taken) {
        bs->node_name = g_strdup(name);
        bs->core->named = true;
        g_hash_table_insert(names, bs->node_name, bs);
    }
    bdrv_graph_unlock();
    if (taken) {
        error_set(errp, EINVAL, "Duplicate nodes with node-name='%s'", name);
    }
    return !taken;
}

void bdrv_name_unregister(BlockDriverState *bs)
{
    if (!bs->core->named) {
        return;
    }
    bdrv_graph_lock();
    g_hash_table_remove(names, bs->node_name);
    if (g_hash_table_size(names) == 0) {
        g_hash_table_unref(names);
        names = NULL;
    }
    bdrv_graph_unlock();
    bs->core->named = false;
}

void bdrv_names_forget(void)
{
    names = NULL; /* left to the parent, as the nodes are */
}

BlockDriverState *bdrv_name_lookup(const char *name)
{
    BlockDriverState *bs;
    int refs;

    bdrv_graph_lock();
    bs = names ? g_hash_table_lookup(names, name) : NULL;
    refs = bs && atomic_load(&bs->core->opened) ? atomic_load(&bs->refcnt) : 0;
    while (refs > 0 && !atomic_compare_exchange_weak(&bs->refcnt, &refs, refs + 1)) {
    }
    bdrv_graph_unlock();
    return refs > 0 ? bs : NULL; /* 0: being opened or closed */
}
