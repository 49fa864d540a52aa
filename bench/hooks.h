/* SPDX-License-Identifier: MIT
 *
 * Loops over an instruction, or a function, that has been given hooks as the planner would; and a reader of the events
 * that they write.
 */
#ifndef TRAPLINE_BENCH_HOOKS_H
#define TRAPLINE_BENCH_HOOKS_H

#include "lines.h"
#include "world.h"

typedef void loop_fn(uint64_t turns);
loop_fn bench_bare, bench_fsbase, bench_f0, bench_f1, bench_f2, bench_call; /* hit_pads.S */

enum { NO_EXIT = -1 };

/* The bare loop with its instruction replaced by a jump to a hook; the loop over a call, the function probed at its
 * first instruction and, unless NO_EXIT, at its ret. */
loop_fn *probed_loop(struct world *world, enum tl_hook_kind kind, uint32_t index);
loop_fn *probed_call(struct world *world, enum tl_hook_kind kind, uint32_t entry, int leave);

/* For a line whose subject points to a loop_fn *. */
void run_loop(const struct line *line);

/* The tool's own reader in a thread of its own, which looks as often as the tool does while events come. */
void reader_start(const struct world *world);
void reader_stop(void);
/* Wait until no ring is more than half full. */
void reader_wait(const struct line *line);

#endif
