/* SPDX-License-Identifier: MIT */
#include "lines.h"

#include <stdlib.h>
#include <time.h>

static unsigned kept;

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

double lines_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

static double *allocate(unsigned count)
{
    double *values = calloc(count, sizeof *values);
    if (!values)
        exit(1);
    return values;
}

static void measure(struct line *line, unsigned round)
{
    if (line->before)
        line->before(line);
    double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    line->slice(line);
    line->cpu[round] = (now(CLOCK_THREAD_CPUTIME_ID) - cpu) / (double)line->turns;
    line->wall[round] = (now(CLOCK_MONOTONIC) - wall) / (double)line->turns;
}

void lines_measure(struct line *lines, size_t count, unsigned rounds)
{
    unsigned warm = rounds / 10 ? rounds / 10 : 1;
    for (size_t i = 0; i < count; i++) {
        lines[i].wall = allocate(rounds);
        lines[i].cpu = allocate(rounds);
    }
    for (unsigned r = 0; r < rounds + warm; r++)
        for (size_t i = 0; i < count; i++)
            measure(&lines[i], r < warm ? 0 : r - warm);
    kept = rounds;
}

double lines_figure(const struct line *lines, size_t number, bool cpu)
{
    const struct line *line = &lines[number], *base = line->base < 0 ? NULL : &lines[line->base];
    double *beyond = allocate(kept);
    for (unsigned r = 0; r < kept; r++) {
        beyond[r] = cpu ? line->cpu[r] : line->wall[r];
        if (base)
            beyond[r] -= cpu ? base->cpu[r] : base->wall[r];
    }
    double figure = lines_median(beyond, kept);
    free(beyond);
    return figure;
}

void lines_free(struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(lines[i].wall);
        free(lines[i].cpu);
    }
}
