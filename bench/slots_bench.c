/* SPDX-License-Identifier: MIT
 *
 * What the accounting of debug-register slots costs: a reservation and its release, in nanoseconds, while nobody and
 * while a million tasks hold one, on few CPUs and on many; and beside it the same rules by a plain scan, and what a
 * processor here waits for a word at random in as much memory as a million tasks take: a table of tasks cannot be
 * faster than that. All in turns (lines.h). Lines of `name value`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hwbp/slots.h"
#include "lines.h"

enum { TURNS = 2000, ROUNDS = 101, SCAN_TURNS = 1, TASKS = 1000000, SCAN_TASKS = 10000, SCAN_CPUS = 256, SLOTS = 4 };
enum { LARGE_PAGE = 2 << 20, MEMORY = 512 << 20, CHASED = 48 << 20, LINE_WORDS = 8 };

/* Memory in large pages, as whoever has a million tasks would give it. It is not used again. */
static uint8_t *memory, *memory_end;

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    uint8_t *taken = memory;
    bytes = (bytes + 63) & ~(size_t)63;
    if (bytes > (size_t)(memory_end - memory))
        return NULL;
    memory += bytes;
    return taken;
}

static void release(void *context, void *bytes, size_t size)
{
    (void)context;
    (void)bytes;
    (void)size;
}

static void reserve_memory(void)
{
    memory = aligned_alloc(LARGE_PAGE, MEMORY);
    if (!memory)
        abort();
    madvise(memory, MEMORY, MADV_HUGEPAGE);
    memory_end = memory + MEMORY;
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

/* Who asks: tasks first to first + range - 1, at random. */
struct subject {
    struct tl_slots slots;
    uint64_t first, range;
};

static uint64_t random_number(void)
{
    static uint64_t seed = 1;
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return seed >> 33;
}

static void reserve_and_release(const struct line *line)
{
    struct subject *subject = (struct subject *)(uintptr_t)line->subject;
    for (uint64_t i = 0; i < line->turns; i++) {
        struct tl_slot_request request = {
            .task = subject->first + random_number() % subject->range, .cpu = TL_ANY_CPU, .weight = 1};
        if (tl_slots_reserve(&subject->slots, &request) || tl_slots_release(&subject->slots, &request))
            abort();
    }
}

/* One large circle through all cache lines: each names the next. */
static uint64_t *chain, chased;

static void make_chain(void)
{
    size_t count = CHASED / 64;
    chain = allocate(NULL, CHASED);
    if (!chain)
        abort();
    for (size_t i = 0; i < count; i++)
        chain[i * LINE_WORDS] = i;
    for (size_t i = count - 1; i > 0; i--) {
        size_t other = random_number() % i;
        uint64_t word = chain[i * LINE_WORDS];
        chain[i * LINE_WORDS] = chain[other * LINE_WORDS];
        chain[other * LINE_WORDS] = word;
    }
}

static void chase(const struct line *line)
{
    for (uint64_t i = 0; i < line->turns; i++)
        chased = chain[chased * LINE_WORDS];
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

static void scan_all(const struct line *line)
{
    for (uint64_t i = 1; i <= line->turns; i++)
        if (!scan(i))
            abort();
}

static void reserve_for_scan(void)
{
    scanned = calloc(SCAN_TASKS + 1, sizeof *scanned);
    if (!scanned)
        abort();
    for (; scanned_count < SCAN_TASKS; scanned_count++)
        scanned[scanned_count] = (struct tl_slot_request){.task = scanned_count + 1, .cpu = TL_ANY_CPU, .weight = 1};
}

int main(void)
{
    static const uint64_t held[] = {0, 10, 100, 1000, 10000, 100000, TASKS};
    static const char *const names[] = {"one_task_0",     "one_task_10",     "one_task_100",    "one_task_1000",
                                        "one_task_10000", "one_task_100000", "one_task_1000000"};
    enum {
        HELD = sizeof held / sizeof *held,
        RANDOM = HELD,
        CPUS,
        SCANS = CPUS + 3,
        SUBJECTS,
        CHASE = SUBJECTS,
        SCAN,
        LINES
    };
    static struct subject subjects[SUBJECTS];
    static struct line lines[LINES];
    static const char *const cpu_names[] = {"cpus_16", "cpus_128", "cpus_1024"};
    reserve_memory();
    for (unsigned i = 0; i < HELD; i++) {
        subjects[i] = (struct subject){make(1, held[i]), TASKS + 1, 1};
        lines[i].name = names[i];
    }
    subjects[RANDOM] = (struct subject){subjects[HELD - 1].slots, 1, TASKS};
    lines[RANDOM].name = "random_tasks";
    for (unsigned i = 0; i < 3; i++) {
        subjects[CPUS + i] = (struct subject){make(16u << 3 * i, 0), 1, 1};
        lines[CPUS + i].name = cpu_names[i];
    }
    subjects[SCANS] = (struct subject){make(SCAN_CPUS, SCAN_TASKS), 1, SCAN_TASKS};
    lines[SCANS].name = "beside_scan";
    for (unsigned i = 0; i < SUBJECTS; i++) {
        lines[i].subject = &subjects[i];
        lines[i].slice = reserve_and_release;
        lines[i].turns = TURNS;
        lines[i].base = -1;
    }
    make_chain();
    reserve_for_scan();
    lines[CHASE] = (struct line){.name = "random_word", .slice = chase, .turns = TURNS, .base = -1};
    lines[SCAN] = (struct line){.name = "scan", .slice = scan_all, .turns = SCAN_TURNS, .base = -1};
    lines_measure(lines, LINES, ROUNDS);
    for (unsigned i = 0; i < LINES; i++)
        printf("%s %.2f\n", lines[i].name, lines_figure(lines, i, true));
    lines_free(lines, LINES);
    free(scanned);
    return 0;
}
