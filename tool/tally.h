/* SPDX-License-Identifier: MIT
 *
 * Counts by the names of probes, added up over programs. The second probe of one name in a program is another row than
 * the first.
 */
#ifndef TRAPLINE_TALLY_H
#define TRAPLINE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "row_index.h"

#include "probe/select.h"
#include "trace/show.h"

struct tally {
    struct tally_row *rows; /* in the order in which they came */
    struct row_index index; /* by name */
    size_t count, room;
    uint32_t program; /* how many programs have been added */
};

/* False: out of memory. */
bool tally_add(struct tally *tally, const struct tl_probe *probe, uint64_t hits, uint64_t missed);
/* What is added from now on is of another program. */
void tally_next(struct tally *tally);
/* The whole table; members of globs that were never hit only when `all`. Returns the sum. */
uint64_t tally_show(const struct tally *tally, bool all, const struct tl_format *format, FILE *out);
void tally_free(struct tally *tally); /* a zeroed one is allowed */

#endif
