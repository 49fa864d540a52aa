/* SPDX-License-Identifier: MIT
 *
 * Plans carried out in the test's own process.
 */
#ifndef TESTS_PROBE_LIVE_H
#define TESTS_PROBE_LIVE_H

#include "probe/plan.h"

/* 0, or which step failed, 12 to 18. Text from `addr` on is made writable. */
int live_map(const struct tl_plan *plan);
void live_unmap(const struct tl_plan *plan);
int live_open_text(uint64_t addr, size_t size);
void live_write(const struct tl_plan *plan);
void live_take_back(const struct tl_plan *plan);

/* The way of traps, without a broker: SIGTRAP looks its address up in the sites' tables. Anything else goes to `other`,
 * with the context. Returns 0 or an error. */
int live_traps(const struct tl_site *sites, size_t count, void (*other)(void *context));
extern volatile size_t live_trap_count;

#endif
