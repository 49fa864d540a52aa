/* SPDX-License-Identifier: MIT
 *
 * What a test's target tells the test, in a memory file that it finds as descriptor 3.
 */
#ifndef TESTS_REMOTE_PROGRESS_H
#define TESTS_REMOTE_PROGRESS_H

#include <stdint.h>

enum { PROGRESS_FD = 3, PROGRESS_THREADS = 10, PROGRESS_BYTES = 4096 };

struct progress {
    volatile uint64_t ready;                   /* 1: all threads run */
    volatile uint64_t errors;                  /* results that were wrong */
    volatile uint64_t where;                   /* of the last error: 100 * thread + what */
    volatile uint64_t loops[PROGRESS_THREADS]; /* turns of each thread; 0: there is no such thread */
    volatile uint64_t probe; /* address of five bytes that may be patched, in a function called all the time */
    volatile uint64_t value; /* for the test and the target to agree upon */
    volatile uint64_t stop;
    volatile uint64_t goal;        /* storm: how often each thread is to write */
    volatile uint64_t interrupted; /* calls that the kernel ends with EINTR when a tracer stops them, and did */
};

#endif
