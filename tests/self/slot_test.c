/* SPDX-License-Identifier: MIT
 *
 * A slot is reused only when nobody is inside: a small model, all interleavings. Two threads run through a site that
 * leads to a slot; in there each may be interrupted by a signal, and may call a handler and come back. Another one
 * takes the site out of use, looks for threads inside as tl_self_inside does (look.c itself is what looks), and puts
 * other code into the slot. Nobody may ever execute other code than what he came for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "host/self/look.h"

static void a_slot_is_reused_only_when_nobody_is_inside(void **unused);
static void reuse_without_a_look_is_noticed(void **unused);
static void a_look_at_program_counters_alone_is_noticed(void **unused);
static void a_look_before_the_site_is_out_of_use_is_noticed(void **unused);
static void ranges_that_overlap_are_refused(void **unused);
static void what_cannot_be_seen_counts_as_inside(void **unused);

/* Addresses of the model. */
enum { SITE = 0x1000, SLOT = 0x2000, SLOT_END = 0x2003, HANDLER = 0x3000, STACK = 0x8000, STACK_BYTES = 0x100 };
enum { THREADS = 2, SIGNAL_STACK = 0x10000 };

/* Where a thread is. */
enum at { AT_SITE, IN_SLOT_1, IN_SLOT_2, IN_HANDLER, IN_SIGNAL_SITE, IN_SIGNAL_SLOT, IN_SIGNAL_HANDLER, PLACES };
struct state {
    uint8_t at[THREADS], step, old[THREADS]; /* old: it came in when the slot held the old code */
};
enum plan { CORRECT, NO_LOOK, COUNTERS_ONLY, LOOK_FIRST };
enum step { STEP_OUT, STEP_LOOK, STEP_REUSE, STEP_DONE };
static const uint8_t orders[][4] = {[CORRECT] = {STEP_OUT, STEP_LOOK, STEP_REUSE, STEP_DONE},
                                    [NO_LOOK] = {STEP_OUT, STEP_REUSE, STEP_DONE, STEP_DONE},
                                    [COUNTERS_ONLY] = {STEP_OUT, STEP_LOOK, STEP_REUSE, STEP_DONE},
                                    [LOOK_FIRST] = {STEP_LOOK, STEP_OUT, STEP_REUSE, STEP_DONE}};

struct memory {
    uint64_t main[STACK_BYTES / 8], other[STACK_BYTES / 8];
};

/* The stacks of a thread at a place, and its pc and sp. A signal handler runs on an alternate stack. */
static void lay_out(enum at at, struct memory *m, uint64_t *pc, uint64_t *sp)
{
    enum { TOP = STACK_BYTES / 8 - 4, FRAME = STACK_BYTES / 8 - 20 };
    static const uint64_t interrupted[] = {
        [IN_SIGNAL_SITE] = SITE, [IN_SIGNAL_SLOT] = SLOT + 1, [IN_SIGNAL_HANDLER] = HANDLER};
    bool calling = at == IN_HANDLER || at == IN_SIGNAL_HANDLER;
    memset(m, 0, sizeof *m);
    *sp = STACK + 8 * (calling ? TOP - 1 : TOP);
    if (calling)
        m->main[TOP - 1] = SLOT + 2;
    static const uint64_t pcs[] = {
        [AT_SITE] = SITE, [IN_SLOT_1] = SLOT, [IN_SLOT_2] = SLOT + 2, [IN_HANDLER] = HANDLER};
    if (at < IN_SIGNAL_SITE) {
        *pc = pcs[at];
        return;
    }
    uint64_t context[] = {*sp, interrupted[at], 0x202, 0x2bull << 48 | 0x33};
    memcpy(&m->other[FRAME], context, sizeof context);
    *pc = HANDLER + 8;
    *sp = SIGNAL_STACK + 8 * (FRAME - 4);
}

static size_t read_stack(void *context, uint64_t addr, uint64_t *words, size_t count)
{
    struct memory *m = context;
    const uint64_t *from = addr >= SIGNAL_STACK ? m->other + (addr - SIGNAL_STACK) / 8 : m->main + (addr - STACK) / 8;
    memcpy(words, from, count * 8);
    return count;
}

static bool find_stack(void *context, uint64_t addr, struct tl_look_stack *stack)
{
    (void)context;
    uint64_t start = addr >= SIGNAL_STACK ? SIGNAL_STACK : STACK;
    *stack = (struct tl_look_stack){start, start + STACK_BYTES, false};
    return addr >= start && addr < start + STACK_BYTES;
}

/* A breakpoint at the site that was executed leads to the slot. */
static uint64_t leads_to_slot(void *context, uint64_t pc)
{
    (void)context;
    return pc == SITE + 1 ? SLOT : 0;
}

static bool is_inside(enum at at, bool counters_only)
{
    struct memory memory;
    uint64_t pc, sp;
    uint8_t inside = 0;
    const struct tl_look_range slot = {SLOT, SLOT_END, 0};
    const struct tl_look look = {&slot, 1, &inside, read_stack, find_stack, leads_to_slot, &memory};
    lay_out(at, &memory, &pc, &sp);
    if (counters_only)
        return pc >= SLOT && pc < SLOT_END;
    tl_look_thread(&look, &pc, 1, sp, false);
    return inside;
}

struct search {
    enum plan plan;
    uint8_t seen[1 << 12];
    struct state queue[1 << 12];
    size_t tail;
    bool wrong;
};

static void reach(struct search *s, const struct state *state)
{
    unsigned code = state->at[0] | state->at[1] << 3 | state->step << 6 | state->old[0] << 8 | state->old[1] << 9;
    if (!s->seen[code])
        s->queue[s->tail++] = *state;
    s->seen[code] = 1;
}

static void run_thread(struct search *s, const struct state *state, int i)
{
    static const struct {
        uint8_t from, to;
    } moves[] = {{IN_SLOT_1, IN_SLOT_2},
                 {IN_SLOT_1, IN_HANDLER},
                 {IN_HANDLER, IN_SLOT_2},
                 {IN_SLOT_2, AT_SITE},
                 {AT_SITE, IN_SIGNAL_SITE},
                 {IN_SIGNAL_SITE, AT_SITE},
                 {IN_SLOT_2, IN_SIGNAL_SLOT},
                 {IN_SIGNAL_SLOT, IN_SLOT_2},
                 {IN_HANDLER, IN_SIGNAL_HANDLER},
                 {IN_SIGNAL_HANDLER, IN_HANDLER},
                 {AT_SITE, IN_SLOT_1}};
    unsigned out = 0, reused = 0;
    for (unsigned k = 0; k < state->step; k++) {
        out += orders[s->plan][k] == STEP_OUT;
        reused += orders[s->plan][k] == STEP_REUSE;
    }
    for (size_t k = 0; k < sizeof moves / sizeof *moves; k++) {
        if (moves[k].from != state->at[i] || (moves[k].to == IN_SLOT_1 && out))
            continue;
        struct state next = *state;
        next.at[i] = moves[k].to;
        if (moves[k].to == IN_SLOT_1 || moves[k].to == AT_SITE)
            next.old[i] = moves[k].to == IN_SLOT_1;
        bool executes = moves[k].to == IN_SLOT_2 || moves[k].to == IN_SLOT_1;
        s->wrong = s->wrong || (executes && next.old[i] && reused);
        reach(s, &next);
    }
}

static bool goes_wrong(enum plan plan)
{
    struct search *s = calloc(1, sizeof *s);
    s->plan = plan;
    reach(s, &(struct state){0});
    for (size_t head = 0; head < s->tail; head++) {
        struct state state = s->queue[head], next = state;
        next.step++;
        bool may = true;
        if (orders[plan][state.step] == STEP_LOOK) {
            for (int i = 0; i < THREADS; i++)
                may = may && !is_inside(state.at[i], plan == COUNTERS_ONLY);
        }
        if (orders[plan][state.step] != STEP_DONE && may)
            reach(s, &next);
        for (int i = 0; i < THREADS; i++)
            run_thread(s, &state, i);
    }
    bool wrong = s->wrong;
    assert_true(s->tail > 50);
    free(s);
    return wrong;
}

static void a_slot_is_reused_only_when_nobody_is_inside(void **unused)
{
    (void)unused;
    assert_false(goes_wrong(CORRECT));
    assert_false(is_inside(AT_SITE, false));
    assert_false(is_inside(IN_SIGNAL_SITE, false));
    assert_true(is_inside(IN_SIGNAL_HANDLER, false));
}

static void reuse_without_a_look_is_noticed(void **unused)
{
    (void)unused;
    assert_true(goes_wrong(NO_LOOK));
}

static void a_look_at_program_counters_alone_is_noticed(void **unused)
{
    (void)unused;
    assert_true(goes_wrong(COUNTERS_ONLY));
}

static void a_look_before_the_site_is_out_of_use_is_noticed(void **unused)
{
    (void)unused;
    assert_true(goes_wrong(LOOK_FIRST));
}

static void ranges_that_overlap_are_refused(void **unused)
{
    (void)unused;
    const struct tl_self_range good[] = {{30, 40}, {10, 20}, {20, 30}}, bad[] = {{10, 20}, {19, 30}}, none[] = {{5, 5}};
    struct tl_look_range sorted[3];
    assert_int_equal(tl_look_sort(good, 3, sorted), 0);
    assert_int_equal(sorted[0].index, 1);
    assert_int_equal(sorted[2].index, 0);
    assert_true(tl_look_sort(bad, 2, sorted) < 0);
    assert_true(tl_look_sort(none, 1, sorted) < 0);
}

static size_t read_nothing(void *context, uint64_t addr, uint64_t *words, size_t count)
{
    (void)context, (void)addr, (void)words, (void)count;
    return 0;
}

static void what_cannot_be_seen_counts_as_inside(void **unused)
{
    (void)unused;
    uint8_t inside[2] = {0, 0};
    const struct tl_look_range slots[] = {{SLOT, SLOT_END, 0}, {HANDLER, HANDLER + 1, 1}};
    const struct tl_look look = {slots, 2, inside, read_nothing, find_stack, leads_to_slot, NULL};
    const uint64_t pc = SITE;
    tl_look_thread(&look, &pc, 1, STACK + 64, false);
    assert_true(inside[0] && inside[1]);
    memset(inside, 0, sizeof inside);
    tl_look_thread(&look, &pc, 1, 64, false); /* a stack pointer that leads nowhere */
    assert_true(inside[0] && inside[1]);
}

static void who_has_executed_a_breakpoint_counts_as_inside(void **unused)
{
    (void)unused;
    struct memory memory;
    uint64_t pc, sp, before = SITE, behind = SITE + 1;
    uint8_t inside = 0;
    const struct tl_look_range slot = {SLOT, SLOT_END, 0};
    const struct tl_look look = {&slot, 1, &inside, read_stack, find_stack, leads_to_slot, &memory};
    lay_out(AT_SITE, &memory, &pc, &sp);
    tl_look_thread(&look, &before, 1, sp, false);
    assert_false(inside);
    tl_look_thread(&look, &behind, 1, sp, false); /* its signal is pending */
    assert_true(inside);
    inside = 0;
    lay_out(IN_SIGNAL_SITE, &memory, &pc, &sp);
    tl_look_thread(&look, &pc, 1, sp, false);
    assert_false(inside);
    for (size_t i = 0; i < STACK_BYTES / 8; i++)
        memory.other[i] += memory.other[i] == SITE;
    tl_look_thread(&look, &pc, 1, sp, false); /* in the handler of its signal */
    assert_true(inside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_is_reused_only_when_nobody_is_inside),
        cmocka_unit_test(reuse_without_a_look_is_noticed),
        cmocka_unit_test(a_look_at_program_counters_alone_is_noticed),
        cmocka_unit_test(a_look_before_the_site_is_out_of_use_is_noticed),
        cmocka_unit_test(ranges_that_overlap_are_refused),
        cmocka_unit_test(what_cannot_be_seen_counts_as_inside),
        cmocka_unit_test(who_has_executed_a_breakpoint_counts_as_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
