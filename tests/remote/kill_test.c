/* SPDX-License-Identifier: MIT
 *
 * The tool is killed at its first step, at its second, … at its last, while it works on a program. Each time the
 * program goes on with every result right, and the next run takes out what was left: mappings and code are as they
 * were.
 */
#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned steps_left;

static void count_down(const char *name)
{
    (void)name;
    if (steps_left-- == 0)
        raise(SIGKILL);
}

/* One whole life of a tool, in a process of its own. */
static void whole_life(struct target *t)
{
    struct tl_remote *r = open_target(t);
    struct tl_remote_region region;
    struct tl_error error = {0};
    struct probe probe = {0};
    int result = -EAGAIN;
    for (int i = 0; result == -EAGAIN && i < 50; i++)
        result = tl_remote_region(r, 1 << 16, 1 << 14, &region, &error);
    if (result)
        fail_msg("region: %s", error.text);
    if (t->progress->probe) {
        result = probe_place(r, t->progress->probe, &probe);
        if (result)
            fail_msg("place: %d %s", result, tl_remote_last_error(r));
        for (int i = 0; i < 100 && (result = probe_take_out(r, &probe)) == -EAGAIN; i++)
            tl_nap(1000);
        if (result)
            fail_msg("take out: %d %s", result, tl_remote_last_error(r));
    }
    result = tl_remote_remove(r, &error);
    if (result)
        fail_msg("remove: %s", error.text);
    tl_remote_close(r);
}

/* 1: the tool was killed at this step; 0: it came to its end before. */
static int life_with_death(struct target *t, unsigned step)
{
    pid_t tool = fork();
    int status;
    if (tool == 0) {
        steps_left = step;
        tl_remote_step_hook = count_down;
        whole_life(t);
        _exit(0);
    }
    assert_int_equal(waitpid(tool, &status, 0), tool);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void at_every_step(const char *name, const char *argument)
{
    char *const *argv = ARGV(program(name), argument);
    struct target t;
    unsigned step = 0;
    target_start(&t, argv);
    assert_int_equal(life_with_death(&t, UINT32_MAX), 0); /* what is allocated once, is by now */
    target_baseline(&t);
    for (; life_with_death(&t, step); step++) {
        assert_goes_on(&t);
        tl_remote_close(open_target(&t));
        assert_as_before(&t);
    }
    assert_goes_on(&t);
    assert_as_before(&t);
    print_message("             %s: killed at each of %u steps, %llu calls ended early\n", name, step,
                  (unsigned long long)t.progress->interrupted);
    assert_true(step > 50);
    target_end(&t);
}

static void a_program_with_threads(void **state)
{
    (void)state;
    at_every_step("worker", NULL);
}

static void a_static_program(void **state)
{
    (void)state;
    at_every_step("worker-static", "2");
}

static void a_program_without_a_libc(void **state)
{
    (void)state;
    at_every_step("tiny", NULL);
}

static void a_go_program(void **state)
{
    (void)state;
    if (!program("worker-go"))
        skip();
    at_every_step("worker-go", NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_with_threads),
        cmocka_unit_test(a_static_program),
        cmocka_unit_test(a_program_without_a_libc),
        cmocka_unit_test(a_go_program),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
