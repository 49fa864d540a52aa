/* SPDX-License-Identifier: MIT
 *
 * Failures by injection: the library's allocations go by here (the linker's --wrap), its system calls by what a test
 * puts into tl_self_call.
 */
#ifndef TRAPLINE_TESTS_FAILING_H
#define TRAPLINE_TESTS_FAILING_H

#include <stdbool.h>

extern long failing_allocations, failing_calls; /* until one fails; negative: none does */

bool failing(long *countdown);

extern long (*tl_self_call)(long number, long a, long b, long c, long d, long e, long f);

#endif
