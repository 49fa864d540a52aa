/* SPDX-License-Identifier: MIT
 *
 * A fuzzer's input, taken a number at a time.
 */
#ifndef TRAPLINE_FUZZ_INPUT_H
#define TRAPLINE_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
    const uint8_t *bytes;
    size_t left;
};

/* The next `size` (at most 8) bytes as a number; zeros where the input ends. */
static inline uint64_t number(struct input *input, size_t size)
{
    uint64_t value = 0;
    if (size > input->left)
        size = input->left;
    if (size)
        memcpy(&value, input->bytes, size);
    input->bytes += size;
    input->left -= size;
    return value;
}

#endif
