/* SPDX-License-Identifier: MIT
 *
 * Internal to src/spec: the filter of a watch before anything is known of the variable. For threads and signals watch.h
 * holds here too.
 */
#ifndef TRAPLINE_SPEC_WATCH_FILTER_H
#define TRAPLINE_SPEC_WATCH_FILTER_H

#include "spec/watch.h"

/* Whether it is right as far as can be said; names that may turn out to be enumerators pass. 0 or as tl_watch_parse. */
int tl_watch_filter_check(const struct tl_watch *watch, struct tl_error *error);

#endif
