/* SPDX-License-Identifier: MIT */
/* Progress: with -p a line that is written over; with and without it, one line to standard error
 * per SIGUSR1. */
#include "img.h"

#include <signal.h>
#include <stdio.h>

static struct {
    bool enabled;
    double current, last, min_step;
} progress;

static volatile sig_atomic_t asked; /* SIGUSR1 came */

static void on_signal(int sig)
{
    asked = 1;
}

static void print(void)
{
    printf("    (%3.2f/100%%)\r", progress.current);
    fflush(stdout);
    progress.last = progress.current;
}

static void print_if_asked(void)
{
    if (asked) {
        asked = 0;
        fprintf(stderr, "    (%3.2f/100%%)\n", progress.current);
    }
}

void progress_init(bool enabled, double min_step)
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

    progress.enabled = enabled;
    progress.min_step = min_step;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGUSR1, &sa, NULL);
}

bool progress_enabled(void)
{
    return progress.enabled;
}

void progress_set(double percent)
{
    progress.current = CLAMP(percent, 0, 100);
    print_if_asked();
    if (progress.enabled &&
        (percent > progress.last + progress.min_step || percent <= 0 || percent >= 100)) {
        print();
    }
}

void progress_end(void)
{
    if (progress.enabled) {
        printf("\n");
    }
}
