/* SPDX-License-Identifier: MIT
 *
 * Signal handlers that hit in the middle of a hit, and children of all kinds.
 */
#include "hits.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIGNALS = 300 };

static uint64_t handled, drained;

static void handler(int signal)
{
    (void)signal;
    handled++;
    hits_run(1);
}

/* Hits of handlers in the middle of hits, which are driven on until enough signals have come. */
static void signals_are_exact(void **unused)
{
    (void)unused;
    hits_make((struct world_shape){.flags = 0});
    struct sigaction action = {.sa_handler = handler};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    uint64_t direct = 0;
    handled = drained = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (*(volatile uint64_t *)&handled < SIGNALS) {
        hits_run(200);
        direct += 200;
        drained += world_drain(&hits_world);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN);
    hits_check_exact(drained + world_drain(&hits_world), direct + handled);
    assert_int_equal(hits_missed(), 0);
    world_free(&hits_world);
}

/* Start or stop having SIGTRAP behind each instruction. */
#define TRAP_FLAG(change)                                                                                              \
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; " change ", (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::            \
                         : "memory", "cc")

static void step(int signal)
{
    (void)signal;
    handled++;
    hits_run(1);
}

/* A handler that hits, behind each instruction of a hit. */
static void a_signal_at_every_instruction_is_exact(void **unused)
{
    (void)unused;
    struct sigaction action = {.sa_handler = step}, old;
    hits_make((struct world_shape){.flags = 0});
    handled = 0;
    sigaction(SIGTRAP, &action, &old);
    hits_run(1); /* so that the thread has a block and a lane; the second round gets them while stepped */
    for (int round = 0; round < 2; round++) {
        TRAP_FLAG("orq $0x100");
        hits_run(1);
        TRAP_FLAG("andq $~0x100");
        assert_true(handled > 150);
        hits_check_exact(world_drain(&hits_world), (round == 0) + 1 + handled);
        assert_int_equal(hits_missed(), 0);
        world_free(&hits_world);
        hits_make((struct world_shape){.flags = 0});
        handled = 0;
    }
    sigaction(SIGTRAP, &old, NULL);
    world_free(&hits_world);
}

static void a_fork_child_is_silent(void **unused)
{
    (void)unused;
    hits_make((struct world_shape){.flags = 0});
    hits_run(3);
    pid_t child = fork();
    if (child == 0) {
        hits_run(1000);
        _exit(7);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    hits_check_exact(world_drain(&hits_world), 3);
    hits_run(1);
    assert_int_equal(world_drain(&hits_world), 1);
    world_free(&hits_world);
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
    hits_make((struct world_shape){.flags = 0});
    handled = 0;
    sigaction(SIGTRAP, &action, &old);
    TRAP_FLAG("orq $0x100");
    hits_run(1); /* the thread's first: by way of claiming a block */
    TRAP_FLAG("andq $~0x100");
    if (is_child)
        _exit(7);
    assert_true(handled > 150);
    sigaction(SIGTRAP, &old, NULL);
    world_free(&hits_world);
}

/* A child that shares the memory counts with its parent, which sleeps until it is gone. */
static int vfork_child(void *unused)
{
    (void)unused;
    hits_run(1000);
    _exit(7);
}

static void a_vfork_child_counts_with_its_parent(void **unused)
{
    (void)unused;
    static char stack[1 << 16] __attribute__((aligned(16)));
    hits_make((struct world_shape){.flags = 0});
    hits_run(3);
    pid_t child = clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    hits_run(1);
    hits_check_exact(world_drain(&hits_world), 1004);
    world_free(&hits_world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_exact),
        cmocka_unit_test(a_signal_at_every_instruction_is_exact),
        cmocka_unit_test(a_fork_child_is_silent),
        cmocka_unit_test(a_fork_at_every_instruction_leaves_a_child_that_lives),
        cmocka_unit_test(a_vfork_child_counts_with_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
