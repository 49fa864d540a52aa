/* SPDX-License-Identifier: MIT
 *
 * The host "the whole machine": hardware breakpoints on every processor, whoever runs there, by perf events with a ring
 * buffer for each processor. They tell who and where, and no values. They go with us. For one thread at a time; not for
 * signal handlers.
 */
#ifndef TRAPLINE_MACHINE_H
#define TRAPLINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "hwbp/attr.h"
#include "trapline/error.h"

struct tl_machine;

/* Open them on every processor that is online, and start all. `stacks`: each hit has the kernel's call stack. -EPERM:
 * not for us; -ENOSPC: no register is free on some processor, and the text says on which; -EINVAL, with a text;
 * -EMFILE, -ENOMEM. Nothing is left then. */
int tl_machine_open(const struct tl_hwbp_attr *watches, size_t count, bool stacks, struct tl_machine **out,
                    struct tl_error *error);
void tl_machine_close(struct tl_machine *machine); /* NULL is allowed */

struct tl_machine_hit {
    size_t watch;
    uint64_t ip; /* of data: behind the instruction that accessed them */
    pid_t pid, tid;
    unsigned cpu;
    uint64_t time_ns;      /* CLOCK_MONOTONIC */
    const uint64_t *stack; /* innermost first */
    size_t stack_count;
};
/* Return 0 to go on, anything else to end the poll behind this hit. */
typedef int tl_machine_fn(void *context, const struct tl_machine_hit *hit);

/* Give out, in order of time, what has happened by now. Returns how many. */
size_t tl_machine_poll(struct tl_machine *machine, tl_machine_fn *fn, void *context);
/* Stop all; what is left comes out. */
size_t tl_machine_drain(struct tl_machine *machine, tl_machine_fn *fn, void *context);
/* Hits so far, exact; and how many of all were not given out: while a ring was full, or because the kernel holds back
 * what comes too often. */
uint64_t tl_machine_count(const struct tl_machine *machine, size_t watch);
uint64_t tl_machine_lost(const struct tl_machine *machine);

#endif
