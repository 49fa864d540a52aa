/* SPDX-License-Identifier: MIT
 *
 * What becomes of the program while it is probed: it may load libraries that the specs mean too, or become another
 * program. Both are noticed and said.
 */
#ifndef TRAPLINE_CHANGES_H
#define TRAPLINE_CHANGES_H

#include "place.h"

struct changes {
    const struct options *options;
    const struct placed *placed;
    const struct tl_spec *const *specs; /* options->spec_count of them */
    uint64_t next_ns;                   /* CLOCK_MONOTONIC of the next look at the mappings */
    char **seen;                        /* paths of the files that have been loaded since */
    size_t seen_count;
};

/* To be called now and then. Returns whether the program that was probed is no more although its process lives: it has
 * executed another. */
bool changes_exec(struct changes *changes);
/* Look for new libraries, if the last look was a second ago. */
void changes_libraries(struct changes *changes, uint64_t now_ns);
void changes_free(struct changes *changes); /* a zeroed one is allowed */

#endif
