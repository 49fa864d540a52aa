/* SPDX-License-Identifier: MIT
 *
 * A recorded event with two arguments, beside a static tracepoint of LTTng-UST with two arguments, recorded by its
 * session: the loop over one instead of nothing, and the loop over the other instead of a tracepoint that is switched
 * off (a load and a branch). Lines of `name value`, nanoseconds; see lines.h. The same tracepoint makes no event where
 * no session records it; `lttng` says so by being nearly 0.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_events.h"

#include <stdio.h>

#include "hooks.h"

enum { TURNS = 2000, ROUNDS = 1001, RING_BYTES = 1 << 22 };
enum { BARE, EVENT, OFF, LTTNG, LINES };

static const struct tl_operation two_arguments[] = {
    {.op = TL_OP_REG, .a = TL_RDI}, {.op = TL_OP_STORE, .a = 0}, {.op = TL_OP_REG, .a = TL_RSI},
    {.op = TL_OP_STORE, .a = 1},    {.op = TL_OP_END},
};
static const struct tl_hit_action action = {.probe = 0, .kind = TL_ACTION_EVENT, .operations = 5};
static const struct tl_hit_site site = {.addr = 1, .action_count = 1};

static void run_off(const struct line *line)
{
    for (long k = 0; k < (long)line->turns; k++)
        lttng_ust_tracepoint(bench, off, k, 1);
}

static void run_lttng(const struct line *line)
{
    for (long k = 0; k < (long)line->turns; k++)
        lttng_ust_tracepoint(bench, call, k, 1);
}

int main(void)
{
    struct world world = world_make(&(struct world_shape){.probes = 1,
                                                          .ring_bytes = RING_BYTES,
                                                          .sites = &site,
                                                          .site_count = 1,
                                                          .actions = &action,
                                                          .action_count = 1,
                                                          .operations = two_arguments,
                                                          .operation_count = 5});
    loop_fn *bare = bench_bare, *event = probed_loop(&world, TL_HOOK_ENTER, 0);
    struct line lines[LINES] = {
        [BARE] = {.name = "bare", .slice = run_loop, .subject = &bare, .turns = TURNS, .base = -1},
        [EVENT] = {.name = "event", .slice = run_loop, .before = reader_wait, .subject = &event, .turns = TURNS},
        [OFF] = {.name = "off", .slice = run_off, .turns = TURNS, .base = -1},
        [LTTNG] = {.name = "lttng", .slice = run_lttng, .turns = TURNS, .base = OFF}};
    reader_start(&world);
    lines_measure(lines, LINES, ROUNDS);
    reader_stop();
    printf("event %.2f\nlttng %.2f\nlost %llu\n", lines_figure(lines, EVENT, true), lines_figure(lines, LTTNG, true),
           (unsigned long long)world_lost(&world));
    lines_free(lines, LINES);
    return 0;
}
