/* SPDX-License-Identifier: MIT
 *
 * lttng_loop CALLS: pass an LTTng-UST tracepoint with two arguments again and again, and print what that took each
 * time, as loop.c does: the medians of several rounds of CALLS. Switched off it is a load and a branch.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_events.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 11 };

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *left, const void *right)
{
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static double median(double *rounds)
{
    qsort(rounds, ROUNDS, sizeof *rounds, ascending);
    return rounds[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    long calls = argc > 1 ? atol(argv[1]) : 0;
    if (calls < 1) {
        fputs("usage: lttng_loop CALLS\n", stderr);
        return 2;
    }
    double wall[ROUNDS], cpu[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double start = now(CLOCK_MONOTONIC), cpu_start = now(CLOCK_THREAD_CPUTIME_ID);
        for (long k = 0; k < calls; k++)
            lttng_ust_tracepoint(bench, call, k, i);
        cpu[i] = (now(CLOCK_THREAD_CPUTIME_ID) - cpu_start) / (double)calls;
        wall[i] = (now(CLOCK_MONOTONIC) - start) / (double)calls;
    }
    printf("wall %.3f cpu %.3f\n", median(wall), median(cpu));
    return 0;
}
