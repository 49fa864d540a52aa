/* SPDX-License-Identifier: MIT */
#include "lines.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BURST = 100, PAUSE_NS = 200000000 };

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

double lines_quartile(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 4];
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
    for (unsigned r = 0; r < rounds + warm; r++) {
        if (r % BURST == BURST - 1)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        for (size_t i = 0; i < count; i++)
            measure(&lines[i], r < warm ? 0 : r - warm);
    }
    kept = rounds;
}

static double quartile_of(const struct line *line, bool cpu)
{
    double *values = allocate(kept);
    memcpy(values, cpu ? line->cpu : line->wall, kept * sizeof *values);
    double figure = lines_quartile(values, kept);
    free(values);
    return figure;
}

double lines_figure(const struct line *lines, size_t number, bool cpu)
{
    const struct line *line = &lines[number];
    return quartile_of(line, cpu) - (line->base < 0 ? 0 : quartile_of(&lines[line->base], cpu));
}

void lines_free(struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(lines[i].wall);
        free(lines[i].cpu);
    }
}
