/* SPDX-License-Identifier: MIT
 *
 * Signals that come between any two instructions of a hit, and whose handlers hit, or jump out of it.
 */
#include "call_world.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RETURN_FIRST "\x48\x89\xf8\xc3"
enum { OUTER = 70, INNER = 71, SIGNALS = 3000 };

static call_fn *outer, *inner;
static uint64_t outer_hits, inner_hits, delivered, calls;
static atomic_bool done;
static sigjmp_buf back;
static volatile sig_atomic_t may_jump;

static int count_outer(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    outer_hits++;
    return 0;
}

static int count_inner(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    inner_hits++;
    return 0;
}

static void hit_inner(int number)
{
    (void)number;
    delivered++;
    if (inner(delivered, 0) != delivered)
        abort();
}

static void hit_and_jump(int number)
{
    hit_inner(number);
    if (may_jump) {
        may_jump = 0;
        siglongjmp(back, 1);
    }
}

static void *send_signals(void *target)
{
    pthread_t *thread = target;
    for (int i = 0; i < SIGNALS; i++) {
        pthread_kill(*thread, SIGUSR1);
        for (volatile int pause = 0; pause < (i * 37) % 512; pause++)
            ;
    }
    atomic_store(&done, true);
    return NULL;
}

static void set(uint32_t flags, void (*handler)(int), int signal_flags)
{
    static uint8_t stack[65536];
    struct tl_call_action actions[] = {{.kind = TL_CALL_PRE, .flags = flags, .pre = count_outer},
                                       {.kind = TL_CALL_PRE, .flags = flags, .pre = count_inner}};
    struct sigaction action = {.sa_handler = handler, .sa_flags = signal_flags};
    if (!outer) {
        outer = call_world_function(call_world_code(OUTER, RETURN_FIRST, 4));
        inner = call_world_function(call_world_code(INNER, RETURN_FIRST, 4));
    }
    call_world_list(OUTER, &actions[0], 1);
    call_world_list(INNER, &actions[1], 1);
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
    sigaction(SIGUSR1, &action, NULL);
    atomic_store(&done, false);
    outer_hits = inner_hits = delivered = calls = 0;
}

static void check_exact(uint32_t flags, int signal_flags)
{
    pthread_t self = pthread_self(), sender;
    uint64_t outer_missed = tl_call_missed(OUTER), inner_missed = tl_call_missed(INNER);
    set(flags, hit_inner, signal_flags);
    assert_int_equal(pthread_create(&sender, NULL, send_signals, &self), 0);
    while (!atomic_load(&done)) {
        double before = (double)calls / 3; /* in a vector register, perhaps */
        if (outer(calls, 0) != calls || before != (double)calls / 3)
            abort();
        calls++;
    }
    pthread_join(sender, NULL);
    assert_true(delivered > 0);
    assert_int_equal(outer_hits, calls);
    assert_int_equal(tl_call_missed(OUTER), outer_missed);
    assert_int_equal(inner_hits + tl_call_missed(INNER) - inner_missed, delivered);
}

static void hits_in_signal_handlers_are_counted_or_missed(void **unused)
{
    (void)unused;
    check_exact(TL_PROBE_GENERAL, 0);
    check_exact(TL_PROBE_GENERAL, SA_ONSTACK);
    check_exact(TL_PROBE_GENERAL | TL_PROBE_OWN_STACK, 0);
    check_exact(0, 0);
    check_exact(0, SA_ONSTACK);
}

static void check_jumping(uint32_t flags, int signal_flags)
{
    pthread_t self = pthread_self(), sender;
    set(flags, hit_and_jump, signal_flags);
    assert_int_equal(pthread_create(&sender, NULL, send_signals, &self), 0);
    while (!atomic_load(&done)) {
        if (!sigsetjmp(back, 1))
            may_jump = 1;
        for (volatile int i = 0; i < 100; i++)
            if (outer((uint64_t)i, 0) != (uint64_t)i)
                abort();
        may_jump = 0;
    }
    pthread_join(sender, NULL);
    uint64_t hits = outer_hits;
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(outer(i, 0), i);
    assert_int_equal(outer_hits, hits + 10);
}

/* The hits that are cut off leave nothing that would be in the way of later ones at the same depth. */
static void signal_handlers_may_jump_out_of_a_hit(void **unused)
{
    (void)unused;
    check_jumping(TL_PROBE_GENERAL, 0);
    check_jumping(TL_PROBE_GENERAL, SA_ONSTACK);
    check_jumping(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_in_signal_handlers_are_counted_or_missed),
        cmocka_unit_test(signal_handlers_may_jump_out_of_a_hit),
    };
    call_world_make(4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
