/* SPDX-License-Identifier: MIT
 *
 * What hits a hardware breakpoint, and what its handler is told.
 */
#include <unistd.h>

#include "hwbp_kit.h"

/* A line of its own, so that what lies beside a watched word is known. */
static _Alignas(64) volatile uint8_t bytes[128];
static struct seen seen;

static int begin(void **state)
{
    (void)state;
    memset((void *)(uintptr_t)bytes, 0, sizeof bytes);
    memset(&seen, 0, sizeof seen);
    return 0;
}

static void a_write_hits(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(bytes + 8, 8, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(bytes + 8, 0x1122334455667788, 8);
    assert_int_equal(seen.hits, 1);
    assert_ptr_equal(seen.hwbp, hwbp);
    assert_int_equal(seen.hit.address, (uintptr_t)bytes + 8);
    assert_int_equal(seen.hit.length, 8);
    assert_int_equal(seen.hit.access, TL_HWBP_WRITE);
    assert_int_equal(seen.hit.flags, 0);
    assert_int_equal(seen.hit.before, 0);
    assert_int_equal(seen.hit.now, 0x1122334455667788);
    assert_int_equal(seen.hit.tid, gettid());
    assert_int_equal(seen.regs.rip, (uintptr_t)kit_store8_end);
    assert_int_equal(seen.regs.rdi, (uintptr_t)bytes + 8);
    assert_int_equal(seen.regs.rsi, 0x1122334455667788);
    kit_store(bytes + 8, 3, 8);
    assert_int_equal(seen.hit.before, 0x1122334455667788);
    assert_int_equal(seen.hit.now, 3);
    kit_expect(hwbp, 2, 2, 0);
    assert_int_equal(kit_fetch(bytes + 8, 8), 3);
    kit_expect(hwbp, 2, 2, 0);
    kit_destroy(hwbp);
    kit_store(bytes + 8, 4, 8);
    assert_int_equal(seen.hits, 2);
}

static void each_length_and_its_borders(void **state)
{
    (void)state;
    for (unsigned length = 1; length <= 8; length *= 2) {
        struct tl_hwbp_options options = kit_watch(bytes + 16, length, TL_HWBP_WRITE, &seen);
        struct tl_hwbp *hwbp = kit_create(&options);
        kit_store(bytes + 15, 1, 1);
        kit_store(bytes + 16 + length, 1, 1);
        kit_expect(hwbp, 0, 0, 0);
        for (unsigned i = 0; i < length; i++)
            kit_store(bytes + 16 + i, i + 1, 1);
        kit_expect(hwbp, length, length, 0);
        assert_int_equal(seen.hit.now, kit_fetch(bytes + 16, length));
        kit_destroy(hwbp);
    }
}

static void any_overlap_is_one_hit(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(bytes + 16, 4, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(bytes + 9, UINT64_MAX, 8);  /* its first byte */
    kit_store(bytes + 19, UINT64_MAX, 8); /* its last byte, unaligned */
    kit_store(bytes + 12, UINT64_MAX, 8);
    kit_expect(hwbp, 3, 3, 0);
    kit_store16(bytes + 5);
    kit_store16(bytes + 19);
    kit_store16(bytes + 16);
    kit_expect(hwbp, 6, 6, 0);
    kit_store(bytes + 8, 1, 8);
    kit_store16(bytes + 20);
    kit_store16(bytes);
    kit_expect(hwbp, 6, 6, 0);
    kit_destroy(hwbp);
}

static void each_round_of_a_string_instruction_hits(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(bytes + 16, 4, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_fill(bytes + 8, 7, 24);
    kit_expect(hwbp, 4, 4, 0);
    assert_int_equal(seen.hit.now, 0x07070707);
    assert_int_equal(seen.hit.before, 0x00070707);
    assert_int_equal(seen.regs.rip, (uintptr_t)kit_fill_insn);
    kit_destroy(hwbp);
}

static void writes_that_change_nothing_hit(void **state)
{
    (void)state;
    volatile uint32_t *word = (volatile uint32_t *)(bytes + 16);
    struct tl_hwbp_options options = kit_watch(word, 4, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(word, 0, 4);
    kit_expect(hwbp, 1, 1, 0);
    assert_int_equal(seen.hit.before, seen.hit.now);
    assert_false(kit_exchange(word, 5, 6));
    kit_expect(hwbp, 2, 2, 0);
    assert_true(kit_exchange(word, 0, 6));
    kit_expect(hwbp, 3, 3, 0);
    assert_int_equal(seen.hit.now, 6);
    kit_destroy(hwbp);
}

static void reads_and_writes_hit_once_each(void **state)
{
    (void)state;
    volatile uint32_t *word = (volatile uint32_t *)(bytes + 16);
    struct tl_hwbp_options options = kit_watch(word, 4, TL_HWBP_READ | TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_fetch(word, 4);
    kit_fetch(bytes + 15, 2);
    kit_expect(hwbp, 2, 2, 0);
    kit_increment(word);
    kit_expect(hwbp, 3, 3, 0);
    kit_prefetch(word);
    kit_fetch(bytes + 20, 1);
    kit_fetch(bytes + 15, 1);
    kit_expect(hwbp, 3, 3, 0);
    kit_destroy(hwbp);
}

static void an_instruction_hits_once_a_pass(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    assert_int_equal(kit_loop(1000), 1000);
    kit_expect(hwbp, 1000, 1000, 0);
    assert_int_equal(seen.regs.rip, (uintptr_t)kit_loop_insn);
    assert_int_equal(seen.regs.rax, 999);
    assert_int_equal(seen.hit.before | seen.hit.now, 0);
    assert_int_equal(kit_loop(1), 1);
    kit_expect(hwbp, 1001, 1001, 0);
    kit_destroy(hwbp);
    assert_int_equal(kit_loop(10), 10);
    assert_int_equal(seen.hits, 1001);
}

static void leave_the_loop(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    (void)hwbp;
    (void)hit;
    if (regs->rax == 7)
        regs->rip = (uintptr_t)kit_loop_out;
    if (regs->rax == 3)
        regs->rax = 5;
}

static void registers_can_be_changed(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    options.handler = leave_the_loop;
    struct tl_hwbp *hwbp = kit_create(&options);
    assert_int_equal(kit_loop(1000), 7);
    kit_expect(hwbp, 6, 6, 0);
    kit_destroy(hwbp);
}

static void where_a_handler_leads_hits(void **state)
{
    (void)state;
    struct seen there = {0};
    struct tl_hwbp_options options = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    options.handler = leave_the_loop;
    struct tl_hwbp *hwbp = kit_create(&options);
    struct tl_hwbp_options other = kit_watch(kit_loop_out, sizeof(long), TL_HWBP_EXECUTE, &there);
    struct tl_hwbp *out = kit_create(&other);
    assert_int_equal(kit_loop(1000), 7);
    kit_expect(out, 1, 1, 0);
    kit_destroy(hwbp);
    kit_destroy(out);
}

static void the_period_is_every_nth(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(bytes, 4, TL_HWBP_WRITE, &seen);
    options.period = 10;
    struct tl_hwbp *hwbp = kit_create(&options);
    for (unsigned i = 1; i <= 105; i++) {
        kit_store(bytes, i, 4);
        assert_int_equal(seen.hits, i / 10);
    }
    kit_expect(hwbp, 105, 10, 0);
    assert_int_equal(seen.hit.now, 100);
    assert_int_equal(seen.hit.before, 90);
    kit_destroy(hwbp);
}

static void counting_only(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(bytes, 4, TL_HWBP_WRITE, NULL);
    struct tl_hwbp *hwbp = kit_create(&options);
    for (unsigned i = 0; i < 1000; i++)
        kit_store(bytes, i, 4);
    kit_expect(hwbp, 1000, 0, 0);
    kit_destroy(hwbp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_write_hits, begin),
        cmocka_unit_test_setup(each_length_and_its_borders, begin),
        cmocka_unit_test_setup(any_overlap_is_one_hit, begin),
        cmocka_unit_test_setup(each_round_of_a_string_instruction_hits, begin),
        cmocka_unit_test_setup(writes_that_change_nothing_hit, begin),
        cmocka_unit_test_setup(reads_and_writes_hit_once_each, begin),
        cmocka_unit_test_setup(an_instruction_hits_once_a_pass, begin),
        cmocka_unit_test_setup(registers_can_be_changed, begin),
        cmocka_unit_test_setup(where_a_handler_leads_hits, begin),
        cmocka_unit_test_setup(the_period_is_every_nth, begin),
        cmocka_unit_test_setup(counting_only, begin),
    };
    kit_skip_without_events();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
