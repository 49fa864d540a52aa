/* SPDX-License-Identifier: MIT
 *
 * Handlers in C and return probes, for hit_bench: what their hooks lead to.
 */
#ifndef TRAPLINE_BENCH_CALLS_H
#define TRAPLINE_BENCH_CALLS_H

#include <stdint.h>

#include "world.h"

/* Indices of CALL hooks. */
enum {
    CALLS_GENERAL,   /* a handler for general registers only, on a stack of its own */
    CALLS_OWN_STACK, /* the same on the program's stack */
    CALLS_VECTORS,   /* a handler before which the vector state is kept */
    CALLS_ENTRY,     /* a return probe, by the exit */
    CALLS_EXIT,
    CALLS_REWRITE, /* the entry of one that rewrites the return address */
    CALLS_STUB     /* of the library's own */
};

void calls_make(struct world *world);
/* How often return handlers have run. */
extern uint64_t calls_returned;

/* Bring all vector registers into use, and back into their initial state. x87 is left alone. */
void calls_use_vectors(void);
void calls_use_x87(void); /* its stack is empty again */
void calls_drop_vectors(void);

#endif
