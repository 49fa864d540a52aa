/* SPDX-License-Identifier: MIT
 *
 * What this process is, by the kernel's word: what has to be the same after a failure, and at the end.
 */
#ifndef TESTS_SELF_STATE_H
#define TESTS_SELF_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "hit/signal.h"

enum { STATE_TASKS = 16 };

struct state {
    struct tl_sigaction actions[TL_SIGNALS + 1];
    struct {
        int tid;
        uint64_t blocked;
    } tasks[STATE_TASKS];
    unsigned task_count, descriptors, memory_files;
    bool text_is_original;
    uint64_t text; /* a sum over libc's and the subjects' text */
};

void state_take(struct state *state);
/* NULL, or what is not the same. */
const char *state_differs(const struct state *a, const struct state *b);

/* System calls of the host fail: the one with this number, the `occurrence`th time (from 1), with this error. 0: none;
 * then they are only counted. */
void inject(long number, unsigned occurrence, int error);
bool injected(void);                /* whether it came to that */
unsigned times_called(long number); /* since inject() */
enum { INJECT_NUMBERS = 512 };

#endif
