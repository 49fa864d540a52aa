/* SPDX-License-Identifier: MIT
 *
 * Hits while a handler runs on the same thread, and handlers that never come back.
 */
#include "call_world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define RETURN_FIRST "\x48\x89\xf8\xc3"

static call_fn *outer, *inner;
static uint64_t outer_hits, inner_hits;
static jmp_buf back;

static int count(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    inner_hits++;
    return 0;
}

static int call_inner(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    outer_hits++;
    assert_true(tl_call_inside());
    assert_int_equal(inner(5, 0), 5);
    return 0;
}

static void make(tl_pre_handler *handler, uint32_t flags)
{
    struct tl_call_action first = {.kind = TL_CALL_PRE, .flags = flags, .pre = handler};
    struct tl_call_action second = {.kind = TL_CALL_PRE, .pre = count};
    if (!outer) {
        outer = call_world_function(call_world_code(20, RETURN_FIRST, 4));
        inner = call_world_function(call_world_code(21, RETURN_FIRST, 4));
    }
    call_world_list(20, &first, 1);
    call_world_list(21, &second, 1);
    outer_hits = inner_hits = 0;
}

static void a_hit_in_a_handler_is_missed(void **unused)
{
    (void)unused;
    uint64_t missed = tl_call_missed(21);
    make(call_inner, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(outer(7, 0), 7);
    assert_int_equal(outer_hits, 100);
    assert_int_equal(inner_hits, 0);
    assert_int_equal(tl_call_missed(21) - missed, 100);
    assert_false(tl_call_inside());
    inner(0, 0);
    assert_int_equal(inner_hits, 1);
}

static void call_both(int number)
{
    (void)number;
    outer(1, 0);
    inner(1, 0);
}

static int raise_signal(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    outer_hits++;
    raise(SIGUSR1);
    return 0;
}

static void check_signal(int flags, uint32_t probe_flags)
{
    struct sigaction action = {.sa_handler = call_both, .sa_flags = flags};
    uint64_t outer_missed = tl_call_missed(20), inner_missed = tl_call_missed(21);
    make(raise_signal, probe_flags);
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 50; i++)
        outer(0, 0);
    assert_int_equal(outer_hits, 50);
    assert_int_equal(inner_hits, 0);
    assert_int_equal(tl_call_missed(20) - outer_missed, 50);
    assert_int_equal(tl_call_missed(21) - inner_missed, 50);
}

static void so_is_one_in_a_signal_handler_above_it(void **unused)
{
    (void)unused;
    static uint8_t stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
    check_signal(0, 0);
    check_signal(0, TL_PROBE_OWN_STACK);
    check_signal(SA_ONSTACK, 0);
    check_signal(SA_ONSTACK, TL_PROBE_OWN_STACK);
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
}

static int leave(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    outer_hits++;
    longjmp(back, 1);
}

/* Sanitizers do not know of stacks that a longjmp leaves for another one: no business of theirs. */
#define PLAIN __attribute__((noinline, no_sanitize_address))

static PLAIN void fill(volatile uint8_t *room, size_t size)
{
    for (size_t i = 0; i < size; i++)
        room[i] = 1;
}

/* Use up so much of the stack, then hit. */
static PLAIN void hit_at_depth(call_fn *function, size_t depth)
{
    fill(__builtin_alloca(depth + 1), depth);
    function(0, 0);
    __asm__ volatile("" : : : "memory");
}

static void check_leaving(uint32_t flags)
{
    make(leave, flags);
    for (size_t depth = 0; depth < 4096; depth += 72) {
        uint64_t hits = inner_hits;
        if (!setjmp(back))
            hit_at_depth(outer, depth);
        hit_at_depth(inner, depth); /* as deep: the frame that was left is in the way */
        assert_int_equal(inner_hits, hits + 1);
        if (!setjmp(back))
            hit_at_depth(outer, depth);
        hit_at_depth(inner, depth + 1000); /* deeper: it is overwritten */
        assert_int_equal(inner_hits, hits + 2);
    }
}

static void a_handler_that_is_left_by_longjmp_does_not_block_its_thread(void **unused)
{
    (void)unused;
    check_leaving(0);
    check_leaving(TL_PROBE_OWN_STACK);
}

static void nor_does_it_keep_its_list(void **unused)
{
    (void)unused;
    make(leave, 0);
    if (!setjmp(back))
        hit_at_depth(outer, 2000);
    struct tl_call_list *none = NULL;
    const struct tl_call_list *old = tl_call_swap(20, none);
    call_world_barrier();
    hit_at_depth(call_world_function(call_world_room("\xc3", 1)), 4096); /* not probed */
    assert_true(tl_call_quiet(old));
    free((void *)(uintptr_t)old);
}

static ucontext_t main_context, coroutine;

static int switch_away(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    outer_hits++;
    swapcontext(&coroutine, &main_context);
    return 0;
}

static void run_outer(void)
{
    outer(0, 0);
}

/* What is hit meanwhile is missed: the handler is under way, if not on this stack. */
static void a_handler_may_switch_to_another_coroutine_and_back(void **unused)
{
    (void)unused;
    static uint8_t stack[65536];
    uint64_t missed = tl_call_missed(21);
    make(switch_away, 0);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof(stack);
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, run_outer, 0);
    swapcontext(&main_context, &coroutine);
    assert_true(tl_call_inside());
    hit_at_depth(inner, 0);
    hit_at_depth(inner, 3000);
    assert_int_equal(tl_call_missed(21) - missed, 2);
    swapcontext(&main_context, &coroutine);
    assert_false(tl_call_inside());
    inner(0, 0);
    assert_int_equal(inner_hits, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_in_a_handler_is_missed),
        cmocka_unit_test(so_is_one_in_a_signal_handler_above_it),
        cmocka_unit_test(a_handler_that_is_left_by_longjmp_does_not_block_its_thread),
        cmocka_unit_test(nor_does_it_keep_its_list),
        cmocka_unit_test(a_handler_may_switch_to_another_coroutine_and_back),
    };
    call_world_make(4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
