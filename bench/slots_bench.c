/* SPDX-License-Identifier: MIT
 *
 * What the accounting of debug-register slots costs: a reservation and its release, in nanoseconds, while nobody and
 * while a million tasks hold one, on few CPUs and on many; and beside it the same rules by a plain scan.
 * Prints lines of a name and a figure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hwbp/slots.h"

enum { RUNS = 5, ROUNDS = 200000, SCAN_ROUNDS = 3, TASKS = 1000000, SCAN_TASKS = 10000, SCAN_CPUS = 256, SLOTS = 4 };

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *left, const void *right)
{
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static struct tl_slots make(unsigned cpus, uint64_t tasks)
{
    const struct tl_slots_machine machine = {.cpus = cpus, .slots = {SLOTS}, .shared = true};
    const struct tl_slots_host host = {.allocate = allocate, .release = release};
    struct tl_slots slots;
    if (tl_slots_init(&slots, &machine, &host))
        abort();
    for (uint64_t task = 1; task <= tasks; task++)
        if (tl_slots_reserve(&slots, &(struct tl_slot_request){.task = task, .cpu = TL_ANY_CPU, .weight = 1}))
            abort();
    return slots;
}

/* Tasks first to first + range - 1, at random. */
static double cost(struct tl_slots *slots, uint64_t first, uint64_t range)
{
    double runs[RUNS];
    for (int r = 0; r < RUNS; r++) {
        uint64_t seed = (uint64_t)r + 1;
        double start = now();
        for (int i = 0; i < ROUNDS; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            struct tl_slot_request request = {.task = first + (seed >> 33) % range, .cpu = TL_ANY_CPU, .weight = 1};
            if (tl_slots_reserve(slots, &request) || tl_slots_release(slots, &request))
                abort();
        }
        runs[r] = (now() - start) / ROUNDS;
    }
    qsort(runs, RUNS, sizeof *runs, ascending);
    return runs[RUNS / 2];
}

/* The rule for a task on any CPU, from a list of what is reserved. */
static struct tl_slot_request *scanned;
static size_t scanned_count;

static __attribute__((noinline)) int scan(uint64_t task)
{
    unsigned most = 0;
    for (int c = 0; c < SCAN_CPUS; c++) {
        unsigned sum = 0;
        for (size_t i = 0; i < scanned_count; i++) {
            const struct tl_slot_request *held = &scanned[i];
            if (held->task ? held->task == task && (held->cpu == TL_ANY_CPU || held->cpu == c) : held->cpu == c)
                sum += held->weight;
        }
        most = sum > most ? sum : most;
    }
    return most + 1 <= SLOTS;
}

static double scan_cost(void)
{
    scanned = calloc(SCAN_TASKS + 1, sizeof *scanned);
    if (!scanned)
        abort();
    for (; scanned_count < SCAN_TASKS; scanned_count++)
        scanned[scanned_count] = (struct tl_slot_request){.task = scanned_count + 1, .cpu = TL_ANY_CPU, .weight = 1};
    double start = now();
    for (uint64_t i = 1; i <= SCAN_ROUNDS; i++)
        if (!scan(i))
            abort();
    double each = (now() - start) / SCAN_ROUNDS;
    free(scanned);
    return each;
}

int main(void)
{
    static const uint64_t held[] = {0, 10, 100, 1000, 10000, 100000, TASKS};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        struct tl_slots slots = make(1, held[i]);
        printf("one_task_%llu %.2f\n", (unsigned long long)held[i], cost(&slots, TASKS + 1, 1));
        if (held[i] == TASKS)
            printf("random_tasks %.2f\n", cost(&slots, 1, TASKS));
        tl_slots_destroy(&slots);
    }
    for (unsigned cpus = 16; cpus <= 1024; cpus *= 8) {
        struct tl_slots slots = make(cpus, 0);
        printf("cpus_%u %.2f\n", cpus, cost(&slots, 1, 1));
        tl_slots_destroy(&slots);
    }
    struct tl_slots slots = make(SCAN_CPUS, SCAN_TASKS);
    printf("beside_scan %.2f\n", cost(&slots, 1, SCAN_TASKS));
    tl_slots_destroy(&slots);
    printf("scan %.2f\n", scan_cost());
    return 0;
}
