/* SPDX-License-Identifier: MIT
 *
 * Run code with every register given, and look at every register afterwards.
 */
#ifndef TRAPLINE_TESTS_STATE_H
#define TRAPLINE_TESTS_STATE_H

#include <stdint.h>

enum { STATE_VECTOR_BYTES = 16384 };

struct state {
    uint64_t r[16]; /* as numbered in encodings; r[4], rsp, is output only */
    uint64_t flags;
    uint64_t red_zone[16];
    uint8_t vector[STATE_VECTOR_BYTES] __attribute__((aligned(64))); /* an xsave area */
};

extern struct state state_in, state_out;
extern void *state_code; /* what is called */

void state_run(void);

#endif
