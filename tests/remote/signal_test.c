/* SPDX-License-Identifier: MIT
 *
 * Signals that come while we work all arrive, in their order; a stopped process stays stopped.
 */
#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { SIGNALS = 1000 };
static int enough;
static struct progress *page;

static void numbered(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if ((uint64_t)info->si_value.sival_int != page->value)
        page->errors++;
    page->value++;
    page->loops[1]++;
}

static void take_signals(struct progress *p)
{
    struct sigaction action = {.sa_sigaction = numbered, .sa_flags = SA_SIGINFO};
    sigset_t none, set;
    page = p;
    sigaction(SIGRTMIN, &action, NULL);
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    p->loops[1] = 1;
    p->ready = 1;
    for (;;) { /* half of them come inside sigsuspend, half while computing */
        sigprocmask(SIG_BLOCK, &set, NULL);
        sigsuspend(&none);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        for (volatile int i = 0; i < 20000; i++)
            p->loops[0]++;
    }
}

static void *send_signals(void *context)
{
    struct target *t = context;
    int sent = 0;
    while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE) || sent < SIGNALS) {
        if (sigqueue(t->pid, SIGRTMIN, (union sigval){.sival_int = sent}) == 0)
            sent++;
        else
            tl_nap(100);
        if (sent % 16 == 0)
            tl_nap(50);
    }
    return (void *)(intptr_t)sent;
}

static void signals_are_neither_lost_nor_reordered(void **state)
{
    (void)state;
    struct target t;
    pthread_t sender;
    void *sent;
    enough = 0;
    target_fork(&t, take_signals);
    pthread_create(&sender, NULL, send_signals, &t);
    for (int i = 0; i < 200; i++)
        come_and_go(&t, false);
    __atomic_store_n(&enough, 1, __ATOMIC_RELEASE);
    pthread_join(sender, &sent);
    eventually(t.progress->value == (uint64_t)(intptr_t)sent);
    assert_int_equal(t.progress->errors, 0);
    target_end(&t);
}

static void a_stopped_process_stays_stopped(void **state)
{
    (void)state;
    struct target t;
    target_start(&t, ARGV(program("worker")));
    target_baseline(&t);
    kill(t.pid, SIGSTOP);
    eventually(tl_task_state(t.pid) == 'T');
    struct progress before = *t.progress;
    come_and_go(&t, true);
    eventually(tl_task_state(t.pid) == 'T');
    assert_memory_equal((const void *)&before, (const void *)t.progress, sizeof before);
    kill(t.pid, SIGCONT);
    assert_goes_on(&t);
    assert_as_before(&t);
    target_end(&t);
}

static void *stop_and_continue(void *context)
{
    struct target *t = context;
    for (int i = 0; i < 200; i++) {
        kill(t->pid, i % 2 ? SIGCONT : SIGSTOP);
        tl_nap(300);
    }
    return NULL;
}

static void stops_that_come_meanwhile(void **state)
{
    (void)state;
    struct target t;
    pthread_t sender;
    target_start(&t, ARGV(program("worker"), "2"));
    pthread_create(&sender, NULL, stop_and_continue, &t);
    for (int i = 0; i < 30; i++)
        come_and_go(&t, true);
    pthread_join(sender, NULL);
    assert_goes_on(&t);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_neither_lost_nor_reordered),
        cmocka_unit_test(a_stopped_process_stays_stopped),
        cmocka_unit_test(stops_that_come_meanwhile),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
