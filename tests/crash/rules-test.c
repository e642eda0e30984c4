/* SPDX-License-Identifier: MIT */
/*
 * Breaks one rule after the other.  Built twice: into "explore", where no rule can be broken, and
 * into "explore-rules", with a copy of the driver that can.
 */
#include "rules-test.h"

#include "block/qcow2/rules.h"

#include <stdio.h>
#include <string.h>

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

/* In the workload that the rule is about, then in all. */
static char *find(const Campaign *like, const Rule *r, Campaign *c)
{
    char *failure;

    *c = *like;
    c->only = like->only ? like->only : r->workload;
    c->states = like->states / 4;
    c->no_shrink = true;
    failure = campaign_run(c);
    if (!failure) {
        c->only = like->only;
        c->states = like->states;
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
