/* SPDX-License-Identifier: MIT
 *
 * A signal at every instruction of a guard: the program is stepped from before its system call to where the kernel
 * would put it to sleep, one instruction further in each run, and gets the signal there. It must not sleep on.
 */
#include "broker_world.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TRAP TL_SIGNAL_BIT(TL_SIGTRAP)
enum { SET = 2, MOST_STEPS = 3000 };

static uint64_t handled;

static void on_trap(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)number;
    (void)context;
    CHECK(info->code == TL_SI_TKILL);
    CHECK(subject_plain(1) == 2);
    handled++;
}

static void begin(void)
{
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    mask(SET, TRAP | TL_SIGNAL_BIT(SIGUSR1));
    raise(SIGSTOP); /* from here on it is stepped */
}

static void end(void)
{
    CHECK(mask(SET, 0) == (TRAP | TL_SIGNAL_BIT(SIGUSR1)));
    CHECK(handled == 1);
}

static void suspend(void)
{
    const uint64_t none = 0;
    begin();
    CHECK(sys(SYS_rt_sigsuspend, &none, 8ul) == -4);
    CHECK(handled == 1);
    end();
}

static void poll_nothing(void)
{
    const uint64_t none = 0;
    begin();
    CHECK(sys(SYS_ppoll, 0ul, 0ul, 0ul, &none, 8ul) == -4);
    CHECK(handled == 1);
    end();
}

static void wait_for_it(void)
{
    const uint64_t set = TRAP;
    struct tl_siginfo info;
    begin();
    CHECK(sys(SYS_rt_sigtimedwait, &set, &info, 0ul, 8ul) == TL_SIGTRAP);
    CHECK(info.number == TL_SIGTRAP && info.code == TL_SI_TKILL && handled == 0);
    handled = 1;
    end();
}

static unsigned steps_wanted;
static bool came_to_sleep;

/* Asleep, and not stopped for us. */
static bool is_asleep(pid_t child)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    const char *state = length > 0 ? strrchr(text, ')') : NULL;
    return state && state[2] == 'S';
}

static int stop_of(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* Whether the next instruction sends it to sleep. */
static bool is_at_the_call(pid_t child)
{
    struct user_regs_struct regs;
    assert_int_equal(ptrace(PTRACE_GETREGS, child, 0, &regs), 0);
    return regs.rip == (uint64_t)(uintptr_t)tl_guard_asleep - 2;
}

static int attend(pid_t child)
{
    int status = stop_of(child); /* the world's own stop */
    ptrace(PTRACE_CONT, child, 0, 0);
    status = stop_of(child);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    for (unsigned i = 0; i < steps_wanted && !(came_to_sleep = is_at_the_call(child)); i++) {
        ptrace(PTRACE_SINGLESTEP, child, 0, 0);
        status = stop_of(child);
        if (!WIFSTOPPED(status))
            return status; /* it had no need to sleep */
    }
    syscall(SYS_tgkill, child, child, SIGTRAP);
    ptrace(PTRACE_CONT, child, 0, 0);
    for (bool sent = false;;) {
        pid_t changed = waitpid(child, &status, WNOHANG);
        if (changed == child && !WIFSTOPPED(status))
            return status;
        if (changed == child) {
            sent |= WSTOPSIG(status) == SIGTRAP;
            ptrace(PTRACE_CONT, child, 0, WSTOPSIG(status));
        } else if (sent && is_asleep(child)) {
            kill(child, SIGKILL);
            fail_msg("it sleeps on, having got its signal %u steps on", steps_wanted);
        } else
            sched_yield();
    }
}

static void at_each_instruction(void (*program)(void))
{
    came_to_sleep = false;
    for (steps_wanted = 0; steps_wanted < MOST_STEPS; steps_wanted++) {
        int status = broker_run_attended(MODE_INT3, program, attend);
        if (status)
            fail_msg("status %#x, %u steps on", status, steps_wanted);
        if (came_to_sleep)
            break;
    }
    assert_true(came_to_sleep);
    assert_true(steps_wanted > 100);
}

static void sigsuspend_sees_it(void **unused)
{
    (void)unused;
    at_each_instruction(suspend);
}

static void ppoll_sees_it(void **unused)
{
    (void)unused;
    at_each_instruction(poll_nothing);
}

static void sigtimedwait_takes_it(void **unused)
{
    (void)unused;
    at_each_instruction(wait_for_it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigsuspend_sees_it),
        cmocka_unit_test(ppoll_sees_it),
        cmocka_unit_test(sigtimedwait_takes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
