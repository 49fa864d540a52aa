/* SPDX-License-Identifier: MIT */
#ifndef TRAPLINE_BASE_NOW_H
#define TRAPLINE_BASE_NOW_H

#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds. Safe in any thread and signal handler. */
uint64_t tl_now(void);

#endif
