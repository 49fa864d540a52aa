/* SPDX-License-Identifier: MIT
 *
 * May a thread that stands still be inside some ranges of code, or come back into them? Pure: registers and words in,
 * yes or no out.
 */
#ifndef TRAPLINE_SELF_LOOK_H
#define TRAPLINE_SELF_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/self/self.h"

struct tl_look_range {
    uint64_t start, end;
    size_t index;
};

/* Where an address lies, if it may be one of a stack. */
struct tl_look_stack {
    uint64_t start, end;
    bool handlers; /* a stack for handlers, with the program's stack pointer somewhere on it */
};

struct tl_look {
    const struct tl_look_range *ranges; /* in order of address */
    size_t count;
    uint8_t *inside;                                                             /* by index; only ever set */
    size_t (*read)(void *context, uint64_t addr, uint64_t *words, size_t count); /* how many could be read */
    bool (*stack)(void *context, uint64_t addr, struct tl_look_stack *stack);
    uint64_t (*leads)(void *context, uint64_t pc); /* another place that a thread at pc may go on at, or 0 */
    void *context;
};

/* Fill in and sort; 0, or -EINVAL where ranges overlap or are empty. */
int tl_look_sort(const struct tl_self_range *ranges, size_t count, struct tl_look_range *sorted);

/* One thread: its program counter and other registers, and its stack pointer. What looks like an address inside counts,
 * except (only_contexts) on the caller's own stack, where such an address may well be an argument: there only what is
 * a saved context counts. */
void tl_look_thread(const struct tl_look *look, const uint64_t *registers, size_t count, uint64_t sp,
                    bool only_contexts);

#endif
