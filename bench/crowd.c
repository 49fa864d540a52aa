/* SPDX-License-Identifier: MIT
 *
 * A target with 20,000 functions (see many.py) and 16 threads, which knows when it was stopped.
 *
 * Fourteen threads call functions and sleep for a moment, over and over. One takes the time every 200 microseconds;
 * where it finds that a millisecond or more is missing, the program was stopped, or the machine busy. (It asks for
 * real-time priority, so that the latter is rare; without the privilege it goes on as it is.) The main thread answers
 * each line on standard input with "LONGEST TOTAL", milliseconds missing since the line before.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

enum { CALLERS = 14, BATCH = 200 };
static const long period_ns = 200000, callers_sleep_ns = 5000000, gap_ns = 1000000;

extern long (*const many[])(long);
extern const size_t many_count;

static _Atomic long longest, total;

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000 + time.tv_nsec;
}

static void nap(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static void *watch_clock(void *unused)
{
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    for (long last = now();;) {
        nap(period_ns);
        long time = now(), gap = time - last - period_ns;
        last = time;
        if (gap < gap_ns)
            continue;
        if (gap > longest)
            longest = gap;
        total += gap;
    }
    return unused;
}

static void *call(void *seed)
{
    unsigned long random = (unsigned long)seed;
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            many[(random >> 33) % many_count](i);
        }
        nap(callers_sleep_ns);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, watch_clock, NULL);
    for (long i = 0; i < CALLERS; i++)
        pthread_create(&thread, NULL, call, (void *)(i * 7919 + 1));
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        printf("%.3f %.3f\n", (double)atomic_exchange(&longest, 0) * 1e-6, (double)atomic_exchange(&total, 0) * 1e-6);
        fflush(stdout);
    }
    return 0;
}
