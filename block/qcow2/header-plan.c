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
    FORMS
} FormKind;

/* Tried in this order; the first that is safe is taken. */
static const FormKind paths[][QCOW2_HEADER_MAX_STEPS] = {
    { FULL, FORMS },       { BARE, FULL },        { BARE_APART, FULL },
    { FULL_APART, FORMS }, { BARE, FULL_APART },  { BARE_APART, FULL_APART },
    { BARE, FORMS },       { BARE_APART, FORMS },
};

static void form_init(Form *f, const Qcow2Header *h, size_t len, FormKind kind)
{
    size_t room = h->room ? MIN(h->room, len) : len;

    f->buf = g_try_malloc0(len);
    if (f->buf && !qcow2_header_serialise_form(h, f->buf, room, kind == FULL || kind == FULL_APART,
                                               kind == FULL_APART || kind == BARE_APART, &f->at)) {
        g_clear_pointer(&f->buf, g_free);
    }
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

    for (plan->n = 0; plan->n < QCOW2_HEADER_MAX_STEPS && path[plan->n] != FORMS; plan->n++) {
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
    bool found = false, any = false;

    g_assert(len >= HEADER_SECTOR);
    *plan = (Qcow2HeaderPlan){ 0 };
    for (int i = 0; i < FORMS; i++) {
        form_init(&forms[i], h, len, (FormKind)i);
        any |= forms[i].buf != NULL;
    }
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
