/* SPDX-License-Identifier: MIT
 *
 * What a hit costs, in this process, beside what a hand-written pad costs: lines of `name value`, nanoseconds a hit
 * with the bare loop subtracted, or ratios (names that end in _ratio). See bench/hit_pads.S for F0, F1 and F2.
 *
 * Each figure is the median of many runs, a run the best of some short tries; all are taken in turns. So what else the
 * machine does disturbs little, and all of them alike.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "trace/reader.h"
#include "world.h"

enum { TURNS = 10000, TRIES = 10, RUNS = 31, RING_BYTES = 1 << 20, LOOK_NS = 1000000 };

typedef void loop_fn(uint64_t turns);
loop_fn bench_bare, bench_f0, bench_f1, bench_f2, bench_call;
void bench_count(void);
uint64_t bench_counter;
__thread uint64_t bench_guard;

void __attribute__((noinline)) bench_count(void)
{
    bench_counter++;
}

static int handle(void *registers)
{
    bench_counter += registers != NULL;
    return 0;
}
int (*bench_handler)(void *) = handle;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Probes: 0 counts, 1 and 2 count entry and exit, 3 writes events, 4 and 5 write events at entry and exit. */
static const struct tl_operation two_arguments[] = {
    {.op = TL_OP_REG, .a = TL_RDI}, {.op = TL_OP_STORE, .a = 0}, {.op = TL_OP_REG, .a = TL_RSI},
    {.op = TL_OP_STORE, .a = 1},    {.op = TL_OP_END},
};
static const struct tl_hit_action actions[] = {{.probe = 3, .kind = TL_ACTION_EVENT, .operations = 5},
                                               {.probe = 4, .kind = TL_ACTION_EVENT},
                                               {.probe = 5, .kind = TL_ACTION_EVENT}};
static const struct tl_hit_site sites[] = {
    {.addr = 1, .first_action = 0, .action_count = 1},
    {.addr = 2, .first_action = 1, .action_count = 1},
    {.addr = 3, .first_action = 2, .action_count = 1},
};
static struct world world;

/* The four bytes of a relative jump that stands at `at` (or `call`), five bytes long. */
static void put_distance(uint8_t *field, const uint8_t *at, const uint8_t *target)
{
    int32_t distance = (int32_t)(target - (at + 5));
    memcpy(field, &distance, 4);
}

/* Room for a loop, aligned like those of hit_pads.S. */
static uint8_t *reserve_loop(void)
{
    uint8_t *loop = (uint8_t *)(((uintptr_t)world.code + 63) & ~(uintptr_t)63);
    world.code = loop + 64;
    return loop;
}

static loop_fn *place_loop(uint8_t *loop, const uint8_t *code, size_t size)
{
    static const struct tl_hook none = {.kind = TL_HOOK_NONE};
    uint8_t *next = world.code;
    loop_fn *function;
    world.code = loop;
    world_trampoline(&world, &none, code, size);
    world.code = next;
    memcpy(&function, &loop, sizeof(function));
    return function;
}

/* A trampoline: hook, displaced instruction, jump back to `back`. */
static uint8_t *displace(enum tl_hook_kind kind, uint32_t index, const uint8_t *back)
{
    struct tl_hook hook = world_hook(&world, kind, index);
    uint8_t body[10] = {0x48, 0x8d, 0x44, 0x36, 0x40, 0xe9}; /* lea rax, [rsi + rsi + 64]; jmp */
    uint8_t emitted[TL_HOOK_BYTES_MAX];
    size_t length;
    if (tl_hook_emit(&hook, (uint64_t)(uintptr_t)world.code, emitted, &length))
        abort();
    put_distance(body + 6, world.code + length + 5, back);
    return world_trampoline(&world, &hook, body, sizeof(body));
}

/* The bare loop with its instruction replaced by a jump to a hook. */
static loop_fn *probed_loop(enum tl_hook_kind kind, uint32_t index)
{
    uint8_t code[] = {0xe9, 0, 0, 0, 0, 0x48, 0xff, 0xcf, 0x75, 0xf6, 0xc3}; /* jmp; dec rdi; jnz; ret */
    uint8_t *loop = reserve_loop();
    put_distance(code + 1, loop, displace(kind, index, loop + 5));
    return place_loop(loop, code, sizeof(code));
}

enum { NO_EXIT = -1 };

/* The loop over a call, the function probed at its first instruction and at its ret. */
static loop_fn *probed_call(enum tl_hook_kind kind, uint32_t entry, int leave)
{
    uint8_t code[48] = {0xe8, 27, 0, 0, 0, 0x48, 0xff, 0xcf, 0x75, 0xf6, 0xc3}; /* call +32; dec rdi; jnz; ret */
    uint8_t *loop = reserve_loop();
    code[32] = 0xe9; /* jmp */
    put_distance(code + 33, loop + 32, displace(kind, entry, loop + 37));
    code[37] = 0xc3;
    if (leave != NO_EXIT) {
        struct tl_hook hook = world_hook(&world, kind, (uint32_t)leave);
        code[37] = 0xe9;
        put_distance(code + 38, loop + 37, world_trampoline(&world, &hook, "\xc3", 1));
    }
    return place_loop(loop, code, sizeof(code));
}

struct figure {
    const char *name;
    loop_fn *loop;
    int base; /* which figure's loop is subtracted; -1: none */
    bool events;
    double runs[RUNS], median;
};

static atomic_bool stop;
static uint64_t sum;

static int see_event(void *unused, const struct tl_record *record)
{
    (void)unused;
    sum += record->time_ns + record->tid + record->values[0] + record->values[1];
    return 0;
}

/* The tool's own reader, which looks as often as the tool does while events come. */
static void *read_events(void *unused)
{
    const struct tl_hit_control *area = world.area;
    struct tl_reader *reader;
    if (tl_reader_open(world.area, area->lanes + area->lane_count * area->lane_stride, area, NULL, &reader))
        abort();
    while (!atomic_load(&stop)) {
        tl_reader_poll(reader, see_event, NULL);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    tl_reader_close(reader);
    return unused;
}

static void wait_for_reader(void)
{
    for (uint32_t i = 0; i < world.area->lane_count; i++)
        while (__atomic_load_n(&world_lane(&world, i)->tail, __ATOMIC_ACQUIRE) != world_lane(&world, i)->head)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static double try(loop_fn *loop)
{
    double start = now();
    loop(TURNS);
    return (now() - start) / TURNS;
}

static double run(loop_fn *loop, bool events)
{
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        double time = try(loop);
        best = time < best ? time : best;
        if (events)
            wait_for_reader();
    }
    return best;
}

static void measure(struct figure *figures, int count)
{
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < count; i++)
            figures[i].runs[r] = run(figures[i].loop, figures[i].events);
    for (int i = 0; i < count; i++) {
        qsort(figures[i].runs, RUNS, sizeof(double), ascending);
        figures[i].median = figures[i].runs[RUNS / 2];
    }
    for (int i = 0; i < count; i++)
        if (figures[i].base >= 0)
            printf("%s %.2f\n", figures[i].name, figures[i].median - figures[figures[i].base].median);
}

static loop_fn *vectors_loop;

static void vectors_in_use(uint64_t turns)
{
    calls_use_vectors();
    vectors_loop(turns);
    calls_drop_vectors();
}

static void *run_other(void *loop)
{
    loop_fn *function;
    memcpy(&function, &loop, sizeof(function));
    while (!atomic_load(&stop))
        function(TURNS);
    return NULL;
}

/* The loop's time on this thread while another thread runs it as well. */
static double beside(loop_fn *loop)
{
    pthread_t other;
    double runs[RUNS];
    void *argument;
    memcpy(&argument, &loop, sizeof(argument));
    atomic_store(&stop, false);
    if (pthread_create(&other, NULL, run_other, argument))
        abort();
    for (int i = 0; i < RUNS; i++)
        runs[i] = run(loop, false);
    atomic_store(&stop, true);
    pthread_join(other, NULL);
    qsort(runs, RUNS, sizeof(double), ascending);
    return runs[RUNS / 2];
}

int main(void)
{
    enum {
        BARE,
        F0,
        F1,
        F2,
        COUNT,
        EVENT,
        CALL,
        COUNT_BOTH,
        EVENT_BOTH,
        HANDLER,
        HANDLER_HERE,
        HANDLER_VECTORS,
        HANDLER_ALL_VECTORS,
        RETURN_EXIT,
        RETURN_REWRITE,
        FIGURES
    };
    static struct figure figures[FIGURES] = {
        [BARE] = {"bare", bench_bare, -1, false, {0}, 0},
        [F0] = {"f0", bench_f0, BARE, false, {0}, 0},
        [F1] = {"f1", bench_f1, BARE, false, {0}, 0},
        [F2] = {"f2", bench_f2, BARE, false, {0}, 0},
        [COUNT] = {"count", NULL, BARE, false, {0}, 0},
        [EVENT] = {"event", NULL, BARE, true, {0}, 0},
        [CALL] = {"call", bench_call, -1, false, {0}, 0},
        [COUNT_BOTH] = {"entry_exit_count", NULL, CALL, false, {0}, 0},
        [EVENT_BOTH] = {"entry_exit_event", NULL, CALL, true, {0}, 0},
        [HANDLER] = {"handler", NULL, BARE, false, {0}, 0},
        [HANDLER_HERE] = {"handler_here", NULL, BARE, false, {0}, 0},
        [HANDLER_VECTORS] = {"handler_vectors", NULL, BARE, false, {0}, 0},
        [HANDLER_ALL_VECTORS] = {"handler_all_vectors", vectors_in_use, BARE, false, {0}, 0},
        [RETURN_EXIT] = {"return_exit", NULL, CALL, false, {0}, 0},
        [RETURN_REWRITE] = {"return_rewrite", NULL, CALL, false, {0}, 0},
    };
    pthread_t reader;

    world = world_make(&(struct world_shape){.probes = 6,
                                             .ring_bytes = RING_BYTES,
                                             .sites = sites,
                                             .site_count = 3,
                                             .actions = actions,
                                             .action_count = 3,
                                             .operations = two_arguments,
                                             .operation_count = 5});
    figures[COUNT].loop = probed_loop(TL_HOOK_COUNT, 0);
    figures[COUNT_BOTH].loop = probed_call(TL_HOOK_COUNT, 1, 2);
    figures[EVENT].loop = probed_loop(TL_HOOK_ENTER, 0);
    figures[EVENT_BOTH].loop = probed_call(TL_HOOK_ENTER, 1, 2);

    calls_make(&world);
    figures[HANDLER].loop = probed_loop(TL_HOOK_CALL, CALLS_GENERAL);
    figures[HANDLER_HERE].loop = probed_loop(TL_HOOK_CALL, CALLS_OWN_STACK);
    figures[HANDLER_VECTORS].loop = vectors_loop = probed_loop(TL_HOOK_CALL, CALLS_VECTORS);
    figures[RETURN_EXIT].loop = probed_call(TL_HOOK_CALL, CALLS_ENTRY, CALLS_EXIT);
    figures[RETURN_REWRITE].loop = probed_call(TL_HOOK_CALL, CALLS_REWRITE, NO_EXIT);

    if (pthread_create(&reader, NULL, read_events, NULL))
        return 1;
    measure(figures, FIGURES);
    atomic_store(&stop, true);
    pthread_join(reader, NULL);

    double bare = figures[BARE].median, call = figures[CALL].median, f1 = figures[F1].median - bare;
    printf("count_f1_ratio %.2f\n", (figures[COUNT].median - bare) / f1);
    printf("entry_exit_count_f2_ratio %.2f\n", (figures[COUNT_BOTH].median - call) / (figures[F2].median - bare));
    printf("handler_f2_ratio %.2f\n", (figures[HANDLER].median - bare) / (figures[F2].median - bare));
    printf("handler_vectors_f1_ratio %.2f\n", (figures[HANDLER_ALL_VECTORS].median - bare) / f1);
    printf("two_threads_bare_ratio %.2f\n", beside(bench_bare) / bare);
    printf("two_threads_count_ratio %.2f\n", beside(figures[COUNT].loop) / figures[COUNT].median);
    printf("lost %llu\n", (unsigned long long)world_lost(&world));
    bool exact = world_count(&world, 1) == world_count(&world, 2) &&
                 world_count(&world, 1) == (uint64_t)RUNS * TRIES * TURNS &&
                 calls_returned == 2 * (uint64_t)RUNS * TRIES * TURNS;
    printf("exact %d\n", exact);
    return exact ? 0 : 1;
}
