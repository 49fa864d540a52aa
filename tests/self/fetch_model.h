/* SPDX-License-Identifier: MIT
 *
 * What two threads can see that execute code while it is changed: all interleavings.
 *
 * A byte that is fetched has the value of the last barrier, or any that was written since. Bytes of one write arrive in
 * any order; bytes of one instruction are fetched one after the other, with anything in between. A barrier makes a
 * thread that is in the middle of an instruction fetch it again, as an interrupt does.
 */
#ifndef TESTS_SELF_FETCH_MODEL_H
#define TESTS_SELF_FETCH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_BYTES = 16, MODEL_OPS = 64, MODEL_SITES = 4 };

struct model_op {
    uint8_t length; /* 0: a barrier */
    uint8_t at;
    uint8_t bytes[8];
};

struct model {
    uint8_t before[MODEL_BYTES], after[MODEL_BYTES];
    struct {
        uint8_t at, before_length, after_length; /* of the whole instruction, others' bytes included */
    } sites[MODEL_SITES];
    size_t site_count;
    struct model_op ops[MODEL_OPS];
    size_t op_count;
    bool taken_back; /* the bytes at the end are to be those before */
};

/* NULL, or what went wrong in some interleaving. *states: how many were looked at. */
const char *model_explore(const struct model *model, size_t *states);

#endif
