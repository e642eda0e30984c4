/* SPDX-License-Identifier: MIT */
/* Memory for keys: see secure-buf.h. */
#include "util/secure-buf.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t whole_pages(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return ALIGN_UP(len, page);
}

bool secure_buf_init(SecureBuf *b, size_t len)
{
    void *p;

    g_assert(len > 0);
    *b = (SecureBuf){ NULL, 0 };
    p = mmap(NULL, whole_pages(len), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    /* Both are best effort: limits may refuse, and the key is needed all the same. */
    (void)mlock(p, whole_pages(len));
    (void)madvise(p, whole_pages(len), MADV_DONTDUMP);
    *b = (SecureBuf){ p, len };
    return true;
}

void secure_buf_clear(SecureBuf *b)
{
    if (b->data) {
        secure_wipe(b->data, b->len);
        munmap(b->data, whole_pages(b->len));
    }
    *b = (SecureBuf){ NULL, 0 };
}

void secure_wipe(void *p, size_t len)
{
    explicit_bzero(p, len);
}
