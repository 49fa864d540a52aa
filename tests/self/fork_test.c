/* SPDX-License-Identifier: MIT
 *
 * Forks while text is being patched and executed: the child's patches are its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"

static void a_child_takes_its_own_patches_out(void **unused);
static void forks_in_the_middle_of_patching(void **unused);

enum { SITES = 64, ROUNDS = 40, FORKS = 60 };

static struct {
    bool ends;
    uint64_t wrong;
    int failed_children;
} shared;

static int call_all(void)
{
    int wrong = 0;
    for (int i = 0; i < SITES; i++)
        wrong += subject_at((size_t)i)() != i;
    return wrong;
}

static void *keep_calling(void *unused)
{
    while (!__atomic_load_n(&shared.ends, __ATOMIC_RELAXED))
        __atomic_add_fetch(&shared.wrong, call_all(), __ATOMIC_RELAXED);
    return unused;
}

/* 0, or in which step the child went wrong. */
static int wait_for(pid_t pid)
{
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static void open_with_sites(struct kit *kit, uint32_t tactics)
{
    assert_int_equal(kit_open(kit), 0);
    assert_int_equal(kit_arm(kit), 0);
    assert_int_equal(kit_plan(kit, 0, SITES, tactics), 0);
    assert_int_equal(kit_publish(kit), 0);
}

static void close_with_sites(struct kit *kit)
{
    assert_int_equal(kit_unpublish(kit), 0);
    kit_drop(kit);
    assert_int_equal(kit_close(kit), 0);
    assert_true(text_is_original());
}

static int be_a_child(struct kit *kit)
{
    if (call_all())
        return 1;
    if (kit_out(kit))
        return 2;
    if (call_all() || !text_is_original())
        return 3;
    if (kit_in(kit) || call_all())
        return 4;
    if (kit_out(kit) || kit_unpublish(kit))
        return 5;
    kit_drop(kit);
    return kit_close(kit) ? 6 : call_all();
}

static void a_child_takes_its_own_patches_out(void **unused)
{
    (void)unused;
    static const uint32_t tactics[] = {1u << TL_TACTIC_JUMP, 1u << TL_TACTIC_INT3};
    struct kit kit;
    for (size_t i = 0; i < 2; i++) {
        open_with_sites(&kit, tactics[i]);
        assert_int_equal(kit_in(&kit), 0);
        pid_t pid = fork();
        if (pid == 0)
            _exit(be_a_child(&kit));
        assert_int_equal(wait_for(pid), 0);
        for (size_t k = 0; k < kit.patch_count; k++)
            assert_memory_equal((const void *)kit.in[k].addr, kit.in[k].bytes, kit.in[k].length);
        assert_int_equal(call_all(), 0);
        assert_int_equal(kit_out(&kit), 0);
        close_with_sites(&kit);
    }
}

static void *keep_forking(void *context)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct kit *kit = context;
            struct tl_self_range range = {kit->plan.maps[0].addr, kit->plan.maps[0].addr + 4096};
            uint8_t inside = 1;
            int wrong = call_all();
            _exit(wrong ? 1 : tl_self_inside(kit->self, &range, 1, &inside, NULL) || inside ? 2 : 0);
        }
        shared.failed_children += wait_for(pid) != 0;
    }
    __atomic_store_n(&shared.ends, true, __ATOMIC_RELAXED);
    return NULL;
}

static void forks_in_the_middle_of_patching(void **unused)
{
    (void)unused;
    pthread_t callers[2], forker;
    struct kit kit;
    memset(&shared, 0, sizeof shared);
    open_with_sites(&kit, 1u << TL_TACTIC_JUMP);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, keep_calling, NULL), 0);
    assert_int_equal(pthread_create(&forker, NULL, keep_forking, &kit), 0);
    for (int i = 0; i < ROUNDS || !__atomic_load_n(&shared.ends, __ATOMIC_RELAXED); i++) {
        assert_int_equal(kit_in(&kit), 0);
        assert_int_equal(kit_out(&kit), 0);
    }
    pthread_join(forker, NULL);
    for (size_t i = 0; i < 2; i++)
        pthread_join(callers[i], NULL);
    assert_int_equal(shared.wrong, 0);
    assert_int_equal(shared.failed_children, 0);
    close_with_sites(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_takes_its_own_patches_out),
        cmocka_unit_test(forks_in_the_middle_of_patching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
