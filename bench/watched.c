/* SPDX-License-Identifier: MIT
 *
 * watched MODE ROUNDS WRITES: writes to `cell`, and prints what a write cost, each round a line: processor time and
 * time on the wall, in nanoseconds.
 *
 *   plain   whoever wants to watches it from outside
 *   bare    by an event of its own with sigtrap, and a handler that does nothing: what there is at the least
 *   beside  it writes to something else
 */
#include <linux/perf_event.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

volatile uint64_t cell;
static _Alignas(4096) volatile uint64_t other;

static void on_trap(int number)
{
    (void)number;
}

static int watch_cell(void)
{
    struct sigaction action = {.sa_handler = on_trap};
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.type = PERF_TYPE_BREAKPOINT;
    attr.size = sizeof attr;
    attr.bp_type = 2; /* writes */
    attr.bp_addr = (uintptr_t)&cell;
    attr.bp_len = 8;
    attr.sample_period = 1;
    attr.exclude_kernel = attr.exclude_hv = attr.sigtrap = attr.remove_on_exec = 1;
    return sigaction(SIGTRAP, &action, NULL) || syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0;
}

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

__attribute__((noinline)) static void write_often(volatile uint64_t *to, long times)
{
    for (long i = 0; i < times; i++)
        ++*to;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    long rounds = atol(argv[2]), writes = atol(argv[3]);
    if (!strcmp(argv[1], "bare") && watch_cell()) {
        fprintf(stderr, "watched: no event is to be had\n");
        return 1;
    }
    for (long i = 0; i < rounds; i++) {
        double cpu = now(CLOCK_THREAD_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
        write_often(strcmp(argv[1], "beside") ? &cell : &other, writes);
        cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
        wall = now(CLOCK_MONOTONIC) - wall;
        printf("watched %.4f %.4f\n", cpu / (double)writes, wall / (double)writes);
        fflush(stdout);
    }
    return 0;
}
