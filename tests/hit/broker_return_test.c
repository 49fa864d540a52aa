/* SPDX-License-Identifier: MIT
 *
 * What handlers see of SIGTRAP in masks, and what they do to it by returning, where there is a guard on the return: all
 * as without a broker, and each hit on the way goes well. Without such a guard the masks in frames are not the
 * program's.
 */
#include "broker_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TRAP TL_SIGNAL_BIT(TL_SIGTRAP)
#define ALL (~(uint64_t)0)
#define LOADS (TL_SIGNAL_BIT(TL_SIGSEGV) | TL_SIGNAL_BIT(TL_SIGBUS))
enum { BLOCK, UNBLOCK, SET };

static void raise_now(int number)
{
    CHECK(sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)number) == 0);
}

static void note_masks(const struct tl_context *context)
{
    uint64_t pending = 0;
    if (context)
        note("saved mask", context->mask);
    note("mask", mask(BLOCK, 0));
    CHECK(sys(SYS_rt_sigpending, &pending, 8ul) == 0);
    note("pending", pending);
    note("hit", subject_plain(5));
}

static void on_trap(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("trap", (uint64_t)number);
    note_masks(context);
}

static void adding(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("adds", (uint64_t)number);
    note_masks(context);
    context->mask |= TRAP;
}

static void handlers_that_block(void)
{
    static const uint64_t masks[] = {0, TRAP, ALL};
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    for (size_t i = 0; i < 3; i++) {
        handle(SIGUSR1, adding, TL_SA_SIGINFO, masks[i]);
        handle(TL_SIGFPE, adding, TL_SA_SIGINFO, masks[i]);
        handle(TL_SIGTRAP, adding, TL_SA_SIGINFO, masks[i]);
        raise_now(SIGUSR1);
        note_masks(NULL);
        raise_now(TL_SIGTRAP);
        note_masks(NULL);
        note("was", mask(UNBLOCK, TRAP));
        note_masks(NULL);
        mask(SET, 0);
        raise_now(TL_SIGFPE);
        note_masks(NULL);
        mask(SET, 0);
    }
}

static void removing(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("removes", (uint64_t)number);
    note_masks(context);
    context->mask &= ~TRAP;
}

static void handlers_that_unblock(void)
{
    static const uint64_t masks[] = {0, TRAP, ALL};
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    for (size_t i = 0; i < 3; i++) {
        handle(SIGUSR1, removing, TL_SA_SIGINFO, masks[i]);
        handle(TL_SIGBUS, removing, TL_SA_SIGINFO, masks[i]);
        mask(BLOCK, TRAP);
        raise_now(TL_SIGTRAP);
        raise_now(SIGUSR1);
        note_masks(NULL);
        mask(BLOCK, TRAP);
        raise_now(TL_SIGBUS);
        note_masks(NULL);
    }
}

static void inner(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("inner", (uint64_t)number);
    note_masks(context);
    note("was", mask(UNBLOCK, TRAP));
    note_masks(context);
}

static void outer(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("outer", (uint64_t)number);
    raise_now(TL_SIGTRAP);
    note_masks(context);
    raise_now(SIGUSR2);
    note_masks(context);
    raise_now(TL_SIGTRAP);
}

static void handlers_in_handlers(void)
{
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    handle(SIGUSR2, inner, TL_SA_SIGINFO, 0);
    for (int blocked = 0; blocked < 2; blocked++) {
        handle(SIGUSR1, outer, TL_SA_SIGINFO, TRAP);
        mask(SET, blocked ? TRAP : 0);
        raise_now(SIGUSR1);
        note_masks(NULL);
        mask(SET, 0);
        note_masks(NULL);
        handle(SIGUSR1, outer, TL_SA_SIGINFO | TL_SA_NODEFER, 0);
        mask(SET, blocked ? TRAP : 0);
        raise_now(SIGUSR1);
        note_masks(NULL);
        mask(SET, 0);
    }
}

/* The same without a look at frames: then no guard is needed. */
static void inner_asks(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    (void)context;
    note("inner", (uint64_t)number);
    note_masks(NULL);
}

static void outer_asks(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    (void)context;
    note("outer", (uint64_t)number);
    raise_now(TL_SIGTRAP);
    note_masks(NULL);
    raise_now(SIGUSR2);
    note_masks(NULL);
}

static void handlers_that_ask(void)
{
    handle(TL_SIGTRAP, inner_asks, TL_SA_SIGINFO, 0);
    handle(SIGUSR2, inner_asks, TL_SA_SIGINFO, TRAP);
    for (int i = 0; i < 4; i++) {
        handle(SIGUSR1, outer_asks, TL_SA_SIGINFO, i / 2 ? ALL & ~TL_SIGNAL_BIT(SIGUSR2) : TRAP);
        mask(SET, i % 2 ? TRAP : 0);
        raise_now(SIGUSR1);
        note_masks(NULL);
        mask(SET, 0);
        note_masks(NULL);
    }
}

static jmp_buf back;

static void leaving(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("leaves", (uint64_t)number);
    note_masks(context);
    longjmp(back, 1);
}

static void handlers_that_jump_out(void)
{
    handle(SIGUSR1, leaving, TL_SA_SIGINFO | TL_SA_NODEFER, TRAP);
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    for (volatile int i = 0; i < 4; i++) {
        uint64_t before = mask(BLOCK, i % 2 ? TRAP : 0);
        if (setjmp(back) == 0)
            raise_now(SIGUSR1);
        note_masks(NULL); /* still the handler's */
        raise_now(TL_SIGTRAP);
        mask(SET, before); /* as siglongjmp does it */
        note_masks(NULL);
    }
}

/* In a call that waits with another mask, the saved one is that which it comes back to. */
static void handlers_in_calls(void)
{
    static const uint64_t sets[] = {0, TRAP};
    handle(SIGUSR1, on_trap, TL_SA_SIGINFO, 0);
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    for (int i = 0; i < 8; i++) {
        const struct timespec no_time = {0, 0};
        uint64_t usr1 = TL_SIGNAL_BIT(SIGUSR1);
        mask(SET, usr1 | sets[i / 2 % 2]);
        raise_now(SIGUSR1);
        if (i / 4)
            note("ppoll", (uint64_t)sys(SYS_ppoll, 0ul, 0ul, &no_time, &sets[i % 2], 8ul));
        else
            note("sigsuspend", (uint64_t)sys(SYS_rt_sigsuspend, &sets[i % 2], 8ul));
        note_masks(NULL);
        mask(SET, 0);
        note_masks(NULL);
    }
}

static void forking(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("forks", (uint64_t)number);
    pid_t child = fork();
    if (child == 0)
        context->mask ^= TRAP;
    else
        CHECK(waitpid(child, NULL, 0) == child);
    note_masks(context);
}

static void handlers_that_fork(void)
{
    pid_t self = getpid();
    handle(SIGUSR1, forking, TL_SA_SIGINFO, TRAP);
    for (int i = 0; i < 2; i++) {
        mask(SET, i ? TRAP : 0);
        raise_now(SIGUSR1);
        note_masks(NULL);
        if (getpid() != self)
            syscall(SYS_exit_group, 0);
    }
}

/* ---- whatever may come ---- */

static uint64_t state;
static unsigned depth;

static uint64_t draw(uint64_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
}

static void act(void);

static void at_random(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("handler", (uint64_t)number);
    note_masks(context);
    depth++;
    for (uint64_t n = depth < 4 ? draw(4) : 0; n > 0; n--)
        act();
    depth--;
    if (draw(3) == 0)
        context->mask ^= TRAP;
    note_masks(context);
}

/* Of the broker's own signals only SIGTRAP is ever blocked: of two that come in one moment the second one meets the
 * broker, with whatever it has blocked. */
static const int numbers[] = {SIGUSR1, SIGUSR2, SIGALRM, TL_SIGTRAP, TL_SIGFPE};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static void set_at_random(int number)
{
    static const uint64_t masks[] = {0, TRAP, LOADS | TRAP, LOADS};
    bool defers = number != TL_SIGFPE && draw(2);
    handle(number, at_random, TL_SA_SIGINFO | (defers ? 0 : TL_SA_NODEFER) | (draw(2) ? TL_SA_ONSTACK : 0),
           masks[draw(4)]);
}

static void act(void)
{
    int number = numbers[draw(NUMBERS)];
    switch (draw(4)) {
    case 0:
        note("change", mask((int)draw(3), draw(2) ? TRAP : 0));
        break;
    case 1:
        set_at_random(number);
        break;
    default:
        if (depth < 6)
            raise_now(number);
    }
    note_masks(NULL);
}

static void anything(void)
{
    static uint8_t room[1 << 20];
    uint64_t stack[] = {(uint64_t)(uintptr_t)room, 0, sizeof room};
    CHECK(sys(SYS_sigaltstack, stack, 0ul) == 0);
    for (size_t i = 0; i < NUMBERS; i++)
        set_at_random(numbers[i]);
    for (int i = 0; i < 12; i++)
        act();
}

static void same(void (*program)(void))
{
    assert_int_equal(broker_check_same_seen(program), 0);
}

static void a_return_may_block(void **unused)
{
    (void)unused;
    same(handlers_that_block);
}

static void a_return_may_unblock(void **unused)
{
    (void)unused;
    same(handlers_that_unblock);
}

static void inside_a_handler_its_mask_is_in_force(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(handlers_that_ask), 0);
    same(handlers_in_handlers);
    same(handlers_that_jump_out);
    same(handlers_in_calls);
    same(handlers_that_fork);
}

static void any_order_of_things(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 150; seed++) {
        state = seed;
        same(anything);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_return_may_block),
        cmocka_unit_test(a_return_may_unblock),
        cmocka_unit_test(inside_a_handler_its_mask_is_in_force),
        cmocka_unit_test(any_order_of_things),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
