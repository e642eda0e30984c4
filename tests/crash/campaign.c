/* SPDX-License-Identifier: MIT */
/* Programs in turn from all workloads; the first failure is shrunk and told. */
#include "campaign.h"

#include <stdio.h>
#include <string.h>

#define SHRINK_SECONDS 60.0

static double now(void)
{
    return (double)g_get_monotonic_time() / 1e6;
}

static bool is_wanted(const Campaign *c, const char *name)
{
    g_auto(GStrv) names = c->only ? g_strsplit(c->only, ",", -1) : NULL;

    return !names || g_strv_contains((const char *const *)names, name);
}

/* Run and explore; true if it fails. @x is filled in either way; *run to be freed behind it. */
static bool try_program(const Campaign *c, const Program *p, uint64_t max, Run **run, Explorer *x)
{
    *run = run_program(p);
    *x = (Explorer){ .run = *run,
                     .seed = mix64(p->seed),
                     .per_event = c->per_event,
                     .max_states = max,
                     .deep_every = c->deep_every,
                     .reference_every = c->reference_every,
                     .before = c->done };
    if ((*run)->error) {
        return true;
    }
    explore(x);
    return x->why != NULL;
}

/* ---- A failing program, smaller ---- */

static bool fails_without(const Campaign *c, const Program *p, guint first, guint n,
                          Program **smaller)
{
    Program *s = program_copy(p);
    Run *run;
    Explorer x;
    bool fails;

    g_array_remove_range(s->ops, first, n);
    fails = try_program(c, s, c->per_program, &run, &x);
    explorer_clear(&x);
    run_free(run);
    if (!fails) {
        program_free(s);
        return false;
    }
    *smaller = s;
    return true;
}

static Program *shrink(const Campaign *c, const Program *p)
{
    Program *best = program_copy(p);
    double until = now() + SHRINK_SECONDS;

    for (guint n = best->ops->len / 2; n > 0; n = n > 1 ? n / 2 : 0) {
        for (guint first = 0; first + n < best->ops->len && now() < until;) { /* the close stays */
            Program *smaller;

            if (fails_without(c, best, first, n, &smaller)) {
                program_free(best);
                best = smaller;
            } else {
                first += n;
            }
        }
    }
    return best;
}

/* ---- The report ---- */

static char *report(Campaign *c, const Program *p)
{
    g_autofree char *whole = program_ops_text(p), *cfg = program_config_text(p), *ops = NULL,
                    *state = NULL;
    g_autoptr(Program) best = c->no_shrink ? program_copy(p) : shrink(c, p);
    GString *s = g_string_new(NULL);
    Run *run;
    Explorer x;

    if (!try_program(c, best, UINT64_MAX, &run, &x)) {
        explorer_clear(&x);
        run_free(run);
        try_program(c, p, UINT64_MAX, &run, &x); /* it does not repeat: tell it as it was */
    }
    if (x.why) {
        explorer_minimise(&x);
        state = explorer_state_text(&x);
    }
    ops = program_ops_text(run->p);
    g_string_append_printf(s, "workload %s, seed %" G_GUINT64_FORMAT "\nimage: %s\nprogram: %s\n",
                           p->workload, p->seed, cfg, whole);
    g_string_append_printf(s, "smallest program: %s\n", ops);
    if (x.why) {
        g_string_append_printf(s, "power fails at event %u; requests since the sync:\n%s%s\n",
                               x.event, state, x.why);
    } else {
        g_string_append_printf(s, "%s\n", run->error ? run->error : "(it did not fail again)");
    }
    g_string_append_printf(
        s, "again: explore --workload %s --seed %" G_GUINT64_FORMAT " --once -o %s --ops '%s'\n",
        p->workload, p->seed, cfg, ops);
    explorer_clear(&x);
    run_free(run);
    return g_string_free(s, FALSE);
}

/* ---- The campaign ---- */

static Program *make_program(const Campaign *c, const Workload *w, uint64_t seed, char **error)
{
    Program *p = program_make(w, seed, c->override);

    if (!p || (c->ops && !program_parse_ops(p, c->ops))) {
        *error = g_strdup("options or operations cannot be parsed\n");
    }
    return p;
}

static bool used_up(const Campaign *c, double start)
{
    return (c->states && c->done >= c->states) || (c->seconds > 0 && now() - start >= c->seconds);
}

static char *run_one(Campaign *c, unsigned index, uint64_t seed)
{
    char *error = NULL;
    g_autoptr(Program) p = make_program(c, &workloads[index], seed, &error);
    uint64_t max = c->states ? MIN(c->per_program, c->states - c->done) : c->per_program;
    double start = now();
    Run *run;
    Explorer x;
    bool fails;

    if (error) {
        return error;
    }
    if (c->verbose) {
        g_autofree char *cfg = program_config_text(p), *ops = program_ops_text(p);

        printf("# %s %" G_GUINT64_FORMAT ": %s: %s\n", p->workload, seed, cfg, ops);
    }
    fails = try_program(c, p, max, &run, &x);
    c->programs++;
    c->done += x.states;
    c->by_workload[index] += x.states;
    c->deep += x.deep;
    c->reference += x.reference;
    c->duplicates += x.duplicates;
    if (c->verbose) {
        printf("#   %u events, %d states, %d twice, %.2f s\n", run->log->events->len, (int)x.states,
               (int)x.duplicates, now() - start);
        fflush(stdout);
    }
    explorer_clear(&x);
    run_free(run);
    return fails ? report(c, p) : NULL;
}

/* Programs that failed once, before the random ones: image, operations. */
static const char *const known[][2] = {
    { "version=3,cluster_bits=20,size=4194304", "w1:0+4096 f z0:0+2048 w2:1024+2048 f" },
    { "version=3,cluster_bits=14,extended=1,data_file=2,size=196608", "w19:260+10" },
    /* Killed when tables that let go of clusters were written and not synced */
    { "version=3,cluster_bits=14,extended=1,refcount_bits=1,lazy=1,size=196608",
      "w3:160+96 f u8:152+52 x1 f k w5:0+8 f" },
    /* Preallocated from within a cluster on that shows the backing file */
    { "version=3,cluster_bits=16,backing=1,backing_size=98304,size=98304", "r!512 f" },
};

static char *run_known(Campaign *c)
{
    Campaign one = *c;
    char *failure = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(known) && !failure && !c->only && !c->ops; i++) {
        one.override = known[i][0];
        one.ops = known[i][1];
        failure = run_one(&one, 0, 1);
    }
    return failure;
}

char *campaign_run(Campaign *c)
{
    double start = now();
    char *failure = run_known(c);

    for (uint64_t round = 0; !failure && !used_up(c, start) && (round == 0 || !c->once); round++) {
        bool any = false;

        for (unsigned i = 0; workloads[i].name && !failure && !used_up(c, start); i++) {
            if (is_wanted(c, workloads[i].name)) {
                any = true;
                failure = run_one(c, i, c->once ? c->seed : mix64(c->seed + round * 100 + i) >> 32);
            }
        }
        if (!any) {
            failure = g_strdup_printf("no workload %s\n", c->only);
        }
    }
    c->used = now() - start;
    return failure;
}
