/* SPDX-License-Identifier: MIT */
#include "hits.h"

/* Probe 0 counts in line, probe 1 writes events, probe 2 counts through a program. */
static const struct tl_operation yes[] = {{.op = TL_OP_END}};
static const struct tl_hit_action actions[] = {{.probe = 1, .kind = TL_ACTION_EVENT},
                                               {.probe = 2, .kind = TL_ACTION_COUNT, .operations = 1}};
static const struct tl_hit_site sites[] = {{.addr = 1, .first_action = 0, .action_count = 1},
                                           {.addr = 2, .first_action = 1, .action_count = 1}};
struct world hits_world;
static world_fn *count_in_line, *write_event, *count_by_program;

void hits_make(struct world_shape shape)
{
    shape.probes = 3;
    shape.sites = sites;
    shape.site_count = 2;
    shape.actions = actions;
    shape.action_count = 2;
    shape.operations = yes;
    shape.operation_count = 1;
    hits_world = world_make(&shape);
    count_in_line = world_function(&hits_world, TL_HOOK_COUNT, 0);
    write_event = world_function(&hits_world, TL_HOOK_ENTER, 0);
    count_by_program = world_function(&hits_world, TL_HOOK_ENTER, 1);
}

void hits_run(uint64_t times)
{
    for (uint64_t i = 0; i < times; i++) {
        count_in_line();
        write_event();
        count_by_program();
    }
}

uint64_t hits_missed(void)
{
    return world_missed(&hits_world, 0) + world_missed(&hits_world, 1) + world_missed(&hits_world, 2);
}

void hits_check_exact(uint64_t seen, uint64_t hits)
{
    assert_int_equal(world_count(&hits_world, 0), hits);
    assert_int_equal(world_missed(&hits_world, 0), 0);
    assert_int_equal(seen + world_lost(&hits_world) + world_missed(&hits_world, 1), hits);
    assert_int_equal(world_count(&hits_world, 2) + world_missed(&hits_world, 2), hits);
}
