/* SPDX-License-Identifier: MIT */
/* A set of secrets: see secrets.h. */
#include "util/secrets.h"

#include "util/error.h"
#include "util/thread-mutex.h"

#include <string.h>

struct Secrets {
    gatomicrefcount refs;
    ThreadMutex lock;
    GHashTable *by_id GUARDED_BY(lock); /* name -> SecureBuf */
};

static void secret_free(gpointer p)
{
    secure_buf_clear(p);
    g_free(p);
}

Secrets *secrets_new(void)
{
    Secrets *s = g_new0(Secrets, 1);

    g_atomic_ref_count_init(&s->refs);
    s->lock = (ThreadMutex)THREAD_MUTEX_INIT;
    s->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, secret_free);
    return s;
}

Secrets *secrets_ref(Secrets *s)
{
    if (s) {
        g_atomic_ref_count_inc(&s->refs);
    }
    return s;
}

void secrets_unref(Secrets *s)
{
    if (s && g_atomic_ref_count_dec(&s->refs)) {
        g_hash_table_unref(s->by_id);
        g_free(s);
    }
}

bool secrets_add(Secrets *s, const char *id, const void *data, size_t len, GError **errp)
{
    SecureBuf b = { NULL, 0 };
    bool added;

    if (len && !secure_buf_init(&b, len)) {
        error_set_errno(errp, ENOMEM, "Could not keep secret '%s'", id);
        return false;
    }
    if (len) {
        memcpy(b.data, data, len);
    }
    thread_mutex_lock(&s->lock);
    added = !g_hash_table_contains(s->by_id, id);
    if (added) {
        g_hash_table_insert(s->by_id, g_strdup(id), g_memdup2(&b, sizeof(b)));
    }
    thread_mutex_unlock(&s->lock);
    if (!added) {
        secure_buf_clear(&b);
        error_set(errp, EEXIST,
                  "attempt to add duplicate property '%s' to object (type "
                  "'container')",
                  id);
    }
    return added;
}

const SecureBuf *secrets_find(Secrets *s, const char *id, GError **errp)
{
    const SecureBuf *b = NULL;

    if (s) {
        thread_mutex_lock(&s->lock);
        b = g_hash_table_lookup(s->by_id, id);
        thread_mutex_unlock(&s->lock);
    }
    if (!b) {
        error_set(errp, EINVAL, "No secret with id '%s'", id);
    }
    return b;
}

const SecureBuf *secrets_find_text(Secrets *s, const char *id, GError **errp)
{
    const SecureBuf *b = secrets_find(s, id, errp);

    if (b && b->len && !g_utf8_validate((const char *)b->data, (gssize)b->len, NULL)) {
        error_set(errp, EINVAL, "Data from secret %s is not valid UTF-8", id);
        return NULL;
    }
    return b;
}
