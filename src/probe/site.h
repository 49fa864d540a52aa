/* SPDX-License-Identifier: MIT
 *
 * One site, read from a live module. For one thread at a time, as symbol.h wants it; not for signal handlers.
 */
#ifndef TRAPLINE_SITE_H
#define TRAPLINE_SITE_H

#include "probe/plan.h"
#include "symbol/symbol.h"

/* Up to `size` live bytes from `addr` on; returns how many could be read, from the first on. Whoever has sites in force
 * gives the program's own bytes where these stand. */
typedef size_t tl_site_text(void *context, uint64_t addr, uint8_t *bytes, size_t size);

/* Fill in what tl_plan_build wants to know of the instruction at site->addr (live), which begins there for sure: text,
 * boundaries, foreign breakpoints, what is pinned. `function` is the one that holds it, or NULL. TL_WHY_NONE, or why it
 * cannot be a site: NOT_CODE, UNDECODABLE, RSEQ, RESTORER, NO_STACK, CHANGED. */
enum tl_why tl_site_inspect(const struct tl_module *module, const struct tl_function *function, tl_site_text *text,
                            void *context, struct tl_site *site);

/* Whether code begins as C libraries' returns from signals do: `mov $15, %rax`, and the system call, so many bytes
 * behind the beginning. Unwinders know it by these bytes, if by nothing else (guards.c). */
enum { TL_RESTORER_CALL = 7 };
bool tl_is_signal_restorer(const uint8_t *text, size_t available);

#endif
