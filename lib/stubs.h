/* SPDX-License-Identifier: MIT
 *
 * Stubs: where calls return to whose return address was rewritten. Each has an index and a list of its own.
 */
#ifndef TRAPLINE_LIB_STUBS_H
#define TRAPLINE_LIB_STUBS_H

#include "planning.h"

/* One that was given back, or one in what the planning has left of its rooms. NULL: no memory or no room. */
struct stub *stub_take(struct planning *planning);
/* Its list is in force from here on. */
void stub_start(struct stub *stub, struct tl_call_return *calls);
/* No call under way returns to it. */
void stub_free(struct stub *stub);

#endif
