/* SPDX-License-Identifier: MIT
 *
 * Four threads call 64 functions while two others register, disable, enable and unregister probes on these functions at
 * random.
 *
 * What is exact. One probe on each function, with a post handler on odd ones, stays all the time: calls are hits or
 * missed, each once. Of the probes that come and go, a hit may come at any time that they are registered; but the
 * threads that churn call the functions too, and hits of their own calls are exact: none while a probe of theirs is out
 * or disabled, each while it is in.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "many.h"

enum { CALLERS = 4, CHURNERS = 2, FUNCTIONS = 64, ROUNDS = 300, OWN_CALLS = 3 };

static uint64_t flags;
static atomic_ulong calls[FUNCTIONS];
static atomic_ulong hits[FUNCTIONS], posts[FUNCTIONS];
static atomic_bool stop;
static atomic_int failures;
static struct tl_probe steady[FUNCTIONS];

static int on_steady(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    atomic_fetch_add(&hits[probe - steady], 1);
    return 0;
}

static void behind_steady(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    atomic_fetch_add(&posts[probe - steady], 1);
}

static void call(unsigned i, unsigned long n)
{
    atomic_fetch_add(&calls[i], 1);
    if (many[i](n) != n * (i % 97 + 3) + i)
        atomic_fetch_add(&failures, 1);
}

static void *caller(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (!atomic_load(&stop))
        call((unsigned)rand_r(&seed) % FUNCTIONS, (unsigned long)seed);
    return NULL;
}

static __thread unsigned long own_hits;
static int on_churned(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    if (pthread_equal(*(pthread_t *)probe->context, pthread_self()))
        own_hits++;
    return 0;
}

static void behind_churned(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
}

static void expect(bool condition)
{
    if (!condition)
        atomic_fetch_add(&failures, 1);
}

/* So many of my own calls are seen, or missed because a handler of the caller's… own thread ran: never, here. */
static void own_calls(unsigned i, unsigned long expected)
{
    own_hits = 0;
    for (int k = 0; k < OWN_CALLS; k++)
        call(i, 7);
    expect(own_hits == expected);
}

static void *churner(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument + 1000;
    pthread_t self = pthread_self();
    for (int round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)rand_r(&seed) % FUNCTIONS;
        bool off = rand_r(&seed) % 4 == 0;
        struct tl_probe probe = {.size = sizeof probe,
                                 .flags = flags | (off ? TL_PROBE_DISABLED : 0),
                                 .address = (void *)(uintptr_t)many[i],
                                 .pre = on_churned,
                                 .post = rand_r(&seed) % 3 ? NULL : behind_churned, /* may need another trampoline */
                                 .context = &self};
        expect(tl_probe_register(&probe, NULL) == 0);
        own_calls(i, off ? 0 : OWN_CALLS);
        for (int turn = rand_r(&seed) % 3; turn > 0; turn--) {
            expect(tl_probe_disable(&probe) == 0);
            own_calls(i, 0);
            expect(tl_probe_enable(&probe) == 0);
            own_calls(i, OWN_CALLS);
        }
        expect(tl_probe_unregister(&probe) == 0);
        own_calls(i, 0);
    }
    return NULL;
}

static void *forker(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (!child) { /* it keeps its probes, and may go on as it likes */
            int before = atomic_load(&failures);
            unsigned long seen = atomic_load(&hits[i]);
            call((unsigned)i, 9);
            expect(atomic_load(&hits[i]) == seen + 1);
            churner((void *)(uintptr_t)(i % 3 == 0 ? 1 : 2));
            _exit(atomic_load(&failures) != before);
        }
        int status = -1;
        expect(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
    return NULL;
}

static void run(bool forks)
{
    pthread_t callers[CALLERS], churners[CHURNERS], fork_thread;
    struct tl_probe *list[FUNCTIONS];
    atomic_store(&stop, false);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        calls[i] = hits[i] = posts[i] = 0;
        steady[i] = (struct tl_probe){.size = sizeof steady[i],
                                      .flags = flags,
                                      .address = (void *)(uintptr_t)many[i],
                                      .pre = on_steady,
                                      .post = i % 2 ? behind_steady : NULL};
        list[i] = &steady[i];
    }
    struct tl_error error = {.text = ""};
    size_t failed;
    if (tl_probes_register(list, FUNCTIONS, &failed, &error))
        fail_msg("%zu: %s", failed, error.text);
    for (uintptr_t i = 0; i < CALLERS; i++)
        pthread_create(&callers[i], NULL, caller, (void *)(i + 1));
    for (uintptr_t i = 0; i < CHURNERS; i++)
        pthread_create(&churners[i], NULL, churner, (void *)(i + 1));
    if (forks) {
        pthread_create(&fork_thread, NULL, forker, NULL);
        pthread_join(fork_thread, NULL);
    }
    for (int i = 0; i < CHURNERS; i++)
        pthread_join(churners[i], NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    assert_int_equal(atomic_load(&failures), 0);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        assert_int_equal(atomic_load(&hits[i]) + kit_missed(&steady[i]), atomic_load(&calls[i]));
        assert_int_equal(atomic_load(&posts[i]), i % 2 ? atomic_load(&hits[i]) : 0);
    }
    assert_int_equal(tl_probes_unregister(list, FUNCTIONS, &failed), 0);
}

static void threads_and_churn(void **state)
{
    flags = *(const uint64_t *)*state;
    run(false);
}

static void threads_churn_and_fork(void **state)
{
    flags = *(const uint64_t *)*state;
    run(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {BOTH_WAYS(threads_and_churn), BOTH_WAYS(threads_churn_and_fork)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
