/* SPDX-License-Identifier: MIT
 *
 * What the person sees: hits as they come, the table, refusals, the summary.
 */
#ifndef TRAPLINE_REPORT_H
#define TRAPLINE_REPORT_H

#include "place.h"
#include "stacks.h"

#include <signal.h>

#include "trace/reader.h"
#include "trace/show.h"
#include "trace/tasks.h"

struct report {
    const struct options *options;
    const struct placed *placed;
    bool count;
    FILE *out;
    const struct tl_format *format;
    struct tl_reader *reader;
    struct tl_tasks *tasks;
    struct stacks *stacks;       /* NULL: none asked for */
    struct tl_probe_info *infos; /* by probe */
    struct tl_arg_info **args;   /* by spec, in the order of the probes' first use */
    uint64_t shown;
    bool write_failed;
};

/* Open the output. 0 or an exit status; what is wrong was said. */
int report_open(struct report *report, const struct options *options, const struct placed *placed, bool count);
/* Say which probes were refused. 0; EXIT_FAILED when a probe that was named by itself was, or when none is left. */
int report_refusals(struct report *report);
/* The probes are in place: get ready to read. 0 or an exit status. */
int report_start(struct report *report);
/* Show the events that have come, or those of them that there is time for: until *interrupted, or CLOCK_MONOTONIC has
 * reached deadline_ns. Returns how many. */
size_t report_poll(struct report *report, const volatile sig_atomic_t *interrupted, uint64_t deadline_ns);
/* Whether there is no point in going on: -n is reached, or nobody reads us. */
bool report_is_full(const struct report *report);
/* After the probes have been taken out: what is left, the table, the summary. */
void report_finish(struct report *report);
void report_close(struct report *report); /* a zeroed one is allowed */

#endif
