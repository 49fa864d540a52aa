/* SPDX-License-Identifier: MIT
 *
 * Arrays that grow, and arrays in order. Pure but for the allocation; a growing array is for one thread at a time, and
 * not for signal handlers.
 */
#ifndef TRAPLINE_BASE_ARRAY_H
#define TRAPLINE_BASE_ARRAY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Room for one more than `count` items of `size` bytes: `items` (NULL at first), moved where *room, the number of items
 * that fit, was too small. NULL: out of memory, and all is as it was. */
void *tl_array_grown(void *items, size_t count, size_t *room, size_t size);

/* Of `count` items of `size` bytes, in ascending order of the uint64_t that stands `offset` bytes into each: how many
 * have one of at most `value`. They are the first ones. */
static inline size_t tl_array_upto(const void *items, size_t count, size_t size, size_t offset, uint64_t value)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t key;
        memcpy(&key, (const char *)items + middle * size + offset, sizeof key);
        if (key <= value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#endif
