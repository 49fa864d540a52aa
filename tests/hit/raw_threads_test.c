/* SPDX-License-Identifier: MIT
 *
 * Threads that no C library has made: where fs points to, there is nothing, or nothing that looks like a thread.
 */
#include "hits.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HITS = 100, PAGE = 4096, TID = 0x2d0 };

static volatile uint32_t ended;

/* Nothing that needs thread-local variables may happen here. */
static __attribute__((no_stack_protector, no_sanitize("address", "undefined"))) int body(void *unused)
{
    (void)unused;
    hits_run(HITS);
    __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
    __asm__ volatile("syscall" ::"a"(SYS_exit), "D"(0) : "rcx", "r11", "memory");
    return 0;
}

/* The events of a thread with that fs base carry the base, and `tid`. */
static void check(uint64_t fs_base, uint32_t tid)
{
    static char stack[1 << 16] __attribute__((aligned(16)));
    struct tl_event event;
    uint64_t seen = 0;
    hits_make((struct world_shape){.flags = 0});
    hits_world.area->tid_offset = TID;
    if (!(hits_world.area->flags & TL_HIT_FSGSBASE)) {
        world_free(&hits_world);
        SKIP_BECAUSE("this processor or kernel has no rdfsbase");
    }
    ended = 0;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS;
    assert_true(clone(body, stack + sizeof(stack), flags, NULL, NULL, (void *)(uintptr_t)fs_base, NULL) > 0);
    while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE)) /* from then on it needs no stack */
        sched_yield();
    for (; world_take(&hits_world, &event, sizeof(event)); seen++) {
        assert_int_equal(event.fs_base, fs_base);
        assert_int_equal(event.tid, tid);
    }
    hits_check_exact(seen, HITS);
    assert_int_equal(hits_missed(), 0);
    world_free(&hits_world);
}

static void one_without_an_fs_base_is_counted(void **unused)
{
    (void)unused;
    check(0, 0);
}

static uint64_t *block_at_the_end_of_a_page(size_t bytes)
{
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
    return (uint64_t *)(void *)(pages + PAGE - bytes);
}

static void one_whose_block_is_short_or_not_there_has_no_tid(void **unused)
{
    (void)unused;
    uint64_t *block = block_at_the_end_of_a_page(16);
    block[0] = (uint64_t)(uintptr_t)block;
    check((uint64_t)(uintptr_t)block, 0);
    check((uint64_t)(uintptr_t)(block + 2), 0); /* may not be read at all */
    check((uint64_t)(uintptr_t)block + 1, 0);
}

static void a_block_is_believed_that_holds_its_own_address(void **unused)
{
    (void)unused;
    uint64_t *block = block_at_the_end_of_a_page(TID + 8);
    block[TID / 8] = 4711;
    check((uint64_t)(uintptr_t)block, 0);
    block[0] = (uint64_t)(uintptr_t)block;
    check((uint64_t)(uintptr_t)block, 4711);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_without_an_fs_base_is_counted),
        cmocka_unit_test(one_whose_block_is_short_or_not_there_has_no_tid),
        cmocka_unit_test(a_block_is_believed_that_holds_its_own_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
