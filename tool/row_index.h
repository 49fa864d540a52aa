/* SPDX-License-Identifier: MIT
 *
 * Where the rows of a growing table are, by a hash of what names them. One thread at a time.
 */
#ifndef TRAPLINE_ROW_INDEX_H
#define TRAPLINE_ROW_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct row_index {
    struct row_place *places; /* a power of two of them, at most half in use */
    size_t count, room;
};

enum { ROW_NONE = UINT32_MAX };

/* A text after others: their hash, or 0. */
uint64_t row_hash(uint64_t before, const char *text);

/* A row of this hash: the first one, then those behind it; ROW_NONE: there are no more. Others may have the same hash.
 * *at is 0 at first. */
uint32_t row_next(const struct row_index *index, uint64_t hash, size_t *at);
/* False: out of memory, and nothing has changed. */
bool row_add(struct row_index *index, uint64_t hash, uint32_t row);
void row_index_free(struct row_index *index); /* a zeroed one is allowed */

#endif
