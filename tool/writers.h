/* SPDX-License-Identifier: MIT
 *
 * Who has accessed what was watched: hits by watch, function and source line, added up over programs.
 */
#ifndef TRAPLINE_WRITERS_H
#define TRAPLINE_WRITERS_H

#include <stdbool.h>

#include "row_index.h"

#include "trace/show.h"

struct writers {
    struct writer *rows;
    struct row_index index;
    size_t count, room;
};

/* A hit. `source` may be NULL. False: out of memory. */
bool writers_add(struct writers *writers, const char *watch, const char *function, const char *source);
/* The whole table, by watch in the order of their first hits, the busiest writer first. */
void writers_show(const struct writers *writers, const struct tl_format *format, FILE *out);
/* How many hits of a watch there were. */
uint64_t writers_hits(const struct writers *writers, const char *watch);
void writers_free(struct writers *writers); /* a zeroed one is allowed */

#endif
