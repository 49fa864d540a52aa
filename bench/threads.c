/* SPDX-License-Identifier: MIT
 *
 * threads CALLS ROUNDS: call bare_step and site_step, by one thread and by two at once, each on a processor of its own,
 * all in turns. Lines of `name value`: what a call took of the slower thread's processor time, the median of the
 * rounds, in nanoseconds.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lines.h"

typedef long function(long, long);
function site_step, bare_step;
static function *const functions[] = {bare_step, site_step};

static long calls, rounds;
static pthread_barrier_t together;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double slice(function *called)
{
    double start = now();
    for (long k = 0; k < calls; k++)
        called(k, 1);
    return (now() - start) / (double)calls;
}

static void stay_on(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)processor, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* The other thread of each pair of slices; what its slices took. */
static void *accompany(void *argument)
{
    double *took = argument;
    stay_on(1);
    for (long i = 0; i < 2 * rounds; i++) {
        pthread_barrier_wait(&together);
        took[i] = slice(functions[i % 2]);
        pthread_barrier_wait(&together);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    calls = argc > 1 ? atol(argv[1]) : 0;
    rounds = argc > 2 ? atol(argv[2]) : 0;
    if (calls < 1 || rounds < 1) {
        fputs("usage: threads CALLS ROUNDS\n", stderr);
        return 2;
    }
    double *figures[2][2], *other = calloc((size_t)rounds * 2, sizeof *other);
    for (int i = 0; i < 4; i++)
        if (!(figures[i / 2][i % 2] = calloc((size_t)rounds, sizeof(double))))
            return 1;
    pthread_t thread;
    pthread_barrier_init(&together, NULL, 2);
    if (!other || pthread_create(&thread, NULL, accompany, other))
        return 1;
    stay_on(0);
    for (long r = 0; r < rounds; r++)
        for (int f = 0; f < 2; f++) {
            figures[0][f][r] = slice(functions[f]);
            pthread_barrier_wait(&together);
            double both = slice(functions[f]);
            pthread_barrier_wait(&together);
            figures[1][f][r] = both > other[2 * r + f] ? both : other[2 * r + f];
        }
    pthread_join(thread, NULL);
    const char *const names[2][2] = {{"one_bare", "one_site"}, {"two_bare", "two_site"}};
    for (int i = 0; i < 4; i++) {
        printf("%s %.3f\n", names[i / 2][i % 2], lines_quartile(figures[i / 2][i % 2], (size_t)rounds));
        free(figures[i / 2][i % 2]);
    }
    free(other);
    return 0;
}
