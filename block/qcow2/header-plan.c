/* SPDX-License-Identifier: MIT */
/* Steps from one header to another: see header-plan.h. */
#include "header-plan.h"

#include "header-layout.h"
#include "rules.h"

#include <errno.h>
#include <string.h>

/* One way to write a header down. */
typedef struct Form {
    uint8_t *buf; /* the cluster; NULL: this way it does not fit */
    Qcow2HeaderPlaces at;
} Form;

typedef enum FormKind {
    FULL,       /* as a new image has it */
    FULL_APART, /* the backing file's name at the cluster's end */
    BARE,       /* no feature names */
    BARE_APART,
    OLD_BARE, /* the old header without feature names */
    OLD_BARE_APART,
    FORMS,
    END = FORMS
} FormKind;

/* Tried in this order; the first that is safe is taken. */
static const FormKind paths[][QCOW2_HEADER_MAX_STEPS + 1] = {
    { FULL, END },
    { BARE, FULL, END },
    { BARE_APART, FULL, END },
    { FULL_APART, END },
    { BARE, FULL_APART, END },
    { BARE_APART, FULL_APART, END },
    { OLD_BARE, FULL, END },
    { OLD_BARE, BARE, FULL, END },
    { OLD_BARE, BARE_APART, FULL, END },
    { OLD_BARE_APART, FULL, END },
    { OLD_BARE_APART, BARE, FULL, END },
    { BARE, END },
    { BARE_APART, END },
    { OLD_BARE, BARE, END },
    { OLD_BARE, BARE_APART, END },
};

static bool is_apart(FormKind kind)
{
    return kind == FULL_APART || kind == BARE_APART || kind == OLD_BARE_APART;
}

static void form_init(Form *f, const Qcow2Header *h, size_t len, FormKind kind)
{
    size_t room = h->room ? MIN(h->room, len) : len;

    f->buf = g_try_malloc0(len);
    if (f->buf && !qcow2_header_serialise_form(h, f->buf, room, kind == FULL || kind == FULL_APART,
                                               is_apart(kind), &f->at)) {
        g_clear_pointer(&f->buf, g_free);
    }
}

/* True: the new header fits somehow. */
static bool forms_init(Form *forms, const uint8_t *old, size_t len, const Qcow2Header *h)
{
    bool any = false;
    Qcow2Header was;

    for (int i = 0; i < OLD_BARE; i++) {
        form_init(&forms[i], h, len, (FormKind)i);
        any |= forms[i].buf != NULL;
    }
    forms[OLD_BARE].buf = forms[OLD_BARE_APART].buf = NULL;
    if (qcow2_header_parse(&was, old, len, INT64_MAX, BLK_O_NO_IO | BLK_O_CHECK, NULL) == 0) {
        form_init(&forms[OLD_BARE], &was, len, OLD_BARE);
        form_init(&forms[OLD_BARE_APART], &was, len, OLD_BARE_APART);
        qcow2_header_clear(&was);
    }
    return any;
}

/* ---- Is a step safe? ---- */

static bool has(const Qcow2HeaderPlaces *p, size_t i)
{
    return i < p->end || (i >= p->name && i < p->name_end);
}

/* Bytes [@from, @to) of @f can be written while @now, with the places @places, is the header. */
static bool fits_beside(const uint8_t *now, const Qcow2HeaderPlaces *places, const Form *f,
                        size_t from, size_t to)
{
    for (size_t i = MAX(from, HEADER_SECTOR); i < to; i++) {
        if (now[i] != f->buf[i] && has(places, i) && !RULE_BROKEN(HEADER_TAIL_FREE)) {
            return false;
        }
    }
    return true;
}

/* The cluster after the step from @now to @f, or NULL: it is not safe. */
static uint8_t *take(const uint8_t *now, size_t len, const Form *f)
{
    Qcow2HeaderPlaces places = qcow2_header_places(now, len);
    uint8_t *next;

    if (!fits_beside(now, &places, f, 0, f->at.end) ||
        !fits_beside(now, &places, f, f->at.name, f->at.name_end)) {
        return NULL;
    }
    next = g_try_malloc(len);
    if (next) {
        memcpy(next, now, len);
        memcpy(next, f->buf, MAX(f->at.end, HEADER_SECTOR));
        memcpy(next + f->at.name, f->buf + f->at.name, f->at.name_end - f->at.name);
    }
    return next;
}

/* ---- A path of safe steps ---- */

static bool try_path(const uint8_t *old, size_t len, const Form *forms, const FormKind *path,
                     Qcow2HeaderPlan *plan)
{
    const uint8_t *now = old;

    for (plan->n = 0; path[plan->n] != END; plan->n++) {
        const Form *f = &forms[path[plan->n]];

        plan->steps[plan->n] = f->buf ? take(now, len, f) : NULL;
        if (!plan->steps[plan->n]) {
            qcow2_header_plan_clear(plan);
            return false;
        }
        now = plan->steps[plan->n];
    }
    plan->tidy = g_try_malloc(len);
    if (!plan->tidy) {
        qcow2_header_plan_clear(plan);
        return false;
    }
    memcpy(plan->tidy, forms[path[plan->n - 1]].buf, len);
    return true;
}

void qcow2_header_plan_clear(Qcow2HeaderPlan *plan)
{
    for (unsigned i = 0; i < QCOW2_HEADER_MAX_STEPS; i++) {
        g_clear_pointer(&plan->steps[i], g_free);
    }
    g_clear_pointer(&plan->tidy, g_free);
    plan->n = 0;
}

int qcow2_header_plan(const uint8_t *old, size_t len, const Qcow2Header *h, Qcow2HeaderPlan *plan,
                      GError **errp)
{
    Form forms[FORMS];
    bool found = false, any = forms_init(forms, old, len, h);

    g_assert(len >= HEADER_SECTOR);
    *plan = (Qcow2HeaderPlan){ 0 };
    for (size_t i = 0; i < G_N_ELEMENTS(paths) && !found; i++) {
        found = try_path(old, len, forms, paths[i], plan);
    }
    for (int i = 0; i < FORMS; i++) {
        g_free(forms[i].buf);
    }
    if (found) {
        return 0;
    }
    if (any) {
        return error_set(errp, ENOSPC,
                         "The qcow2 header has no room for its new extensions and names beside the "
                         "old ones: choose shorter names");
    }
    return error_set(errp, ENOSPC,
                     "The qcow2 header, its extensions and the backing file name do not fit into a "
                     "cluster of %zu bytes: choose shorter names",
                     h->room ? MIN(h->room, len) : len);
}
