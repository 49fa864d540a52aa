/* SPDX-License-Identifier: MIT
 *
 * Watching memory of another process, by both mechanisms: exact counts, threads that come, turns, too little room, and
 * leaving in the middle of a storm. Each case has a process of its own, that events may be forbidden there.
 */
#include "watched.h"

#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint64_t endless = UINT64_MAX;
static bool by_registers;

static void start(struct target *t, const char *threads, const char *how)
{
    target_start(t, ARGV(program("storm"), threads, how));
    target_baseline(t);
    if (by_registers)
        forbid_events();
}

static void storm(struct target *t, uint64_t goal, unsigned threads)
{
    t->progress->goal = goal;
    for (unsigned i = 0; i < threads; i++)
        eventually(t->progress->loops[i] >= (goal == endless ? 3 : goal));
}

static void finish(struct target *t)
{
    assert_as_before(t);
    assert_int_equal(t->progress->errors, 0);
    target_end(t);
}

static void begin(struct watched *w, bool multiplex)
{
    if (watched_begin(w, multiplex))
        fail_msg("begin: %s", w->error.text);
    struct tl_watching_facts facts;
    tl_watching_facts(w->watching, &facts);
    assert_string_equal(facts.mechanism, by_registers ? "debug register" : "perf event");
}

/* The thread that wrote may still be on its way to the broker. */
static void expect_count(struct watched *w, uint32_t spot, uint64_t accesses, bool each_has_a_signal)
{
    struct tl_watching_count count;
    for (int turns = 0; turns < 60000; turns++, tl_nap(1000)) {
        tl_watching_count(w->watching, spot, &count);
        if (count.accesses == accesses && (!each_has_a_signal || count.signals == accesses))
            break;
    }
    assert_int_equal(count.accesses, accesses);
    if (each_has_a_signal)
        assert_int_equal(count.signals, accesses);
    assert_int_equal(count.counted, !by_registers);
    assert_true(count.armed > 0.999);
}

static void counts(const char *how)
{
    enum { TIMES = 300, THREADS = 4 };
    struct target t;
    struct watched w;
    start(&t, "4", how);
    watched_arm(&w, &t);
    uint32_t of_all = watched_add(&w, &t, CELL_OF_ALL, TL_SPOT_WRITES);
    begin(&w, false);
    storm(&t, TIMES, THREADS);
    expect_count(&w, of_all, TIMES * THREADS, true);
    watched_end(&w);
    expect_count(&w, of_all, TIMES * THREADS, true);
    assert_int_equal(w.table->spots[of_all].shadow, cell_of(&w, &t, CELL_OF_ALL));
    storm(&t, 2 * TIMES, THREADS); /* nobody looks any more */
    expect_count(&w, of_all, TIMES * THREADS, true);
    watched_leave(&w);
    finish(&t);
}

static void counts_are_exact(void)
{
    counts(NULL);
}

static void counts_are_exact_where_signals_are_blocked(void)
{
    counts("blocked");
}

static void reads_count_too_and_ours_do_not(void)
{
    struct target t;
    struct watched w;
    start(&t, "1", NULL);
    watched_arm(&w, &t);
    uint32_t one = watched_add(&w, &t, 0, TL_SPOT_READS | TL_SPOT_WRITES);
    begin(&w, false);
    storm(&t, 200, 1);
    struct tl_watching_count count;
    watched_end(&w);
    tl_watching_count(w.watching, one, &count);
    assert_true(count.accesses == 200 || count.accesses == 400); /* as the compiler has it: one instruction, or two */
    assert_int_equal(w.table->spots[one].own, 0);
    watched_leave(&w);
    finish(&t);
}

static void four_spots_are_told_apart(void)
{
    struct target t;
    struct watched w;
    start(&t, "4", NULL);
    watched_arm(&w, &t);
    for (unsigned i = 0; i < 4; i++)
        watched_add(&w, &t, i, TL_SPOT_WRITES);
    begin(&w, false);
    storm(&t, 100, 4);
    watched_end(&w);
    for (unsigned i = 0; i < 4; i++) {
        if (!by_registers)
            expect_count(&w, i, 100, true);
        eventually(w.table->spots[i].shadow == 100);
    }
    watched_leave(&w);
    finish(&t);
}

/* Events are inherited. Registers are not: who comes is found by looking. */
static void threads_that_come_are_watched(void)
{
    struct target t;
    struct watched w;
    struct tl_watching_facts facts;
    start(&t, "1", "brief");
    watched_arm(&w, &t);
    uint32_t one = watched_add(&w, &t, 0, TL_SPOT_WRITES);
    begin(&w, false);
    if (by_registers) {
        t.progress->goal = endless;
        do {
            tl_watching_turn(w.watching);
            tl_watching_facts(w.watching, &facts);
        } while (facts.late == 0);
    } else {
        storm(&t, 200, 1);
        watched_end(&w);
        expect_count(&w, one, 200, true);
    }
    t.progress->goal = 0;
    watched_leave(&w);
    assert_int_equal(t.progress->errors, 0);
    target_end(&t);
}

static void turns_are_taken(void)
{
    enum { SPOTS = 7 };
    struct target t;
    struct watched w;
    struct tl_watching_facts facts;
    start(&t, "8", NULL);
    watched_arm(&w, &t);
    for (unsigned i = 0; i < SPOTS; i++)
        watched_add(&w, &t, i, TL_SPOT_WRITES);
    begin(&w, true);
    t.progress->goal = endless;
    for (unsigned i = 0; i < SPOTS; i++) {
        eventually((tl_watching_turn(w.watching), w.table->spots[i].reports >= 2));
    }
    watched_end(&w);
    double sum = 0;
    for (uint32_t i = 0; i < SPOTS; i++) {
        struct tl_watching_count count;
        tl_watching_count(w.watching, i, &count);
        assert_true(count.armed > 0 && count.armed <= 1);
        assert_true(by_registers || count.accesses >= count.signals);
        sum += count.armed;
    }
    assert_true(sum > 0 && sum <= 4.001);
    tl_watching_facts(w.watching, &facts);
    assert_true(facts.multiplexed);
    assert_in_range(facts.registers, 1, 4); /* others on this machine may have some */
    watched_leave(&w);
    finish(&t);
}

static void too_many_are_told(void)
{
    struct target t;
    struct watched w;
    start(&t, "3", NULL);
    watched_arm(&w, &t);
    for (unsigned i = 0; i < 6; i++)
        watched_add(&w, &t, i, TL_SPOT_WRITES);
    assert_int_equal(watched_begin(&w, false), -ENOSPC);
    assert_int_equal(w.room.needed, 6);
    assert_int_equal(w.room.free, 4);
    storm(&t, 50, 3);
    watched_leave(&w);
    finish(&t);
}

static int hold_register(pid_t tid, uint64_t addr)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_BREAKPOINT,
                                   .size = sizeof attr,
                                   .bp_type = TL_SPOT_WRITES,
                                   .bp_addr = addr,
                                   .bp_len = 8,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, 0);
}

static void registers_of_others_are_told(void)
{
    struct target t;
    struct watched w;
    start(&t, "2", NULL);
    watched_arm(&w, &t);
    int others[3];
    for (unsigned i = 0; i < 3; i++)
        assert_true((others[i] = hold_register(t.pid, t.progress->value)) >= 0);
    watched_add(&w, &t, 0, TL_SPOT_WRITES);
    watched_add(&w, &t, 1, TL_SPOT_WRITES);
    assert_int_equal(watched_begin(&w, false), -ENOSPC);
    assert_int_equal(w.room.free, 1);
    assert_int_equal(w.room.by_others, 3);
    assert_int_equal(w.room.by_ptrace, 0);
    assert_int_equal(w.room.tid, t.pid);
    begin(&w, true); /* one is left to take turns on */
    t.progress->goal = endless;
    eventually((tl_watching_turn(w.watching), w.table->spots[0].reports > 0 && w.table->spots[1].reports > 0));
    watched_end(&w);
    assert_true((others[0] = hold_register(t.pid, t.progress->value)) >= 0); /* ours is given back */
    watched_leave(&w);
    finish(&t);
}

static void what_is_not_mapped_is_refused(void)
{
    struct target t;
    struct watched w;
    start(&t, "1", NULL);
    watched_arm(&w, &t);
    w.table->spots[watched_add(&w, &t, 0, TL_SPOT_WRITES)].addr = 0x10000;
    assert_int_equal(watched_begin(&w, false), -EFAULT);
    watched_leave(&w);
    finish(&t);
}

/* The table can be written by the program. */
static void what_makes_no_sense_is_refused(void)
{
    static const struct {
        uint32_t count;
        uint64_t offset;
        uint8_t length, access;
    } bad[] = {{TL_WATCH_SPOTS + 1, 0, 8, TL_SPOT_WRITES},
               {UINT32_MAX, 0, 8, TL_SPOT_WRITES},
               {1, 1, 8, TL_SPOT_WRITES},
               {1, 0, 255, TL_SPOT_WRITES},
               {1, 0, 0, TL_SPOT_WRITES},
               {1, 0, 8, TL_SPOT_READS},
               {1, 0, 8, 0},
               {1, 0, 8, 255},
               {1, UINT64_MAX / 2, 8, TL_SPOT_WRITES}};
    struct target t;
    struct watched w;
    start(&t, "1", NULL);
    watched_arm(&w, &t);
    struct tl_watch_spot *spot = &w.table->spots[watched_add(&w, &t, 0, TL_SPOT_WRITES)];
    uint64_t addr = spot->addr;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        w.table->count = bad[i].count;
        spot->addr = addr + bad[i].offset;
        spot->length = bad[i].length;
        spot->access = bad[i].access;
        assert_int_equal(watched_begin(&w, false), -EINVAL);
        assert_null(w.watching);
    }
    w.table->count = 0; /* nothing at all is no nonsense: a program may have none of the variables */
    assert_int_equal(watched_begin(&w, false), 0);
    assert_int_equal(tl_watching_turn(w.watching) > 0, 1);
    watched_leave(&w);
    finish(&t);
}

static void too_few_descriptors_are_told(void)
{
    struct target t;
    struct watched w;
    start(&t, "200", NULL);
    watched_arm(&w, &t);
    watched_add(&w, &t, 0, TL_SPOT_WRITES);
    forbid_descriptors(64);
    assert_int_equal(watched_begin(&w, false), -EMFILE);
    assert_non_null(strstr(w.error.text, "201 threads"));
    storm(&t, 20, PROGRESS_THREADS);
    watched_leave(&w);
    finish(&t);
}

/* Coming and going, with eight threads that hit all the time: no SIGTRAP is ever the program's. */
static void leaving_a_storm(void)
{
    enum { TIMES = 5 };
    struct target t;
    struct watched w;
    start(&t, "8", NULL);
    storm(&t, endless, 8);
    for (unsigned i = 0; i < TIMES; i++) {
        watched_arm(&w, &t);
        watched_add(&w, &t, CELL_OF_ALL, TL_SPOT_WRITES);
        watched_add(&w, &t, i % 8, TL_SPOT_WRITES | TL_SPOT_READS);
        begin(&w, false);
        eventually(w.table->spots[0].reports + w.table->spots[1].reports > i);
        watched_leave(&w);
        assert_int_equal(t.progress->errors, 0);
    }
    assert_goes_on(&t);
    finish(&t);
}

static void a_thousand_threads(void)
{
    struct target t;
    struct watched w;
    start(&t, "1000", NULL);
    watched_arm(&w, &t);
    for (unsigned i = 0; i < 4; i++)
        watched_add(&w, &t, i, TL_SPOT_WRITES);
    uint64_t began = tl_now();
    begin(&w, false);
    print_message("             four watches in a thousand threads: %.0f ms\n", (double)(tl_now() - began) / 1e6);
    storm(&t, 20, 4);
    watched_end(&w);
    for (unsigned i = 0; i < 4 && !by_registers; i++)
        expect_count(&w, i, 20, true);
    watched_leave(&w);
    finish(&t);
}

/* ---- */

static void in_a_process(void (*work)(void), bool registers)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* what fails here must not go on as the test's runner */
        by_registers = registers;
        work();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail_msg("%s: status 0x%x", registers ? "by registers" : "by events", status);
}

#define CASE(name)                                                                                                     \
    static void name##_by_both(void **state)                                                                           \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        in_a_process(name, false);                                                                                     \
        in_a_process(name, true);                                                                                      \
    }
CASE(counts_are_exact)
CASE(counts_are_exact_where_signals_are_blocked)
CASE(reads_count_too_and_ours_do_not)
CASE(four_spots_are_told_apart)
CASE(threads_that_come_are_watched)
CASE(turns_are_taken)
CASE(too_many_are_told)
CASE(what_is_not_mapped_is_refused)
CASE(what_makes_no_sense_is_refused)
CASE(leaving_a_storm)
CASE(a_thousand_threads)

static void registers_of_others(void **state)
{
    (void)state;
    in_a_process(registers_of_others_are_told, false);
}

static void too_few_descriptors(void **state)
{
    (void)state;
    in_a_process(too_few_descriptors_are_told, false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_exact_by_both),
        cmocka_unit_test(counts_are_exact_where_signals_are_blocked_by_both),
        cmocka_unit_test(reads_count_too_and_ours_do_not_by_both),
        cmocka_unit_test(four_spots_are_told_apart_by_both),
        cmocka_unit_test(threads_that_come_are_watched_by_both),
        cmocka_unit_test(turns_are_taken_by_both),
        cmocka_unit_test(too_many_are_told_by_both),
        cmocka_unit_test(registers_of_others),
        cmocka_unit_test(what_is_not_mapped_is_refused_by_both),
        cmocka_unit_test(what_makes_no_sense_is_refused_by_both),
        cmocka_unit_test(too_few_descriptors),
        cmocka_unit_test(leaving_a_storm_by_both),
        cmocka_unit_test(a_thousand_threads_by_both),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
