/* SPDX-License-Identifier: MIT */
/* explore: the crash explorer's command. TAP on standard output. */
#include "campaign.h"
#include "reference.h"
#include "rules-test.h"

#include "util/compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gint64 seed = 1, states, per_program = 1500;
static double seconds;
static int per_event = 48, deep_every = 8, reference_every = 2500;
static char *only, *override, *ops;
static gboolean once, no_shrink, verbose, list, rules, cases;
static char *one_rule;

static const GOptionEntry entries[] = {
    { "seed", 's', 0, G_OPTION_ARG_INT64, &seed, "Seed of the run (1)", "N" },
    { "states", 'n', 0, G_OPTION_ARG_INT64, &states,
      "States to check (100000, or none with --seconds)", "N" },
    { "seconds", 't', 0, G_OPTION_ARG_DOUBLE, &seconds, "Time to use", "S" },
    { "workload", 'w', 0, G_OPTION_ARG_STRING, &only, "Only these workloads", "A,B" },
    { "options", 'o', 0, G_OPTION_ARG_STRING, &override,
      "Options of all images (cluster_bits=9,lazy=1,...)", "O" },
    { "ops", 0, 0, G_OPTION_ARG_STRING, &ops, "Operations of the program, as a failure prints them",
      "OPS" },
    { "once", '1', 0, G_OPTION_ARG_NONE, &once, "One program of each workload, with this very seed",
      NULL },
    { "per-program", 0, 0, G_OPTION_ARG_INT64, &per_program, "States of one program (1500)", "N" },
    { "per-event", 0, 0, G_OPTION_ARG_INT, &per_event, "States tried at one event (48)", "N" },
    { "deep", 0, 0, G_OPTION_ARG_INT, &deep_every, "Go on writing in each N-th state (8; 0 never)",
      "N" },
    { "reference", 0, 0, G_OPTION_ARG_INT, &reference_every,
      "The reference checks each N-th state (2500)", "N" },
    { "no-shrink", 0, 0, G_OPTION_ARG_NONE, &no_shrink, "Tell a failure as it is found", NULL },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, "Tell each program", NULL },
    { "list", 'l', 0, G_OPTION_ARG_NONE, &list, "List workloads and rules", NULL },
    { "rules", 'r', 0, G_OPTION_ARG_NONE, &rules, "Break each rule of the order; it must be found",
      NULL },
    { "cases", 0, 0, G_OPTION_ARG_NONE, &cases,
      "Count the special cases that random programs meet; none may be missing", NULL },
    { "break", 0, 0, G_OPTION_ARG_STRING, &one_rule,
      "Break this rule (with --rules: only this one)", "RULE" },
    { NULL }
};

static void print_list(void)
{
    for (const Workload *w = workloads; w->name; w++) {
        printf("%-16s %s\n", w->name, w->what);
    }
    rules_list();
}

static void print_failure(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        if (**l) {
            printf("# %s\n", *l);
        }
    }
}

static int explore_all(Campaign *c)
{
    g_autofree char *failure = NULL;

    if (one_rule && !rules_break(one_rule)) {
        fprintf(stderr, "no rule '%s' to break in this build\n", one_rule);
        return 2;
    }
    failure = campaign_run(c);
    if (failure) {
        print_failure(failure);
    }
    for (unsigned i = 0; workloads[i].name; i++) {
        if (c->by_workload[i]) {
            printf("# %-16s %d states\n", workloads[i].name, (int)c->by_workload[i]);
        }
    }
    printf("# %d programs, %d states (%d met again), %d written on, %d seen by the reference, %.1f "
           "s\n",
           (int)c->programs, (int)c->done, (int)c->duplicates, (int)c->deep, (int)c->reference,
           c->used);
    if (!c->reference_every) {
        printf("# no state was seen by the reference: %s\n",
               reference_available() ? "switched off" : "it is not installed");
    }
    printf("%sok 1 - no state after a loss of power is wrong\n1..1\n", failure ? "not " : "");
    return failure != NULL;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) o =
        g_option_context_new("- explores what a loss of power leaves of an image");
    g_autoptr(GError) err = NULL;
    Campaign c;

    g_option_context_add_main_entries(o, entries, NULL);
    if (!g_option_context_parse(o, &argc, &argv, &err)) {
        fprintf(stderr, "%s\n", err->message);
        return 2;
    }
    if (list) {
        print_list();
        return 0;
    }
    mem_register();
    record_register();
    c = (Campaign){
        .seed = (uint64_t)seed,
        .states = states        ? (uint64_t)states
                  : seconds > 0 ? 0
                                : 100000,
        .seconds = seconds,
        .per_program = (uint64_t)per_program,
        .per_event = (unsigned)per_event,
        .deep_every = (unsigned)deep_every,
        .reference_every = reference_available() ? (uint64_t)reference_every : 0,
        .only = only,
        .override = override,
        .ops = ops,
        .once = once,
        .no_shrink = no_shrink,
        .verbose = verbose,
    };
    if (cases) {
        return cases_test(&c);
    }
    return rules ? rules_test(&c, one_rule) : explore_all(&c);
}
