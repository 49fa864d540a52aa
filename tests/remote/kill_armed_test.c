/* SPDX-License-Identifier: MIT
 *
 * The tool is killed at its steps while it puts guards and a breakpoint into a program that changes its mask all the
 * time, and while it takes them out: between the broker's coming and the guards', between these and the breakpoint, and
 * on the way back. At each of them the program goes on, and is told what it believes of its mask; the next run takes
 * out what was left.
 */
#include "armed.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRIDE = 3 };
static unsigned steps_left;

static void count_down(const char *name)
{
    (void)name;
    if (steps_left-- == 0)
        raise(SIGKILL);
}

/* 1: the tool was killed at this step; 0: it came to its end before. */
static int life_with_death(struct target *t, unsigned step)
{
    pid_t tool = fork();
    int status;
    if (tool == 0) {
        struct armed a;
        steps_left = step;
        tl_remote_step_hook = count_down;
        armed_plan(&a, t, t->progress->probe, 5);
        assert_int_equal(armed_apply(&a), 0);
        tl_nap(3000);
        armed_end(&a);
        _exit(0);
    }
    assert_int_equal(waitpid(tool, &status, 0), tool);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void at_steps(const char *name)
{
    struct target t;
    unsigned step = 0, deaths = 0;
    target_start(&t, ARGV(program(name)));
    t.progress->value = 1;
    assert_goes_on(&t);
    assert_int_equal(life_with_death(&t, UINT32_MAX), 0); /* what is allocated once, is by now */
    target_baseline(&t);
    for (t.progress->value = 0; life_with_death(&t, step); step += STRIDE, deaths++) {
        assert_goes_on(&t);
        tl_remote_close(open_target(&t));
        assert_goes_on(&t);
        t.progress->value = 1;
        assert_goes_on(&t);
        assert_as_before(&t);
        t.progress->value = 0;
    }
    print_message("             %s: killed %u times\n", name, deaths);
    assert_true(deaths > 30);
    assert_goes_on(&t);
    target_end(&t);
}

static void a_program_with_a_c_library(void **state)
{
    (void)state;
    at_steps("masks");
}

static void a_program_at_a_fixed_address(void **state)
{
    (void)state;
    at_steps("masks-nopie");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_with_a_c_library),
        cmocka_unit_test(a_program_at_a_fixed_address),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
