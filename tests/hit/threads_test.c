/* SPDX-License-Identifier: MIT
 *
 * Counts and events are exact: under threads, signals and vfork; and a fork child is silent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

enum { THREADS = 8, HITS = 20000, SIGNALS = 300 };

/* Probe 0 counts in line, probe 1 writes events, probe 2 counts through a program. */
static const struct tl_operation yes[] = {{.op = TL_OP_END}};
static const struct tl_hit_action actions[] = {{.probe = 1, .kind = TL_ACTION_EVENT},
                                               {.probe = 2, .kind = TL_ACTION_COUNT, .operations = 1}};
static const struct tl_hit_site sites[] = {{.addr = 1, .first_action = 0, .action_count = 1},
                                           {.addr = 2, .first_action = 1, .action_count = 1}};
static struct world world;
static world_fn *count_in_line, *write_event, *count_by_program;

static void make(struct world_shape shape)
{
    shape.probes = 3;
    shape.sites = sites;
    shape.site_count = 2;
    shape.actions = actions;
    shape.action_count = 2;
    shape.operations = yes;
    shape.operation_count = 1;
    world = world_make(&shape);
    count_in_line = world_function(&world, TL_HOOK_COUNT, 0);
    write_event = world_function(&world, TL_HOOK_ENTER, 0);
    count_by_program = world_function(&world, TL_HOOK_ENTER, 1);
}

static void hit_all(uint64_t times)
{
    for (uint64_t i = 0; i < times; i++) {
        count_in_line();
        write_event();
        count_by_program();
    }
}

static uint64_t missed(void)
{
    return __atomic_load_n(&world.area->missed, __ATOMIC_RELAXED);
}

/* missed holds actions of both events and counts. */
static void check_exact(uint64_t seen, uint64_t hits)
{
    assert_int_equal(world_count(&world, 0), hits);
    assert_int_equal(seen + world_lost(&world) + world_count(&world, 2) + missed(), 2 * hits);
    if (!missed())
        assert_int_equal(world_count(&world, 2), hits);
}

static void *work(void *unused)
{
    hit_all(HITS);
    return unused;
}

static atomic_bool done;

static void *read_all(void *seen)
{
    while (!atomic_load(&done)) {
        *(uint64_t *)seen += world_drain(&world);
        sched_yield();
    }
    return NULL;
}

static void run_threads(struct world_shape shape)
{
    pthread_t threads[THREADS], reader;
    uint64_t seen = 0;
    make(shape);
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&reader, NULL, read_all, &seen), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&done, true);
    pthread_join(reader, NULL);
    check_exact(seen + world_drain(&world), (uint64_t)THREADS * HITS);
    world_free(&world);
}

static void threads_are_exact(void **unused)
{
    (void)unused;
    run_threads((struct world_shape){.flags = 0});
}

/* Two blocks and two lanes for eight threads: most count in the overflow block and share three lanes. */
static void threads_are_exact_without_room_for_all(void **unused)
{
    (void)unused;
    run_threads((struct world_shape){.table_shift = 1, .lane_shift = 1, .lane_count = 5, .ring_bytes = 4096});
}

static void with_a_live_reader_blocking_loses_nothing(void **unused)
{
    (void)unused;
    pthread_t thread;
    uint64_t seen = 0;
    make((struct world_shape){.flags = TL_HIT_BLOCK, .ring_bytes = 4096});
    world.area->heartbeat_max = INT64_MAX;
    world.area->heartbeat = __builtin_ia32_rdtsc();
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&thread, NULL, read_all, &seen), 0);
    hit_all(HITS);
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    seen += world_drain(&world);
    assert_int_equal(world_lost(&world), 0);
    assert_int_equal(seen, HITS);
    world_free(&world);
}

static uint64_t handled, drained;

static void handler(int signal)
{
    (void)signal;
    handled++;
    hit_all(1);
}

/* Hits of handlers in the middle of hits, which are driven on until enough signals have come. */
static void signals_are_exact(void **unused)
{
    (void)unused;
    make((struct world_shape){.flags = 0});
    struct sigaction action = {.sa_handler = handler};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    uint64_t direct = 0;
    handled = drained = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (*(volatile uint64_t *)&handled < SIGNALS) {
        hit_all(200);
        direct += 200;
        drained += world_drain(&world);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN);
    check_exact(drained + world_drain(&world), direct + handled);
    assert_int_equal(missed(), 0);
    world_free(&world);
}

/* Start or stop having SIGTRAP behind each instruction. */
#define TRAP_FLAG(change)                                                                                              \
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; " change ", (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::            \
                         : "memory", "cc")

static void step(int signal)
{
    (void)signal;
    handled++;
    hit_all(1);
}

/* A handler that hits, behind each instruction of a hit. */
static void a_signal_at_every_instruction_is_exact(void **unused)
{
    (void)unused;
    struct sigaction action = {.sa_handler = step}, old;
    make((struct world_shape){.flags = 0});
    handled = 0;
    sigaction(SIGTRAP, &action, &old);
    hit_all(1); /* so that the thread has a block and a lane; the second round gets them while stepped */
    for (int round = 0; round < 2; round++) {
        TRAP_FLAG("orq $0x100");
        hit_all(1);
        TRAP_FLAG("andq $~0x100");
        assert_true(handled > 150);
        check_exact(world_drain(&world), (round == 0) + 1 + handled);
        assert_int_equal(missed(), 0);
        world_free(&world);
        make((struct world_shape){.flags = 0});
        handled = 0;
    }
    sigaction(SIGTRAP, &old, NULL);
    world_free(&world);
}

static void a_fork_child_is_silent(void **unused)
{
    (void)unused;
    make((struct world_shape){.flags = 0});
    hit_all(3);
    pid_t child = fork();
    if (child == 0) {
        hit_all(1000);
        _exit(7);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    check_exact(world_drain(&world), 3);
    hit_all(1);
    assert_int_equal(world_drain(&world), 1);
    world_free(&world);
}

static bool is_child;

static void fork_here(int signal)
{
    (void)signal;
    int status;
    if (is_child)
        return;
    pid_t child = fork();
    is_child = child == 0;
    if (is_child)
        return;
    handled++;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        abort();
}

/* The child of a handler returns into the middle of a hook or of the runtime, its gate wiped. */
static void a_fork_at_every_instruction_leaves_a_child_that_lives(void **unused)
{
    (void)unused;
    struct sigaction action = {.sa_handler = fork_here}, old;
    make((struct world_shape){.flags = 0});
    handled = 0;
    sigaction(SIGTRAP, &action, &old);
    TRAP_FLAG("orq $0x100");
    hit_all(1); /* the thread's first: by way of claiming a block */
    TRAP_FLAG("andq $~0x100");
    if (is_child)
        _exit(7);
    assert_true(handled > 150);
    sigaction(SIGTRAP, &old, NULL);
    world_free(&world);
}

/* A child that shares the memory counts with its parent, which sleeps until it is gone. */
static int vfork_child(void *unused)
{
    (void)unused;
    hit_all(1000);
    _exit(7);
}

static void a_vfork_child_counts_with_its_parent(void **unused)
{
    (void)unused;
    static char stack[1 << 16] __attribute__((aligned(16)));
    make((struct world_shape){.flags = 0});
    hit_all(3);
    pid_t child = clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    hit_all(1);
    check_exact(world_drain(&world), 1004);
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_exact),
        cmocka_unit_test(threads_are_exact_without_room_for_all),
        cmocka_unit_test(with_a_live_reader_blocking_loses_nothing),
        cmocka_unit_test(signals_are_exact),
        cmocka_unit_test(a_signal_at_every_instruction_is_exact),
        cmocka_unit_test(a_fork_child_is_silent),
        cmocka_unit_test(a_fork_at_every_instruction_leaves_a_child_that_lives),
        cmocka_unit_test(a_vfork_child_counts_with_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
