/* SPDX-License-Identifier: MIT
 *
 * Internal to placing: between place.c, which is the way of all that comes into a target, and place_watch.c, for what
 * is different where nothing but watches come.
 */
#ifndef TRAPLINE_PLACING_H
#define TRAPLINE_PLACING_H

#include "place.h"

/* Why it was not to be. The caller says it, if it is worth saying. */
void place_trouble(struct placed *placed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* All of it with placed->watches set. placed->in_place is false where the broker could not be armed. */
int place_all(struct placed *placed, const struct options *options);

/* placed->modules have been read: what is to be watched. 0 or an exit status, as the next. */
int place_resolve(struct placed *placed);
int place_assemble_watches(struct placed *placed, const struct tl_assemble_options *options);
/* The region is there. */
void place_fill_table(struct placed *placed);
/* All else is in place: *placed as a void *. placed->watching is NULL then where it was not to be. */
void place_begin_watches(void *placed);
/* All registers are clear. */
void place_end_watches(struct placed *placed);

#endif
