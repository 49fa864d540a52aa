/* SPDX-License-Identifier: MIT
 *
 * Opening an area, adding up counts, and events with values in them.
 */
#include "check.h"

#include <errno.h>

#include "producer.h"
#include "trace/reader.h"

static void counts_of_all_blocks_and_lanes_add_up(void **state)
{
    (void)state;
    enum { PROBES = 11, LANES = 3, SHIFT = 3 };
    struct area area = area_make(LANES, 4096, PROBES, SHIFT);
    struct tl_reader *reader;
    uint64_t counts[PROBES] = {[5] = 1000000};

    area_lane(&area, 1)->owner = area_block(&area, 2)->owner = area_block(&area, 7)->owner = 0x7000;
    area_block(&area, 2)->counts[0] = 1;
    area_block(&area, 7)->counts[0] = 20;
    area_block(&area, 1 << SHIFT)->counts[0] = 300; /* the overflow block has no owner */
    area_lane_counts(&area, 1)[0] = 4000;
    area_lane_counts(&area, 2)[PROBES - 1] = 7;
    area_block(&area, 7)->counts[5] = 5;
    assert_int_equal(tl_reader_open(area.base, area.size, &area.layout, NULL, &reader), 0);
    tl_reader_counts(reader, counts);
    assert_int_equal(counts[0], 4321);
    assert_int_equal(counts[5], 1000005);
    assert_int_equal(counts[PROBES - 1], 7);
    tl_reader_close(reader);
    area_free(&area);
}

static void lost_and_missed_add_up(void **state)
{
    (void)state;
    struct area area = area_make(2, 64, 3, -1);
    struct tl_reader *reader;
    struct tl_reader_totals totals;
    uint64_t missed[3] = {[1] = 100};

    for (uint32_t i = 0; i < 6; i++)
        area_event(&area, i % 2, 1 + i, 0, 1); /* each ring has room for one */
    area_lane(&area, 0)->busy = area_lane(&area, 1)->busy = 1;
    for (int i = 0; i < 3; i++)
        area_hit(&area, 0, 1, 0);
    area_hit(&area, 2, 1, 0);
    assert_int_equal(tl_reader_open(area.base, area.size, &area.layout, NULL, &reader), 0);
    tl_reader_totals(reader, &totals);
    assert_int_equal(totals.lost, 4);
    assert_int_equal(totals.missed, 4);
    tl_reader_missed(reader, missed);
    assert_int_equal(missed[0], 3);
    assert_int_equal(missed[1], 100);
    assert_int_equal(missed[2], 1);
    tl_reader_close(reader);
    area_free(&area);
}

static int check_values(void *context, const struct tl_record *record)
{
    const char *text;
    size_t length;
    assert_int_equal(record->probe, 1);
    assert_int_equal(record->fs_base, 0x7f00);
    assert_int_equal(record->stored, 1u << 0 | 1u << 31 | 1u << 3);
    assert_int_equal(record->values[0], 42);
    assert_int_equal(record->values[31], UINT64_MAX);
    assert_int_equal(tl_record_string(record, 3, &text, &length), 0);
    assert_int_equal(length, 5);
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(tl_record_string(record, 31, &text, &length), -EFAULT); /* a number is no string */
    assert_int_equal(tl_record_string(record, 4, &text, &length), -EFAULT);
    assert_int_equal(tl_record_string(record, 5, &text, &length), -ENOENT);
    assert_int_equal(tl_record_string(record, 32, &text, &length), -ENOENT);
    ++*(int *)context;
    return 0;
}

/* An odd size, so that in time it wraps at each place that it can. */
static void values_and_strings_arrive_whole_across_the_end_of_the_ring(void **state)
{
    (void)state;
    struct {
        struct tl_event event;
        uint64_t values[3];
        char text[8];
    } bytes = {{.size = sizeof(bytes),
                .probe = 1,
                .tsc = 1,
                .fs_base = 0x7f00,
                .stored = 1u << 0 | 1u << 31 | 1u << 3,
                .faulted = 1u << 4},
               {42, 5 | (uint64_t)(sizeof(struct tl_event) + 24) << 32, UINT64_MAX},
               "hello"};
    struct area area = area_make(2, 256, 2, -1);
    struct tl_reader *reader;
    int seen = 0;

    assert_int_equal(tl_reader_open(area.base, area.size, &area.layout, NULL, &reader), 0);
    for (int i = 1; i <= 100; i++) {
        assert_true(area_append(&area, 0, &bytes, sizeof(bytes)));
        assert_int_equal(tl_reader_poll(reader, check_values, &seen), 1);
        assert_int_equal(area_lane(&area, 0)->tail, i * sizeof(bytes));
        assert_int_not_equal(area_control(&area)->heartbeat, 0);
    }
    assert_int_equal(seen, 100);
    tl_reader_close(reader);
    area_free(&area);
}

static int open_with(const struct area *area, const struct tl_hit_control *layout)
{
    struct tl_reader *reader = NULL;
    int result = tl_reader_open(area->base, area->size, layout, NULL, &reader);
    tl_reader_close(reader);
    return result;
}

/* Each 64-bit word of the layout in turn gets values that have nothing to do with the area. Where it opens, reading
 * must stay inside (a sanitizer looks on). */
static void a_layout_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    struct area area = area_make(2, 256, 4, 2);
    const uint64_t bad[] = {UINT64_MAX, 1ull << 63, 1ull << 40, UINT32_MAX, 0x8000000080000000, 1, 9};
    struct tl_hit_control layout = area.layout;
    uint64_t refused = 0;

    assert_int_equal(open_with(&area, &layout), 0);
    for (size_t word = 0; word < offsetof(struct tl_hit_control, heartbeat) / 8; word++)
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            layout = area.layout;
            memcpy((char *)&layout + 8 * word, &bad[i], 8);
            refused += open_with(&area, &layout) == -EINVAL;
        }
    assert_true(refused > 40);

#define REFUSED(change)                                                                                                \
    do {                                                                                                               \
        layout = area.layout;                                                                                          \
        change;                                                                                                        \
        assert_int_equal(open_with(&area, &layout), -EINVAL);                                                          \
    } while (0)
    REFUSED(layout.magic++);
    REFUSED(layout.lane_count++);
    REFUSED(layout.lane_count = TL_LANES_MAX + 1);
    REFUSED(layout.lane_shift = 1);
    REFUSED(layout.lane_shift = 32);
    REFUSED(layout.lane_bytes = 192);
    REFUSED(layout.lane_bytes *= 2);
    REFUSED(layout.lane_stride -= 64);
    REFUSED(layout.lanes += 64);
    REFUSED(layout.lanes += 8);
    REFUSED(layout.blocks = area.size - 64);
    REFUSED(layout.missed += 4);
    REFUSED(layout.missed = area.size - 24);
    REFUSED(layout.block_shift = 5);
    REFUSED(layout.table_shift = 31);
    REFUSED(layout.probe_count = 1000);
#undef REFUSED
    area_free(&area);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_of_all_blocks_and_lanes_add_up),
        cmocka_unit_test(lost_and_missed_add_up),
        cmocka_unit_test(values_and_strings_arrive_whole_across_the_end_of_the_ring),
        cmocka_unit_test(a_layout_that_contradicts_itself_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
