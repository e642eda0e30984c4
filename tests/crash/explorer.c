/* SPDX-License-Identifier: MIT */
/* The walk. explorer.h says what it makes. */
#include "explorer.h"

#define EXHAUSTIVE 5 /* all subsets up to here */

typedef struct Walk {
    Explorer *x;
    Model *model;
    MemFile base[2];
    GArray *pending;  /* uint32_t: begun, not certain to be on the disk; those that ended first, in
                         that order */
    guint ended;      /* how many have */
    GArray *choices;  /* Choice, one for each */
    GHashTable *seen; /* hashes of states checked since candidates fell away last */
    StateCheck check;
    uint64_t rnd;
} Walk;

static uint64_t rnd(Walk *w)
{
    return w->rnd = mix64(w->rnd);
}

static uint32_t pending_at(const Walk *w, guint i)
{
    return g_array_index(w->pending, uint32_t, i);
}

static Choice *choice_at(const Walk *w, guint i)
{
    return &g_array_index(w->choices, Choice, i);
}

/* ---- One state ---- */

static void build(Walk *w, MemFile *state[2])
{
    static const char *const names[2] = { "s-img", "s-data" };

    for (int f = 0; f < 2; f++) {
        state[f] = mem_named(names[f]);
        mem_copy(state[f], &w->base[f]);
    }
    for (guint i = 0; i < w->pending->len; i++) {
        const Event *e = log_event(w->x->run->log, pending_at(w, i));

        choice_apply(state[e->file], e, *choice_at(w, i));
    }
}

static void keep_failure(Walk *w, char *why, uint32_t at)
{
    Explorer *x = w->x;

    x->why = why;
    x->event = at;
    x->pending = g_array_copy(w->pending); /* the walk goes on changing its own */
    x->choices = g_array_copy(w->choices);
    x->no_leaks = w->check.no_leaks;
}

static bool finished(const Walk *w)
{
    return w->x->why || w->x->states >= w->x->max_states;
}

/* Build and check the state of the current choices. */
static void try_state(Walk *w, uint32_t at)
{
    MemFile *state[2];
    uint64_t key;
    char *why;

    if (finished(w)) {
        return;
    }
    build(w, state);
    key = mix64(mem_hash(state[0])) + mem_hash(state[1]) + w->check.no_leaks;
    if (!g_hash_table_add(w->seen, g_memdup2(&key, sizeof(key)))) {
        w->x->duplicates++;
        return;
    }
    w->x->states++;
    w->check.deep = w->x->deep_every && (w->x->before + w->x->states) % w->x->deep_every == 0;
    w->check.seed = w->x->seed + at;
    why = state_check(&w->check);
    if (why) {
        keep_failure(w, why, at);
    }
}

static void set_all(Walk *w, ChoiceKind kind)
{
    g_array_set_size(w->choices, w->pending->len);
    for (guint i = 0; i < w->pending->len; i++) {
        *choice_at(w, i) = (Choice){ .kind = (uint8_t)kind };
    }
}

static Choice random_tear(Walk *w, guint i)
{
    const Event *e = log_event(w->x->run->log, pending_at(w, i));
    Choice c = { .block_bits = rnd(w) & 1 ? 9 : 12 };
    uint32_t n = choice_blocks(e, c.block_bits);

    c.kind = (uint8_t)(CHOICE_HEAD + rnd(w) % 8);
    c.kind = c.kind > CHOICE_LENGTH ? CHOICE_SOME : c.kind;
    c.arg = c.kind == CHOICE_SOME ? (uint32_t)rnd(w) : n > 1 ? 1 + (uint32_t)(rnd(w) % (n - 1)) : 1;
    return c;
}

/* ---- The states at an event ---- */

static void try_subsets(Walk *w, uint32_t at, int newest)
{
    guint n = w->pending->len;

    for (uint32_t set = 0; set < 1u << n; set++) {
        if (newest >= 0 && !(set >> newest & 1)) {
            continue; /* had before */
        }
        set_all(w, CHOICE_DROP);
        for (guint i = 0; i < n; i++) {
            choice_at(w, i)->kind = set >> i & 1 ? CHOICE_KEEP : CHOICE_DROP;
        }
        try_state(w, at);
    }
}

/* Each dropped alone, each kept alone, as far as @max goes. */
static void try_single(Walk *w, uint32_t at, int newest, unsigned max)
{
    guint n = w->pending->len, first = n > max / 2 ? (guint)(rnd(w) % n) : 0;

    for (guint k = 0; k < MIN(n, max / 2); k++) {
        guint i = (first + k) % n;

        for (int keep = 0; keep < 2; keep++) {
            if ((int)i == newest && !keep) {
                continue;
            }
            set_all(w, keep ? CHOICE_DROP : CHOICE_KEEP);
            choice_at(w, i)->kind = keep ? CHOICE_KEEP : CHOICE_DROP;
            if (newest >= 0) {
                choice_at(w, (guint)newest)->kind = CHOICE_KEEP;
            }
            try_state(w, at);
        }
    }
}

static void choose_random(Walk *w, int newest)
{
    uint64_t dense = rnd(w) % 4; /* few to most are dropped */

    set_all(w, CHOICE_KEEP);
    for (guint i = 0; i < w->pending->len; i++) {
        if (rnd(w) % 5 <= dense) {
            choice_at(w, i)->kind = CHOICE_DROP;
        } else if (rnd(w) % 6 == 0) {
            *choice_at(w, i) = random_tear(w, i);
        }
    }
    if (newest >= 0) {
        *choice_at(w, (guint)newest) =
            rnd(w) & 1 ? (Choice){ .kind = CHOICE_KEEP } : random_tear(w, (guint)newest);
    }
}

static void try_random(Walk *w, uint32_t at, int newest, unsigned count)
{
    for (unsigned k = 0; k < count && w->pending->len; k++) {
        choose_random(w, newest);
        try_state(w, at);
    }
}

/* One torn, the others all there, all gone, or some of them. */
static void try_torn(Walk *w, uint32_t at, guint i, unsigned count)
{
    for (unsigned k = 0; k < count; k++) {
        set_all(w, k % 3 == 1 ? CHOICE_DROP : CHOICE_KEEP);
        for (guint j = 0; k % 3 == 2 && j < w->pending->len; j++) {
            choice_at(w, j)->kind = rnd(w) & 1 ? CHOICE_KEEP : CHOICE_DROP;
        }
        *choice_at(w, i) = random_tear(w, i);
        try_state(w, at);
    }
}

static void try_states(Walk *w, uint32_t at, int newest)
{
    guint n = w->pending->len;
    unsigned max = w->x->per_event;

    set_all(w, CHOICE_KEEP);
    try_state(w, at);
    if (n <= EXHAUSTIVE) {
        try_subsets(w, at, newest);
    } else {
        set_all(w, CHOICE_DROP);
        if (newest >= 0) {
            choice_at(w, (guint)newest)->kind = CHOICE_KEEP;
        }
        try_state(w, at);
        try_single(w, at, newest, max / 3);
        try_random(w, at, newest, max / 2);
    }
    if (newest >= 0) {
        const Event *e = log_event(w->x->run->log, pending_at(w, (guint)newest));

        try_torn(w, at, (guint)newest, choice_blocks(e, 9) > 1 ? 1 + max / 8 : 0);
    }
}

/* ---- The walk ---- */

static int add_pending(Walk *w, uint32_t i)
{
    g_array_append_val(w->pending, i);
    return (int)w->pending->len - 1;
}

/* It takes its place behind those that ended before. */
static void request_done(Walk *w, uint32_t ref)
{
    for (guint i = w->ended; i < w->pending->len; i++) {
        if (pending_at(w, i) == ref) {
            g_array_remove_index(w->pending, i);
            g_array_insert_val(w->pending, w->ended, ref);
            w->ended++;
            return;
        }
    }
}

/* What had ended before the sync at @begin is on the disk. */
static void synced(Walk *w, uint32_t begin)
{
    int file = log_event(w->x->run->log, begin)->file;
    guint kept = 0, ended = w->ended;

    for (guint i = 0; i < w->pending->len; i++) {
        uint32_t ref = pending_at(w, i);
        const Event *e = log_event(w->x->run->log, ref);

        if (i < w->ended && e->file == file && e->done < begin) {
            choice_apply(&w->base[file], e, (Choice){ .kind = CHOICE_KEEP });
            ended--;
        } else {
            g_array_index(w->pending, uint32_t, kept++) = ref;
        }
    }
    g_array_set_size(w->pending, kept);
    w->ended = ended;
}

/* What the event does to the files; the place of a new request, else -1. */
static int step(Walk *w, uint32_t i)
{
    const Event *e = log_event(w->x->run->log, i);

    switch (e->type) {
    case EV_WRITE:
    case EV_ZERO:
    case EV_PUNCH:
    case EV_TRUNCATE:
        return add_pending(w, i);
    case EV_DONE:
        request_done(w, e->ref);
        break;
    case EV_SYNCED:
        synced(w, e->ref);
        break;
    case EV_POWER:
        for (int f = 0; f < 2; f++) {
            mem_copy(&w->base[f], &g_array_index(w->x->run->after, MemFile, 2 * e->result + f));
        }
        g_array_set_size(w->pending, 0);
        w->ended = 0;
        break;
    case EV_SYNC:
    case EV_OP:
    case EV_OP_DONE:
    case EV_OBSERVED:
        break;
    }
    return -1;
}

static void one_event(Walk *w, uint32_t i)
{
    const Event *e = log_event(w->x->run->log, i);
    bool fewer = model_event(w->model, w->x->run->log, i);
    int newest = step(w, i);

    if (fewer) {
        g_hash_table_remove_all(w->seen);
    }
    switch (e->type) {
    case EV_WRITE:
    case EV_ZERO:
    case EV_PUNCH:
    case EV_TRUNCATE:
    case EV_SYNCED:
    case EV_POWER:
        if (!finished(w)) {
            try_states(w, i, newest);
        }
        break;
    case EV_OP_DONE:
        if (!finished(w) && (fewer || program_op(w->x->run->p, e->ref)->type == OP_CREATE)) {
            try_states(w, i, -1);
        }
        break;
    case EV_DONE:
    case EV_SYNC:
    case EV_OP:
    case EV_OBSERVED:
        break;
    }
}

static void walk_init(Walk *w, Explorer *x)
{
    *w = (Walk){ .x = x, .model = model_new(x->run->p, false), .rnd = x->seed };
    for (int f = 0; f < 2; f++) {
        mem_copy(&w->base[f], &x->run->start[f]);
    }
    w->pending = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    w->choices = g_array_new(FALSE, FALSE, sizeof(Choice));
    w->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    w->check = (StateCheck){ .run = x->run,
                             .model = w->model,
                             .reference_every = x->reference_every,
                             .checked = x->before };
}

static void walk_clear(Walk *w)
{
    model_free(w->model);
    mem_clear(&w->base[0]);
    mem_clear(&w->base[1]);
    g_array_unref(w->pending);
    g_array_unref(w->choices);
    g_hash_table_unref(w->seen);
    state_check_clear(&w->check);
}

/* A process that died leaves leaks behind. */
static bool dies(const Program *p)
{
    for (guint i = 0; i < p->ops->len; i++) {
        if (program_op(p, i)->type == OP_KILL || program_op(p, i)->type == OP_POWER) {
            return true;
        }
    }
    return false;
}

void explore(Explorer *x)
{
    uint32_t n = x->run->log->events->len;
    Walk w;

    walk_init(&w, x);
    for (uint32_t i = 1; i < n && !x->why; i++) {
        one_event(&w, i);
    }
    /* Closed, and everything reached the disk: looked at whatever the number of states was. */
    if (!x->why && n > 1 && !dies(x->run->p)) {
        x->max_states = MAX(x->max_states, x->states + 1);
        set_all(&w, CHOICE_KEEP);
        w.check.no_leaks = true;
        try_state(&w, n - 1);
    }
    x->deep += w.check.deep_checked;
    x->reference += w.check.reference_checked;
    walk_clear(&w);
}

void explorer_lose_power(Run *r, uint64_t seed, MemFile left[2])
{
    Explorer x = { .run = r, .seed = seed };
    uint32_t n = r->log->events->len, first = n;
    MemFile *state[2];
    Walk w;

    while (first > 1 && log_event(r->log, first - 1)->type != EV_POWER) {
        first--;
    }
    log_cut(r->log, n > first ? first + (uint32_t)(seed % (n - first + 1)) : n);
    walk_init(&w, &x);
    for (uint32_t i = 1; i < r->log->events->len; i++) {
        step(&w, i);
    }
    choose_random(&w, -1);
    build(&w, state);
    for (int f = 0; f < 2; f++) {
        mem_copy(&left[f], state[f]);
    }
    walk_clear(&w);
}

/* ---- A failure, smaller ---- */

/* Does the state of @x with other choices still fail? */
static bool still_fails(Explorer *x, GArray *choices)
{
    Explorer quiet = { .run = x->run, .seed = x->seed, .max_states = UINT64_MAX, .deep_every = 1 };
    MemFile *state[2];
    char *why;
    Walk w;

    walk_init(&w, &quiet);
    for (uint32_t i = 1; i <= x->event; i++) {
        model_event(w.model, x->run->log, i);
        step(&w, i);
    }
    g_array_set_size(w.choices, 0);
    g_array_append_vals(w.choices, choices->data, choices->len);
    build(&w, state);
    w.check.deep = true;
    w.check.no_leaks = x->no_leaks;
    w.check.seed = x->seed + x->event;
    w.check.reference_every = x->reference_every ? 1 : 0;
    why = state_check(&w.check);
    walk_clear(&w);
    if (why) {
        g_free(x->why);
        x->why = why;
    }
    return why != NULL;
}

void explorer_minimise(Explorer *x)
{
    static const ChoiceKind simpler[] = { CHOICE_KEEP, CHOICE_DROP };

    for (guint i = x->choices->len; i-- > 0;) {
        Choice *c = &g_array_index(x->choices, Choice, i), old = *c;

        for (size_t k = 0; k < G_N_ELEMENTS(simpler) && old.kind != CHOICE_KEEP; k++) {
            *c = (Choice){ .kind = (uint8_t)simpler[k] };
            if (old.kind == c->kind || still_fails(x, x->choices)) {
                break;
            }
            *c = old;
        }
    }
}

char *explorer_state_text(const Explorer *x)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < x->pending->len; i++) {
        uint32_t at = g_array_index(x->pending, uint32_t, i);
        g_autofree char *t =
            choice_text(log_event(x->run->log, at), g_array_index(x->choices, Choice, i));

        g_string_append_printf(s, "  event %u, %s\n", at, t);
    }
    return g_string_free(s, FALSE);
}

void explorer_clear(Explorer *x)
{
    g_clear_pointer(&x->why, g_free);
    g_clear_pointer(&x->pending, g_array_unref);
    g_clear_pointer(&x->choices, g_array_unref);
}
