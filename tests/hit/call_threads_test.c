/* SPDX-License-Identifier: MIT
 *
 * Lists that are swapped under running threads, and records that threads take, inherit, give back or do not get.
 */
#include "call_world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RETURN_FIRST "\x48\x89\xf8\xc3"
enum { SITES = 8, FIRST = 50, THREADS = 4, HITS = 40000, RECORDS = 8 };

static call_fn *functions[SITES];
static struct tl_probe always[SITES], sometimes[SITES];
static uint64_t hits[SITES], nested;
static atomic_int alive[SITES]; /* how often the changing action is in a list */
static atomic_bool done;

static int count(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    __atomic_fetch_add(&hits[probe - always], 1, __ATOMIC_RELAXED);
    return 0;
}

/* Runs only while it is in force, or until the list it was in is quiet. */
static int check_alive(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    if (!atomic_load(&alive[probe - sometimes]))
        abort();
    return 0;
}

/* This hit is missed. */
static int call_another(struct tl_probe *probe, struct tl_regs *regs)
{
    __atomic_fetch_add(&nested, 1, __ATOMIC_RELAXED);
    functions[(probe - sometimes + 1) % SITES](1, 0);
    return check_alive(probe, regs);
}

static void *hit(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (uint64_t i = 0; i < HITS; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        if (functions[state >> 60 & (SITES - 1)](i, 0) != i)
            abort();
    }
    return NULL;
}

static void *change(void *unused)
{
    uint64_t state = 1;
    while (!atomic_load(&done)) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        int site = (int)(state >> 60 & (SITES - 1)), with = !atomic_load(&alive[site]);
        uint32_t flags = state >> 40 & 3 ? TL_PROBE_GENERAL : 0;
        struct tl_call_action actions[] = {{.kind = TL_CALL_PRE, .flags = flags, .probe = &always[site], .pre = count},
                                           {.kind = TL_CALL_PRE,
                                            .flags = flags,
                                            .probe = &sometimes[site],
                                            .pre = state >> 50 & 1 ? check_alive : call_another}};
        if (with)
            atomic_store(&alive[site], 1);
        call_world_list(FIRST + (uint32_t)site, actions, with ? 2 : 1); /* returns when the old one is quiet */
        if (!with)
            atomic_store(&alive[site], 0);
    }
    return unused;
}

static uint64_t missed(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < SITES; i++)
        sum += tl_call_missed(FIRST + i);
    return sum;
}

static uint64_t all_hits(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < SITES; i++)
        sum += hits[i];
    return sum;
}

static void lists_are_swapped_under_hits(void **unused)
{
    (void)unused;
    pthread_t threads[THREADS], changer;
    uint64_t missed_before = missed();
    for (uint32_t i = 0; i < SITES; i++) {
        struct tl_call_action action = {.kind = TL_CALL_PRE, .probe = &always[i], .pre = count};
        functions[i] = call_world_function(call_world_code(FIRST + i, RETURN_FIRST, 4));
        call_world_list(FIRST + i, &action, 1);
    }
    assert_int_equal(pthread_create(&changer, NULL, change, NULL), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hit, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&done, true);
    pthread_join(changer, NULL);
    assert_int_equal(all_hits(), (uint64_t)THREADS * HITS);
    assert_int_equal(missed() - missed_before, nested);
}

static void *hit_once(void *unused)
{
    functions[0](0, 0);
    return unused;
}

static void *hit_and_leave(void *unused)
{
    functions[0](0, 0);
    tl_call_thread_leave();
    return unused;
}

static void run_threads(void *(*body)(void *), int count_of)
{
    for (int i = 0; i < count_of; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, body, NULL), 0);
        pthread_join(thread, NULL);
    }
}

static bool nobody(uint64_t fs_base)
{
    uint64_t own;
    __asm__("mov %%fs:0, %0" : "=r"(own));
    return fs_base == own;
}

static void records_are_inherited_and_given_back(void **unused)
{
    (void)unused;
    uint64_t before = all_hits();
    functions[0](0, 0);
    tl_call_reclaim(nobody);
    assert_int_equal(tl_call_records_free(), RECORDS - 1);
    run_threads(hit_once, 100); /* the C library hands the same stack on */
    assert_true(tl_call_records_free() >= RECORDS - 3);
    tl_call_reclaim(nobody);
    assert_int_equal(tl_call_records_free(), RECORDS - 1);
    run_threads(hit_and_leave, 20);
    assert_int_equal(tl_call_records_free(), RECORDS - 1);
    assert_int_equal(all_hits() - before, 121);
}

/* Each on a stack of its own, which holds its thread block as well, and which is unmapped afterwards. */
static void records_that_the_dead_have_left_are_found(void **unused)
{
    (void)unused;
    enum { MANY = 3 * RECORDS, SIZE = 1 << 18 };
    uint8_t *stacks = mmap(NULL, (size_t)MANY * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t before = all_hits(), missed_before = tl_call_missed(FIRST);
    assert_true(stacks != MAP_FAILED);
    for (int i = 0; i < MANY; i++) {
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        assert_int_equal(pthread_attr_setstack(&attributes, stacks + (size_t)i * SIZE, SIZE), 0);
        assert_int_equal(pthread_create(&thread, &attributes, hit_once, NULL), 0);
        pthread_join(thread, NULL);
        pthread_attr_destroy(&attributes);
        munmap(stacks + (size_t)i * SIZE, SIZE);
    }
    assert_int_equal(all_hits() - before, MANY);
    assert_int_equal(tl_call_missed(FIRST), missed_before);
    tl_call_reclaim(nobody);
}

static pthread_barrier_t barrier;
static uint64_t heir;

static void *inherit(void *unused)
{
    functions[0](0, 0);
    __asm__("mov %%fs:0, %0" : "=r"(heir));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return unused;
}

static pthread_t heir_thread;

/* Says of a thread that it is dead, which is true; but before anything comes of it, another one takes over. */
static bool while_an_heir_comes(uint64_t fs_base)
{
    if (nobody(fs_base) || heir)
        return true;
    if (pthread_create(&heir_thread, NULL, inherit, NULL))
        abort();
    pthread_barrier_wait(&barrier);
    return false;
}

static void an_heir_is_not_taken_for_the_dead(void **unused)
{
    (void)unused;
    uint64_t before = all_hits();
    functions[0](0, 0);
    tl_call_reclaim(nobody);
    run_threads(hit_once, 1);
    assert_int_equal(tl_call_records_free(), RECORDS - 2);
    pthread_barrier_init(&barrier, NULL, 2);
    tl_call_reclaim(while_an_heir_comes);
    assert_int_equal(tl_call_records_free(), RECORDS - 2); /* its own, or the one that it has inherited */
    pthread_barrier_wait(&barrier);
    pthread_join(heir_thread, NULL);
    pthread_barrier_destroy(&barrier);
    tl_call_reclaim(nobody);
    assert_int_equal(all_hits() - before, 3);
}

static void *hit_together(void *unused)
{
    functions[0](0, 0);
    pthread_barrier_wait(&barrier);
    return unused;
}

static void a_thread_without_a_record_misses(void **unused)
{
    (void)unused;
    enum { MANY = RECORDS + 5 };
    pthread_t threads[MANY];
    uint64_t before = all_hits(), missed_before = tl_call_missed(FIRST);
    pthread_barrier_init(&barrier, NULL, MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hit_together, NULL), 0);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(all_hits() - before, RECORDS - 1); /* this thread has one */
    assert_int_equal(tl_call_missed(FIRST) - missed_before, MANY - (RECORDS - 1));
    tl_call_reclaim(nobody);
}

static void a_fork_child_has_its_own(void **unused)
{
    (void)unused;
    functions[0](0, 0);
    run_threads(hit_once, 1);
    pid_t child = fork();
    if (child == 0) {
        uint64_t before = hits[0];
        tl_call_forked();
        functions[0](0, 0);
        _exit(tl_call_records_free() == RECORDS - 1 && hits[0] == before + 1 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_swapped_under_hits),
        cmocka_unit_test(records_are_inherited_and_given_back),
        cmocka_unit_test(records_that_the_dead_have_left_are_found),
        cmocka_unit_test(an_heir_is_not_taken_for_the_dead),
        cmocka_unit_test(a_thread_without_a_record_misses),
        cmocka_unit_test(a_fork_child_has_its_own),
    };
    call_world_make(RECORDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
