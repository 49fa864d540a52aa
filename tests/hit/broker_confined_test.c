/* SPDX-License-Identifier: MIT
 *
 * Programs that confine themselves with seccomp while the broker is in them: nothing of ours makes a system call that
 * the program's filter would not let pass, and the program sees and does what it does alone.
 */
#include "broker_world.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hit/confine.h"

#define TRAP TL_SIGNAL_BIT(TL_SIGTRAP)
enum { BLOCK, UNBLOCK, SET };

/* Only these calls, and what ends the program. */
static void confine(bool by_prctl, long first, long second)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)first, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)second, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    int64_t result = by_prctl ? sys(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)
                              : sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    CHECK(result == 0);
}

static void on_signal(int number, struct tl_siginfo *info, struct tl_context *context)
{
    note("number", (uint64_t)number);
    note("code", (uint64_t)info->code);
    note("rip", context->rip);
    note("rax", context->rax);
    note("hit", subject_plain(7));
    context->rip = (uint64_t)(uintptr_t)(number == TL_SIGSEGV ? behind_load : behind_own);
}

static void hits(void)
{
    handle(TL_SIGSEGV, on_signal, TL_SA_SIGINFO, 0);
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO | TL_SA_RESETHAND, 0);
    confine(true, SYS_exit_group, SYS_exit_group);
    for (uint64_t i = 0; i < 3; i++)
        note("hit", subject_plain(i) + subject_call(i));
    subject_load(NULL);
    subject_own();
    subject_own();
}

static void strict(void)
{
    handle(TL_SIGSEGV, on_signal, TL_SA_SIGINFO, 0);
    CHECK(sys(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0) == 0);
    note("hit", subject_plain(1));
    subject_load(NULL);
    syscall(SYS_exit, 5);
}

/* What is asked for in vain changes nothing. */
static void in_vain(void)
{
    note("no filter", (uint64_t)sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0));
    note("no mode", (uint64_t)sys(SYS_prctl, PR_SET_SECCOMP, 7, 0));
    note("strict, with flags", (uint64_t)sys(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0));
    if (broker_mode() != MODE_BARE)
        CHECK(broker_here()->forbidden == 0);
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    subject_own();
}

static void masks(void)
{
    confine(false, SYS_rt_sigprocmask, SYS_rt_sigpending);
    for (int i = 0; i < 2; i++) {
        uint64_t pending = 0;
        note("blocked", mask(BLOCK, TRAP | TL_SIGNAL_BIT(TL_SIGSEGV)));
        note("hit", subject_plain(2));
        note("pending", (uint64_t)sys(SYS_rt_sigpending, &pending, 8) + pending);
        note("unblocked", mask(UNBLOCK, TRAP));
        note("set", mask(SET, 0));
        note("bad pointer", (uint64_t)sys(SYS_rt_sigprocmask, 0, 8, 0, 8));
    }
}

static void actions(void)
{
    confine(true, SYS_rt_sigaction, SYS_exit_group);
    for (int i = 0; i < 2; i++) {
        struct tl_sigaction old, wanted = broker_action(on_signal, TL_SA_SIGINFO, 0);
        note("set", (uint64_t)sys(SYS_rt_sigaction, TL_SIGTRAP, &wanted, &old, 8));
        note("old", old.handler);
        subject_own();
        wanted.handler = TL_SIG_IGN;
        note("ignored", (uint64_t)sys(SYS_rt_sigaction, TL_SIGTRAP, &wanted, &old, 8));
        note("old", old.handler);
        note("bad pointer", (uint64_t)sys(SYS_rt_sigaction, TL_SIGTRAP, 8, 0, 8));
        note("hit", subject_plain(3));
    }
}

static void confined_nothing_changes(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same_end(hits), SIGTRAP);
    assert_int_equal(broker_check_same(strict), 5 << 8);
    assert_int_equal(broker_check_same(in_vain), 0);
    assert_int_equal(broker_check_same(masks), 0);
    assert_int_equal(broker_check_same(actions), 0);
}

/* ---- the end ---- */

static void end_of_null(void)
{
    confine(true, SYS_exit_group, SYS_exit_group);
    subject_load(NULL);
}

static void end_of_zero(void)
{
    confine(true, SYS_exit_group, SYS_exit_group);
    subject_divide(&(const uint64_t){0});
}

static void end_of_undefined(void)
{
    confine(true, SYS_exit_group, SYS_exit_group);
    subject_undefined();
}

static void end_of_own_int3(void)
{
    confine(true, SYS_exit_group, SYS_exit_group);
    subject_own();
}

static void end_of_ignored(void)
{
    struct tl_sigaction action = {.handler = TL_SIG_IGN};
    CHECK(sys(SYS_rt_sigaction, TL_SIGFPE, &action, 0, 8) == 0);
    confine(true, SYS_exit_group, SYS_exit_group);
    subject_divide(&(const uint64_t){0});
}

static int sent_number;

static void end_of_a_sent_one(void)
{
    long self = getpid(), thread = gettid();
    confine(true, SYS_tgkill, SYS_exit_group);
    sys(SYS_tgkill, self, thread, sent_number);
}

static void confined_ends_are_the_same(void **unused)
{
    static const int numbers[] = {TL_SIGTRAP, TL_SIGSEGV, TL_SIGBUS, TL_SIGILL, TL_SIGFPE};
    (void)unused;
    assert_int_equal(broker_check_same_end(end_of_null) & 127, TL_SIGSEGV);
    assert_int_equal(broker_check_same_end(end_of_zero) & 127, TL_SIGFPE);
    assert_int_equal(broker_check_same_end(end_of_undefined) & 127, TL_SIGILL);
    assert_int_equal(broker_check_same_end(end_of_own_int3) & 127, TL_SIGTRAP);
    assert_int_equal(broker_check_same_end(end_of_ignored) & 127, TL_SIGFPE);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sent_number = numbers[i];
        int status = broker_run(MODE_INT3, end_of_a_sent_one);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == sent_number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(confined_nothing_changes),
                                       cmocka_unit_test(confined_ends_are_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
