/* SPDX-License-Identifier: MIT
 *
 * Call stacks of hits, for -k.
 */
#ifndef TRAPLINE_STACKS_H
#define TRAPLINE_STACKS_H

#include <sys/types.h>

#include "symbol/unwind.h"
#include "trace/show.h"

/* How much of the stack each event takes with it. All of it, mostly: measured on mallocs of python and bash, 8 KiB
 * reach the start of the program in 86 % of the hits, 4 KiB in 52 % (python), 16 KiB in 100 and 92 %. */
enum { STACKS_BYTES = 8192 };

struct stacks;

/* To be called while the target lives; it may end then. 0 or an exit status; what is wrong was said. */
int stacks_open(pid_t pid, struct stacks **stacks);
void stacks_close(struct stacks *stacks); /* NULL is allowed */

struct tl_unwinder *stacks_unwinder(struct stacks *stacks);
/* The frames of a record that was made when its thread was at `rip`; good until the next call. 0: it has no stack. */
size_t stacks_frames(struct stacks *stacks, const struct tl_record *record, uint64_t rip, struct tl_frame **frames,
                     bool *cut);
/* Put the record's stack into the line; it is good until the next call. */
void stacks_add(struct stacks *stacks, const struct tl_record *record, struct tl_hit_line *line);

#endif
