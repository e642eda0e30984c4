/* SPDX-License-Identifier: MIT */
/*
 * Breaks one rule after the other.  Built twice: into "explore", where no rule can be broken, and
 * into "explore-rules", with a copy of the driver that can.
 */
#include "rules-test.h"

#include "block/qcow2/rules.h"
#include "reference.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

#define CASE_ROUNDS 60
#define OTHER_SEEDS 6 /* whose programs are tried for a rule that is found rarely */

typedef struct Rule {
    const char *name, *workload, *what;
} Rule;

static const Rule all[] = {
#define X(name, workload, what) { #name, workload, what },
    QCOW2_RULES(X)
#undef X
};

void rules_list(void)
{
    printf("\n");
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        printf("%-24s %s\n", all[i].name, all[i].what);
    }
}

#ifdef QCOW2_BREAK_RULES
Qcow2Rule qcow2_broken_rule;
unsigned qcow2_cases_met[QCOW2_NCASES];

/* Each workload's programs in turn, run but not explored. */
static unsigned meet_cases(const Campaign *c)
{
    unsigned n = 0;

    for (uint64_t round = 0; round < CASE_ROUNDS; round++) {
        for (unsigned i = 0; workloads[i].name; i++, n++) {
            g_autoptr(Program) p =
                program_make(&workloads[i], mix64(c->seed + round * 100 + i) >> 32, c->override);

            run_free(run_program(p));
        }
    }
    return n;
}

int cases_test(const Campaign *c)
{
    static const char *const what[] = {
#define X(name, text) #name ": " text,
        QCOW2_CASES(X)
#undef X
    };
    unsigned programs = meet_cases(c), never = 0;
    bool snapshots = reference_available(); /* which makes them */

    for (unsigned i = 0; i < QCOW2_NCASES; i++) {
        bool skip = !snapshots && i == CASE_TABLE_COPIED;

        never += !qcow2_cases_met[i] && !skip;
        printf("%sok %u - %s; %u times%s\n", qcow2_cases_met[i] || skip ? "" : "not ", i + 1,
               what[i], qcow2_cases_met[i], skip ? " # SKIP the reference is not installed" : "");
    }
    printf("# %u programs\n1..%u\n", programs, (unsigned)QCOW2_NCASES);
    return never != 0;
}

bool rules_break(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!strcmp(all[i].name, name)) {
            qcow2_broken_rule = (Qcow2Rule)(i + 1);
            return true;
        }
    }
    return false;
}

/* In the workload that the rule is about, then in all. First few states of many programs, as some
 * races are rare; then more of each, as some instants are; then other programs. (What is cached
 * where differs from run to run: the same programs may not meet a race again.) */
static char *find(const Campaign *like, const Rule *r, Campaign *c)
{
    static const uint64_t per_program[] = { 40, 300 };
    char *failure = NULL;

    for (unsigned i = 0; i < OTHER_SEEDS + G_N_ELEMENTS(per_program) && !failure; i++) {
        *c = *like;
        c->only = like->only ? like->only : r->workload;
        c->states = like->states / 4;
        c->seed = like->seed + i / G_N_ELEMENTS(per_program);
        c->per_program = MIN(like->per_program, per_program[i % G_N_ELEMENTS(per_program)]);
        c->no_shrink = true;
        failure = campaign_run(c);
    }
    if (!failure) {
        *c = *like;
        c->no_shrink = true;
        failure = campaign_run(c);
    }
    return failure;
}

int rules_test(const Campaign *like, const char *only)
{
    unsigned n = 0, missed = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autofree char *failure = NULL;
        Campaign c;

        if (only && strcmp(only, all[i].name)) {
            continue;
        }
        rules_break(all[i].name);
        failure = find(like, &all[i], &c);
        qcow2_broken_rule = RULE_NONE;
        missed += !failure;
        printf("%sok %u - found when broken: %s (%s; %d states, %.1f s)\n", failure ? "" : "not ",
               ++n, all[i].what, all[i].name, (int)c.done, c.used);
        fflush(stdout);
        if (like->verbose && failure) {
            printf("%s", failure);
        }
    }
    printf("1..%u\n", n);
    return missed != 0;
}
#else
int cases_test(const Campaign *c)
{
    printf("1..0 # skip no case is counted in this build\n");
    return 0;
}

bool rules_break(const char *name)
{
    return false;
}

int rules_test(const Campaign *like, const char *only)
{
    printf("1..0 # skip no rule can be broken in this build\n");
    return 0;
}
#endif
