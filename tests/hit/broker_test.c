/* SPDX-License-Identifier: MIT
 *
 * Traps: ours, those that are there no more, and the program's own; and faults in displaced instructions, for handlers
 * of every kind.
 */
#include "broker_world.h"

#include <execinfo.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define AT(symbol) ((uint64_t)(uintptr_t)(symbol))

static void plain(void)
{
    for (uint64_t i = 0; i < 5; i++)
        note("plain", subject_plain(i));
    uint64_t value = 4711;
    note("load", subject_load(&value));
    note("load own", subject_load_own());
    note("divide", subject_divide(&(const uint64_t){7}));
    note("call", subject_call(3));
    uint64_t (*function)(uint64_t) = subject_plain;
    note("call through", subject_call_through(&function));
    CHECK(broker_hits() == (broker_mode() == MODE_BARE ? 0 : 11));
}

static void sites_do_what_they_did(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(plain), 0);
}

/* Between the trap and the look the int3 may go. */
static void gone(void)
{
    broker_set_trap(AT(site_plain), TL_TRAP_GONE, 0);
    broker_poke(AT(site_plain), 0x48);
    CHECK(subject_plain(1) == 2); /* nothing of ours there */
    CHECK(broker_hits() == 0);
}

/* A trap of a thread that has been at it before the original byte came back: made by a handler that is asked first. */
static bool take_out(void *addr, const struct tl_notification *notification)
{
    CHECK(notification->exception == TL_EXCEPTION_BREAKPOINT);
    CHECK(notification->frame->context.rip == (uint64_t)(uintptr_t)addr + 1);
    broker_poke((uint64_t)(uintptr_t)addr, 0x48);
    broker_set_trap((uint64_t)(uintptr_t)addr, TL_TRAP_GONE, 0);
    return false;
}

static void vanishes(void)
{
    struct tl_broker *broker = broker_here();
    broker->notify_context = AT(site_plain);
    broker->notify = (uint64_t)(uintptr_t)take_out;
    /* The tables of this trap's look were read before: GONE is what the next look would find. */
    broker_set_trap(AT(site_plain), TL_TRAP_GONE, 0);
    CHECK(subject_plain(1) == 2);
    CHECK(broker_hits() == 0);
}

static void a_vanished_int3_is_not_executed_again(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, gone), 0);
    assert_int_equal(broker_run(MODE_INT3, vanishes), 0);
}

static bool claim(void *count, const struct tl_notification *notification)
{
    ++*(uint64_t *)count;
    CHECK(notification->trap && notification->trap->addr == AT(site_plain));
    notification->frame->context.rip = AT(behind_plain);
    notification->frame->context.rax = 12345;
    return true;
}

static void a_notifier_claims(void)
{
    static uint64_t asked;
    broker_here()->notify_context = AT(&asked);
    broker_here()->notify = (uint64_t)(uintptr_t)claim;
    CHECK(subject_plain(1) == 12345);
    CHECK(asked == 1 && broker_hits() == 0);
}

static bool count_only(void *count, const struct tl_notification *notification)
{
    ++*(uint64_t *)count;
    CHECK(notification->frame->context.rip == AT(site_plain) + 1);
    return false;
}

/* It is told of the site's int3, and of none that is only there to step the instruction. */
static void a_notifier_passes(void)
{
    static uint64_t asked;
    broker_here()->notify_context = AT(&asked);
    broker_here()->notify = (uint64_t)(uintptr_t)count_only;
    CHECK(subject_plain(1) == 2);
    CHECK(asked == 1 && broker_hits() == 1);
}

/* In the broker's handler a thread is known to be there; the same thread elsewhere is not. */
static bool look_inside(void *count, const struct tl_notification *notification)
{
    uint64_t blocked = 0;
    ++*(uint64_t *)count;
    CHECK(syscall(SYS_rt_sigprocmask, 0, NULL, &blocked, 8) == 0);
    const char *here = __builtin_frame_address(0), *frame = (const char *)notification->frame;
    CHECK(frame - here < TL_BROKER_DEPTH - 512);
    CHECK(tl_broker_is_inside(broker_here(), blocked, here, TL_BROKER_DEPTH));
    CHECK(!tl_broker_is_inside(broker_here(), blocked, notification->frame + 1, 64));
    CHECK(!tl_broker_is_inside(broker_here(), 0, here, TL_BROKER_DEPTH));
    return false;
}

static void somebody_is_inside(void)
{
    static uint64_t asked;
    broker_here()->notify_context = AT(&asked);
    broker_here()->notify = (uint64_t)(uintptr_t)look_inside;
    CHECK(subject_plain(1) == 2 && asked == 1);
}

static void whoever_is_in_the_broker_is_known(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, somebody_is_inside), 0);
}

static void a_notifier_is_asked_first(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, a_notifier_claims), 0);
    assert_int_equal(broker_run(MODE_INT3, a_notifier_passes), 0);
    assert_int_equal(broker_run(MODE_STEP, a_notifier_passes), 0);
}

static void on_trap(int number, struct tl_siginfo *info, struct tl_context *context)
{
    note_all(number, info, context);
}

static void own_traps(void)
{
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO, 0);
    note("own", subject_own());
    note("foreign", subject_foreign());
    handle(TL_SIGTRAP, on_trap, TL_SA_SIGINFO | TL_SA_NODEFER, 0x200);
    note("own", subject_own());
    note("mask", mask(0, 0));
}

static void own_int3_and_handlers(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(own_traps), 0);
}

static void on_step(int number, struct tl_siginfo *info, struct tl_context *context)
{
    CHECK(number == TL_SIGTRAP);
    note("step code", (uint64_t)info->code);
    note("step addr", info->addr);
    note("step rip", context->rip);
    note("step rsp", context->rsp);
    note("step flags", context->rflags & ~(uint64_t)TL_FLAG_RESUME);
}

/* The program traps behind each of its instructions; none of ours may show. */
static void steps(void)
{
    handle(TL_SIGTRAP, on_step, TL_SA_SIGINFO, 0);
    note("stepped", subject_stepped(8));
    CHECK(broker_hits() == (broker_mode() == MODE_BARE ? 0 : 1));
}

static void a_program_steps_itself_across_a_site(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(steps), 0);
}

static uint64_t good = 815;

static void repair(int number, struct tl_siginfo *info, struct tl_context *context)
{
    note_all(number, info, context);
    context->rdi = (uint64_t)(uintptr_t)&good;
    if (context->rip == AT(site_undefined))
        context->rip = AT(behind_undefined);
    if (context->rip == AT(site_load_own))
        mprotect(subject_page, 4096, PROT_READ | PROT_WRITE);
}

static void fault_everywhere(uint64_t flags)
{
    const uint64_t zero = 0;
    uint64_t *beyond =
        mmap((void *)0x300000000000, 8192, PROT_READ, MAP_SHARED | MAP_FIXED, (int)sys(SYS_memfd_create, "x", 0ul), 0);
    handle(TL_SIGSEGV, repair, flags, 0x400);
    handle(TL_SIGBUS, repair, flags, 0);
    handle(TL_SIGFPE, repair, flags, 0x800);
    handle(TL_SIGILL, repair, flags, 0);
    note("null", subject_load(NULL));
    note("kernel", subject_load((const uint64_t *)0xffff800000000000));
    note("not canonical", subject_load((const uint64_t *)0x8000000000000000));
    note("beyond the file", subject_load(beyond));
    note("by zero", subject_divide(&zero));
    note("undefined", subject_undefined());
    mprotect(subject_page, 4096, PROT_NONE);
    note("own", subject_load_own());
    note("mask", mask(0, 0));
}

static void with_siginfo(void)
{
    fault_everywhere(TL_SA_SIGINFO);
}

static void without_siginfo(void)
{
    fault_everywhere(0);
}

static void with_nodefer(void)
{
    fault_everywhere(TL_SA_SIGINFO | TL_SA_NODEFER);
}

static uint64_t alternate[4096] __attribute__((aligned(64)));

static void on_alternate_stack(void)
{
    struct tl_sigstack stack = {(uint64_t)(uintptr_t)alternate, 0, 0, sizeof alternate};
    CHECK(sys(SYS_sigaltstack, &stack, 0ul) == 0);
    fault_everywhere(TL_SA_SIGINFO | TL_SA_ONSTACK);
    fault_everywhere(TL_SA_SIGINFO);
    stack.flags = TL_SS_AUTODISARM;
    CHECK(sys(SYS_sigaltstack, &stack, 0ul) == 0);
    fault_everywhere(TL_SA_SIGINFO | TL_SA_ONSTACK);
    fault_everywhere(TL_SA_SIGINFO);
    CHECK(sys(SYS_sigaltstack, 0ul, &stack) == 0);
    note("alternate stack", stack.start);
    note("its flags", stack.flags);
}

static void faults_are_seen_where_they_belong(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(with_siginfo), 0);
    assert_int_equal(broker_check_same(without_siginfo), 0);
    assert_int_equal(broker_check_same(with_nodefer), 0);
    assert_int_equal(broker_check_same(on_alternate_stack), 0);
}

static sigjmp_buf back;

static void leave(int number, struct tl_siginfo *info, struct tl_context *context)
{
    note_all(number, info, context);
    siglongjmp(back, 1);
}

/* As Java and others check for null. */
static void null_checks(void)
{
    handle(TL_SIGSEGV, leave, TL_SA_SIGINFO | TL_SA_NODEFER, 0);
    for (volatile uint64_t i = 0; i < 20; i++)
        if (sigsetjmp(back, 0) == 0)
            subject_load(NULL);
        else
            note("again", i);
    handle(TL_SIGTRAP, leave, TL_SA_SIGINFO | TL_SA_NODEFER, 0);
    for (volatile int i = 0; i < 3; i++)
        if (sigsetjmp(back, 0) == 0)
            subject_own();
    note("mask", mask(0, 0));
}

static void a_handler_may_leave_by_longjmp(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(null_checks), 0);
}

static void look_back(int number, struct tl_siginfo *info, struct tl_context *context)
{
    void *frames[32];
    int count = backtrace(frames, 32);
    CHECK(count > 5);
    for (int i = 0; i < 5; i++) /* this handler, the restorer, the site, its caller, and the program's */
        note("frame", (uint64_t)(uintptr_t)frames[i]);
    (void)info;
    (void)number;
    context->rdi = (uint64_t)(uintptr_t)&good;
}

static void backtraces(void)
{
    void *frames[2];
    backtrace(frames, 2);          /* loads what it needs */
    broker_use_plain_restorer = 1; /* the other one has a guard in it, by which unwinders do not know it */
    handle(TL_SIGSEGV, look_back, TL_SA_SIGINFO, 0);
    handle(TL_SIGTRAP, look_back, TL_SA_SIGINFO, 0);
    subject_load(NULL);
    subject_own();
}

static void unwinders_find_the_interrupted_function(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(backtraces), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sites_do_what_they_did),
        cmocka_unit_test(a_vanished_int3_is_not_executed_again),
        cmocka_unit_test(a_notifier_is_asked_first),
        cmocka_unit_test(whoever_is_in_the_broker_is_known),
        cmocka_unit_test(own_int3_and_handlers),
        cmocka_unit_test(a_program_steps_itself_across_a_site),
        cmocka_unit_test(faults_are_seen_where_they_belong),
        cmocka_unit_test(a_handler_may_leave_by_longjmp),
        cmocka_unit_test(unwinders_find_the_interrupted_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
