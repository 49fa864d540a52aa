/* SPDX-License-Identifier: MIT
 *
 * What must be true of any plan, whoever asks: unit tests, real programs, the fuzz target. Follows the bytes as a
 * processor would, and knows nothing of how the planner came to them.
 */
#ifndef TESTS_PROBE_CHECK_H
#define TESTS_PROBE_CHECK_H

#include "probe/plan.h"

/* The program's text as it is: `size` bytes at `addr`. */
struct text {
    uint64_t addr;
    uint8_t *bytes;
    size_t size;
};

struct planned {
    const struct text *text;
    struct tl_site *sites;
    size_t site_count;
    const struct tl_area *areas;
    size_t area_count;
    struct tl_plan plan;
};

/* Set up the site at `addr` of the text: bytes, and boundaries as straight reading finds them. */
void site_at(const struct text *text, uint64_t addr, struct tl_site *site);

/* NULL, or what is wrong:
 * - writes stay inside the instructions of their sites and in a page, and come from the highest address down
 * - after each write the site written leads to its trampoline (or traps, where it is an int3), and every other
 * instruction is whole or leads to its own
 * - at the end they all still do, and where `guarded`, also with breakpoints on any instructions behind
 * - taking back restores every byte
 * - mappings and gates are free, canonical, disjoint address space; what they show lies in the pool
 * - trampolines are disjoint and lie in mappings
 * - a second trampoline executes what the program has from the site on, one instruction after the other, none of them
 *   another site or one that a breakpoint could stand on unseen, and comes back at the end of the site's jump or later
 * - a jump leads to the second one exactly as long as the program's own bytes stand behind the site */
const char *check_plan(const struct planned *planned);
/* Where a jump at `pc` ends up in the end: outside the text and the landing stubs. Text as in `bytes`. 0: nowhere. */
uint64_t follow(const struct planned *planned, const uint8_t *bytes, uint64_t pc, uint64_t until);

#endif
