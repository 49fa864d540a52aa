/* SPDX-License-Identifier: MIT
 *
 * Stopping the others: nobody notices, and nobody is left standing when the helper dies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/self/world.h"
#include "kit.h"

static void calls_that_block_are_not_disturbed(void **unused);
static void running_threads_stand_still(void **unused);
static void threads_that_come_and_go_are_stopped_too(void **unused);
static void threads_that_spawn_are_stopped_too(void **unused);
static void nobody_stays_behind_when_the_helper_is_killed(void **unused);
static void no_child_and_no_descriptor_is_left(void **unused);

enum { STOPS = 30, RUNNERS = 3, KILLS = 10 };

/* ---- threads that block ---- */

static struct blocked {
    int fd[2], epoll, word;
    sigset_t awaited;
    const char *wrong[5];
    bool futex_over;
} blocked;

static void *in_nanosleep(void *unused)
{
    struct timespec t = {0, 300000000}, left = {0, 0};
    (void)unused;
    if (nanosleep(&t, &left) != 0)
        blocked.wrong[0] = "nanosleep was interrupted";
    return NULL;
}

static void *in_epoll_wait(void *unused)
{
    struct epoll_event event;
    (void)unused;
    if (epoll_wait(blocked.epoll, &event, 1, -1) != 1)
        blocked.wrong[1] = "epoll_wait was interrupted";
    return NULL;
}

static void *in_futex(void *unused)
{
    (void)unused;
    if (syscall(SYS_futex, &blocked.word, FUTEX_WAIT, 0, NULL, NULL, 0) != 0 && errno != EAGAIN) /* changed already */
        blocked.wrong[2] = "futex was interrupted";
    __atomic_store_n(&blocked.futex_over, true, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *in_read(void *unused)
{
    char byte;
    (void)unused;
    if (read(blocked.fd[0], &byte, 1) != 1)
        blocked.wrong[3] = "read was interrupted";
    return NULL;
}

static void *in_sigwaitinfo(void *unused)
{
    (void)unused;
    if (sigwaitinfo(&blocked.awaited, NULL) != SIGUSR2)
        blocked.wrong[4] = "sigwaitinfo was interrupted";
    return NULL;
}

/* How many of the stopped threads stand in one of the calls. */
static size_t count_blocked(const struct tl_world *world)
{
    static const long calls[] = {SYS_clock_nanosleep, SYS_epoll_wait, SYS_futex, SYS_read, SYS_rt_sigtimedwait};
    size_t count = 0;
    for (size_t i = 0; i < world->count; i++) {
        for (size_t k = 0; k < sizeof calls / sizeof *calls; k++)
            count += (long)world->tasks[i].regs.orig_rax == calls[k];
    }
    return count;
}

static void calls_that_block_are_not_disturbed(void **unused)
{
    (void)unused;
    static void *(*const functions[])(void *) = {in_nanosleep, in_epoll_wait, in_futex, in_read, in_sigwaitinfo};
    enum { COUNT = sizeof functions / sizeof *functions };
    pthread_t threads[COUNT];
    struct epoll_event event = {.events = EPOLLIN};
    int other[2];
    sigemptyset(&blocked.awaited);
    sigaddset(&blocked.awaited, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked.awaited, NULL);
    assert_int_equal(pipe(blocked.fd) | pipe(other), 0);
    blocked.epoll = epoll_create1(0);
    assert_int_equal(epoll_ctl(blocked.epoll, EPOLL_CTL_ADD, other[0], &event), 0);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, functions[i], NULL), 0);
    for (int stops = 0; stops < STOPS;) { /* the sleeper may be back by then */
        struct tl_world *world;
        assert_int_equal(tl_world_stop(&world), 0);
        stops += count_blocked(world) >= COUNT - 1;
        tl_world_resume(world);
    }
    assert_int_equal(write(other[1], "x", 1), 1);
    assert_int_equal(write(blocked.fd[1], "x", 1), 1);
    pthread_kill(threads[4], SIGUSR2);
    __atomic_store_n(&blocked.word, 1, __ATOMIC_SEQ_CST);
    while (syscall(SYS_futex, &blocked.word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0 &&
           !__atomic_load_n(&blocked.futex_over, __ATOMIC_SEQ_CST))
        sched_yield();
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < COUNT; i++) {
        if (blocked.wrong[i])
            fail_msg("%s", blocked.wrong[i]);
    }
}

/* ---- threads that run ---- */

static struct runners {
    pthread_t threads[RUNNERS];
    uint64_t counts[RUNNERS];
    bool ends;
} runners;

static void *count_up(void *argument)
{
    uint64_t *count = argument;
    while (!__atomic_load_n(&runners.ends, __ATOMIC_RELAXED))
        __atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
    return NULL;
}

static void begin_to_run(void)
{
    memset(&runners, 0, sizeof runners);
    for (size_t i = 0; i < RUNNERS; i++)
        assert_int_equal(pthread_create(&runners.threads[i], NULL, count_up, &runners.counts[i]), 0);
}

/* Each of them gets on. */
static void hold_on_running(void)
{
    for (size_t i = 0; i < RUNNERS; i++) {
        uint64_t count = __atomic_load_n(&runners.counts[i], __ATOMIC_RELAXED);
        while (__atomic_load_n(&runners.counts[i], __ATOMIC_RELAXED) == count)
            sched_yield();
    }
}

static void end_running(void)
{
    __atomic_store_n(&runners.ends, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < RUNNERS; i++)
        assert_int_equal(pthread_join(runners.threads[i], NULL), 0);
}

static void running_threads_stand_still(void **unused)
{
    (void)unused;
    begin_to_run();
    for (int i = 0; i < STOPS; i++) {
        struct tl_world *world;
        uint64_t before[RUNNERS];
        bool same = true;
        assert_int_equal(tl_world_stop(&world), 0);
        for (size_t k = 0; k < RUNNERS; k++)
            before[k] = __atomic_load_n(&runners.counts[k], __ATOMIC_RELAXED);
        for (int turn = 0; turn < 100; turn++)
            syscall(SYS_sched_yield);
        for (size_t k = 0; k < RUNNERS; k++)
            same = same && before[k] == __atomic_load_n(&runners.counts[k], __ATOMIC_RELAXED);
        size_t count = world->count;
        tl_world_resume(world);
        assert_true(same);
        assert_int_equal(count, RUNNERS);
        hold_on_running();
    }
    end_running();
}

static void *do_nothing(void *unused)
{
    return unused;
}

static void *make_threads(void *unused)
{
    pthread_t thread;
    while (!__atomic_load_n(&runners.ends, __ATOMIC_RELAXED)) {
        if (pthread_create(&thread, NULL, do_nothing, NULL) == 0)
            pthread_join(thread, NULL);
    }
    return unused;
}

static void threads_that_come_and_go_are_stopped_too(void **unused)
{
    (void)unused;
    pthread_t maker;
    begin_to_run();
    assert_int_equal(pthread_create(&maker, NULL, make_threads, NULL), 0);
    for (int i = 0; i < STOPS; i++) {
        struct tl_world *world;
        assert_int_equal(tl_world_stop(&world), 0);
        long threads = tl_world_threads();
        size_t count = world->count;
        tl_world_resume(world);
        assert_true((size_t)threads <= count + 2 && count >= RUNNERS + 1); /* one may be dead but not gone */
    }
    end_running();
    pthread_join(maker, NULL);
}

static uint64_t spawned, spawns_failed;

static void *spawn_all_the_time(void *unused)
{
    char name[] = "true", *const argv[] = {name, NULL}, *const environment[] = {NULL};
    while (!__atomic_load_n(&runners.ends, __ATOMIC_RELAXED)) {
        pid_t pid;
        int status = -1;
        bool failed = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environment) || waitpid(pid, &status, 0) != pid;
        spawns_failed += failed || status != 0;
        __atomic_add_fetch(&spawned, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

static void threads_that_spawn_are_stopped_too(void **unused)
{
    (void)unused;
    pthread_t spawner;
    begin_to_run();
    assert_int_equal(pthread_create(&spawner, NULL, spawn_all_the_time, NULL), 0);
    for (int i = 0; i < STOPS; i++) {
        struct tl_world *world;
        uint64_t before = __atomic_load_n(&spawned, __ATOMIC_RELAXED);
        assert_int_equal(tl_world_stop(&world), 0);
        size_t outside = 0;
        for (size_t k = 0; k < world->count; k++)
            outside += world->tasks[k].outside;
        tl_world_resume(world);
        assert_int_equal(outside, 0);
        while (__atomic_load_n(&spawned, __ATOMIC_RELAXED) == before)
            sched_yield();
    }
    end_running();
    pthread_join(spawner, NULL);
    assert_int_equal(spawns_failed, 0);
}

static void nobody_stays_behind_when_the_helper_is_killed(void **unused)
{
    (void)unused;
    begin_to_run();
    for (int i = 0; i < KILLS; i++) {
        struct tl_world *world;
        assert_int_equal(tl_world_stop(&world), 0);
        kill(world->helper, SIGKILL);
        hold_on_running();
        assert_true(tl_world_ptrace(world, 0, 1, NULL, NULL) < 0);
        tl_world_resume(world);
    }
    end_running();
}

static void no_child_and_no_descriptor_is_left(void **unused)
{
    (void)unused;
    int status;
    size_t descriptors = count_descriptors(), mappings = count_lines("/proc/self/maps", "");
    begin_to_run();
    end_running();
    size_t with_stacks = count_lines("/proc/self/maps", "");
    for (int i = 0; i < STOPS; i++) {
        struct tl_world *world;
        assert_int_equal(tl_world_stop(&world), 0);
        tl_world_resume(world);
    }
    assert_int_equal(waitpid(-1, &status, __WALL | WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(count_descriptors(), descriptors);
    assert_in_range(count_lines("/proc/self/maps", ""), 1, with_stacks > mappings ? with_stacks : mappings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_that_block_are_not_disturbed),
        cmocka_unit_test(running_threads_stand_still),
        cmocka_unit_test(threads_that_come_and_go_are_stopped_too),
        cmocka_unit_test(threads_that_spawn_are_stopped_too),
        cmocka_unit_test(nobody_stays_behind_when_the_helper_is_killed),
        cmocka_unit_test(no_child_and_no_descriptor_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
