/* SPDX-License-Identifier: MIT
 *
 * Taking the signals over and giving them back: the program sees nothing of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kit.h"
#include "state.h"

static void everything_is_as_it_was_in_the_end(void **unused);
static void the_program_sees_its_own_action_and_mask(void **unused);
static void a_thread_that_blocks_sigtrap_survives_breakpoints(void **unused);
static void a_pending_sigtrap_is_kept_for_the_program(void **unused);
static void calls_that_wait_are_not_disturbed(void **unused);
static void modules_are_guarded_once(void **unused);

static volatile int caught;

static void catch (int number)
{
    caught += number == SIGTRAP;
}

static void use_action(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
}

static void block_trap(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    assert_int_equal(pthread_sigmask(how, &set, NULL), 0);
}

static bool blocks_trap(void)
{
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    return sigismember(&set, SIGTRAP);
}

static bool pends_trap(void)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, SIGTRAP);
}

static bool kernel_blocks_trap(void)
{
    uint64_t mask = 0;
    tl_self_call(SYS_rt_sigprocmask, 0, 0, (long)&mask, 8, 0, 0);
    return mask & TL_SIGNAL_BIT(TL_SIGTRAP);
}

static void open_armed(struct kit *kit, size_t sites)
{
    assert_int_equal(kit_open(kit), 0);
    assert_int_equal(kit_arm(kit), 0);
    assert_true(tl_self_armed(kit->self));
    assert_int_equal(kit_plan(kit, 0, sites, 1u << TL_TACTIC_INT3), 0);
    assert_int_equal(kit_publish(kit), 0);
    assert_int_equal(kit_in(kit), 0);
}

static void close_disarmed(struct kit *kit)
{
    assert_int_equal(kit_out(kit), 0);
    assert_int_equal(kit_wait_until_empty(kit), 0);
    assert_int_equal(tl_self_disarm(kit->self, NULL), -EBUSY);
    assert_int_equal(kit_unpublish(kit), 0);
    kit_drop(kit);
    assert_int_equal(tl_self_close(kit->self), -EBUSY);
    assert_int_equal(kit_close(kit), 0);
}

static void everything_is_as_it_was_in_the_end(void **unused)
{
    (void)unused;
    struct kit kit;
    struct state before, between, after;
    use_action(catch);
    block_trap(SIG_BLOCK);
    state_take(&before);
    open_armed(&kit, 8);
    state_take(&between);
    close_disarmed(&kit);
    assert_int_equal(kit_open(&kit), 0);
    assert_int_equal(kit_end(&kit), 0);
    state_take(&after);
    assert_non_null(state_differs(&before, &between));
    const char *different = state_differs(&before, &after);
    if (different)
        fail_msg("%s", different);
    block_trap(SIG_UNBLOCK);
}

static void the_program_sees_its_own_action_and_mask(void **unused)
{
    (void)unused;
    struct kit kit;
    struct sigaction action;
    use_action(catch);
    block_trap(SIG_BLOCK);
    open_armed(&kit, 8);
    assert_true(blocks_trap());
    assert_false(kernel_blocks_trap());
    assert_int_equal(subject_at(3)(), 3);
    sigaction(SIGTRAP, NULL, &action);
    assert_true(action.sa_handler == catch && (action.sa_flags & ~TL_SA_RESTORER) == SA_RESTART);
    use_action(SIG_IGN);
    assert_int_equal(subject_at(4)(), 4);
    use_action(catch);
    block_trap(SIG_UNBLOCK);
    assert_false(blocks_trap());
    caught = 0;
    raise(SIGTRAP);
    assert_int_equal(caught, 1);
    block_trap(SIG_BLOCK);
    close_disarmed(&kit);
    assert_true(blocks_trap() && kernel_blocks_trap());
    block_trap(SIG_UNBLOCK);
    raise(SIGTRAP);
    assert_int_equal(caught, 2);
}

static struct {
    bool ends;
    uint64_t calls, wrong;
    int trap_is_blocked;
} blocker;

static void *call_blocked(void *unused)
{
    (void)unused;
    block_trap(SIG_BLOCK);
    while (!__atomic_load_n(&blocker.ends, __ATOMIC_RELAXED)) {
        for (int i = 0; i < 8; i++)
            blocker.wrong += subject_at((size_t)i)() != i;
        __atomic_add_fetch(&blocker.calls, 1, __ATOMIC_RELAXED);
    }
    blocker.trap_is_blocked = blocks_trap() && kernel_blocks_trap();
    return NULL;
}

static void let_it_call(void)
{
    uint64_t calls = __atomic_load_n(&blocker.calls, __ATOMIC_RELAXED);
    while (__atomic_load_n(&blocker.calls, __ATOMIC_RELAXED) < calls + 10)
        sched_yield();
}

static void a_thread_that_blocks_sigtrap_survives_breakpoints(void **unused)
{
    (void)unused;
    struct kit kit;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, call_blocked, NULL), 0);
    let_it_call();
    for (int i = 0; i < 3; i++) {
        open_armed(&kit, 8);
        let_it_call();
        close_disarmed(&kit);
        let_it_call();
    }
    __atomic_store_n(&blocker.ends, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_int_equal(blocker.wrong, 0);
    assert_true(blocker.trap_is_blocked);
}

static void a_pending_sigtrap_is_kept_for_the_program(void **unused)
{
    (void)unused;
    struct kit kit;
    use_action(catch);
    caught = 0;
    block_trap(SIG_BLOCK);
    raise(SIGTRAP);
    open_armed(&kit, 8); /* one from before… */
    assert_int_equal(subject_at(5)(), 5);
    assert_int_equal(caught, 0);
    assert_true(pends_trap());
    block_trap(SIG_UNBLOCK);
    assert_int_equal(caught, 1);
    block_trap(SIG_BLOCK);
    raise(SIGTRAP); /* …and one for after */
    assert_true(pends_trap());
    assert_int_equal(caught, 1);
    close_disarmed(&kit);
    assert_int_equal(caught, 1);
    assert_true(pends_trap());
    block_trap(SIG_UNBLOCK);
    assert_int_equal(caught, 2);
    assert_false(pends_trap());
}

static struct {
    int fd[2], result[3];
    sigset_t set;
    sem_t ready;
} waiting;

static void *in_ppoll(void *unused)
{
    (void)unused;
    struct pollfd fd = {.fd = waiting.fd[0], .events = POLLIN};
    sem_post(&waiting.ready);
    waiting.result[0] = ppoll(&fd, 1, NULL, &waiting.set);
    return NULL;
}

static void *in_sigwait(void *unused)
{
    (void)unused;
    sem_post(&waiting.ready);
    waiting.result[1] = sigwaitinfo(&waiting.set, NULL);
    return NULL;
}

static void *in_sigwait_for_trap_too(void *unused)
{
    sigset_t set = waiting.set;
    (void)unused;
    sigaddset(&set, SIGTRAP);
    block_trap(SIG_BLOCK);
    sem_post(&waiting.ready);
    waiting.result[2] = sigwaitinfo(&set, NULL);
    return NULL;
}

static void calls_that_wait_are_not_disturbed(void **unused)
{
    (void)unused;
    static void *(*const functions[])(void *) = {in_ppoll, in_sigwait, in_sigwait_for_trap_too};
    pthread_t threads[3];
    struct kit kit;
    sem_init(&waiting.ready, 0, 0);
    sigemptyset(&waiting.set);
    sigaddset(&waiting.set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &waiting.set, NULL);
    assert_int_equal(pipe(waiting.fd), 0);
    for (int round = 0; round < 2; round++) { /* threads from before arming, and of after */
        if (round)
            open_armed(&kit, 8);
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, functions[i], NULL), 0);
        for (size_t i = 0; i < 3; i++)
            sem_wait(&waiting.ready);
        if (!round)
            open_armed(&kit, 8);
        assert_int_equal(subject_at(5)(), 5);
        close_disarmed(&kit);
        assert_int_equal(write(waiting.fd[1], "x", 1), 1);
        pthread_kill(threads[1], SIGUSR2);
        pthread_kill(threads[2], SIGUSR2);
        for (size_t i = 0; i < 3; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(waiting.result[0], 1);
        assert_int_equal(waiting.result[1], SIGUSR2);
        assert_int_equal(waiting.result[2], SIGUSR2);
        char byte;
        assert_int_equal(read(waiting.fd[0], &byte, 1), 1);
    }
    close(waiting.fd[0]);
    close(waiting.fd[1]);
}

static void modules_are_guarded_once(void **unused)
{
    (void)unused;
    struct kit kit;
    const struct tl_site **guards;
    size_t count, again;
    open_armed(&kit, 1);
    assert_int_equal(tl_self_guards(kit.self, &guards, &count), 0);
    assert_true(count > 10);
    for (size_t i = 1; i < count; i++)
        assert_true(guards[i]->addr > guards[i - 1]->addr);
    free((void *)guards);
    assert_int_equal(kit_arm(&kit), 0);
    assert_int_equal(tl_self_guards(kit.self, &guards, &again), 0);
    free((void *)guards);
    assert_int_equal(again, count);
    close_disarmed(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_as_it_was_in_the_end),
        cmocka_unit_test(the_program_sees_its_own_action_and_mask),
        cmocka_unit_test(a_thread_that_blocks_sigtrap_survives_breakpoints),
        cmocka_unit_test(a_pending_sigtrap_is_kept_for_the_program),
        cmocka_unit_test(calls_that_wait_are_not_disturbed),
        cmocka_unit_test(modules_are_guarded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
