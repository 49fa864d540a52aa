/* SPDX-License-Identifier: MIT
 *
 * Hits in signal handlers of the program's that run on an alternate stack: signals that come while the probe's handler
 * runs, on another stack, leave what stands on the alternate one as it was.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"

enum { STACK_BYTES = 1 << 16, CANARIES = 128, SAVED_MOST = 1 << 14 };

static uint8_t stacks[3][STACK_BYTES], saved[SAVED_MOST];
static uint8_t *stack; /* the one in use */
static long good = 4711, result;
static unsigned handled, repaired, interrupted, damages;

static bool is_on_stack(const void *address)
{
    return (uintptr_t)address - (uintptr_t)stack < STACK_BYTES;
}

static void on_second(int number)
{
    (void)number;
    interrupted++;
}

static int repair(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault)
{
    (void)probe;
    (void)fault;
    regs->rdi = (uintptr_t)&good;
    repaired++;
    return 1;
}

static int is_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    return 0;
}

/* A breakpoint, a fault and a signal. */
static int provoke(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    long value;
    handled++;
    damages += is_on_stack(&value) && !(probe->flags & TL_PROBE_OWN_STACK);
    damages += kit_branch(5) != 1;
    __asm__ volatile("mov %1, %%rdi; mov (%%rdi), %0" : "=r"(value) : "r"(24L) : "rdi", "memory");
    damages += value != good;
    raise(SIGUSR2);
    return 0;
}

/* What lies from `information` to the stack's end is the kernel's frame of this signal: nobody's to touch. */
static void on_first(int number, siginfo_t *information, void *context)
{
    volatile uint64_t canaries[CANARIES];
    const uint8_t *frame = (const uint8_t *)information;
    size_t size = (size_t)(stack + STACK_BYTES - frame);
    (void)number;
    (void)context;
    if (!is_on_stack(frame) || size > SAVED_MOST)
        abort();
    memcpy(saved, frame, size);
    for (unsigned i = 0; i < CANARIES; i++)
        canaries[i] = i * 0x9e3779b97f4a7c15;
    result = kit_add(1, 2);
    damages += memcmp(saved, frame, size) != 0;
    for (unsigned i = 0; i < CANARIES; i++)
        damages += canaries[i] != i * 0x9e3779b97f4a7c15;
}

static void use_stack(unsigned index)
{
    stack = stacks[index];
    assert_int_equal(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = STACK_BYTES}, NULL), 0);
}

static void expect_stack(void)
{
    stack_t now;
    sigset_t set;
    assert_int_equal(sigaltstack(NULL, &now), 0);
    assert_ptr_equal(now.ss_sp, stack);
    assert_int_equal(now.ss_size, STACK_BYTES);
    assert_int_equal(now.ss_flags, 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
    for (int number = 1; number < 32; number++)
        assert_int_equal(sigismember(&set, number), 0);
}

static void hit_in_a_signal_handler(struct tl_probe *nested)
{
    uint64_t missed = kit_missed(nested);
    handled = repaired = interrupted = damages = 0;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(kit_add(1, 2), 4);
        raise(SIGUSR1);
        assert_int_equal(result, 4);
    }
    assert_int_equal(damages, 0);
    assert_int_equal(handled, 10);
    assert_int_equal(repaired, 10);
    assert_int_equal(interrupted, 10);
    assert_int_equal(kit_missed(nested) - missed, 10);
    expect_stack();
}

static struct tl_probe nested;

static int begin(void **state)
{
    struct sigaction first = {.sa_sigaction = on_first, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction second = {.sa_handler = on_second, .sa_flags = SA_ONSTACK};
    (void)state;
    nested =
        (struct tl_probe){.size = sizeof nested, .flags = TL_PROBE_INT3, .address = kit_branch_site, .pre = is_hit};
    kit_register(&nested);
    return sigaction(SIGUSR1, &first, NULL) || sigaction(SIGUSR2, &second, NULL);
}

static int end(void **state)
{
    (void)state;
    kit_unregister(&nested);
    return sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
}

static struct tl_probe outer(uint64_t flags)
{
    return (struct tl_probe){
        .size = sizeof(struct tl_probe), .flags = flags, .address = kit_add_entry, .pre = provoke, .fault = repair};
}

static void check(uint64_t flags)
{
    struct tl_probe probe = outer(flags);
    use_stack(0);
    kit_register(&probe);
    hit_in_a_signal_handler(&nested);
    kit_unregister(&probe);
}

static void signals_do_not_come_over_its_frames(void **state)
{
    check(*(const uint64_t *)*state);
}

static void nor_where_nothing_is_kept(void **state)
{
    check(*(const uint64_t *)*state | TL_PROBE_GENERAL);
}

static void nor_where_handlers_run_there_too(void **state)
{
    check(*(const uint64_t *)*state | TL_PROBE_OWN_STACK);
    check(*(const uint64_t *)*state | TL_PROBE_OWN_STACK | TL_PROBE_GENERAL);
}

static void the_program_may_change_its_stack(void **state)
{
    struct tl_probe probe = outer(*(const uint64_t *)*state);
    kit_register(&probe);
    for (unsigned i = 0; i < 6; i++) {
        use_stack(i % 3);
        hit_in_a_signal_handler(&nested);
        assert_int_equal(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL), 0);
        assert_int_equal(kit_add(1, 2), 4);
    }
    kit_unregister(&probe);
}

/* A sanitizer has given it a stack, and takes back what it finds at the end. */
static void *in_a_thread(void *unused)
{
    stack_t before;
    assert_int_equal(sigaltstack(NULL, &before), 0);
    use_stack(1);
    hit_in_a_signal_handler(&nested);
    use_stack(2);
    hit_in_a_signal_handler(&nested);
    assert_int_equal(sigaltstack(&before, NULL), 0);
    return unused;
}

static void each_thread_has_its_own(void **state)
{
    struct tl_probe probe = outer(*(const uint64_t *)*state);
    pthread_t thread;
    kit_register(&probe);
    for (unsigned i = 0; i < 3; i++) {
        use_stack(0);
        hit_in_a_signal_handler(&nested);
        assert_int_equal(pthread_create(&thread, NULL, in_a_thread, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    kit_unregister(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(signals_do_not_come_over_its_frames),
        BOTH_WAYS(nor_where_nothing_is_kept),
        BOTH_WAYS(nor_where_handlers_run_there_too),
        BOTH_WAYS(the_program_may_change_its_stack),
        BOTH_WAYS(each_thread_has_its_own),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
