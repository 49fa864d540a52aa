/* SPDX-License-Identifier: MIT
 *
 * Who reads, on an exception or elsewhere, what is replaced as a whole: the chain of notifiers, the tables of handlers.
 */
#ifndef TRAPLINE_LIB_READERS_H
#define TRAPLINE_LIB_READERS_H

#include <stdbool.h>
#include <stdint.h>

/* On the stack of the function that reads, from readers_begin to readers_end. */
struct reading {
    uint64_t place, frame; /* the first is the mark by which it is known that this stands */
    bool within;           /* another one, perhaps */
};
/* To be waited for. Async-signal-safe. `frame` is __builtin_frame_address(0) of that function: what is called meanwhile
 * keeps it in rbp or on the stack. */
void readers_begin(struct reading *reading, const void *frame);
void readers_end(const struct reading *reading);

/* Whether this thread reads. */
bool readers_inside(void);
/* It has been interrupted, with these registers, and is about to begin `fresh`: what it has left by a jump ends. */
void readers_tidy(struct reading *fresh, uint64_t rsp, uint64_t rbp);

/* Until nobody reads what was replaced before this call. The caller does not. */
void readers_wait(void);
void readers_forked(void); /* in the child */

#endif
