/* SPDX-License-Identifier: MIT
 *
 * Each allocation and each system call of a change fails once: then the breakpoint is as it was, or is not there; and
 * the same change succeeds when nothing fails. Each time in a process of its own.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "hwbp_kit.h"

enum { DONE = 0, WRONG = 1, NOT_REACHED = 2, SECONDS = 20, THREADS = 3 };

static volatile uint64_t words[8];
static struct seen seen;
static struct tl_hwbp *hwbp, *other;

static long (*real_call)(long number, long a, long b, long c, long d, long e, long f);

/* What the kernel never refuses is left alone. */
static bool may_fail(long number, long request)
{
    bool is_switch = number == SYS_ioctl && (request == PERF_EVENT_IOC_ENABLE || request == PERF_EVENT_IOC_DISABLE);
    return !is_switch && number != SYS_close && number != SYS_gettid && number != SYS_getpid;
}

static long failing_call(long number, long a, long b, long c, long d, long e, long f)
{
    return may_fail(number, b) && failing(&failing_calls) ? -ENOMEM : real_call(number, a, b, c, d, e, f);
}

static struct tl_hwbp_options options;

static int create_one(void)
{
    return tl_hwbp_create(&options, &hwbp, NULL);
}

static int move_it(void)
{
    struct tl_hwbp_options to = options;
    to.address = (void *)(uintptr_t)&words[2];
    to.length = 4;
    return tl_hwbp_modify(hwbp, &to, NULL);
}

static int turn_it(void)
{
    struct tl_hwbp_options to = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    return tl_hwbp_modify(hwbp, &to, NULL);
}

static int add_it(void)
{
    return tl_hwbp_add(hwbp, NULL);
}

static bool hits_are(unsigned first, unsigned second, unsigned executed)
{
    unsigned before = seen.hits;
    kit_store(&words[1], 1, 8);
    bool good = seen.hits == before + first;
    kit_store(&words[2], 1, 4);
    good = good && seen.hits == before + first + second;
    kit_loop(1);
    return good && seen.hits == before + first + second + executed;
}

/* What hits while the attempt has failed, and when it has succeeded. */
struct trial {
    int (*attempt)(void);
    unsigned before[3], after[3];
};

static int child(const struct trial *trial, long *countdown, long turn)
{
    alarm(SECONDS);
    *countdown = turn;
    int code = trial->attempt();
    bool reached = *countdown == 0;
    *countdown = -1;
    bool kept = !code || hits_are(trial->before[0], trial->before[1], trial->before[2]);
    int again = code ? trial->attempt() : 0;
    bool good = hits_are(trial->after[0], trial->after[1], trial->after[2]);
    struct tl_hwbp_counts counts = {.size = sizeof counts};
    good = good && !tl_hwbp_read(hwbp, &counts) && counts.hits == counts.handled && counts.hits == seen.hits;
    good = good && !tl_hwbp_destroy(hwbp) && hits_are(0, 0, 0);
    if (kept && !again && good)
        return reached ? DONE : NOT_REACHED;
    fprintf(stderr, "failed with %d: %s, then %d, %s\n", code, kept ? "kept" : "changed", again, good ? "good" : "bad");
    return WRONG;
}

/* Turn after turn, until the attempt does no more than so many. */
static unsigned each(const struct trial *trial, long *countdown)
{
    for (long turn = 1;; turn++) {
        pid_t pid = fork();
        if (!pid) {
            pthread_t threads[THREADS];
            for (unsigned i = 0; i < THREADS; i++)
                pthread_create(&threads[i], NULL, (void *(*)(void *))(void *)pause, NULL);
            if (trial->attempt != create_one && (create_one() || (trial->attempt == add_it && tl_hwbp_del(hwbp))))
                _exit(WRONG);
            seen.hits = 0;
            _exit(child(trial, countdown, turn));
        }
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED)
            return (unsigned)turn;
        if (status)
            fail_msg("turn %ld: status 0x%x", turn, (unsigned)status);
    }
}

static void creation(void **state)
{
    (void)state;
    static const struct trial trial = {create_one, {0, 0, 0}, {1, 0, 0}};
    assert_true(each(&trial, &failing_allocations) > 3);
    assert_true(each(&trial, &failing_calls) > THREADS);
}

static void addition(void **state)
{
    (void)state;
    static const struct trial trial = {add_it, {0, 0, 0}, {1, 0, 0}};
    assert_true(each(&trial, &failing_allocations) > 1);
    assert_true(each(&trial, &failing_calls) > THREADS);
}

static void modification(void **state)
{
    (void)state;
    static const struct trial moved = {move_it, {1, 0, 0}, {0, 1, 0}}, turned = {turn_it, {1, 0, 0}, {0, 0, 1}};
    assert_true(each(&moved, &failing_calls) > THREADS);
    assert_true(each(&turned, &failing_calls) > THREADS);
    assert_true(each(&turned, &failing_allocations) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(creation), cmocka_unit_test(addition),
                                       cmocka_unit_test(modification)};
    kit_skip_without_events();
    options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    other = kit_create(&options); /* the library is armed */
    real_call = tl_self_call;
    tl_self_call = failing_call;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed || tl_hwbp_destroy(other);
}
