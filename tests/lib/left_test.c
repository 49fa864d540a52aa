/* SPDX-License-Identifier: MIT
 *
 * Handlers that are left: they fault, their fault handler does not want it, and the program's SIGSEGV handler jumps out
 * of it all.
 */
#include <alloca.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kit.h"

enum { ROUNDS = 400, THREADS = 4, STACK = 1 << 16 };

static __thread sigjmp_buf out;
static __thread uint64_t asked, hits;
static volatile long *volatile nowhere = (volatile long *)24; /* NOLINT */

/* Sanitizers do not know of stacks that a jump leaves for another one. */
#define PLAIN __attribute__((noinline, no_sanitize_address))

static int faults(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    *nowhere = 1;
    return 0;
}

static int not_mine(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault)
{
    (void)probe;
    (void)regs;
    (void)fault;
    asked++;
    return 0;
}

static int counts(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static PLAIN void jump_out(int number)
{
    (void)number;
    siglongjmp(out, 1);
}

static void catch_faults(int flags)
{
    struct sigaction action = {.sa_handler = jump_out, .sa_flags = flags};
    assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
}

/* So far below, without writing to what lies between. */
static PLAIN long at_depth(long (*function)(long), size_t depth, long argument)
{
    volatile char *room = alloca(depth + 16);
    room[0] = 0;
    return function(argument) + room[0];
}

static long add(long n)
{
    return kit_add(n, n);
}

static PLAIN bool is_left(size_t depth)
{
    if (sigsetjmp(out, 1))
        return true;
    at_depth(kit_call, depth, 1);
    return false;
}

struct pair {
    struct tl_probe bad, good;
};

static void set_up(struct pair *pair, uint64_t flags)
{
    *pair = (struct pair){
        .bad = {.size = sizeof pair->bad, .flags = flags, .address = kit_call_site, .pre = faults, .fault = not_mine},
        .good = {.size = sizeof pair->good, .flags = flags, .address = kit_add_entry, .pre = counts}};
    kit_register(&pair->bad);
    kit_register(&pair->good);
}

/* Left at any depth, the next hit counts, be it above, at, or below that. */
static PLAIN void *leave_often(void *unused)
{
    (void)unused;
    stack_t stack = {.ss_sp = malloc(STACK), .ss_size = STACK}, before;
    sigaltstack(&stack, &before);
    uint64_t missed = 0;
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t before_it = hits, asked_before = asked;
        missed += !is_left(i * 37 % 5000) || asked != asked_before + 1;
        at_depth(add, i * 61 % 7000, 3);
        missed += hits != before_it + 1;
    }
    sigaltstack(&before, NULL);
    free(stack.ss_sp);
    return (void *)(uintptr_t)missed; /* NOLINT: a number */
}

static void check_leaving(uint64_t flags, int signal_flags)
{
    struct pair pair;
    pthread_t threads[THREADS];
    set_up(&pair, flags);
    catch_faults(signal_flags);
    assert_null(leave_often(NULL));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, leave_often, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *missed;
        pthread_join(threads[i], &missed);
        assert_null(missed);
    }
    signal(SIGSEGV, SIG_DFL);
    assert_int_equal(kit_missed(&pair.good), 0);
    assert_int_equal(kit_missed(&pair.bad), 0);
    kit_unregister(&pair.bad);
    kit_unregister(&pair.good);
}

static void later_hits_count(void **state)
{
    check_leaving(*(const uint64_t *)*state, 0);
    check_leaving(*(const uint64_t *)*state, SA_ONSTACK);
}

/* Who has left may unregister, from wherever it is by then. */
static long take_out(long index)
{
    static struct pair pairs[2];
    if (index < 0)
        set_up(&pairs[0], 0);
    else
        return tl_probe_unregister(&pairs[0].bad) + tl_probe_unregister(&pairs[0].good);
    return 0;
}

static void who_has_left_is_not_in_a_handler(void **state)
{
    (void)state;
    for (size_t depth = 0; depth < 6000; depth += 136) {
        take_out(-1);
        catch_faults(depth % 272 ? SA_ONSTACK : 0);
        assert_true(is_left(1000));
        signal(SIGSEGV, SIG_DFL);
        assert_int_equal(at_depth(take_out, depth, 0), 0);
    }
}

/* … and is not waited for by others. */
static sem_t left, go_on;

static PLAIN void *leave_and_rest(void *deep)
{
    bool is_out = is_left(*(const size_t *)deep);
    sem_post(&left);
    sem_wait(&go_on);
    return is_out ? NULL : deep;
}

static void who_has_left_keeps_nobody_waiting(void **state)
{
    (void)state;
    for (size_t depth = 100; depth < 100000; depth *= 5) {
        struct pair pair;
        pthread_t thread;
        void *result;
        set_up(&pair, 0);
        catch_faults(0);
        assert_int_equal(pthread_create(&thread, NULL, leave_and_rest, &depth), 0);
        sem_wait(&left);
        kit_unregister(&pair.bad);
        kit_unregister(&pair.good);
        sem_post(&go_on);
        pthread_join(thread, &result);
        assert_null(result);
        signal(SIGSEGV, SIG_DFL);
    }
}

/* A thread that ends in a handler keeps nobody waiting either. */
static PLAIN int ends(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    syscall(SYS_exit, 0);
    return 0;
}

static PLAIN void *hit_once(void *unused)
{
    kit_add(1, 2);
    return unused;
}

static void nor_does_who_has_ended_in_a_handler(void **state)
{
    (void)state;
    struct tl_probe probe = {.size = sizeof probe, .address = kit_add_entry, .pre = ends};
    pthread_t thread;
    kit_register(&probe);
    assert_int_equal(pthread_create(&thread, NULL, hit_once, NULL), 0);
    pthread_join(thread, NULL);
    kit_unregister(&probe);
}

/* A fault of the program's is not that of the handler that was left before. */
static void later_faults_are_the_programs(void **state)
{
    (void)state;
    struct pair pair;
    for (volatile size_t depth = 0; depth < 3000; depth += 72) {
        set_up(&pair, 0);
        catch_faults(0);
        assert_true(is_left(depth));
        uint64_t before = asked;
        if (!sigsetjmp(out, 1))
            kit_load((const long *)16);
        assert_int_equal(asked, before);
        signal(SIGSEGV, SIG_DFL);
        kit_unregister(&pair.bad);
        kit_unregister(&pair.good);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(later_hits_count),
        cmocka_unit_test(who_has_left_is_not_in_a_handler),
        cmocka_unit_test(who_has_left_keeps_nobody_waiting),
        cmocka_unit_test(nor_does_who_has_ended_in_a_handler),
        cmocka_unit_test(later_faults_are_the_programs),
    };
    sem_init(&left, 0, 0);
    sem_init(&go_on, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
