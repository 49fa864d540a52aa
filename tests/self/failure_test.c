/* SPDX-License-Identifier: MIT
 *
 * Each kind of system call fails once, at its first times and at its last: what was asked for is done all the same, or
 * not at all; and can be done when asked for again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kit.h"
#include "state.h"

static void opening_is_done_or_not(void **unused);
static void with_one_thread_all_or_nothing_is_done(void **unused);
static void with_other_threads_all_or_nothing_is_done(void **unused);

enum { SITES = 3, TIMES = 3, WORKERS = 2 };

static int ask_inside(struct kit *kit)
{
    struct tl_self_range range = {kit->plan.maps[0].addr, kit->plan.maps[0].addr + kit->plan.maps[0].size};
    uint8_t inside = 2;
    int result = tl_self_inside(kit->self, &range, 1, &inside, NULL);
    if (result == 0)
        assert_int_equal(inside, 0);
    return result;
}

static int disarm(struct kit *kit)
{
    return tl_self_disarm(kit->self, NULL);
}

static int ask_barrier(struct kit *kit)
{
    return tl_self_barrier(kit->self, NULL);
}

static int refill(struct kit *kit)
{
    uint8_t bytes[16];
    int result = tl_self_read(kit->self, kit->plan.maps[0].addr, bytes, sizeof bytes);
    return result ? result : tl_self_fill(kit->self, kit->plan.maps[0].addr, bytes, sizeof bytes, NULL);
}

static int plan(struct kit *kit)
{
    int result = kit_plan(kit, 0, SITES, 1u << TL_TACTIC_JUMP);
    if (result)
        kit_drop(kit);
    return result;
}

static const struct {
    const char *name;
    int (*act)(struct kit *kit);
} steps[] = {{"open", kit_open},       {"plan", plan},
             {"fill", refill},         {"arm", kit_arm},
             {"publish", kit_publish}, {"patch", kit_in},
             {"inside", ask_inside},   {"barrier", ask_barrier},
             {"patch back", kit_out},  {"unpublish", kit_unpublish},
             {"disarm", disarm}};
enum { STEPS = sizeof steps / sizeof *steps };

/* One life, with one failure in it. */
static void live(long number, unsigned occurrence, int error)
{
    struct kit kit = {0};
    struct state before, after;
    inject(number, occurrence, error);
    for (size_t i = 0; i < STEPS; i++) {
        bool so_far = injected();
        state_take(&before);
        int result = steps[i].act(&kit);
        if (result == 0)
            continue;
        if (so_far || !injected())
            fail_msg("%s fails by itself: %d", steps[i].name, result);
        state_take(&after);
        const char *different = state_differs(&before, &after);
        if (different)
            fail_msg("%s fails, because call %ld did the %uth time, and %s is not what it was", steps[i].name, number,
                     occurrence, different);
        result = steps[i].act(&kit);
        if (result)
            fail_msg("%s fails again: %d, after call %ld failed the %uth time", steps[i].name, result, number,
                     occurrence);
    }
    kit_drop(&kit);
    bool so_far = injected();
    int result = kit_close(&kit);
    if (result && !so_far && injected())
        result = kit_close(&kit);
    assert_int_equal(result, 0);
}

static void open_and_close(long number, unsigned occurrence)
{
    struct kit kit;
    struct state before, after;
    inject(number, occurrence, number == SYS_mmap ? -ENOMEM : number ? -EPERM : 0);
    state_take(&before);
    int result = kit_open(&kit);
    bool so_far = injected();
    if (result) {
        state_take(&after);
        if (!so_far || state_differs(&before, &after))
            fail_msg("open fails: %d, and %s is not what it was", result, state_differs(&before, &after));
        assert_int_equal(kit_open(&kit), 0);
    }
    result = kit_end(&kit);
    if (result && !so_far && injected())
        result = kit_end(&kit);
    assert_int_equal(result, 0);
    state_take(&after);
    if (state_differs(&before, &after))
        fail_msg("closed, and %s is not what it was", state_differs(&before, &after));
}

static void opening_is_done_or_not(void **unused)
{
    (void)unused;
    static unsigned counts[INJECT_NUMBERS];
    open_and_close(0, 0);
    for (long n = 0; n < INJECT_NUMBERS; n++)
        counts[n] = times_called(n);
    for (long n = 0; n < INJECT_NUMBERS; n++) {
        for (unsigned k = 1; k <= counts[n]; k++)
            open_and_close(n, k);
    }
}

static void fail_each_once(void)
{
    static unsigned counts[INJECT_NUMBERS];
    struct state before, after;
    live(0, 0, 0);
    state_take(&before); /* the handle is open, and guards are mapped: once, and for all lives */
    live(0, 0, 0);
    for (long n = 0; n < INJECT_NUMBERS; n++)
        counts[n] = times_called(n);
    for (long n = 0; n < INJECT_NUMBERS; n++) {
        for (unsigned k = 1; k <= counts[n]; k++) {
            if (k <= TIMES || k + TIMES > counts[n])
                live(n, k, n == SYS_mmap ? -ENOMEM : -EPERM);
        }
    }
    state_take(&after);
    if (state_differs(&before, &after))
        fail_msg("at the end %s is not what it was", state_differs(&before, &after));
}

static void with_one_thread_all_or_nothing_is_done(void **unused)
{
    (void)unused;
    fail_each_once();
}

static struct {
    int word;
    unsigned begun;
} workers;

/* The first one blocks SIGTRAP. */
static void *work(void *number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    if (!number)
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    __atomic_add_fetch(&workers.begun, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&workers.word, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &workers.word, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
    return NULL;
}

static void with_other_threads_all_or_nothing_is_done(void **unused)
{
    (void)unused;
    pthread_t threads[WORKERS];
    for (size_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    while (__atomic_load_n(&workers.begun, __ATOMIC_SEQ_CST) < WORKERS)
        sched_yield();
    fail_each_once();
    __atomic_store_n(&workers.word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &workers.word, 1 /* FUTEX_WAKE */, WORKERS, NULL, NULL, 0);
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_is_done_or_not),
        cmocka_unit_test(with_one_thread_all_or_nothing_is_done),
        cmocka_unit_test(with_other_threads_all_or_nothing_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
