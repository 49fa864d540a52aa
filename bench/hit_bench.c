/* SPDX-License-Identifier: MIT
 *
 * What a hit costs, in this process, beside what a hand-written pad costs: lines of `name value`, nanoseconds a hit
 * with the bare loop subtracted. See pads.inc for F0, F1 and F2, and lines.h for how it is measured.
 */
#include <stdio.h>

#include "calls.h"
#include "hooks.h"

enum { TURNS = 2000, ROUNDS = 1001, WARM = ROUNDS / 10, RING_BYTES = 1 << 22 };

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

enum {
    BARE,
    F0,
    F1,
    F2,
    COUNT,
    FS_BASE,
    EVENT,
    CALL,
    COUNT_BOTH,
    EVENT_BOTH,
    HANDLER,
    HANDLER_HERE,
    HANDLER_VECTORS,
    HANDLER_ALL_VECTORS,
    HANDLER_X87,
    RETURN_EXIT,
    RETURN_REWRITE,
    LINES
};
static loop_fn *loops[LINES] = {
    [BARE] = bench_bare, [F0] = bench_f0, [F1] = bench_f1, [F2] = bench_f2, [CALL] = bench_call};

static void run_with_vectors(const struct line *line)
{
    calls_use_vectors();
    run_loop(line);
    calls_drop_vectors();
}

static void run_with_x87(const struct line *line)
{
    calls_use_vectors();
    calls_use_x87();
    run_loop(line);
    calls_drop_vectors();
}

static void make_loops(struct world *world)
{
    loops[COUNT] = probed_loop(world, TL_HOOK_COUNT, 0);
    loops[FS_BASE] = world_features() & TL_HIT_FSGSBASE ? bench_fsbase : bench_bare;
    loops[COUNT_BOTH] = probed_call(world, TL_HOOK_COUNT, 1, 2);
    loops[EVENT] = probed_loop(world, TL_HOOK_ENTER, 0);
    loops[EVENT_BOTH] = probed_call(world, TL_HOOK_ENTER, 1, 2);
    loops[HANDLER] = probed_loop(world, TL_HOOK_CALL, CALLS_GENERAL);
    loops[HANDLER_HERE] = probed_loop(world, TL_HOOK_CALL, CALLS_OWN_STACK);
    loops[HANDLER_VECTORS] = probed_loop(world, TL_HOOK_CALL, CALLS_VECTORS);
    loops[HANDLER_ALL_VECTORS] = loops[HANDLER_VECTORS];
    loops[HANDLER_X87] = loops[HANDLER_VECTORS];
    loops[RETURN_EXIT] = probed_call(world, TL_HOOK_CALL, CALLS_ENTRY, CALLS_EXIT);
    loops[RETURN_REWRITE] = probed_call(world, TL_HOOK_CALL, CALLS_REWRITE, NO_EXIT);
}

int main(void)
{
    static struct line lines[LINES] = {
        [BARE] = {.name = "bare", .base = -1},
        [F0] = {.name = "f0"},
        [F1] = {.name = "f1"},
        [F2] = {.name = "f2"},
        [COUNT] = {.name = "count"},
        [FS_BASE] = {.name = "fs_base"},
        [EVENT] = {.name = "event", .before = reader_wait},
        [CALL] = {.name = "call", .base = -1},
        [COUNT_BOTH] = {.name = "entry_exit_count", .base = CALL},
        [EVENT_BOTH] = {.name = "entry_exit_event", .base = CALL, .before = reader_wait},
        [HANDLER] = {.name = "handler"},
        [HANDLER_HERE] = {.name = "handler_here"},
        [HANDLER_VECTORS] = {.name = "handler_vectors"},
        [HANDLER_ALL_VECTORS] = {.name = "handler_all_vectors", .slice = run_with_vectors},
        [HANDLER_X87] = {.name = "handler_x87", .slice = run_with_x87},
        [RETURN_EXIT] = {.name = "return_exit", .base = CALL},
        [RETURN_REWRITE] = {.name = "return_rewrite", .base = CALL},
    };
    struct world world = world_make(&(struct world_shape){.probes = 6,
                                                          .ring_bytes = RING_BYTES,
                                                          .sites = sites,
                                                          .site_count = 3,
                                                          .actions = actions,
                                                          .action_count = 3,
                                                          .operations = two_arguments,
                                                          .operation_count = 5});
    calls_make(&world);
    make_loops(&world);
    for (int i = 0; i < LINES; i++) {
        lines[i].turns = TURNS;
        lines[i].subject = &loops[i];
        if (!lines[i].slice)
            lines[i].slice = run_loop;
    }
    reader_start(&world);
    lines_measure(lines, LINES, ROUNDS);
    reader_stop();
    for (int i = 0; i < LINES; i++)
        if (lines[i].base >= 0)
            printf("%s %.2f\n", lines[i].name, lines_figure(lines, (size_t)i, true));
    uint64_t turns = (uint64_t)(ROUNDS + WARM) * TURNS;
    bool exact = world_count(&world, 1) == world_count(&world, 2) && world_count(&world, 1) == turns &&
                 calls_returned == 2 * turns;
    printf("lost %llu\n", (unsigned long long)world_lost(&world));
    printf("exact %d\n", exact);
    lines_free(lines, LINES);
    return exact ? 0 : 1;
}
