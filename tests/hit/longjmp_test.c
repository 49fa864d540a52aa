/* SPDX-License-Identifier: MIT
 *
 * Signal handlers that leave a hit for good, and others that run where one would take the hit they interrupt for dead.
 */
#include "hits.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

enum { STACK = 1 << 16 };

static sigjmp_buf out;
static int steps, leave_at; /* instructions until the handler leaves */
static uint64_t hits;       /* of handlers */
static bool hit_in_handler;

#define TRAP_FLAG(change)                                                                                              \
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; " change ", (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::            \
                         : "memory", "cc")

static void handler(int signal)
{
    (void)signal;
    if (hit_in_handler) {
        hits_run(1);
        hits++;
    }
    if (++steps == leave_at)
        siglongjmp(out, 1);
}

static void catch_traps(int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
}

/* Uses as much stack as a hit and a signal do, so that nothing of those that are over is left. */
static void __attribute__((noinline)) use_stack(void)
{
    char bytes[STACK / 2];
    memset(bytes, 1, sizeof(bytes));
    __asm__ volatile("" ::"r"(bytes) : "memory");
}

/* One hit of each probe, left behind `at` instructions. False when it ended before. */
static bool leave_hits_at(int at)
{
    steps = 0;
    leave_at = at;
    if (sigsetjmp(out, 1) == 0) {
        TRAP_FLAG("orq $0x100");
        hits_run(1);
        TRAP_FLAG("andq $~0x100");
        return false;
    }
    return true;
}

static uint64_t all_of(uint32_t probe, uint64_t seen)
{
    return (probe == 1 ? seen + world_lost(&hits_world) : world_count(&hits_world, probe)) +
           world_missed(&hits_world, probe);
}

/* Whichever instruction it is left at, a hit counts at most once, the next ones come through, and all lanes are free.
 */
static void a_hit_may_be_left_at_any_instruction(void **unused)
{
    (void)unused;
    uint64_t uncounted = 0, seen = 0, before[3] = {1, 1, 1}, left = 0;
    hits_make((struct world_shape){.lane_shift = 2, .lane_count = 6});
    catch_traps(0);
    hits_run(1);
    for (int at = 1; leave_hits_at(at); at++, left++) {
        use_stack();
        hits_run(1);
        seen += world_drain(&hits_world);
        for (uint32_t probe = 0; probe < 3; probe++) {
            uint64_t now = all_of(probe, seen), more = now - before[probe];
            assert_in_range(more, 1, 2);
            uncounted += more == 1;
            before[probe] = now;
        }
        for (uint32_t i = 0; i < 6; i++)
            assert_int_equal(world_lane(&hits_world, i)->busy, 0);
    }
    assert_true(left > 150 && uncounted > 0);
    assert_true(world_missed(&hits_world, 1) > 30 && world_missed(&hits_world, 2) > 30);
    world_free(&hits_world);
}

/* With hits in each handler, in nested lanes. */
static void shared_lanes_come_back_as_well(void **unused)
{
    (void)unused;
    hits_make((struct world_shape){.lane_shift = 2, .lane_count = 6});
    catch_traps(SA_NODEFER);
    hit_in_handler = true;
    for (int at = 1; leave_hits_at(at); at++)
        use_stack();
    hit_in_handler = false;
    hits_run(1);
    uint64_t missed = hits_missed();
    world_drain(&hits_world);
    hits_run(5);
    assert_int_equal(world_drain(&hits_world), 5);
    assert_int_equal(hits_missed(), missed);
    world_free(&hits_world);
}

static void *hit_with_handlers(void *handlers_stack)
{
    stack_t stack = {.ss_sp = handlers_stack, .ss_size = STACK}, none = {.ss_flags = SS_DISABLE};
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    catch_traps(SA_ONSTACK);
    hits = 0;
    hit_in_handler = true;
    assert_false(leave_hits_at(0));
    hit_in_handler = false;
    assert_true(hits > 150);
    hits_check_exact(world_drain(&hits_world), hits + 1);
    assert_int_equal(hits_missed(), 0);
    assert_int_equal(sigaltstack(&none, NULL), 0);
    return NULL;
}

/* Handlers on stacks below and above the hits that they interrupt: those live, and nothing is missed. */
static void a_handler_on_a_stack_of_its_own_leaves_the_hit_alone(void **unused)
{
    (void)unused;
    static char low[STACK];
    char high[STACK];
    char *stacks[2] = {low, high};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        hits_make((struct world_shape){.flags = 0});
        assert_int_equal(pthread_create(&thread, NULL, hit_with_handlers, stacks[i]), 0);
        pthread_join(thread, NULL);
        world_free(&hits_world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_may_be_left_at_any_instruction),
        cmocka_unit_test(shared_lanes_come_back_as_well),
        cmocka_unit_test(a_handler_on_a_stack_of_its_own_leaves_the_hit_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
