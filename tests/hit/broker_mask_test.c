/* SPDX-License-Identifier: MIT
 *
 * A program that blocks, ignores and asks: it sees what it would see alone, while probes go on being hit.
 */
#include "broker_world.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define TRAP TL_SIGNAL_BIT(TL_SIGTRAP)
#define ALL (~(uint64_t)0)
enum { BLOCK, UNBLOCK, SET };

static void note_action(int number)
{
    struct tl_sigaction action;
    memset(&action, 0xa5, sizeof action);
    note("sigaction", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, 0ul, &action, 8ul));
    note("handler", action.handler);
    note("flags", action.flags);
    note("mask", action.mask);
    bool is_own = action.restorer == (uint64_t)(uintptr_t)subject_guarded_restorer ||
                  action.restorer == (uint64_t)(uintptr_t)subject_restorer;
    note("restorer", is_own ? 1 : action.restorer);
}

static void on_signal(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)context;
    note("handled", (uint64_t)number);
    note("code", (uint64_t)info->code);
    note("value", info->code == SI_QUEUE ? (uint64_t)info->rest[0] : 0);
    note("hit", subject_plain(7));
}

static void actions(void)
{
    static const int numbers[] = {TL_SIGTRAP, TL_SIGSEGV, TL_SIGBUS, TL_SIGILL, TL_SIGFPE, SIGUSR1, SIGCHLD, 64};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int number = numbers[i];
        struct tl_sigaction old, wanted = broker_action(on_signal, 0xdfffffff, ALL);
        note_action(number);
        note("set", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, &wanted, &old, 8ul));
        note("old", old.handler);
        note_action(number);
        wanted = broker_action(on_signal, TL_SA_SIGINFO | TL_SA_RESTART, TRAP | TL_SIGNAL_BIT(SIGINT));
        note("set", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, &wanted, &wanted, 8ul));
        note("old", wanted.handler);
        note("old flags", wanted.flags);
        note("old mask", wanted.mask);
        note_action(number);
        wanted.handler = TL_SIG_IGN;
        note("ignore", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, &wanted, 0ul, 8ul));
        note_action(number);
        note("bad pointer", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, 8ul, 0ul, 8ul));
        note("bad old pointer", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, 0ul, 8ul, 8ul));
        note("bad size", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)number, 0ul, &old, 16ul));
    }
    note("signal 0", (uint64_t)sys(SYS_rt_sigaction, 0ul, 0ul, 0ul, 8ul));
    note("signal 65", (uint64_t)sys(SYS_rt_sigaction, 65ul, 0ul, 0ul, 8ul));
    struct tl_sigaction wanted = broker_action(on_signal, 0, 0);
    note("SIGKILL", (uint64_t)sys(SYS_rt_sigaction, (uint64_t)SIGKILL, &wanted, 0ul, 8ul));
}

static void actions_have_the_programs_values(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(actions), 0);
}

static void masks(void)
{
    static const uint64_t sets[] = {TRAP, TRAP | 2, 2, ALL, 0, TL_SIGNAL_BIT(TL_SIGSEGV) | TRAP};
    for (int how = -1; how <= 3; how++)
        for (size_t i = 0; i < 6; i++) {
            uint64_t old = 0x77;
            note("change", (uint64_t)sys(SYS_rt_sigprocmask, (uint64_t)(int64_t)how, &sets[i], &old, 8ul));
            note("old", old);
            note("hit", subject_plain(i));
            note("read", (uint64_t)sys(SYS_rt_sigprocmask, 0ul, 0ul, &old, 8ul));
            note("now", old);
            note("bad pointer", (uint64_t)sys(SYS_rt_sigprocmask, 2ul, 16ul, &old, 8ul));
            note("bad old pointer", (uint64_t)sys(SYS_rt_sigprocmask, (uint64_t)how, &sets[i], 16ul, 8ul));
            note("size", (uint64_t)sys(SYS_rt_sigprocmask, 2ul, &sets[i], &old, 4ul));
            note("nothing", (uint64_t)sys(SYS_rt_sigprocmask, 0ul, 0ul, 0ul, 8ul));
            note("now", mask(BLOCK, 0));
        }
}

/* A process that may not have the kernel read its memory for it. */
static void confined_masks(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    masks();
}

static void masks_have_the_programs_values(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(masks), 0);
    assert_int_equal(broker_check_same(confined_masks), 0);
}

static void send_all_ways(void)
{
    struct tl_siginfo info = {.number = TL_SIGTRAP, .code = SI_QUEUE, .addr = (uint32_t)getpid()};
    info.rest[0] = 0x1234;
    CHECK(sys(SYS_rt_sigqueueinfo, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP, &info) == 0);
    note("unblocked", mask(UNBLOCK, TRAP));
    mask(BLOCK, TRAP);
    CHECK(sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)TL_SIGTRAP) == 0);
    note("set", mask(SET, 0));
    mask(SET, ALL);
    CHECK(sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP) == 0);
    CHECK(sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP) == 0);
    CHECK(sys(SYS_kill, (uint64_t)getpid(), (uint64_t)SIGUSR1) == 0);
}

static void note_pending(void)
{
    uint64_t set = 0x55;
    note("sigpending", (uint64_t)sys(SYS_rt_sigpending, &set, 8ul));
    note("pending", set);
    note("short", (uint64_t)sys(SYS_rt_sigpending, &set, 4ul));
    note("long", (uint64_t)sys(SYS_rt_sigpending, &set, 16ul));
    note("bad", (uint64_t)sys(SYS_rt_sigpending, 8ul, 8ul));
}

static void sent_while_blocked(void)
{
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    handle(SIGUSR1, on_signal, TL_SA_SIGINFO, 0);
    note_pending();
    mask(BLOCK, TRAP);
    note("hit", subject_plain(1));
    send_all_ways();
    note_pending();
    note("hit", subject_plain(1));
    note("old", mask(SET, 4));
    note_pending();
    /* Ignoring throws away. */
    struct tl_sigaction ignore = {.handler = TL_SIG_IGN};
    mask(BLOCK, TRAP);
    CHECK(sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)TL_SIGTRAP) == 0);
    CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGTRAP, &ignore, 0ul, 8ul) == 0);
    note_pending();
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    note("old", mask(SET, 0));
}

static void signals_wait_until_they_are_unblocked(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(sent_while_blocked), 0);
}

static void in_full_mask(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("in handler", (uint64_t)number);
    note("saved mask", context->mask);
    note("hit", subject_plain(3));
    note("load", subject_load(&(const uint64_t){9}));
}

static void full_masks(void)
{
    handle(SIGUSR1, in_full_mask, TL_SA_SIGINFO, ALL);
    handle(SIGUSR2, in_full_mask, 0, TRAP);
    handle(TL_SIGTRAP, in_full_mask, TL_SA_SIGINFO, ALL);
    handle(TL_SIGFPE, in_full_mask, TL_SA_RESETHAND, ALL);
    for (int i = 0; i < 3; i++) {
        sys(SYS_kill, (uint64_t)getpid(), (uint64_t)SIGUSR1);
        sys(SYS_kill, (uint64_t)getpid(), (uint64_t)SIGUSR2);
        sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP);
        note("own", subject_own());
    }
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGFPE);
    note_action(TL_SIGFPE);
    note_action(SIGUSR1);
    note("mask", mask(BLOCK, 0));
}

static void handlers_may_block_everything(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(full_masks), 0);
}

static jmp_buf back;

static void mask_of_trap_handler(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    (void)context;
    note("in handler", (uint64_t)number);
    note("mask", mask(BLOCK, 0) & TRAP);
    /* One that comes now waits for the end of the handler. */
    static int depth;
    if (depth++ == 0)
        sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)TL_SIGTRAP);
    note("end of handler", (uint64_t)number);
}

static void trap_handler(void)
{
    handle(TL_SIGTRAP, mask_of_trap_handler, TL_SA_SIGINFO, 0);
    note("own", subject_own());
    note("mask", mask(BLOCK, 0));
    note_pending();
}

static void leave_handler(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)number;
    (void)info;
    (void)context;
    siglongjmp(back, 1);
}

static void left_trap_handler(void)
{
    handle(TL_SIGTRAP, leave_handler, TL_SA_SIGINFO, 0);
    if (sigsetjmp(back, 0) == 0)
        subject_own();
    note("unblock", mask(UNBLOCK, TRAP) & ~TRAP);
    note("hit", subject_plain(3));
    note("mask", mask(BLOCK, 0));
}

static void a_trap_handler_has_traps_blocked(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(trap_handler), 0);
    assert_int_equal(broker_check_same(left_trap_handler), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actions_have_the_programs_values),      cmocka_unit_test(masks_have_the_programs_values),
        cmocka_unit_test(signals_wait_until_they_are_unblocked), cmocka_unit_test(handlers_may_block_everything),
        cmocka_unit_test(a_trap_handler_has_traps_blocked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
