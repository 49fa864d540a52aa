/* SPDX-License-Identifier: MIT
 *
 * Internal to the host: the threads of this process, for who opens an event for each of them.
 */
#ifndef TRAPLINE_SELF_PERF_THREADS_H
#define TRAPLINE_SELF_PERF_THREADS_H

#include <stdbool.h>
#include <stddef.h>

struct tl_perf_threads {
    int *tids;
    size_t count, room; /* free(tids) in the end */
};

/* The threads that there are. 0; -EAGAIN: they have changed meanwhile; -ENOMEM, or as open(2). */
int tl_perf_threads_list(struct tl_perf_threads *threads);
/* The same without allocation: as many as there is room for. How many there are, or -errno. */
long tl_perf_threads_read(struct tl_perf_threads *threads);
/* Wait until each of them (in any order) has been seen outside of the system calls that create threads, or with `fork`
 * children. 0; -EAGAIN: some were not, in bounded time; -ENOMEM. */
int tl_perf_threads_settle(const struct tl_perf_threads *threads, bool fork);
/* Whether `now` has any that is not in `before`. Sorts both. */
bool tl_perf_threads_is_new(struct tl_perf_threads *before, struct tl_perf_threads *now);

#endif
