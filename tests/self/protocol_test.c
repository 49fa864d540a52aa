/* SPDX-License-Identifier: MIT
 *
 * The order of writes and barriers, as the machine itself gives it, under all interleavings with two threads that
 * execute the code; and that a wrong order would be noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fetch_model.h"
#include "host/self/protocol.h"

static void every_change_and_its_way_back_is_never_torn(void **unused);
static void a_failure_at_any_point_is_taken_back_untorn(void **unused);
static void without_any_one_barrier_something_is_torn(void **unused);
static void in_another_order_something_is_torn(void **unused);
static void impossible_changes_are_refused(void **unused);

enum { BASE = 0x1000 };

/* Instructions of made-up bytes, from low addresses to high, and what becomes of them. */
struct scene {
    const char *name;
    uint8_t before[MODEL_BYTES], after[MODEL_BYTES];
    struct {
        uint8_t at, length, jump;
    } sites[MODEL_SITES];
    size_t count;
    size_t spare; /* barriers, there and back, that this scene alone would not need */
};
static const struct scene scenes[] = {
    {"a jump", {1, 2, 3, 4, 5}, {0xe9, 12, 13, 14, 15}, {{0, 5, 5}}, 1, 0},
    {"a breakpoint", {1, 2}, {0xcc, 2}, {{0, 1, 1}}, 1, 0},
    {"a first byte that becomes a jump", {1, 2, 3, 4, 5}, {0xe9, 2, 3, 4, 5}, {{0, 1, 5}}, 1, 0},
    {"two apart", {1, 2, 3, 4, 5, 6}, {0xe9, 12, 13, 4, 5, 0xcc}, {{0, 3, 5}, {5, 1, 1}}, 2, 0},
    {"a jump with bytes of another in it",
     {1, 2, 3, 4, 5, 6, 7},
     {0xe9, 12, 0xe9, 14, 15, 6, 7},
     {{0, 2, 5}, {2, 3, 5}},
     2,
     0},
    {"three that build on each other",
     {1, 2, 3, 4, 5, 6, 7, 8},
     {0xe9, 0x2e, 0xe9, 14, 5, 6, 7, 8},
     {{0, 1, 5}, {1, 1, 6}, {2, 2, 5}},
     3,
     0},
    {"a jump with a breakpoint in it", {1, 2, 3, 4, 5}, {0xe9, 12, 13, 0xcc, 5}, {{0, 3, 5}, {3, 1, 1}}, 2, 1},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* Records what the machine does; the call number `fail_at` (from 1) fails, having been done or not. */
struct recorder {
    struct model *model;
    size_t calls, fail_at;
    bool half_done;
};

static int record(struct recorder *r, struct model_op op)
{
    bool fails = ++r->calls == r->fail_at;
    if (!fails || r->half_done)
        r->model->ops[r->model->op_count++] = op;
    return fails ? -EIO : 0;
}

static int record_write(void *context, uint64_t addr, const uint8_t *bytes, size_t length)
{
    struct model_op op = {.length = (uint8_t)length, .at = (uint8_t)(addr - BASE)};
    memcpy(op.bytes, bytes, length);
    return record(context, op);
}

static int record_barrier(void *context)
{
    return record(context, (struct model_op){0});
}

static const struct tl_change_port port = {record_write, record_barrier};

/* The model of a scene forwards or backwards. Returns how many calls were made. */
static size_t run(const struct scene *scene, bool backwards, size_t fail_at, bool half_done, struct model *m)
{
    struct tl_patch patches[MODEL_SITES] = {{0}};
    struct tl_change changes[MODEL_SITES] = {{0}};
    struct recorder r = {.model = m, .fail_at = fail_at, .half_done = half_done};
    size_t count = scene->count;
    memset(m, 0, sizeof *m);
    memcpy(m->before, backwards ? scene->after : scene->before, MODEL_BYTES);
    memcpy(m->after, backwards ? scene->before : scene->after, MODEL_BYTES);
    for (size_t i = 0; i < count; i++) {
        uint8_t at = scene->sites[i].at, length = scene->sites[i].length, jump = scene->sites[i].jump;
        patches[i].addr = BASE + at;
        patches[i].length = length;
        memcpy(patches[i].expect, m->before + at, length);
        memcpy(patches[i].bytes, m->after + at, length);
        changes[count - 1 - i].patch = &patches[i];
        m->sites[i].at = at;
        m->sites[i].before_length = backwards ? jump : length;
        m->sites[i].after_length = backwards ? length : jump;
    }
    m->site_count = count;
    assert_int_equal(tl_protocol_prepare(changes, count), 0);
    int result = tl_protocol_run(changes, count, &port, &r);
    assert_int_equal(result, fail_at && fail_at <= r.calls ? -EIO : 0);
    m->taken_back = result != 0;
    return r.calls;
}

static void hold(const struct scene *scene, const struct model *m, size_t *states)
{
    size_t looked_at;
    const char *wrong = model_explore(m, &looked_at);
    *states += looked_at;
    if (wrong)
        fail_msg("%s: %s", scene->name, wrong);
}

static void every_change_and_its_way_back_is_never_torn(void **unused)
{
    (void)unused;
    size_t states = 0;
    struct model m;
    for (size_t i = 0; i < SCENES; i++) {
        for (int backwards = 0; backwards < 2; backwards++) {
            run(&scenes[i], backwards, 0, false, &m);
            hold(&scenes[i], &m, &states);
        }
    }
    print_message("%zu states\n", states);
}

static void a_failure_at_any_point_is_taken_back_untorn(void **unused)
{
    (void)unused;
    size_t states = 0;
    struct model m;
    for (size_t i = 0; i < SCENES * 4; i++) {
        const struct scene *scene = &scenes[i / 4];
        size_t calls = run(scene, i & 1, 0, false, &m);
        for (size_t fail_at = 1; fail_at <= calls; fail_at++) {
            run(scene, i & 1, fail_at, i & 2, &m);
            hold(scene, &m, &states);
        }
    }
    print_message("%zu states\n", states);
}

static void without_any_one_barrier_something_is_torn(void **unused)
{
    (void)unused;
    struct model m;
    size_t states, barriers = 0, spare = 0;
    for (size_t i = 0; i < SCENES * 2; i++) {
        spare = i & 1 ? spare : scenes[i / 2].spare;
        run(&scenes[i / 2], i & 1, 0, false, &m);
        const struct model whole = m;
        for (size_t b = 0; b < whole.op_count; b++) {
            if (whole.ops[b].length)
                continue;
            m = whole;
            memmove(&m.ops[b], &m.ops[b + 1], (--m.op_count - b) * sizeof *m.ops);
            if (!model_explore(&m, &states) && spare-- == 0)
                fail_msg("%s: nobody misses barrier %zu", scenes[i / 2].name, b);
            barriers++;
        }
    }
    assert_int_equal(spare, 0);
    assert_true(barriers >= 20);
}

/* Whether the two writes may not trade places: steps of one place, or the same step of places of different rank. */
static bool depend(const struct model *m, size_t a, size_t b)
{
    const struct model_op *x = &m->ops[a], *y = &m->ops[b];
    bool barrier = false;
    for (size_t i = a; i < b; i++)
        barrier = barrier || m->ops[i].length == 0;
    if (!barrier || !x->length || !y->length)
        return false;
    for (size_t i = 0; i < m->site_count; i++) {
        unsigned at = m->sites[i].at, next = i + 1 < m->site_count ? m->sites[i + 1].at : MODEL_BYTES;
        if (x->at >= at && x->at < next && y->at >= at && y->at < next)
            return true;
    }
    return x->length == 1 && y->length == 1 && (x->bytes[0] == 0xcc) == (y->bytes[0] == 0xcc);
}

static void in_another_order_something_is_torn(void **unused)
{
    (void)unused;
    struct model m;
    size_t states, swaps = 0;
    for (size_t i = 0; i < SCENES * 2; i++) {
        run(&scenes[i / 2], i & 1, 0, false, &m);
        const struct model whole = m;
        for (size_t a = 0; a < whole.op_count; a++) {
            for (size_t b = a + 1; b < whole.op_count; b++) {
                if (!depend(&whole, a, b))
                    continue;
                m = whole;
                m.ops[a] = whole.ops[b];
                m.ops[b] = whole.ops[a];
                if (!model_explore(&m, &states))
                    fail_msg("%s: writes %zu and %zu may trade places", scenes[i / 2].name, a, b);
                swaps++;
            }
        }
    }
    assert_true(swaps >= 20);
}

static void impossible_changes_are_refused(void **unused)
{
    (void)unused;
    const struct {
        uint64_t addr;
        uint8_t length;
    } bad[] = {{BASE, 0}, {BASE, 16}, {BASE + 4094, 3}, {BASE + 1, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_patch patches[] = {{.addr = BASE, .length = 2}, {.addr = bad[i].addr, .length = bad[i].length}};
        struct tl_change changes[] = {{.patch = &patches[1]}, {.patch = &patches[0]}};
        assert_int_equal(tl_protocol_prepare(changes, 2), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_and_its_way_back_is_never_torn),
        cmocka_unit_test(a_failure_at_any_point_is_taken_back_untorn),
        cmocka_unit_test(without_any_one_barrier_something_is_torn),
        cmocka_unit_test(in_another_order_something_is_torn),
        cmocka_unit_test(impossible_changes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
