/* SPDX-License-Identifier: MIT
 *
 * The accounting at its edges: bad requests, no memory, modification that fails, an accounting that is in use.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hwbp/slots.h"

static int allocations_left;

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    return allocations_left-- > 0 ? malloc(bytes) : NULL;
}

static void release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static const struct tl_slots_host host = {.allocate = allocate, .release = release};
static const struct tl_slots_machine machine = {.cpus = 8, .slots = {4}, .shared = true};

static struct tl_slots make(void)
{
    struct tl_slots slots;
    allocations_left = 1000;
    assert_int_equal(tl_slots_init(&slots, &machine, &host), 0);
    return slots;
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct tl_slots slots = make();
    const struct tl_slot_request bad[] = {
        {.cpu = TL_ANY_CPU, .weight = 1},   /* neither task nor CPU */
        {.task = 1, .cpu = 8, .weight = 1}, /* no such CPU */
        {.task = 1, .cpu = -2, .weight = 1},
        {.task = 1, .cpu = 0, .weight = 0},
        {.task = 1, .cpu = 0, .weight = 1, .type = TL_SLOT_TYPES},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tl_slots_reserve(&slots, &bad[i]), -EINVAL);
        assert_int_equal(tl_slots_release(&slots, &bad[i]), -EINVAL);
    }
    struct tl_slot_request good = {.task = 1, .cpu = TL_ANY_CPU, .weight = 1}, huge = good;
    huge.weight = 0xffffffffu;
    assert_int_equal(tl_slots_reserve(&slots, &huge), -ENOSPC);
    assert_int_equal(tl_slots_release(&slots, &good), -EINVAL);
    assert_int_equal(tl_slots_modify(&slots, &good, &good), -EINVAL);
    assert_int_equal(tl_slots_left(&slots, &good), 4);
    tl_slots_destroy(&slots);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct tl_slots slots = {0};
    struct tl_slot_request request = {.task = 1, .cpu = TL_ANY_CPU, .weight = 1};
    assert_int_equal(tl_slots_reserve(&slots, &request), -ENOMEM); /* before */
    allocations_left = 0;
    assert_int_equal(tl_slots_init(&slots, &machine, &host), -ENOMEM);
    assert_int_equal(tl_slots_reserve(&slots, &request), -ENOMEM); /* after it went wrong */
    assert_int_equal(tl_slots_release(&slots, &request), -EINVAL);
    tl_slots_destroy(&slots);
    slots = make();
    /* A task's first request that names a CPU needs two pieces of memory: without the second, nothing is left. */
    struct tl_slot_request bound = {.task = 1, .cpu = 3, .weight = 1};
    allocations_left = 1;
    assert_int_equal(tl_slots_reserve(&slots, &bound), -ENOMEM);
    assert_int_equal(tl_slots_left(&slots, &bound), 4);
    /* Exchanging for it fails as well, and the old one is still held. */
    allocations_left = 1000;
    assert_int_equal(tl_slots_reserve(&slots, &request), 0);
    allocations_left = 0;
    assert_int_equal(tl_slots_modify(&slots, &request, &bound), -ENOMEM);
    assert_int_equal(tl_slots_left(&slots, &request), 3);
    assert_int_equal(tl_slots_release(&slots, &request), 0);
    tl_slots_destroy(&slots);
}

static void test_a_failed_change_keeps_the_old_slot(void **state)
{
    (void)state;
    struct tl_slots slots = make();
    struct tl_slot_request small = {.task = 1, .cpu = TL_ANY_CPU, .weight = 2}, large = small;
    struct tl_slot_request pinned = {.cpu = 5, .weight = 2};
    large.weight = 3;
    assert_int_equal(tl_slots_reserve(&slots, &small), 0);
    assert_int_equal(tl_slots_reserve(&slots, &pinned), 0);
    assert_int_equal(tl_slots_modify(&slots, &small, &large), -ENOSPC);
    assert_int_equal(tl_slots_left(&slots, &small), 0);
    assert_int_equal(tl_slots_release(&slots, &pinned), 0);
    assert_int_equal(tl_slots_modify(&slots, &small, &large), 0);
    assert_int_equal(tl_slots_left(&slots, &small), 1);
    tl_slots_destroy(&slots);
}

static void test_flexible_ones_keep_a_slot(void **state)
{
    (void)state;
    struct tl_slots slots = make();
    struct tl_slot_request flexible = {.task = 1, .cpu = TL_ANY_CPU, .weight = 1, .flexible = true};
    struct tl_slot_request pinned = {.task = 1, .cpu = TL_ANY_CPU, .weight = 1};
    for (int i = 0; i < 20; i++) /* as many as one likes */
        assert_int_equal(tl_slots_reserve(&slots, &flexible), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(tl_slots_reserve(&slots, &pinned), 0);
    assert_int_equal(tl_slots_reserve(&slots, &pinned), -ENOSPC);
    for (int i = 0; i < 20; i++)
        assert_int_equal(tl_slots_release(&slots, &flexible), 0);
    assert_int_equal(tl_slots_reserve(&slots, &pinned), 0);
    assert_int_equal(tl_slots_reserve(&slots, &flexible), -ENOSPC);
    tl_slots_destroy(&slots);
}

/* Where to go from inside the accounting, with its locks held. */
static struct tl_slots in_use;
static int seen_inside = 1;

static void *allocate_and_look(void *context, size_t bytes)
{
    (void)context;
    if (in_use.state && seen_inside == 1) {
        struct tl_slot_request other = {.cpu = 0, .weight = 1, .no_wait = true};
        seen_inside = tl_slots_reserve(&in_use, &other);
    }
    return malloc(bytes);
}

static void test_without_waiting(void **state)
{
    (void)state;
    const struct tl_slots_host looking = {.allocate = allocate_and_look, .release = release};
    assert_int_equal(tl_slots_init(&in_use, &machine, &looking), 0);
    struct tl_slot_request request = {.task = 1, .cpu = TL_ANY_CPU, .weight = 1};
    assert_int_equal(tl_slots_reserve(&in_use, &request), 0);
    assert_int_equal(seen_inside, -EBUSY);
    tl_slots_destroy(&in_use);
}

enum { THREADS = 4, ROUNDS = 20000 };
static struct tl_slots crowded;

static void *reserve_and_release(void *number)
{
    uint64_t self = (uint64_t)(uintptr_t)number;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct tl_slot_request request = {.task = 1 + self * ROUNDS + i % 50, .cpu = TL_ANY_CPU, .weight = 1};
        struct tl_slot_request second = request;
        if (i % 16 == 0)
            second.cpu = (int)(i % 8);
        if (tl_slots_reserve(&crowded, &request) || tl_slots_reserve(&crowded, &second) ||
            tl_slots_release(&crowded, &request) || tl_slots_release(&crowded, &second))
            return NULL;
    }
    return number;
}

static void test_many_threads(void **state)
{
    (void)state;
    allocations_left = 1 << 30;
    assert_int_equal(tl_slots_init(&crowded, &machine, &host), 0);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reserve_and_release, (void *)(i + 1)), 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, i + 1);
    }
    for (int c = 0; c < 8; c++) {
        struct tl_slot_request all = {.cpu = c, .weight = 4};
        assert_int_equal(tl_slots_reserve(&crowded, &all), 0);
    }
    tl_slots_destroy(&crowded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_a_failed_change_keeps_the_old_slot),
        cmocka_unit_test(test_flexible_ones_keep_a_slot),
        cmocka_unit_test(test_without_waiting),
        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
