/* SPDX-License-Identifier: MIT
 *
 * Boundaries and exits of small hand-made functions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "insn/sweep.h"

enum { BASE = 0x1000 };
#define RANGE(...) ((struct tl_range){BASE, sizeof(const uint8_t[]){__VA_ARGS__}, (const uint8_t[]){__VA_ARGS__}})

static void expect_boundaries(const struct tl_range *range, const uint64_t *entries, size_t entry_count, bool mixed,
                              const char *map)
{
    struct tl_sweep sweep;
    assert_int_equal(tl_sweep_range(range, entries, entry_count, &sweep), 0);
    assert_int_equal(sweep.mixed, mixed);
    size_t count = 0;
    for (uint64_t i = 0; i < range->size; i++) {
        enum tl_why expected = map[i] == 'X' ? TL_WHY_NONE : map[i] == '-' ? TL_WHY_NOT_BOUNDARY : TL_WHY_NOT_CODE;
        assert_int_equal(tl_sweep_check(&sweep, BASE + i), expected);
        count += map[i] == 'X';
    }
    assert_int_equal(map[range->size], 0);
    assert_int_equal(sweep.instructions, count);
    uint64_t next = tl_sweep_next(&sweep, 0);
    for (uint64_t i = 0; i < range->size; i++)
        if (map[i] == 'X') {
            assert_int_equal(next, BASE + i);
            next = tl_sweep_next(&sweep, next + 1);
        }
    assert_int_equal(next, 0);
    assert_int_equal(tl_sweep_check(&sweep, BASE - 1), TL_WHY_NOT_CODE);
    assert_int_equal(tl_sweep_check(&sweep, BASE + range->size), TL_WHY_NOT_CODE);
    tl_sweep_free(&sweep);
}

static void plain_code_is_read_from_front_to_back(void **state)
{
    (void)state;
    struct tl_range range =
        RANGE(0x55, 0x48, 0x89, 0xe5, 0xff, 0xe0, 0x90, 0x5d, 0xc3); /* what only a table reaches counts */
    expect_boundaries(&range, NULL, 0, false, "XX--X-XXX");
}

static void zeros_at_the_end_are_padding(void **state)
{
    (void)state;
    struct tl_range range = RANGE(0x90, 0xc3, 0, 0, 0);
    expect_boundaries(&range, NULL, 0, false, "XX   ");
    struct tl_range operand = RANGE(0xe8, 0, 0, 0, 0); /* a call to the next: its zeros are its own */
    expect_boundaries(&operand, NULL, 0, false, "X----");
}

static void an_undecodable_byte_leaves_only_what_is_reached(void **state)
{
    (void)state;
    struct tl_range range = RANGE(0x74, 0x03, 0xeb, 0x02, 0x06, 0xc3, 0x90, 0xc3);
    expect_boundaries(&range, NULL, 0, true, "X-X- XXX");
}

static void a_branch_into_an_instruction_is_a_contradiction(void **state)
{
    (void)state;
    /* jmp +2 over two bytes of data that swallow the ret behind them */
    struct tl_range range = RANGE(0xeb, 0x02, 0x01, 0x80, 0xc3, 0x90, 0x90, 0x90, 0xc3);
    expect_boundaries(&range, NULL, 0, true, "X-  X    ");
    const uint64_t entry = BASE + 7;
    expect_boundaries(&range, &entry, 1, true, "X-  X  XX");
}

static void an_entry_inside_an_instruction_is_a_contradiction(void **state)
{
    (void)state;
    struct tl_range range = RANGE(0x90, 0xc3, 0x05, 0x90, 0x90, 0x90, 0xc3);
    const uint64_t entry = BASE + 3;
    expect_boundaries(&range, NULL, 0, false, "XXX----");
    expect_boundaries(&range, &entry, 1, true, "XX XXXX");
}

static void calls_come_back_and_stops_do_not(void **state)
{
    (void)state;
    struct tl_range range = RANGE(0xe8, 0, 0, 0, 0, 0xff, 0xd0, 0x0f, 0x0b, 0x06);
    expect_boundaries(&range, NULL, 0, true, "X----X-X- ");
}

static void a_run_into_data_was_data_itself(void **state)
{
    (void)state;
    /* both ways of the first branch end in 06 without a call between */
    struct tl_range range = RANGE(0x74, 0x03, 0x90, 0x90, 0x06, 0x90, 0xff, 0xd0, 0x90, 0x06);
    expect_boundaries(&range, NULL, 0, true, "          ");
    struct tl_range call = RANGE(0xeb, 0x01, 0x06, 0x90, 0xff, 0xd0, 0x90, 0x06);
    expect_boundaries(&call, NULL, 0, true, "X- XX-  ");
}

static void text_and_tables_are_not_read_as_code(void **state)
{
    (void)state;
    struct tl_range string = RANGE(0x90, 0xc3, 'l', 'i', 'n', 'u', 'x', '!', '!', '!', '!', '!', '!', '!');
    expect_boundaries(&string, NULL, 0, true, "XX            ");
    struct tl_range table = RANGE(0x90, 0xc3, 0, 0, 0, 1, 0, 0, 0, 2);
    expect_boundaries(&table, NULL, 0, true, "XX        ");
}

static void an_instruction_entered_behind_its_lock_is_no_boundary(void **state)
{
    (void)state;
    /* je +1; lock inc dword [rax]; ret */
    struct tl_range range = RANGE(0x74, 0x01, 0xf0, 0xff, 0x00, 0xc3);
    expect_boundaries(&range, NULL, 0, false, "X----X");
    struct tl_range mixed = RANGE(0x74, 0x01, 0xf0, 0xff, 0x00, 0xc3, 0x06);
    expect_boundaries(&mixed, NULL, 0, true, "X----X ");
}

static void an_empty_range_has_nothing(void **state)
{
    (void)state;
    struct tl_range range = {BASE, 0, NULL};
    expect_boundaries(&range, NULL, 0, false, "");
    struct tl_sweep zero = {0};
    tl_sweep_free(&zero);
}

static void exits_are_returns_and_jumps_out_of_all_pieces(void **state)
{
    (void)state;
    const uint8_t hot[] = {
        0x74, 0x7e,                   /* 00 je 0x1080: the cold piece */
        0x75, 0x0c,                   /* 02 jne 0x1010: out */
        0xeb, 0xfa,                   /* 04 jmp 0x1000: a loop */
        0xe9, 0xf5, 0x0f, 0x00, 0x00, /* 06 jmp 0x2000: a tail call */
        0xff, 0xe0,                   /* 0b jmp rax */
        0xc3,                         /* 0d ret */
    };
    const uint8_t cold[] = {0xe8, 0, 0, 0x10, 0, 0xe9, 0x7b, 0xff, 0xff, 0xff, 0x0f, 0x0b, 0xf3, 0xc3};
    struct tl_range ranges[2] = {{0x1080, sizeof cold, cold}, {0x1000, sizeof hot, hot}};
    struct tl_sweep sweeps[2];
    struct tl_exit *exits;
    size_t count;
    for (int i = 0; i < 2; i++)
        assert_int_equal(tl_sweep_range(&ranges[i], NULL, 0, &sweeps[i]), 0);
    assert_int_equal(tl_sweep_exits(ranges, sweeps, 2, &exits, &count), 0);
    const struct tl_exit expected[] = {{0x1002, TL_EXIT_BRANCH},
                                       {0x1006, TL_EXIT_TAIL},
                                       {0x100b, TL_EXIT_INDIRECT},
                                       {0x100d, TL_EXIT_RET},
                                       {0x108c, TL_EXIT_RET}};
    assert_int_equal(count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(exits[i].addr, expected[i].addr);
        assert_int_equal(exits[i].kind, expected[i].kind);
    }
    free(exits);
    for (int i = 0; i < 2; i++)
        tl_sweep_free(&sweeps[i]);
}

static void the_instruction_before_is_the_one_that_ends_there(void **state)
{
    (void)state;
    struct tl_range range =
        RANGE(0x55, 0x48, 0x89, 0xe5, 0x74, 0x01, 0xf0, 0xff, 0x00, 0x5d, 0xc3); /* jz behind lock */
    struct tl_sweep sweep;
    assert_int_equal(tl_sweep_range(&range, NULL, 0, &sweep), 0);
    static const uint64_t before[] = {0, BASE, 0, 0, BASE + 1, 0, BASE + 4, 0, 0, BASE + 6, BASE + 9, BASE + 10};
    for (uint64_t i = 0; i < sizeof before / sizeof *before; i++)
        assert_int_equal(tl_sweep_before(&range, &sweep, BASE + i), before[i]);
    assert_int_equal(tl_sweep_before(&range, &sweep, BASE - 1), 0);
    assert_int_equal(tl_sweep_before(&range, &sweep, BASE + range.size + 1), 0);
    tl_sweep_free(&sweep);

    struct tl_range data = RANGE(0xeb, 0x08, 0x06, 1, 2, 3, 4, 5, 6, 7, 0xc3);
    assert_int_equal(tl_sweep_range(&data, NULL, 0, &sweep), 0);
    assert_int_equal(tl_sweep_before(&data, &sweep, BASE + 2), BASE);
    assert_int_equal(tl_sweep_before(&data, &sweep, BASE + 7), 0);
    assert_int_equal(tl_sweep_before(&data, &sweep, BASE + 11), BASE + 10);
    tl_sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_code_is_read_from_front_to_back),
        cmocka_unit_test(zeros_at_the_end_are_padding),
        cmocka_unit_test(an_undecodable_byte_leaves_only_what_is_reached),
        cmocka_unit_test(a_branch_into_an_instruction_is_a_contradiction),
        cmocka_unit_test(an_entry_inside_an_instruction_is_a_contradiction),
        cmocka_unit_test(calls_come_back_and_stops_do_not),
        cmocka_unit_test(a_run_into_data_was_data_itself),
        cmocka_unit_test(text_and_tables_are_not_read_as_code),
        cmocka_unit_test(an_instruction_entered_behind_its_lock_is_no_boundary),
        cmocka_unit_test(an_empty_range_has_nothing),
        cmocka_unit_test(exits_are_returns_and_jumps_out_of_all_pieces),
        cmocka_unit_test(the_instruction_before_is_the_one_that_ends_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
