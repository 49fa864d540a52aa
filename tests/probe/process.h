/* SPDX-License-Identifier: MIT
 *
 * The address space of a live process, as areas for the planner, with the margins that the tool keeps.
 */
#ifndef TESTS_PROBE_PROCESS_H
#define TESTS_PROBE_PROCESS_H

#include <sys/types.h>

#include "probe/plan.h"

/* To free(); NULL on failure. */
struct tl_area *areas_of(pid_t pid, size_t *count);

/* A child that runs `argv` until its standard input ends. Returns once it has written a line (all its libraries are
 * there then); -1 when it cannot be started. */
struct child {
    pid_t pid;
    int in, out;
};
int child_start(struct child *child, const char *const argv[]);
void child_end(struct child *child);

#endif
