/* SPDX-License-Identifier: MIT
 *
 * Each allocation and each system call of a registration fails once: then nothing has changed, and the same
 * registration succeeds when nothing fails. Each time in a process of its own.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "kit.h"

enum { DONE = 0, WRONG = 1, NOT_REACHED = 2, SECONDS = 20 };

static unsigned hits;

static long (*real_call)(long number, long a, long b, long c, long d, long e, long f);

static long failing_call(long number, long a, long b, long c, long d, long e, long f)
{
    return failing(&failing_calls) ? -ENOMEM : real_call(number, a, b, c, d, e, f);
}

static int on_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static void behind(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
}

static void on_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    (void)regs;
    hits++;
}

enum { PROBES = 5 };
static struct tl_probe probes[PROBES];
static struct tl_return_probe returns;

static int batch(void)
{
    static char *const places[PROBES] = {kit_add_entry, kit_add_body, kit_call_site, kit_branch_site, kit_add_entry};
    struct tl_probe *list[PROBES];
    for (int i = 0; i < PROBES; i++) {
        probes[i] = (struct tl_probe){
            .size = sizeof probes[i], .address = places[i], .flags = i == 3 ? TL_PROBE_INT3 : 0, .pre = on_hit};
        list[i] = &probes[i];
    }
    probes[1].post = behind;
    return tl_probes_register(list, PROBES, NULL, NULL);
}

/* Two probes on one instruction, so that lists and tables grow, and a hook behind it. */
static int pair(void)
{
    struct tl_probe *list[2] = {&probes[0], &probes[1]};
    for (int i = 0; i < 2; i++)
        probes[i] = (struct tl_probe){
            .size = sizeof probes[i], .address = kit_add_body, .pre = on_hit, .post = i ? behind : NULL};
    return tl_probes_register(list, 2, NULL, NULL);
}

static int one_return(void)
{
    returns = (struct tl_return_probe){.size = sizeof returns, .symbol = "kit_add", .handler = on_return};
    return tl_return_probe_register(&returns, NULL);
}

static int one_rewriting(void)
{
    returns = (struct tl_return_probe){
        .size = sizeof returns, .flags = TL_RETURN_REWRITE, .symbol = "kit_add", .handler = on_return};
    return tl_return_probe_register(&returns, NULL);
}

static bool nothing_is_registered(unsigned long text)
{
    bool good = kit_text_sum(kit_add_entry, 128) == text && tl_return_probe_unregister(&returns) == -ENOENT;
    for (int i = 0; i < PROBES; i++)
        good = good && tl_probe_unregister(&probes[i]) == -ENOENT;
    hits = 0;
    good = good && kit_call(3) == 7 && kit_branch(2) == 1;
    return good && hits == 0;
}

static unsigned hits_now(void)
{
    hits = 0;
    return kit_call(3) == 7 && kit_branch(2) == 1 ? hits : 0;
}

static int child(int (*attempt)(void), long *countdown, long turn, unsigned expected)
{
    unsigned long text = kit_text_sum(kit_add_entry, 128);
    alarm(SECONDS);
    *countdown = turn;
    int code = attempt();
    bool reached = *countdown == 0;
    *countdown = -1;
    bool nothing = !code || nothing_is_registered(text);
    int again = code ? attempt() : 0;
    unsigned now = hits_now();
    if (nothing && !again && now == expected)
        return reached ? DONE : NOT_REACHED;
    fprintf(stderr, "failed with %d: %s, then %d, %u hits\n", code, nothing ? "nothing" : "something", again, now);
    return WRONG;
}

/* Turn after turn, until the attempt does no more than so many. */
static unsigned each(int (*attempt)(void), long *countdown, long step, unsigned expected)
{
    for (long turn = 1;; turn += step) {
        pid_t pid = fork();
        if (!pid)
            _exit(child(attempt, countdown, turn, expected));
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED)
            return (unsigned)(turn / step);
        if (status)
            fail_msg("turn %ld: status 0x%x", turn, (unsigned)status);
    }
}

/* The library is new in each child. */
static void first_registration(void **state)
{
    (void)state;
    assert_true(each(pair, &failing_allocations, 311, 2) > 3);
    assert_true(each(batch, &failing_calls, 23, PROBES) > 3);
}

static void later_registrations(void **state)
{
    (void)state;
    struct tl_probe other = {.size = sizeof other, .symbol = "kit_load", .pre = on_hit};
    kit_register(&other);
    assert_true(each(pair, &failing_allocations, 1, 2) > 10);
    assert_true(each(batch, &failing_allocations, 1, PROBES) > 10);
    assert_true(each(batch, &failing_calls, 1, PROBES) > 3);
    assert_true(each(one_return, &failing_allocations, 1, 1) > 10);
    assert_true(each(one_return, &failing_calls, 1, 1) > 3);
    assert_true(each(one_rewriting, &failing_allocations, 1, 1) > 10);
    assert_true(each(one_rewriting, &failing_calls, 1, 1) > 3);
    kit_unregister(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(first_registration), cmocka_unit_test(later_registrations)};
    real_call = tl_self_call;
    tl_self_call = failing_call;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
