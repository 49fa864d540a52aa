/* SPDX-License-Identifier: MIT
 *
 * What the person sees: hits as they come, tables, refusals, the summary.
 */
#ifndef TRAPLINE_REPORT_H
#define TRAPLINE_REPORT_H

#include "code.h"
#include "place.h"
#include "stacks.h"
#include "tally.h"
#include "watches.h"
#include "writers.h"

#include <signal.h>

#include "trace/reader.h"
#include "trace/show.h"
#include "trace/tasks.h"

/* What a run is about. */
enum work { WORK_TRACE, WORK_COUNT, WORK_WATCH };

/* What became of a watch, in all programs. */
struct watch_total {
    uint64_t accesses, reported, late;
    bool uncounted; /* somewhere */
    double armed;   /* sum of the programs' shares */
    size_t programs;
    const char *how;
};

/* For how much of the time a watch was armed, as it was last asked. */
struct watch_share {
    double armed;
    uint64_t asked_ns;
};

/* The last change of a spot that was seen on the occasion of another one's signal. */
struct seen_beside {
    bool is_left;  /* whoever made it is still to claim it */
    bool is_early; /* the claim has come first, about `new` */
    uint64_t old, new;
};

/* One program with probes or watches in it, as long as its events are read. */
struct source {
    struct source *next;
    struct report *report;
    const struct placed *placed;
    struct tl_reader *reader;
    struct tl_tasks *tasks;
    struct stacks *stacks;                     /* NULL: none asked for */
    const struct program_watches *watches;     /* NULL: probes; otherwise there are stacks, and: */
    struct seen_beside beside[TL_WATCH_SPOTS]; /* by spot */
    struct code *code;
    bool takes_turns;
    struct watch_share shares[TL_WATCH_SPOTS]; /* by watch, where they take turns */
    struct tl_probe_info *infos;               /* by probe */
    struct tl_arg_info **args;                 /* by spec, in the order of the probes' first use */
};

/* An event that waits for older ones of other processes. */
struct held {
    struct source *source;
    struct tl_record record; /* its bytes are its own */
    uint64_t arrived;
};

struct report {
    const struct options *options;
    enum work work;
    const struct watches *watches; /* WORK_WATCH, with the totals of each of them: */
    struct watch_total *watched;
    struct writers writers;
    FILE *out;
    const struct tl_format *format;
    struct source *sources;
    struct held *held;
    size_t held_count, held_room;
    uint64_t arrived, latest; /* latest: the time of the last event that was shown in its turn */
    struct tally tally;
    struct tl_reader_totals totals; /* of sources that have ended */
    uint64_t shown, refused;
    int unwritten; /* 0, or why output could not be written: -errno */
};

/* Open the output. 0 or an exit status; what is wrong was said. */
int report_open(struct report *report, const struct options *options, enum work work, const struct watches *watches);
/* Say which probes were refused. 0; EXIT_FAILED when a probe that was named by itself was, or (unless there may be
 * others, in processes that are followed) when none is left. */
int report_refusals(struct report *report, const struct placed *placed);
/* The same of watches, of which none is refused. */
void report_watches(const struct report *report, const struct placed *placed);
/* The probes or watches (NULL: none) are in place: get ready to read. 0 or an exit status. `source` and what it is made
 * of belong to the report until it has ended. */
int report_add(struct report *report, struct source *source, const struct placed *placed,
               const struct program_watches *watches);
/* No hit can come from there any more: what is left is read, and its counts are added up. */
void report_end(struct report *report, struct source *source);
/* Show the events that have come, or those of them that there is time for: until *interrupted, or CLOCK_MONOTONIC has
 * reached deadline_ns. Returns how many. */
size_t report_poll(struct report *report, const volatile sig_atomic_t *interrupted, uint64_t deadline_ns);
/* Whether there is no point in going on: -n is reached, or nobody reads us. */
bool report_is_full(const struct report *report);
/* What was shown goes out now. */
void report_flush(struct report *report);
/* Whether all could be written, or nobody wanted to read on. */
bool report_is_whole(const struct report *report);
/* After all sources have ended: the tables, the summary. */
void report_finish(struct report *report);
void report_close(struct report *report); /* a zeroed one is allowed */

#endif
