/* SPDX-License-Identifier: MIT
 *
 * loop SITE CALLS [THREADS]: call a tiny function again and again, and print "wall W cpu C", what a call took in
 * nanoseconds: of time, and of the thread's processor time, which what else the machine does disturbs less. Each is the
 * median of several rounds of CALLS calls. With THREADS, so many threads do the same at once, each on a processor of
 * its own, and the slowest one's medians are printed.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 11, THREADS_MAX = 64 };

long site_step(long, long), site_emulated(long, long), site_nop5(long, long);

static const struct {
    const char *name;
    long (*call)(long, long);
} sites[] = {{"step", site_step}, {"emulated", site_emulated}, {"nop5", site_nop5}};

struct job {
    pthread_t thread;
    int processor; /* -1: any */
    long (*call)(long, long);
    long calls;
    pthread_barrier_t *start;
    double wall, cpu;
};

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *left, const void *right)
{
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static double median(double *rounds)
{
    qsort(rounds, ROUNDS, sizeof *rounds, ascending);
    return rounds[ROUNDS / 2];
}

static void *run(void *argument)
{
    struct job *job = argument;
    if (job->processor >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)job->processor, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    double wall[ROUNDS], cpu[ROUNDS];
    pthread_barrier_wait(job->start);
    for (int i = 0; i < ROUNDS; i++) {
        double start = now(CLOCK_MONOTONIC), cpu_start = now(CLOCK_THREAD_CPUTIME_ID);
        for (long k = 0; k < job->calls; k++)
            job->call(k, i);
        cpu[i] = (now(CLOCK_THREAD_CPUTIME_ID) - cpu_start) / (double)job->calls;
        wall[i] = (now(CLOCK_MONOTONIC) - start) / (double)job->calls;
    }
    job->wall = median(wall);
    job->cpu = median(cpu);
    return NULL;
}

int main(int argc, char **argv)
{
    struct job jobs[THREADS_MAX] = {{.call = NULL}};
    long calls = argc > 2 ? atol(argv[2]) : 0, threads = argc > 3 ? atol(argv[3]) : 1;
    for (size_t i = 0; argc > 1 && i < sizeof sites / sizeof *sites; i++)
        if (!strcmp(argv[1], sites[i].name))
            jobs[0].call = sites[i].call;
    if (!jobs[0].call || calls < 1 || threads < 1 || threads > THREADS_MAX) {
        fputs("usage: loop step|emulated|nop5 CALLS [THREADS]\n", stderr);
        return 2;
    }
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        jobs[i] =
            (struct job){.processor = threads > 1 ? i : -1, .call = jobs[0].call, .calls = calls, .start = &start};
    /* The first job is the main thread's own: some tracers know only this thread. */
    for (int i = 1; i < threads; i++)
        if (pthread_create(&jobs[i].thread, NULL, run, &jobs[i]))
            return 1;
    run(&jobs[0]);
    for (int i = 1; i < threads; i++) {
        pthread_join(jobs[i].thread, NULL);
        if (jobs[i].wall > jobs[0].wall)
            jobs[0].wall = jobs[i].wall;
        if (jobs[i].cpu > jobs[0].cpu)
            jobs[0].cpu = jobs[i].cpu;
    }
    printf("wall %.3f cpu %.3f\n", jobs[0].wall, jobs[0].cpu);
    return 0;
}
