/* SPDX-License-Identifier: MIT
 *
 * Breakpoint events of the kernel's, about threads of this process or about CPUs.
 *
 * One event is about one thread, and about those that it creates while the event is there. So for a whole process there
 * is one for each thread that exists. All system calls go through tl_self_call (self.h). Not for several threads at one
 * time, but where it says so.
 */
#ifndef TRAPLINE_SELF_PERF_H
#define TRAPLINE_SELF_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hwbp/attr.h"
#include "trapline/error.h"

struct tl_perf_spec {
    struct tl_hwbp_attr attr;
    uint64_t tag;    /* what its signals carry; 0: no signals */
    uint64_t period; /* of signals */
    enum { TL_PERF_PROCESS, TL_PERF_THREAD, TL_PERF_CPU, TL_PERF_WIDE } scope;
    int tid, cpu; /* of THREAD and CPU */
    bool fork;    /* children of fork as well */
};

struct tl_perf {
    int *fds;
    size_t count;
};

/* Open them, disabled. 0, or as perf_event_open(2); -EAGAIN: threads are being created faster than they can be
 * followed. */
int tl_perf_open(const struct tl_perf_spec *spec, struct tl_perf *perf, struct tl_error *error);
/* Frees and zeroes. A zeroed one is allowed. */
void tl_perf_close(struct tl_perf *perf);
/* Async-signal-safe, and for any threads at one time while nobody opens or closes. */
void tl_perf_switch(const struct tl_perf *perf, bool on);
uint64_t tl_perf_read(const struct tl_perf *perf);
/* Another attr and tag, and whether it is on. 0 or -errno; then it is what `from` says, and on or not as before. */
int tl_perf_modify(const struct tl_perf *perf, const struct tl_perf_spec *from, bool from_on,
                   const struct tl_perf_spec *to, bool to_on);

/* When a thread was created, by which it is told from a later one of the same number; 0: there is none, here. */
uint64_t tl_perf_thread_start(int tid);

#endif
