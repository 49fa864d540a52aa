/* SPDX-License-Identifier: MIT
 *
 * The programs that have probes of ours: the first one and, with -f, those of its children.
 */
#ifndef TRAPLINE_PROCESSES_H
#define TRAPLINE_PROCESSES_H

#include "changes.h"
#include "report.h"

#include "host/remote/follow.h"

/* A program in a process: by an exec the process comes to another one. */
struct process {
    struct process *next;
    struct placed placed;
    struct program_watches watches; /* zeroed: probes */
    struct source source;
    struct changes changes;
    bool stubborn; /* the probes could not be taken out while it was followed */
    bool ended;    /* and reported; only kept for those that borrow from it */
};

struct processes {
    const struct options *options;
    const struct tl_spec *const *specs;
    const struct watches *watches; /* in place of specs, or NULL */
    struct report *report;
    struct tl_follow *follow; /* NULL: without -f */
    struct process *list;     /* the youngest first */
    struct spec_fate *fates;  /* by spec */
    bool removed;
    bool stuck; /* probes could not be taken out of one of them */
};

/* Place what the run is about in the first program, or in one that came later (`parent`: forked from that; or NULL). 0
 * or an exit status; what is wrong was said of the first, and stands in placed->trouble of others. */
int process_place_first(struct processes *processes, struct process *process);
int process_place(struct processes *processes, struct process *process, struct process *parent);

/* Attach to or launch the first one, and place the probes. 0 or an exit status; what is wrong was said. */
int processes_begin(struct processes *processes);
/* Let it go on. 0 or an exit status. */
int processes_release(struct processes *processes);
/* Wait up to wait_ms for something to happen, and see to new and ended processes. -EINTR after a signal of ours. *gone:
 * there are no more. */
int processes_poll(struct processes *processes, int wait_ms, bool *gone);
/* Take all probes out, and report what is left. */
void processes_end(struct processes *processes);
/* Wait a moment for the first process to end: true, with its wait status. */
bool processes_await_first(struct processes *processes, int *status);
/* Whether each spec named something; what did not is said. */
bool processes_all_matched(const struct processes *processes);
void processes_free(struct processes *processes);

#endif
