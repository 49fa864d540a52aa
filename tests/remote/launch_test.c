/* SPDX-License-Identifier: MIT
 *
 * A launched command is held before its first own instruction, sees nothing of it, and is not ended by our end.
 */
#include "common.h"

#include <elf.h>
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

static uint64_t rip_of(struct tl_remote *r)
{
    return r->tasks[0].regs.rip;
}

/* Hold, look, let a region come and go, release, and get its own exit status. */
static void runs_as_if_alone(const char *name)
{
    if (!program(name))
        SKIP_BECAUSE("the compiler for it was not there");
    char *const *argv = ARGV(program(name), "one", "two words");
    struct tl_remote *r;
    struct tl_error error;
    struct tl_remote_region region;
    bool gone;
    int status;
    if (tl_remote_launch(argv, &r, &error))
        fail_msg("launch: %s", error.text);
    assert_true(tl_remote_facts(r)->launched);
    assert_true(rip_of(r) == tl_auxv(r->pid, AT_ENTRY));
    assert_int_equal(tl_task_state(r->pid), 't');
    assert_int_equal(tl_remote_region(r, 1 << 16, 1 << 16, &region, &error), 0);
    memset(region.area, 0x5a, region.area_size);
    assert_int_equal(tl_remote_poll(r, 0, &gone, &status), 0);
    assert_false(gone);
    assert_int_equal(tl_remote_remove(r, &error), 0);
    struct tl_remote_area *areas;
    size_t count;
    assert_int_equal(tl_remote_areas(r, &areas, &count, &error), 0);
    for (size_t i = 0; i < count; i++)
        assert_false(tl_is_ours(&areas[i]));
    tl_remote_areas_free(areas);
    assert_int_equal(tl_remote_release(r, &error), 0);
    assert_int_equal(tl_remote_poll(r, -1, &gone, &status), 0);
    assert_true(gone && WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    tl_remote_close(r);
}

#define RUNS(test, name)                                                                                               \
    static void test(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        runs_as_if_alone(name);                                                                                        \
    }
RUNS(a_pie, "hello")
RUNS(a_program_at_a_fixed_address, "hello-nopie")
RUNS(a_static_program, "hello-static")
RUNS(a_static_pie, "hello-static-pie")
RUNS(a_musl_program, "hello-musl")
RUNS(a_static_musl_program, "hello-musl-static")

static void a_go_program(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote *r;
    struct tl_error error;
    if (!program("worker-go"))
        SKIP_BECAUSE("there was no Go compiler");
    target_page(&t);
    assert_int_equal(tl_remote_launch(ARGV(program("worker-go")), &r, &error), 0);
    t.pid = r->pid;
    assert_true(rip_of(r) == tl_auxv(r->pid, AT_ENTRY));
    tl_remote_release(r, &error);
    target_wait_ready(&t);
    assert_goes_on(&t);
    tl_remote_close(r);
    target_end(&t);
}

static void a_program_without_a_libc(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote *r;
    struct tl_error error;
    target_page(&t);
    assert_int_equal(tl_remote_launch(ARGV(program("tiny"), "a", "b"), &r, &error), 0);
    t.pid = r->pid;
    tl_remote_release(r, &error);
    target_wait_ready(&t);
    assert_goes_on(&t);
    assert_int_equal(t.progress->value, 3);
    tl_remote_close(r);
    target_end(&t);
}

static void a_command_from_the_path(void **state)
{
    (void)state;
    struct tl_remote *r;
    struct tl_error error;
    bool gone;
    int status;
    assert_int_equal(tl_remote_launch(ARGV("sh", "-c", "exit 7"), &r, &error), 0);
    tl_remote_close(r); /* releases */
    assert_int_equal(tl_remote_launch(ARGV("sh", "-c", "kill -9 $$"), &r, &error), 0);
    assert_int_equal(tl_remote_release(r, &error), 0);
    assert_int_equal(tl_remote_poll(r, -1, &gone, &status), 0);
    assert_true(gone && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    tl_remote_close(r);
    waitpid(-1, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void commands_that_cannot_be_executed(void **state)
{
    (void)state;
    struct tl_remote *r;
    struct tl_error error;
    assert_int_equal(tl_remote_launch(ARGV("no-such-command-here"), &r, &error), -ENOENT);
    assert_non_null(strstr(error.text, "no-such-command-here"));
    assert_int_equal(tl_remote_launch(ARGV("/etc/passwd"), &r, &error), -EACCES);
    assert_non_null(strstr(error.text, "ermission"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

/* The tool is killed at each step of a launch: the command runs to its right end, or never began. */
static void killed_at_every_step(void **state)
{
    (void)state;
    unsigned step = 0, began = 0;
    int status = 0;
    char *const *argv = ARGV(program("hello"), "one", "two words");
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    for (bool killed = true; killed; step++) {
        pid_t tool = fork();
        if (tool == 0) {
            struct tl_remote *r;
            struct tl_error error;
            steps_left = step;
            tl_remote_step_hook = count_down;
            if (tl_remote_launch(argv, &r, &error))
                _exit(1);
            tl_remote_release(r, &error);
            bool gone;
            tl_remote_poll(r, -1, &gone, &status);
            _exit(gone && WIFEXITED(status) ? WEXITSTATUS(status) : 2);
        }
        waitpid(tool, &status, 0);
        killed = WIFSIGNALED(status);
        if (!killed) {
            assert_int_equal(WEXITSTATUS(status), 42);
            continue;
        }
        assert_true(waitpid(-1, &status, 0) > 0); /* the orphan */
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) != 127) {
            assert_int_equal(WEXITSTATUS(status), 42);
            began++;
        }
    }
    print_message("             killed at each of %u steps, the command had begun in %u\n", step - 1, began);
    assert_true(began > 20 && began + 5 > step);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pie),
        cmocka_unit_test(a_program_at_a_fixed_address),
        cmocka_unit_test(a_static_program),
        cmocka_unit_test(a_static_pie),
        cmocka_unit_test(a_musl_program),
        cmocka_unit_test(a_static_musl_program),
        cmocka_unit_test(a_go_program),
        cmocka_unit_test(a_program_without_a_libc),
        cmocka_unit_test(a_command_from_the_path),
        cmocka_unit_test(commands_that_cannot_be_executed),
        cmocka_unit_test(killed_at_every_step),
    };
    setenv("HELLO_MARK", "here", 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
