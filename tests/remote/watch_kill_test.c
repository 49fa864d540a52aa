/* SPDX-License-Identifier: MIT
 *
 * The tool is killed at its first step, at its second, … at its last, while it watches a program whose threads hit all
 * the time: after each the program goes on, no SIGTRAP of ours is ever its own, and the next run takes out what was
 * left, debug registers included.
 */
#include "watched.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned steps_left;
static bool counting;

static void count_down(const char *name)
{
    (void)name;
    if (counting && steps_left-- == 0)
        raise(SIGKILL);
}

/* Steps up to the arming of the broker, and of taking it out again, are another test's. */
static void whole_life(struct target *t)
{
    struct watched w;
    watched_arm(&w, t);
    watched_add(&w, t, CELL_OF_ALL, TL_SPOT_WRITES);
    watched_add(&w, t, 1, TL_SPOT_WRITES);
    counting = true;
    if (watched_begin(&w, false))
        fail_msg("begin: %s", w.error.text);
    eventually(w.table->spots[0].reports > 2);
    watched_end(&w);
    tl_remote_step("ended");
    counting = false;
    watched_leave(&w);
}

/* 1: the tool was killed at this step; 0: it came to its end before. */
static int life_with_death(struct target *t, bool by_registers, unsigned step)
{
    pid_t tool = fork();
    int status;
    if (tool == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        if (by_registers)
            forbid_events();
        steps_left = step;
        tl_remote_step_hook = count_down;
        whole_life(t);
        _exit(0);
    }
    assert_int_equal(waitpid(tool, &status, 0), tool);
    assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
    return WIFSIGNALED(status);
}

static void assert_no_register_is_set(pid_t pid)
{
    int status;
    eventually(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_int_equal(ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[7]), NULL) & 0xff, 0);
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
}

static int check_thread(void *context, int tid)
{
    (void)context;
    assert_no_register_is_set(tid);
    return 0;
}

static void at_every_step(bool by_registers)
{
    struct target t;
    unsigned step = 0;
    char tasks[64];
    target_start(&t, ARGV(program("storm"), "4", NULL));
    snprintf(tasks, sizeof tasks, "/proc/%d/task", t.pid);
    t.progress->goal = UINT64_MAX;
    for (unsigned i = 0; i < 4; i++)
        eventually(t.progress->loops[i]);
    assert_int_equal(life_with_death(&t, by_registers, UINT32_MAX), 0);
    target_baseline(&t);
    for (; life_with_death(&t, by_registers, step); step++) {
        assert_goes_on(&t);
        tl_remote_close(open_target(&t));
        assert_as_before(&t);
        tl_each_number(tasks, check_thread, NULL);
    }
    assert_goes_on(&t);
    assert_as_before(&t);
    print_message("             killed at each of %u steps\n", step);
    assert_true(step > 5);
    target_end(&t);
}

static void with_events(void **state)
{
    (void)state;
    at_every_step(false);
}

static void with_registers(void **state)
{
    (void)state;
    at_every_step(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_events),
        cmocka_unit_test(with_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
