/* SPDX-License-Identifier: MIT
 *
 * Hardware breakpoints in programs with threads: who is watched, and that no hit is lost or told twice.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "hwbp_kit.h"

enum { THREADS = 4, WRITES = 500, LITTER = 10 };

static _Alignas(64) volatile uint32_t words[32];
static pthread_barrier_t barrier, gate;
static atomic_uint told[32], wrong;
static int tids[THREADS];

static int begin(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 32; i++)
        words[i] = 0, told[i] = 0;
    wrong = 0;
    return 0;
}

/* The context is the word's number. */
static void tally(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    (void)hwbp;
    (void)regs;
    uintptr_t word = (uintptr_t)hit->context;
    told[word]++;
    wrong += hit->address != (uintptr_t)&words[word] || hit->tid != (int)gettid();
}

static struct tl_hwbp_options watch_word(uintptr_t word, uint32_t access)
{
    struct tl_hwbp_options options = kit_watch(&words[word], 4, access, NULL);
    options.handler = tally;
    options.context = (void *)word;
    return options;
}

static void expect_told(const struct tl_hwbp *hwbp, unsigned word, unsigned count)
{
    kit_expect(hwbp, count, count, 0);
    assert_int_equal(told[word], count);
    assert_int_equal(wrong, 0);
}

static void *write_word(void *word)
{
    for (unsigned i = 1; i <= WRITES; i++)
        kit_store(&words[(uintptr_t)word], i, 4);
    return NULL;
}

static void *write_when_told(void *word)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return write_word(word);
}

static void *write_in_a_new_thread(void *word)
{
    pthread_t thread;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    assert_int_equal(pthread_create(&thread, NULL, write_word, word), 0);
    write_word(word);
    pthread_join(thread, NULL);
    return NULL;
}

static void start(pthread_t *threads, void *(*function)(void *), uintptr_t word)
{
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, function, (void *)word), 0);
    pthread_barrier_wait(&barrier);
}

static void finish(const pthread_t *threads)
{
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void threads_that_are_there_are_watched(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct tl_hwbp_options options = watch_word(3, TL_HWBP_WRITE);
    start(threads, write_when_told, 3);
    struct tl_hwbp *hwbp = kit_create(&options);
    pthread_barrier_wait(&barrier);
    finish(threads);
    expect_told(hwbp, 3, THREADS * WRITES);
    kit_destroy(hwbp);
}

static void threads_to_come_are_watched(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct tl_hwbp_options options = watch_word(3, TL_HWBP_WRITE);
    struct tl_hwbp *hwbp = kit_create(&options);
    start(threads, write_in_a_new_thread, 3);
    pthread_barrier_wait(&barrier);
    finish(threads);
    expect_told(hwbp, 3, 2 * THREADS * WRITES);
    kit_destroy(hwbp);
}

static void children_of_threads_that_were_there_are_watched(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct tl_hwbp_options options = watch_word(3, TL_HWBP_WRITE);
    start(threads, write_in_a_new_thread, 3);
    struct tl_hwbp *hwbp = kit_create(&options);
    pthread_barrier_wait(&barrier);
    finish(threads);
    expect_told(hwbp, 3, 2 * THREADS * WRITES);
    kit_destroy(hwbp);
}

static void *write_when_the_gate_opens(void *unused)
{
    pthread_barrier_wait(&gate);
    kit_store(&words[9], 1, 4);
    return unused;
}

static void *beget(void *threads)
{
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < LITTER; i++)
        assert_int_equal(pthread_create((pthread_t *)threads + i, NULL, write_when_the_gate_opens, NULL), 0);
    return NULL;
}

/* Threads are created while events are opened: each is watched, and no one twice. */
static void nobody_is_missed_and_nobody_watched_twice(void **state)
{
    (void)state;
    for (unsigned turn = 0; turn < 40; turn++) {
        static pthread_t begetters[THREADS], litters[THREADS][LITTER];
        struct tl_hwbp_options options = watch_word(9, TL_HWBP_WRITE);
        pthread_barrier_init(&barrier, NULL, THREADS + 1);
        pthread_barrier_init(&gate, NULL, THREADS * LITTER + 1);
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&begetters[i], NULL, beget, litters[i]), 0);
        pthread_barrier_wait(&barrier);
        struct tl_hwbp *hwbp = kit_create(&options);
        finish(begetters);
        pthread_barrier_wait(&gate);
        for (unsigned i = 0; i < THREADS * LITTER; i++)
            pthread_join(litters[i / LITTER][i % LITTER], NULL);
        expect_told(hwbp, 9, THREADS * LITTER);
        told[9] = 0;
        kit_destroy(hwbp);
    }
}

static void *note_and_write(void *number)
{
    tids[(uintptr_t)number] = (int)gettid();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return write_word((void *)3);
}

static void one_thread_only(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, note_and_write, (void *)i), 0);
    pthread_barrier_wait(&barrier);
    struct tl_hwbp_options options = watch_word(3, TL_HWBP_WRITE);
    options.scope = TL_HWBP_THREAD;
    options.tid = tids[2];
    struct tl_hwbp *hwbp = kit_create(&options);
    pthread_barrier_wait(&barrier);
    finish(threads);
    write_word((void *)3);
    expect_told(hwbp, 3, WRITES);
    struct tl_error error;
    struct tl_hwbp *gone;
    assert_int_equal(tl_hwbp_create(&options, &gone, &error), -ESRCH);
    assert_int_equal(tl_hwbp_del(hwbp), 0);
    assert_int_equal(tl_hwbp_add(hwbp, &error), -ESRCH);
    assert_int_equal(kit_counts(hwbp).hits, WRITES);
    kit_destroy(hwbp);
}

static void *write_both(void *unused)
{
    for (unsigned i = 1; i <= WRITES; i++) {
        kit_store(&words[5], i, 4);
        kit_store(&words[6], i, 4);
    }
    return unused;
}

/* While threads write to two words, the breakpoint goes from one to the other and back: each hit is of one of them, and
 * each is told, or counted as missed. */
static void modify_under_running_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct tl_hwbp_options one = watch_word(5, TL_HWBP_WRITE), other = one;
    other.address = (void *)(uintptr_t)&words[6];
    one.handler = other.handler = kit_note;
    struct seen seen = {0};
    one.context = other.context = &seen;
    struct tl_hwbp *hwbp = kit_create(&one);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_both, NULL), 0);
    for (unsigned turn = 0; turn < 400; turn++) {
        struct tl_error error = {.text = ""};
        if (tl_hwbp_modify(hwbp, turn & 1 ? &one : &other, &error))
            fail_msg("modify: %s", error.text);
    }
    finish(threads);
    struct tl_hwbp_counts before = kit_counts(hwbp);
    assert_int_equal(before.hits, before.handled + before.missed);
    assert_true(before.hits > 0 && before.hits <= 2 * THREADS * WRITES);
    write_both(NULL); /* it is at words[5] */
    struct tl_hwbp_counts after = kit_counts(hwbp);
    assert_int_equal(after.hits, before.hits + WRITES);
    assert_int_equal(after.handled, before.handled + WRITES);
    assert_int_equal(seen.hit.address, (uintptr_t)&words[5]);
    assert_int_equal(seen.hit.before, WRITES - 1);
    assert_int_equal(seen.hit.now, WRITES);
    kit_destroy(hwbp);
}

static void *write_own_word(void *word)
{
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < WRITES; i++)
        kit_store(&words[(uintptr_t)word], i / 2, 4); /* every other store changes nothing */
    return NULL;
}

static void own_word(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    tally(hwbp, regs, hit);
    wrong += regs->rdi != hit->address;
}

/* Words side by side, each written by a thread of its own: a change of the neighbour's is not taken for one's own. */
static void neighbours_are_not_mixed_up(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct tl_hwbp *hwbps[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        struct tl_hwbp_options options = watch_word(i, TL_HWBP_WRITE);
        options.handler = own_word;
        hwbps[i] = kit_create(&options);
    }
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_own_word, (void *)i), 0);
    finish(threads);
    for (unsigned i = 0; i < THREADS; i++) {
        expect_told(hwbps[i], i, WRITES);
        kit_destroy(hwbps[i]);
    }
}

/* One instruction that hits several: one signal comes. */
static void all_that_one_instruction_hits_are_told(void **state)
{
    (void)state;
    struct tl_hwbp_options options[4] = {watch_word(4, TL_HWBP_WRITE), watch_word(5, TL_HWBP_READ | TL_HWBP_WRITE),
                                         watch_word(8, TL_HWBP_WRITE), watch_word(4, TL_HWBP_WRITE)};
    struct tl_hwbp *hwbps[4];
    for (unsigned i = 0; i < 4; i++)
        hwbps[i] = kit_create(&options[i]);
    for (unsigned turn = 1; turn <= 2; turn++) { /* the second time nothing changes */
        kit_store(&words[4], 0x100000001, 8);
        kit_expect(hwbps[0], turn, turn, 0);
        kit_expect(hwbps[1], turn, turn, 0);
        kit_expect(hwbps[2], 0, 0, 0);
        kit_expect(hwbps[3], turn, turn, 0);
    }
    kit_copy8(&words[8], &words[5]); /* reads one, writes another */
    kit_expect(hwbps[0], 2, 2, 0);
    kit_expect(hwbps[1], 3, 3, 0);
    kit_expect(hwbps[2], 1, 1, 0);
    kit_store16(&words[4]);
    kit_fill(&words[4], 0, 8);
    kit_expect(hwbps[0], 7, 7, 0);
    kit_expect(hwbps[1], 8, 8, 0);
    kit_expect(hwbps[3], 7, 7, 0);
    assert_int_equal(wrong, 0);
    for (unsigned i = 0; i < 4; i++)
        kit_destroy(hwbps[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(threads_that_are_there_are_watched, begin),
        cmocka_unit_test_setup(threads_to_come_are_watched, begin),
        cmocka_unit_test_setup(children_of_threads_that_were_there_are_watched, begin),
        cmocka_unit_test_setup(nobody_is_missed_and_nobody_watched_twice, begin),
        cmocka_unit_test_setup(one_thread_only, begin),
        cmocka_unit_test_setup(modify_under_running_threads, begin),
        cmocka_unit_test_setup(neighbours_are_not_mixed_up, begin),
        cmocka_unit_test_setup(all_that_one_instruction_hits_are_told, begin),
    };
    kit_skip_without_events();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
