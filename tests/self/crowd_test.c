/* SPDX-License-Identifier: MIT
 *
 * The first arming in a process that runs many threads already, and has mapped what the jumps on the C library's system
 * calls could come down on: guards go to the instruction in front, and see what they have to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kit.h"
#include "probe/guards.h"

enum { THREADS = 32, STACK_BYTES = 64 << 10 };
static const uint64_t page_bytes = 4096;

static bool ends;
static uint64_t wrong, calls[THREADS];

static void *change_masks(void *argument)
{
    uint64_t *count = argument;
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    while (!__atomic_load_n(&ends, __ATOMIC_RELAXED)) {
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        bool bad = subject_at(2)() != 2;
        pthread_sigmask(SIG_UNBLOCK, &set, &now);
        bad |= !sigismember(&now, SIGTRAP) || subject_at(3)() != 3;
        __atomic_add_fetch(&wrong, bad, __ATOMIC_RELAXED);
        __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
        sched_yield();
    }
    return NULL;
}

static void let_them_call(void)
{
    uint64_t before[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        before[i] = __atomic_load_n(&calls[i], __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++) {
        while (__atomic_load_n(&calls[i], __ATOMIC_RELAXED) < before[i] + 3)
            sched_yield();
    }
}

static int read_text(void *self, uint64_t addr, void *bytes, size_t size)
{
    return tl_self_read(self, addr, bytes, size);
}

static void occupy(uint64_t start, uint64_t end)
{
    for (uint64_t at = start & -page_bytes; at < end; at += page_bytes)
        mmap((void *)at, page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

/* Nothing is free any more that a jump on the system call could come down on: e9 xx and the three bytes behind, or a
 * prefix, e9 and four. */
static void crowd(const struct tl_site *call)
{
    int32_t rel;
    memcpy(&rel, call->text + 1, sizeof rel);
    uint64_t to = call->addr + 5 + (uint64_t)(int64_t)(rel & ~0xff);
    occupy(to, to + 256 + 16);
    memcpy(&rel, call->text + 2, sizeof rel);
    to = call->addr + 6 + (uint64_t)(int64_t)rel;
    occupy(to, to + 16);
}

/* How many guards have to go elsewhere. */
static size_t crowd_out(struct kit *kit)
{
    struct tl_guards guards = {0};
    assert_int_equal(tl_guards_find(&kit->modules, read_text, kit->self, &guards), 0);
    size_t count = guards.lead_count;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < guards.count; k++) {
            if (guards.sites[k].addr == guards.leads[i].addr + guards.leads[i].guard_at)
                crowd(&guards.sites[k]);
        }
    }
    tl_guards_free(&guards);
    return count;
}

static void guards_find_a_place_in_a_crowd(void **unused)
{
    (void)unused;
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    struct kit kit;
    const struct tl_site **guards;
    size_t count, in_front = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], &attributes, change_masks, &calls[i]), 0);
    let_them_call();
    assert_int_equal(kit_open(&kit), 0);
    assert_true(crowd_out(&kit) > 10);
    assert_int_equal(kit_arm(&kit), 0);
    assert_int_equal(tl_self_guards(kit.self, &guards, &count), 0);
    for (size_t i = 0; i < count; i++)
        in_front += guards[i]->guard_at != 0;
    free((void *)guards);
    assert_true(in_front > 10);
    assert_int_equal(kit_plan(&kit, 0, 8, 1u << TL_TACTIC_INT3), 0);
    assert_int_equal(kit_publish(&kit), 0);
    assert_int_equal(kit_in(&kit), 0);
    let_them_call();
    assert_int_equal(kit_out(&kit), 0);
    assert_int_equal(kit_wait_until_empty(&kit), 0);
    assert_int_equal(kit_unpublish(&kit), 0);
    kit_drop(&kit);
    assert_int_equal(kit_close(&kit), 0);
    let_them_call();
    __atomic_store_n(&ends, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(guards_find_a_place_in_a_crowd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
