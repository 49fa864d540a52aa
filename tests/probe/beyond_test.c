/* SPDX-License-Identifier: MIT
 *
 * Trampolines that come back behind a punned jump. That they do what the program does, and that a breakpoint behind the
 * site leads to the other one, is seen to by kit_plan (check.h); here is when there has to be one, and when not.
 *
 * - of a prologue, byte for byte
 * - with a branch on the way, or at the end what leaves for good
 * - not past a call, a system call, what stops, another site, what has to stay where it is, or the end of what is known
 * - not on a branch's taken edge, not without guards, not where a guard has no room
 * - where a breakpoint stands already, for when it has gone
 */
#include "kit.h"

#include <string.h>

static const uint64_t pie = 0x555555554000, fixed = 0x401000;

/* A single site at the start of the text. */
static struct tl_site *guarded_site(struct kit *kit, uint64_t addr, const char *hex)
{
    kit_begin(kit, addr, hex);
    kit->options.guard_breakpoints = true;
    return kit_site(kit, 0);
}

/* The plan's bytes at an address of its memory. */
static const uint8_t *code_at(const struct kit *kit, uint64_t addr)
{
    const struct tl_plan *plan = &kit->planned.plan;
    for (size_t i = 0; i < plan->map_count; i++)
        if (addr - plan->maps[i].addr < plan->maps[i].size)
            return plan->pool + plan->maps[i].pool + (addr - plan->maps[i].addr);
    fail_msg("%#lx is not mapped", (unsigned long)addr);
    return NULL;
}

static void a_prologue(void **state)
{
    (void)state;
    struct kit kit;
    const struct tl_site *site = guarded_site(&kit, pie, "55 48 89 e5 41 57 41 56 41 55");
    kit_plan(&kit);
    assert_true(site->guarded);
    assert_int_equal(site->jump_length, 5);
    assert_int_equal(site->beyond_size, 1 + 3 + 2 + 5);
    assert_memory_equal(code_at(&kit, site->beyond), "\x55\x48\x89\xe5\x41\x57\xe9", 7);
    assert_int_equal(follow(&kit.planned, kit.bytes, site->beyond + 6, pie + 6), pie + 6);
    assert_memory_equal(code_at(&kit, site->trampoline), "\x55\xe9", 2);
    assert_int_equal(follow(&kit.planned, kit.bytes, site->trampoline + 1, pie + 1), pie + 1);
    kit_end(&kit);
}

/* Whether `hex`, with its first instruction a site, gets a second trampoline. */
static bool has_beyond(const char *hex)
{
    struct kit kit;
    const struct tl_site *site = guarded_site(&kit, pie, hex);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_true(site->guarded);
    bool has = site->beyond != 0;
    kit_end(&kit);
    return has;
}

static void what_leaves_may_come_last(void **state)
{
    (void)state;
    assert_true(has_beyond("55 5d c3 90 90 90 90"));             /* ret */
    assert_true(has_beyond("55 5d eb 20 90 90 90"));             /* jmp */
    assert_true(has_beyond("55 5d ff e0 90 90 90"));             /* jmp rax */
    assert_true(has_beyond("55 74 20 90 90 90 90"));             /* je, and on */
    assert_true(has_beyond("74 20 55 90 90 90 90"));             /* je itself */
    assert_true(has_beyond("55 90 90 e2 20 90 90"));             /* loop, at the end */
    assert_true(has_beyond("0f 05 48 3d 01 f0 ff ff c3"));       /* behind a system call */
    assert_true(has_beyond("55 48 8b 05 10 20 00 00 90 90 90")); /* an operand of its own place */
}

static void what_may_not_be_copied(void **state)
{
    (void)state;
    assert_false(has_beyond("55 e8 10 20 00 00 90 90 90")); /* call */
    assert_false(has_beyond("55 ff d0 90 90 90 90"));       /* call rax */
    assert_false(has_beyond("ff d0 55 90 90 90 90"));       /* call rax itself: nothing comes back here */
    assert_false(has_beyond("c3 55 90 90 90 90 90"));       /* ret itself */
    assert_false(has_beyond("55 0f 05 90 90 90 90"));       /* syscall */
    assert_false(has_beyond("55 0f 0b 90 90 90 90"));       /* ud2 */
    assert_false(has_beyond("55 e2 20 90 90 90 90"));       /* loop, which comes back too early */
    assert_false(has_beyond("55 90 90 90 48 b8"));          /* the text ends */
}

static void another_site_is_not_passed_over(void **state)
{
    (void)state;
    for (unsigned at = 1; at <= 5; at++) {
        struct kit kit;
        const struct tl_site *site = guarded_site(&kit, pie, "55 53 50 51 52 56 57 c3 90 90 90 90");
        kit_site(&kit, at);
        kit_plan(&kit);
        assert_int_equal(site->why, TL_WHY_NONE);
        assert_int_equal(site->beyond != 0, at == 5);
        kit_end(&kit);
    }
}

static void what_has_to_stay_where_it_is(void **state)
{
    (void)state;
    struct kit kit;
    struct tl_site *site = guarded_site(&kit, pie, "55 48 89 e5 41 57 41 56");
    site->pinned = 1u << 6;
    kit_plan(&kit);
    assert_true(site->beyond);
    site->pinned = 1u << 4;
    kit_plan(&kit);
    assert_false(site->beyond);
    site->pinned = 0;
    site->boundaries |= 1u << 5; /* somebody jumps there, behind a prefix */
    kit_plan(&kit);
    assert_false(site->beyond);
    kit_end(&kit);
}

static void only_where_guarded(void **state)
{
    (void)state;
    struct kit kit;
    struct tl_site *site = guarded_site(&kit, pie, "55 48 89 e5 41 57 41 56");
    kit.options.guard_breakpoints = false;
    kit_plan(&kit);
    assert_false(site->beyond);
    kit_end(&kit);
    site = guarded_site(&kit, fixed, "55 48 89 e5 41 57"); /* a breakpoint instead of 41 would lead below */
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_false(site->beyond);
    kit_end(&kit);
    site = guarded_site(&kit, pie, "74 20 55 90 90 90 90");
    site->mode = TL_SITE_TAKEN;
    kit_plan(&kit);
    assert_true(site->guarded);
    assert_false(site->beyond);
    kit_end(&kit);
}

static void once_a_breakpoint_has_gone(void **state)
{
    (void)state;
    struct kit kit;
    struct tl_site *site = guarded_site(&kit, pie, "55 cc 89 e5 41 57");
    site->boundaries = 1 | 1u << 1 | 1u << 4;
    site->foreign = 1u << 1;
    site->original[1] = 0x48;
    kit_plan(&kit);
    assert_true(site->beyond);
    uint8_t bytes[KIT_BYTES];
    memcpy(bytes, kit.bytes, kit.text.size);
    bytes[0] = kit_write(&kit, site)->new_bytes[0];
    assert_int_equal(follow(&kit.planned, bytes, pie, site->trampoline), site->trampoline);
    bytes[1] = 0x48;
    assert_int_equal(follow(&kit.planned, bytes, pie, site->beyond), site->beyond);
    assert_memory_equal(code_at(&kit, site->beyond), "\x55\x48\x89\xe5\x41\x57\xe9", 7);
    bytes[4] = 0xcc;
    assert_int_equal(follow(&kit.planned, bytes, pie, site->trampoline), site->trampoline);
    kit_end(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prologue),
        cmocka_unit_test(what_leaves_may_come_last),
        cmocka_unit_test(what_may_not_be_copied),
        cmocka_unit_test(another_site_is_not_passed_over),
        cmocka_unit_test(what_has_to_stay_where_it_is),
        cmocka_unit_test(only_where_guarded),
        cmocka_unit_test(once_a_breakpoint_has_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
