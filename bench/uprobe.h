/* SPDX-License-Identifier: MIT */
#ifndef TRAPLINE_BENCH_UPROBE_H
#define TRAPLINE_BENCH_UPROBE_H

#include <stdbool.h>
#include <stdint.h>

/* Have the kernel count how often this thread comes to a function of this program, or leaves it. False, and a message,
 * where it cannot. */
bool uprobe_self(uintptr_t function, bool returns);

#endif
