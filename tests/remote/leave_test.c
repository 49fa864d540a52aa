/* SPDX-License-Identifier: MIT
 *
 * Coming to a program with a thread in an awkward place, and leaving it so. The thread is stepped to where the test
 * wants it, and stopped there (SIGSTOP): whatever we do, it does not move on.
 */
#include "armed.h"

#include <signal.h>
#include <stdio.h>
#include <sys/uio.h>
#include <sys/wait.h>

static uint64_t pc_of(pid_t pid)
{
    struct user_regs_struct regs;
    assert_int_equal(tl_get_regs(pid, &regs), 0);
    return regs.rip;
}

static void seize(pid_t pid)
{
    int status;
    eventually(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
}

/* A breakpoint's signal is the program's. */
static void go_on(pid_t pid, int request)
{
    int status;
    siginfo_t info;
    bool is_breakpoint = ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) == 0 && info.si_code == SI_KERNEL;
    assert_int_equal(ptrace(request, pid, NULL, is_breakpoint ? (long)SIGTRAP : 0L), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
}

/* One instruction. The trap of a step opens a mask that blocks SIGTRAP, as the kernel's does in the middle of a guard:
 * so over a system call, and while it is blocked on to the next one, it goes without. */
static void step(pid_t pid)
{
    uint64_t mask;
    unsigned char next[2];
    struct iovec ours = {next, sizeof next}, theirs = {(void *)pc_of(pid), sizeof next};
    assert_int_equal(tl_get_mask(pid, &mask), 0);
    bool is_call = process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == sizeof next && next[0] == 0x0f && next[1] == 0x05;
    if (is_call)
        go_on(pid, PTRACE_SYSCALL);
    go_on(pid, is_call || mask & TL_SIGNAL_BIT(SIGTRAP) ? PTRACE_SYSCALL : PTRACE_SINGLESTEP);
}

static void leave_stopped(pid_t pid)
{
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, 0L), 0);
    eventually(tl_task_state(pid) == 'T');
}

static void rest(struct target *t)
{
    t->progress->value = 1;
    assert_goes_on(t);
}

static const struct tl_site *site_at(const struct armed *a, uint64_t addr)
{
    for (size_t i = 0; i < a->site_count; i++)
        if (a->sites[i].addr == addr)
            return &a->sites[i];
    return NULL;
}

static void behind_the_jump_of_a_guard(void **state)
{
    (void)state;
    enum { MOV_BYTES = 5 };
    struct target t;
    struct armed a;
    target_start(&t, ARGV(program("masks-nopie"), "own"));
    target_baseline(&t);
    uint64_t number = t.progress->probe;
    armed_plan(&a, &t, 0, 0);
    const struct tl_site *site = site_at(&a, number);
    assert_non_null(site);
    assert_int_equal(site->guard_at, MOV_BYTES);

    seize(t.pid);
    do
        step(t.pid);
    while (pc_of(t.pid) != number + MOV_BYTES);
    leave_stopped(t.pid);
    assert_int_equal(armed_apply(&a), -ENOSYS);
    kill(t.pid, SIGCONT);
    assert_goes_on(&t);
    rest(&t);
    free(t.maps); /* our region is in there */
    t.maps = NULL;

    t.progress->value = 0;
    assert_int_equal(armed_apply(&a), 0);
    assert_goes_on(&t);
    armed_end(&a);
    assert_goes_on(&t);
    target_end(&t);
}

/* From `from` on into our memory, and `more` steps on from there. Whether it is still there. */
static bool step_into(const struct armed *a, pid_t pid, uint64_t from, unsigned more)
{
    seize(pid);
    do
        step(pid);
    while (armed_holds(a, pc_of(pid)) || (from && pc_of(pid) != from));
    do
        step(pid);
    while (!armed_holds(a, pc_of(pid)));
    for (unsigned i = 0; i < more && armed_holds(a, pc_of(pid)); i++)
        step(pid);
    bool is_inside = armed_holds(a, pc_of(pid));
    leave_stopped(pid);
    return is_inside;
}

/* `probe_length`: of an instruction that has a breakpoint, beside the guards, from which the thread comes to us; 0: it
 * comes from a guard. */
static void at_each_step(unsigned probe_length)
{
    enum { ALL_BELOW = 50, THEN_BY = 7 };
    struct target t;
    struct armed a;
    unsigned moved = 0, waited = 0;
    target_start(&t, ARGV(program("masks")));
    rest(&t);
    target_baseline(&t);
    t.progress->value = 0;
    uint64_t probe = probe_length ? t.progress->probe : 0;
    armed_plan(&a, &t, probe, probe_length);
    bool is_inside = true;
    for (unsigned at = 0; is_inside; at += at < ALL_BELOW ? 1 : THEN_BY) {
        assert_int_equal(armed_apply(&a), 0);
        is_inside = step_into(&a, t.pid, probe, at);
        int result = tl_apply_remove(&a.applied, 0);
        if (is_inside)
            *(result ? &waited : &moved) += 1;
        else
            assert_int_equal(result, 0);
        if (result)
            assert_int_equal(result, -EAGAIN);
        kill(t.pid, SIGCONT);
        assert_goes_on(&t);
        if (result)
            assert_int_equal(tl_apply_remove(&a.applied, 20000), 0);
        tl_applied_free(&a.applied);
        assert_goes_on(&t);
    }
    print_message("             moved out at %u places, waited at %u\n", moved, waited);
    assert_true(waited > ALL_BELOW / 2);
    rest(&t);
    assert_int_equal(armed_apply(&a), 0);
    armed_end(&a);
    assert_as_before(&t);
    target_end(&t);
}

static void at_each_step_of_a_guard(void **state)
{
    (void)state;
    at_each_step(0);
}

static void at_each_step_of_the_broker(void **state)
{
    (void)state;
    at_each_step(5);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behind_the_jump_of_a_guard),
        cmocka_unit_test(at_each_step_of_a_guard),
        cmocka_unit_test(at_each_step_of_the_broker),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
