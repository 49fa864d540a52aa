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
static pid_t to_be_sent; /* a signal, before the tool dies at a step of a batch; 0: nobody */

static void count_down(const char *name)
{
    if (steps_left-- > 0)
        return;
    if (to_be_sent && strncmp(name, "batch", 5) == 0)
        kill(to_be_sent, SIGUSR1);
    raise(SIGKILL);
}

static void place_and_take_out(struct tl_remote *r, uint64_t addr)
{
    struct probe probe = {0};
    int result = probe_place(r, addr, &probe);
    if (result)
        fail_msg("place: %d %s", result, tl_remote_last_error(r));
    eventually((result = probe_take_out(r, &probe)) != -EAGAIN);
    if (result)
        fail_msg("take out: %d %s", result, tl_remote_last_error(r));
}

static void arm_and_disarm(struct tl_remote *r, uint64_t addr)
{
    struct trap trap = {0};
    int result = trap_place(r, addr, &trap);
    if (result)
        fail_msg("arm: %d %s", result, tl_remote_last_error(r));
    tl_nap(3000);
    eventually((result = trap_take_out(r, &trap)) != -EAGAIN);
    if (result)
        fail_msg("disarm: %d %s", result, tl_remote_last_error(r));
}

/* One whole life of a tool, in a process of its own. */
static void whole_life(struct target *t, bool armed)
{
    struct tl_remote *r = open_target(t);
    struct tl_remote_region region;
    struct tl_error error = {0};
    int result = -EAGAIN;
    for (int i = 0; result == -EAGAIN && i < 50; i++)
        result = tl_remote_region(r, 1 << 16, armed ? 1 << 21 : 1 << 14, &region, &error);
    if (result)
        fail_msg("region: %s", error.text);
    if (t->progress->probe)
        (armed ? arm_and_disarm : place_and_take_out)(r, t->progress->probe);
    result = tl_remote_remove(r, &error);
    if (result)
        fail_msg("remove: %s", error.text);
    tl_remote_close(r);
}

/* 1: the tool was killed at this step; 0: it came to its end before. */
static int life_with_death(struct target *t, bool armed, unsigned step)
{
    pid_t tool = fork();
    int status;
    if (tool == 0) {
        steps_left = step;
        tl_remote_step_hook = count_down;
        whole_life(t, armed);
        _exit(0);
    }
    assert_int_equal(waitpid(tool, &status, 0), tool);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void at_every_step(const char *name, const char *argument, bool armed)
{
    char *const *argv = ARGV(program(name), argument);
    struct target t;
    unsigned step = 0;
    target_start(&t, argv);
    assert_int_equal(life_with_death(&t, armed, UINT32_MAX), 0); /* what is allocated once, is by now */
    target_baseline(&t);
    for (; life_with_death(&t, armed, step); step++) {
        assert_goes_on(&t);
        tl_remote_close(open_target(&t));
        assert_as_before(&t);
    }
    assert_goes_on(&t);
    assert_as_before(&t);
    print_message("             %s%s: killed at each of %u steps, %llu calls ended early\n", name,
                  armed ? " with the broker" : "", step, (unsigned long long)t.progress->interrupted);
    assert_true(step > 50);
    target_end(&t);
}

static void a_program_with_threads(void **state)
{
    (void)state;
    at_every_step("worker", NULL, false);
}

static void a_static_program(void **state)
{
    (void)state;
    at_every_step("worker-static", "2", false);
}

static void a_program_without_a_libc(void **state)
{
    (void)state;
    at_every_step("tiny", NULL, false);
}

static void a_go_program(void **state)
{
    (void)state;
    if (!program("worker-go"))
        SKIP_BECAUSE("there was no Go compiler");
    at_every_step("worker-go", NULL, false);
}

static void breakpoints_and_the_broker(void **state)
{
    (void)state;
    at_every_step("worker", "5", true);
}

static void breakpoints_in_a_static_program(void **state)
{
    (void)state;
    at_every_step("worker-static", "1", true);
}

/* In the middle of a batch a thread has registers of ours: where its stack pointer is there has to be room for what the
 * program does on a signal. */
static void a_signal_while_the_tool_dies(void **state)
{
    struct target t;
    unsigned step = 0;
    (void)state;
    target_start(&t, ARGV(program("roomy")));
    target_baseline(&t);
    to_be_sent = t.pid;
    for (; life_with_death(&t, false, step); step++) {
        assert_goes_on(&t);
        tl_remote_close(open_target(&t));
        assert_goes_on(&t);
        assert_as_before(&t);
    }
    to_be_sent = 0;
    print_message("             %llu signals came\n", (unsigned long long)t.progress->value);
    assert_true(t.progress->value > 5);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_with_threads),       cmocka_unit_test(a_static_program),
        cmocka_unit_test(a_program_without_a_libc),     cmocka_unit_test(a_go_program),
        cmocka_unit_test(breakpoints_and_the_broker),   cmocka_unit_test(breakpoints_in_a_static_program),
        cmocka_unit_test(a_signal_while_the_tool_dies),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
