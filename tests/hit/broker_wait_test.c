/* SPDX-License-Identifier: MIT
 *
 * System calls that wait, for signals or with another mask. Nobody sleeps here for a time: who is to be interrupted
 * waits for the signal, and whoever sends it knows that it waits from what the kernel says of it.
 */
#include "broker_world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define TRAP TL_SIGNAL_BIT(TL_SIGTRAP)
#define ALL (~(uint64_t)0)
enum { BLOCK, UNBLOCK, SET };

static void on_signal(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)context;
    note("handled", (uint64_t)number);
    note("code", (uint64_t)info->code);
    note("hit", subject_plain(7));
}

static void raise_now(int number)
{
    CHECK(sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)number) == 0);
}

/* All calls that wait with a mask, with what is pending then. */
static void with_mask(uint64_t set)
{
    struct timespec no_time = {0, 0};
    struct {
        const uint64_t *set;
        uint64_t size;
    } pair = {&set, 8};
    struct epoll_event event;
    int64_t epoll = sys(SYS_epoll_create1, 0ul);
    note("ppoll", (uint64_t)sys(SYS_ppoll, 0ul, 0ul, &no_time, &set, 8ul));
    note("mask", mask(BLOCK, 0));
    note("pselect6", (uint64_t)sys(SYS_pselect6, 0ul, 0ul, 0ul, 0ul, &no_time, &pair));
    note("mask", mask(BLOCK, 0));
    note("epoll_pwait", (uint64_t)sys(SYS_epoll_pwait, epoll, &event, 1ul, 0ul, &set, 8ul));
    note("epoll_pwait2", (uint64_t)sys(SYS_epoll_pwait2, epoll, &event, 1ul, &no_time, &set, 8ul));
    note("bad mask", (uint64_t)sys(SYS_ppoll, 0ul, 0ul, &no_time, 8ul, 8ul));
    note("bad size", (uint64_t)sys(SYS_ppoll, 0ul, 0ul, &no_time, &set, 4ul));
    note("bad pair", (uint64_t)sys(SYS_pselect6, 0ul, 0ul, 0ul, 0ul, &no_time, 8ul));
    note("no mask", (uint64_t)sys(SYS_ppoll, 0ul, 0ul, &no_time, 0ul, 8ul));
    note("mask", mask(BLOCK, 0));
    sys(SYS_close, epoll);
}

static void calls_with_masks(void)
{
    static const uint64_t sets[] = {0, TRAP, ALL, ALL & ~TRAP, TL_SIGNAL_BIT(TL_SIGSEGV)};
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    for (size_t i = 0; i < 5; i++) {
        with_mask(sets[i]);
        mask(BLOCK, TRAP);
        raise_now(TL_SIGTRAP);
        with_mask(sets[i]);
        note("hit", subject_plain(1));
        mask(SET, 0);
    }
}

static void masks_for_a_while(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(calls_with_masks), 0);
}

static void suspends(void)
{
    uint64_t all_but_trap = ALL & ~TRAP, all_but_usr1 = ALL & ~TL_SIGNAL_BIT(SIGUSR1), none = 0;
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    handle(SIGUSR1, on_signal, TL_SA_SIGINFO, ALL);
    mask(SET, ALL);
    raise_now(TL_SIGTRAP);
    note("sigsuspend", (uint64_t)sys(SYS_rt_sigsuspend, &all_but_trap, 8ul));
    note("mask", mask(BLOCK, 0));
    raise_now(SIGUSR1);
    note("sigsuspend", (uint64_t)sys(SYS_rt_sigsuspend, &all_but_usr1, 8ul));
    note("mask", mask(BLOCK, 0));
    raise_now(SIGUSR1);
    note("sigsuspend", (uint64_t)sys(SYS_rt_sigsuspend, &none, 8ul));
    note("hit", subject_plain(1));
    note("bad", (uint64_t)sys(SYS_rt_sigsuspend, 8ul, 8ul));
    note("size", (uint64_t)sys(SYS_rt_sigsuspend, &none, 7ul));
    mask(SET, 0);
    note("mask", mask(BLOCK, 0));
}

static void sigsuspend_lets_through_what_it_should(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(suspends), 0);
}

static void note_wait(uint64_t set, const struct timespec *time)
{
    struct tl_siginfo info;
    memset(&info, 0, sizeof info);
    note("sigtimedwait", (uint64_t)sys(SYS_rt_sigtimedwait, &set, &info, time, 8ul));
    note("number", (uint64_t)info.number);
    note("code", (uint64_t)info.code);
    note("value", info.code == SI_QUEUE ? info.rest[0] : 0);
}

static void waits(void)
{
    static const struct timespec no_time = {0, 0};
    uint64_t set = TRAP | TL_SIGNAL_BIT(SIGUSR1);
    mask(BLOCK, set);
    note_wait(set, &no_time);
    raise_now(TL_SIGTRAP);
    note_wait(set, NULL);
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP);
    note_wait(TRAP, &no_time);
    note_wait(TRAP, &no_time);
    raise_now(SIGUSR1);
    note("hit", subject_plain(1));
    note_wait(set, NULL);
    struct tl_siginfo info = {.number = TL_SIGTRAP, .code = SI_QUEUE};
    info.rest[0] = 0x7777;
    CHECK(sys(SYS_rt_sigqueueinfo, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP, &info) == 0);
    note_wait(set, NULL);
    raise_now(TL_SIGTRAP);
    note("no info", (uint64_t)sys(SYS_rt_sigtimedwait, &set, 0ul, 0ul, 8ul));
    raise_now(TL_SIGTRAP);
    note("bad info", (uint64_t)sys(SYS_rt_sigtimedwait, &set, 8ul, 0ul, 8ul));
    note("bad set", (uint64_t)sys(SYS_rt_sigtimedwait, 8ul, 0ul, 0ul, 8ul));
    note("bad size", (uint64_t)sys(SYS_rt_sigtimedwait, &set, 0ul, 0ul, 4ul));
    note_wait(set, &no_time);
    note("mask", mask(SET, 0));
}

static void sigtimedwait_takes_what_is_pending(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(waits), 0);
}

/* Whether this thread sleeps in this system call. */
static bool sleeps_in(pid_t tid, long number)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 && strtol(text, NULL, 10) == number;
}

struct sender {
    pid_t target;
    long number;
    int signal;
    bool to_process;
};

static void *send_when_asleep(void *argument)
{
    const struct sender *sender = argument;
    mask(SET, sender->to_process ? ALL : 0);
    while (!sleeps_in(sender->target, sender->number))
        sched_yield();
    if (sender->to_process)
        kill(getpid(), sender->signal);
    else
        syscall(SYS_tgkill, getpid(), sender->target, sender->signal);
    return NULL;
}

/* Do something that another thread ends by a signal. */
static int64_t woken(long number, int signal, bool to_process, int64_t (*wait)(void))
{
    struct sender sender = {gettid(), number, signal, to_process};
    pthread_t thread;
    uint64_t before = mask(SET, ALL);
    CHECK(pthread_create(&thread, NULL, send_when_asleep, &sender) == 0);
    mask(SET, before);
    int64_t result = wait();
    CHECK(pthread_join(thread, NULL) == 0);
    return result;
}

static int64_t wait_for_trap(void)
{
    uint64_t set = TRAP;
    struct tl_siginfo info;
    int64_t result = sys(SYS_rt_sigtimedwait, &set, &info, 0ul, 8ul);
    note("code", (uint64_t)info.code);
    return result;
}

static int64_t wait_for_two(void)
{
    uint64_t set = TRAP | TL_SIGNAL_BIT(SIGUSR2);
    return sys(SYS_rt_sigtimedwait, &set, 0ul, 0ul, 8ul);
}

static int64_t suspend_with_nothing(void)
{
    uint64_t set = 0;
    return sys(SYS_rt_sigsuspend, &set, 8ul);
}

static int64_t poll_with_nothing(void)
{
    uint64_t set = 0;
    return sys(SYS_ppoll, 0ul, 0ul, 0ul, &set, 8ul);
}

static int64_t just_pause(void)
{
    return sys(SYS_pause);
}

static void wakes(void)
{
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    handle(SIGUSR1, on_signal, TL_SA_SIGINFO, ALL);
    mask(BLOCK, TRAP);
    note("by thread", (uint64_t)woken(SYS_rt_sigtimedwait, TL_SIGTRAP, false, wait_for_trap));
    note("by process", (uint64_t)woken(SYS_rt_sigtimedwait, TL_SIGTRAP, true, wait_for_trap));
    note("by another", (uint64_t)woken(SYS_rt_sigtimedwait, SIGUSR2, false, wait_for_two));
    note("interrupted", (uint64_t)woken(SYS_rt_sigtimedwait, SIGUSR1, false, wait_for_two));
    note("suspended", (uint64_t)woken(SYS_rt_sigsuspend, TL_SIGTRAP, false, suspend_with_nothing));
    note("suspended", (uint64_t)woken(SYS_rt_sigsuspend, TL_SIGTRAP, true, suspend_with_nothing));
    note("suspended", (uint64_t)woken(SYS_rt_sigsuspend, SIGUSR1, false, suspend_with_nothing));
    note("polled", (uint64_t)woken(SYS_ppoll, TL_SIGTRAP, false, poll_with_nothing));
    note("polled", (uint64_t)woken(SYS_ppoll, SIGUSR1, false, poll_with_nothing));
    note("mask", mask(SET, 0));
    note("paused", (uint64_t)woken(SYS_pause, TL_SIGTRAP, false, just_pause));
}

static void whoever_waits_is_woken(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(wakes), 0);
}

/* signalfd is left to the kernel: signals other than SIGTRAP arrive. */
static void descriptors(void)
{
    uint64_t set = TRAP | TL_SIGNAL_BIT(SIGUSR1) | TL_SIGNAL_BIT(TL_SIGFPE);
    uint32_t read_info[32];
    mask(BLOCK, set);
    int64_t file = sys(SYS_signalfd4, -1l, &set, 8ul, 0ul);
    raise_now(SIGUSR1);
    note("read", (uint64_t)sys(SYS_read, file, read_info, sizeof read_info));
    note("number", read_info[0]);
    raise_now(TL_SIGFPE);
    note("read", (uint64_t)sys(SYS_read, file, read_info, sizeof read_info));
    note("number", read_info[0]);
    note("hit", subject_plain(1));
    note("mask", mask(SET, 0));
}

static void signalfd_has_all_but_traps(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(descriptors), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_for_a_while),
        cmocka_unit_test(sigsuspend_lets_through_what_it_should),
        cmocka_unit_test(sigtimedwait_takes_what_is_pending),
        cmocka_unit_test(whoever_waits_is_woken),
        cmocka_unit_test(signalfd_has_all_but_traps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
