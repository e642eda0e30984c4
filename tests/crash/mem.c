/* SPDX-License-Identifier: MIT */
/* Files in memory: pages and their hashes. mem.h has the invariants. */
#include "mem.h"

#include "util/iov.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static void page_unref(MemPage *p)
{
    if (p && --p->refs == 0) {
        g_free(p);
    }
}

void mem_clear(MemFile *f)
{
    for (size_t i = 0; i < f->npages; i++) {
        page_unref(f->pages[i]);
    }
    g_free(f->pages);
    *f = (MemFile){ 0 };
}

static void reserve(MemFile *f, size_t n)
{
    if (n > f->npages) {
        n = MAX(n, f->npages + f->npages / 2);
        f->pages = g_renew(MemPage *, f->pages, n);
        memset(f->pages + f->npages, 0, (n - f->npages) * sizeof(*f->pages));
        f->npages = n;
    }
}

void mem_copy(MemFile *dst, const MemFile *src)
{
    size_t used = MIN(src->npages, DIV_ROUND_UP(src->size, MEM_PAGE));

    for (size_t i = 0; i < dst->npages; i++) {
        page_unref(dst->pages[i]);
        dst->pages[i] = NULL;
    }
    reserve(dst, used);
    dst->size = src->size;
    dst->device = src->device;
    for (size_t i = 0; i < used; i++) {
        dst->pages[i] = src->pages[i];
        if (dst->pages[i]) {
            dst->pages[i]->refs++;
        }
    }
}

void mem_read(const MemFile *f, uint64_t offset, void *buf, size_t len)
{
    uint8_t *to = buf;

    while (len) {
        size_t i = offset / MEM_PAGE, at = offset % MEM_PAGE, n = MIN(len, MEM_PAGE - at);

        if (i < f->npages && f->pages[i]) {
            memcpy(to, f->pages[i]->data + at, n);
        } else {
            memset(to, 0, n);
        }
        to += n;
        offset += n;
        len -= n;
    }
}

/* Page @i, ours alone. */
static MemPage *own_page(MemFile *f, size_t i)
{
    MemPage *p = f->pages[i];

    if (!p) {
        p = g_new0(MemPage, 1);
        p->refs = 1;
    } else if (p->refs > 1) { /* INV-MEM-2 */
        p->refs--;
        p = g_memdup2(p, sizeof(*p));
        p->refs = 1;
    }
    p->hashed = false;
    f->pages[i] = p;
    return p;
}

void mem_write(MemFile *f, uint64_t offset, const void *buf, size_t len)
{
    const uint8_t *from = buf;

    f->size = MAX(f->size, offset + len);
    reserve(f, DIV_ROUND_UP(f->size, MEM_PAGE));
    while (len) {
        size_t i = offset / MEM_PAGE, at = offset % MEM_PAGE, n = MIN(len, MEM_PAGE - at);

        if (from) {
            memcpy(own_page(f, i)->data + at, from, n);
            from += n;
        } else if (n == MEM_PAGE) {
            page_unref(f->pages[i]);
            f->pages[i] = NULL;
        } else if (f->pages[i]) {
            memset(own_page(f, i)->data + at, 0, n);
        }
        offset += n;
        len -= n;
    }
}

void mem_zero(MemFile *f, uint64_t offset, uint64_t len, bool grow)
{
    if (!grow) {
        len = offset < f->size ? MIN(len, f->size - offset) : 0;
    }
    if (len) {
        mem_write(f, offset, NULL, len);
    }
}

void mem_make_device(MemFile *f, uint64_t size)
{
    g_autofree uint8_t *old = g_malloc(size);

    memset(old, 0xdd, size);
    mem_clear(f);
    mem_write(f, 0, old, size);
    f->device = true;
}

void mem_resize(MemFile *f, uint64_t size)
{
    if (f->device) {
        return;
    }
    if (size < f->size) {
        mem_write(f, size, NULL, f->size - size); /* INV-MEM-1 */
    }
    f->size = size;
    reserve(f, DIV_ROUND_UP(size, MEM_PAGE));
}

static uint64_t page_hash(MemPage *p)
{
    uint64_t h[4] = { 1, 2, 3, 4 };

    if (p->hashed) {
        return p->hash;
    }
    for (size_t i = 0; i < MEM_PAGE; i += 32) {
        for (int k = 0; k < 4; k++) {
            uint64_t v;

            memcpy(&v, p->data + i + k * 8, 8);
            h[k] = (h[k] ^ v) * UINT64_C(0x9fb21c651e98df25);
            h[k] ^= h[k] >> 32;
        }
    }
    p->hash = buffer_is_zero(p->data, MEM_PAGE)
                  ? 0
                  : mix64(h[0] ^ mix64(h[1] ^ mix64(h[2] ^ mix64(h[3]))));
    p->hashed = true;
    return p->hash;
}

uint64_t mem_hash(MemFile *f)
{
    uint64_t sum = mix64(f->size);

    for (size_t i = 0; i < f->npages; i++) {
        uint64_t h = f->pages[i] ? page_hash(f->pages[i]) : 0;

        sum += h ? mix64(h + i) : 0;
    }
    return sum;
}

bool mem_save(const MemFile *f, const char *path)
{
    g_autofree uint8_t *buf = g_malloc(MAX(f->size, 1));

    mem_read(f, 0, buf, f->size);
    return g_file_set_contents(path, (char *)buf, (gssize)f->size, NULL);
}
