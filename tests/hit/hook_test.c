/* SPDX-License-Identifier: MIT
 *
 * Hooks as bytes: sizes, limits, displacements.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "hit/abi.h"
#include "probe/hook.h"

static const uint64_t AT = 0x7f0000001000, GATE = 0x7f0000000000;
static uint8_t out[TL_HOOK_BYTES_MAX];
static size_t length;

static struct tl_hook count_hook(void)
{
    return (struct tl_hook){
        .kind = TL_HOOK_COUNT, .index = 5, .gate = GATE, .block_shift = 7, .table_shift = 8, .fs_self = 1};
}

static void every_kind_fits(void **unused)
{
    (void)unused;
    struct tl_hook hook = {.kind = TL_HOOK_NONE};
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), 0);
    assert_int_equal(length, 0);
    hook = (struct tl_hook){.kind = TL_HOOK_ENTER, .index = UINT32_MAX, .gate = GATE};
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), 0);
    assert_in_range(length, 20, 40);
    for (int variant = 0; variant < 3; variant++) {
        hook = count_hook();
        hook.fs_self = variant == 0;
        hook.has_fsgsbase = variant == 1;
        assert_int_equal(tl_hook_emit(&hook, AT, out, &length), 0);
        assert_in_range(length, 40, 120);
    }
}

static void the_gate_is_reached_or_refused(void **unused)
{
    (void)unused;
    static const enum tl_hook_kind kinds[] = {TL_HOOK_ENTER, TL_HOOK_COUNT};
    for (int i = 0; i < 2; i++) {
        struct tl_hook hook = count_hook();
        hook.kind = kinds[i];
        assert_int_equal(tl_hook_emit(&hook, GATE + 0x7fffff00, out, &length), 0);
        assert_int_equal(tl_hook_emit(&hook, GATE - 0x7fffff00, out, &length), 0);
        assert_int_equal(tl_hook_emit(&hook, GATE + 0x80000100, out, &length), -ERANGE);
        assert_int_equal(tl_hook_emit(&hook, GATE - 0x80000100, out, &length), -ERANGE);
    }
    /* lea, push and mov, 14 bytes; the displacement counts from the end of a mov of 7. */
    struct tl_hook hook = {.kind = TL_HOOK_ENTER, .index = 3, .gate = GATE};
    int32_t displacement;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), 0);
    memcpy(&displacement, out + 17, 4);
    assert_int_equal(AT + 21 + (uint64_t)(int64_t)displacement, GATE + offsetof(struct tl_gate, enter));
}

static void what_makes_no_sense_is_refused(void **unused)
{
    (void)unused;
    struct tl_hook hook = count_hook();
    hook.index = (128 - TL_COUNT_BLOCK_HEAD) / 8 - 1;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), 0);
    hook.index++;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), -EINVAL);
    hook = count_hook();
    hook.table_shift = 0;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), -EINVAL);
    hook = count_hook();
    hook.block_shift = 6;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), -EINVAL);
    hook = count_hook();
    hook.block_shift = 22;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), -EINVAL);
    hook = count_hook();
    hook.block_shift = 255;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), -EINVAL);
    hook = count_hook();
    hook.kind = (enum tl_hook_kind)9;
    assert_int_equal(tl_hook_emit(&hook, AT, out, &length), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_fits),
        cmocka_unit_test(the_gate_is_reached_or_refused),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
