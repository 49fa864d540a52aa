/* SPDX-License-Identifier: MIT
 *
 * Lines of a table, measured together.
 *
 * A machine's speed changes by the second: other programs come and go, on this processor or on its sibling, and what
 * waits for results suffers less than what needs much of the processor. So a ratio means something only if both of its
 * sides were measured at the same time. Here they are, as nearly as can be: a round measures a slice of each line, one
 * after the other, in a millisecond or so, and there are hundreds of rounds, in bursts spread over seconds, so that
 * some find the machine at leisure. A line's figure is the lower quartile of its slices, less its base's. All lines are
 * treated alike.
 */
#ifndef TRAPLINE_BENCH_LINES_H
#define TRAPLINE_BENCH_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line {
    const char *name;
    void (*slice)(const struct line *line);  /* `turns` turns */
    void (*before)(const struct line *line); /* not measured; may be NULL */
    const void *subject;                     /* the slice's business */
    uint64_t turns;
    int base;           /* the number of the line to be subtracted, or -1 */
    double *wall, *cpu; /* nanoseconds a turn in each round: of time, and of the thread's processor time */
};

/* Exits where there is no memory. The first tenth of the rounds, or one, is not kept. Many rounds come in bursts. */
void lines_measure(struct line *lines, size_t count, unsigned rounds);
/* Nanoseconds a turn beyond the base. */
double lines_figure(const struct line *lines, size_t number, bool cpu);
void lines_free(struct line *lines, size_t count);

double lines_quartile(double *values, size_t count); /* sorts them */

#endif
