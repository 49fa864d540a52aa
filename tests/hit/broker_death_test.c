/* SPDX-License-Identifier: MIT
 *
 * Programs that die of a signal: of the same one, at the same place, with the same registers, as far as a debugger or a
 * core dump can tell.
 */
#include "broker_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void die_of_null(void)
{
    subject_load(NULL);
}

static void die_of_own_page(void)
{
    mprotect(subject_page, 4096, PROT_NONE);
    subject_load_own();
}

static void die_of_zero(void)
{
    subject_divide(&(const uint64_t){0});
}

static void die_of_undefined(void)
{
    subject_undefined();
}

static void die_of_own_int3(void)
{
    subject_own();
}

static void die_of_foreign_int3(void)
{
    subject_foreign();
}

static void die_of_step(void)
{
    subject_stepped(1);
}

static void die_of_a_sent_one(void)
{
    sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)TL_SIGFPE);
}

static void die_of_a_sent_trap(void)
{
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP);
}

static void ignore(int number)
{
    struct tl_sigaction action = {.handler = TL_SIG_IGN};
    CHECK(sys(SYS_rt_sigaction, (uint64_t)number, &action, 0ul, 8ul) == 0);
}

/* What a thread does to itself cannot be ignored. */
static void ignored_null(void)
{
    ignore(TL_SIGSEGV);
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGSEGV);
    note("still here", 1);
    subject_load(NULL);
}

static void ignored_own_int3(void)
{
    ignore(TL_SIGTRAP);
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP);
    note("still here", subject_plain(1));
    subject_own();
}

static void never(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)number;
    (void)info;
    (void)context;
    note("a handler that must not run", 1);
}

static void blocked_null(void)
{
    handle(TL_SIGSEGV, never, TL_SA_SIGINFO, 0);
    mask(0, TL_SIGNAL_BIT(TL_SIGSEGV));
    subject_plain(1);
    subject_load(NULL);
}

static void blocked_own_int3(void)
{
    handle(TL_SIGTRAP, never, TL_SA_SIGINFO, 0);
    mask(0, TL_SIGNAL_BIT(TL_SIGTRAP));
    subject_plain(1);
    subject_own();
}

static void fault_again(int number, struct tl_siginfo *info, struct tl_context *context)
{
    note_all(number, info, context);
    CHECK(subject_plain(1) == 2);
    subject_load(NULL);
}

/* A fault in the handler of a fault; one of another signal in between. */
static void nested(void)
{
    handle(TL_SIGSEGV, fault_again, TL_SA_SIGINFO, 0);
    subject_load(NULL);
}

static void nested_twice(void)
{
    handle(TL_SIGSEGV, fault_again, TL_SA_SIGINFO, 0);
    handle(TL_SIGFPE, fault_again, TL_SA_SIGINFO, 0);
    subject_divide(&(const uint64_t){0});
}

static void trap_again(int number, struct tl_siginfo *info, struct tl_context *context)
{
    note_all(number, info, context);
    subject_own();
}

static void nested_traps(void)
{
    handle(TL_SIGTRAP, trap_again, TL_SA_SIGINFO, 0);
    subject_own();
}

static void once(int number, struct tl_siginfo *info, struct tl_context *context)
{
    struct tl_sigaction action;
    note_all(number, info, context);
    CHECK(sys(SYS_rt_sigaction, (uint64_t)number, 0ul, &action, 8ul) == 0);
    note("reset to", action.handler);
    note("flags", action.flags);
}

static void reset_by_the_first(void)
{
    handle(TL_SIGSEGV, once, TL_SA_SIGINFO | TL_SA_RESETHAND | TL_SA_NODEFER, 0);
    subject_load(NULL);
}

static void reset_trap(void)
{
    handle(TL_SIGTRAP, once, TL_SA_SIGINFO | TL_SA_RESETHAND, 0);
    note("first", subject_own());
    note("hit", subject_plain(4));
    subject_own();
}

static uint64_t alternate[2048] __attribute__((aligned(64)));

static void deeper(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    (void)context;
    (void)number;
    subject_load(NULL);
}

/* An alternate stack that is too small for what comes. */
static void overflow(void)
{
    struct tl_sigstack stack = {(uint64_t)(uintptr_t)alternate, 0, 0, sizeof alternate};
    CHECK(sys(SYS_sigaltstack, &stack, 0ul) == 0);
    handle(TL_SIGSEGV, deeper, TL_SA_SIGINFO | TL_SA_ONSTACK | TL_SA_NODEFER, 0);
    subject_load(NULL);
}

static void no_room(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    (void)context;
    note("number", (uint64_t)number);
    syscall(SYS_exit_group, 3);
}

/* The handler's stack is the interrupted one, and that is at its end: the program gets a SIGSEGV for it. */
static void no_room_for_a_frame(void)
{
    struct tl_sigstack stack = {(uint64_t)(uintptr_t)alternate, 0, 0, sizeof alternate};
    uint64_t *short_one = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(short_one, 4096, PROT_NONE);
    CHECK(sys(SYS_sigaltstack, &stack, 0ul) == 0);
    handle(TL_SIGTRAP, never, TL_SA_SIGINFO, 0);
    handle(TL_SIGSEGV, no_room, TL_SA_SIGINFO | TL_SA_ONSTACK, 0);
    uint64_t *top = short_one + 4096 / 8 + 64;
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; call subject_foreign; mov %%rbx, %%rsp"
                     :
                     : "r"(top)
                     : "rax", "rbx", "memory", "cc");
}

static void dies(int (*check)(void (*)(void)), int number, void (*const *programs)(void), size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int status = check(programs[i]);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != number)
            fail_msg("death %d by %d: status %#x", (int)i, number, status);
    }
}
#define DIES(check, number, ...)                                                                                       \
    dies(check, number, (void (*const[])(void)){__VA_ARGS__},                                                          \
         sizeof((void (*const[])(void)){__VA_ARGS__}) / sizeof(void (*)(void)))

static void death_is_the_same(void **unused)
{
    (void)unused;
    DIES(broker_check_same, TL_SIGSEGV, die_of_null, die_of_own_page, ignored_null, reset_by_the_first);
    DIES(broker_check_same, TL_SIGFPE, die_of_zero, die_of_a_sent_one);
    DIES(broker_check_same, TL_SIGILL, die_of_undefined);
    DIES(broker_check_same, TL_SIGTRAP, die_of_own_int3, die_of_foreign_int3, die_of_step, die_of_a_sent_trap,
         ignored_own_int3, blocked_own_int3, nested_traps, reset_trap);
    DIES(broker_check_same_end, TL_SIGSEGV, blocked_null, nested, nested_twice);
}

static void full_stacks_are_as_they_are(void **unused)
{
    (void)unused;
    assert_int_equal(WTERMSIG(broker_check_same_end(overflow)), TL_SIGSEGV);
    assert_int_equal(WEXITSTATUS(broker_check_same(no_room_for_a_frame)), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death_is_the_same),
        cmocka_unit_test(full_stacks_are_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
