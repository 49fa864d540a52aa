/* SPDX-License-Identifier: MIT
 *
 * A world with three probes: one counts in line, one writes events, one counts through a program.
 */
#ifndef TRAPLINE_TESTS_HITS_H
#define TRAPLINE_TESTS_HITS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "../skip.h"

#include "world.h"

extern struct world hits_world;

void hits_make(struct world_shape shape);
/* Hit each probe that often. */
void hits_run(uint64_t times);
/* Actions that found no lane, of events and of counts. */
uint64_t hits_missed(void);
/* Every probe was hit that often, `seen` of the events were read: nothing is missing, nothing is there twice. */
void hits_check_exact(uint64_t seen, uint64_t hits);

#endif
