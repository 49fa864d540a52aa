/* SPDX-License-Identifier: MIT
 *
 * Registers and stacks that events bring along, and what is none.
 */
#include "check.h"

#include <errno.h>

#include "producer.h"
#include "trace/reader.h"

enum { RING = 1024, VALUES = 2, EVENT_WORDS = sizeof(struct tl_event) / 8 + VALUES, ROOM = 64 };

static struct area area;
static struct tl_reader *reader;

static int set_up(void **state)
{
    (void)state;
    area = area_make(2, RING, 1, -1);
    return tl_reader_open(area.base, area.size, &area.layout, NULL, &reader);
}

static int tear_down(void **state)
{
    (void)state;
    tl_reader_close(reader);
    area_free(&area);
    return 0;
}

/* An event of `words` words, the last of which says `taken`; the others count on from `seed`. */
static void append(uint32_t flags, size_t words, uint64_t taken, uint64_t seed)
{
    struct tl_event event = {.size = (uint32_t)(8 * words), .probe = flags, .stored = 3, .tsc = 1};
    uint64_t bytes[ROOM];
    assert_true(words <= ROOM);
    memcpy(bytes, &event, sizeof(event));
    for (size_t i = sizeof(event) / 8; i < words; i++)
        bytes[i] = seed + i;
    if (flags)
        bytes[words - 1] = taken;
    assert_true(area_append(&area, 0, bytes, event.size));
}

struct expected {
    int result;
    size_t size;
    uint64_t seed;
};

static int check(void *context, const struct tl_record *record)
{
    const struct expected *expected = context;
    struct tl_hit_regs regs;
    const uint8_t *stack;
    size_t size;
    assert_int_equal(record->probe, 0);
    assert_int_equal(record->values[1], expected->seed + EVENT_WORDS - 1);
    assert_int_equal(tl_record_stack(record, &regs, &stack, &size), expected->result);
    if (expected->result)
        return 0;
    assert_int_equal(size, expected->size);
    for (size_t i = 0; i < TL_REG_COUNT; i++)
        assert_int_equal(regs.r[i], expected->seed + EVENT_WORDS + i);
    for (size_t i = 0; i < size; i++) {
        uint64_t word = expected->seed + EVENT_WORDS + TL_REG_COUNT + i / 8;
        assert_int_equal(stack[i], (uint8_t)(word >> i % 8 * 8));
    }
    return 0;
}

static void gives(int result, size_t size, uint64_t seed)
{
    struct expected expected = {result, size, seed};
    assert_int_equal(tl_reader_drain(reader, check, &expected), 1);
}

static void a_stack_of_any_size_comes_out_as_it_went_in(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) { /* and so at all places of the ring */
        size_t size = i % 200;
        append(TL_EVENT_STACK, EVENT_WORDS + TL_REG_COUNT + (size + 7) / 8 + 1, size, i << 32);
        gives(0, size, i << 32);
    }
}

static void an_event_without_one_has_none(void **state)
{
    (void)state;
    append(0, EVENT_WORDS + TL_REG_COUNT + 1, 0, 5);
    gives(-ENOENT, 0, 5);
}

static void what_cannot_be_a_stack_is_none(void **state)
{
    (void)state;
    append(TL_EVENT_STACK, EVENT_WORDS + TL_REG_COUNT, 0, 6); /* no room for all registers */
    gives(-EFAULT, 0, 6);
    append(TL_EVENT_STACK, EVENT_WORDS + TL_REG_COUNT + 1, 1, 7);
    gives(-EFAULT, 0, 7);
    append(TL_EVENT_STACK, EVENT_WORDS + TL_REG_COUNT + 2, 9, 8);
    gives(-EFAULT, 0, 8);
    append(TL_EVENT_STACK, EVENT_WORDS + TL_REG_COUNT + 2, UINT64_MAX, 9);
    gives(-EFAULT, 0, 9);
    append(TL_EVENT_STACK, EVENT_WORDS + TL_REG_COUNT + 2, (uint64_t)UINT32_MAX + 8, 10);
    gives(-EFAULT, 0, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stack_of_any_size_comes_out_as_it_went_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_event_without_one_has_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_a_stack_is_none, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
