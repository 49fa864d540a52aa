/* SPDX-License-Identifier: MIT
 *
 * How a list is taken out of use (src/hit/call.h), as a small model: every interleaving of a thread that hits three
 * times with one that replaces the list twice and frees what is quiet, on a processor that keeps stores in a buffer,
 * first in, first out, as x86 does. A list that is freed is poison: no hit may be in it. Left-out steps have to show.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME, LIST, LISTS, WORDS }; /* memory: the record's two words, the pointer to the list in force */
enum { A = 1, B = 2, C = 3, BUFFER = 6, HITS = 3, TABLE = 1 << 20 };

struct store {
    uint8_t word, value;
};

struct state {
    uint8_t memory[WORDS];
    struct store buffer[BUFFER]; /* of the thread that hits */
    uint8_t buffered;
    uint8_t reader, hits, list, uses; /* where it is; its hits so far; what it has loaded; what it is in (0: nothing) */
    uint8_t writer, old, next, frame; /* where it is; what it has replaced, by what; what it has loaded */
    uint8_t freed;                    /* bits */
};

static struct {
    bool no_barrier, no_second_look, no_first_store;
} leave_out;

static struct state *stack, *seen;
static uint8_t *used;
static size_t depth, states;
static bool violated;

static uint64_t hash(const struct state *state)
{
    const uint8_t *bytes = (const uint8_t *)state;
    uint64_t sum = 14695981039346656037ull;
    for (size_t i = 0; i < sizeof(*state); i++)
        sum = (sum ^ bytes[i]) * 1099511628211ull;
    return sum;
}

static void visit(const struct state *state)
{
    size_t at = hash(state) % TABLE;
    while (used[at]) {
        if (!memcmp(&seen[at], state, sizeof(*state)))
            return;
        at = (at + 1) % TABLE;
    }
    assert_true(++states < TABLE / 2);
    used[at] = 1;
    seen[at] = *state;
    stack[depth++] = *state;
}

static uint8_t load(const struct state *state, uint8_t word)
{
    for (int i = state->buffered - 1; i >= 0; i--)
        if (state->buffer[i].word == word)
            return state->buffer[i].value;
    return state->memory[word];
}

static void drain_one(struct state *state)
{
    state->memory[state->buffer[0].word] = state->buffer[0].value;
    memmove(&state->buffer[0], &state->buffer[1], sizeof(state->buffer) - sizeof(state->buffer[0]));
    state->buffer[--state->buffered] = (struct store){0, 0};
}

static void store(struct state *state, uint8_t word, uint8_t value)
{
    if (state->buffered == BUFFER)
        drain_one(state);
    state->buffer[state->buffered++] = (struct store){word, value};
}

/* One step of tl_call_enter. */
static void read_on(struct state *state)
{
    switch (state->reader) {
    case 0:
        if (!leave_out.no_first_store)
            store(state, FRAME, 1);
        break;
    case 1:
        state->list = load(state, LISTS);
        break;
    case 2:
        store(state, LIST, state->list);
        break;
    case 3:
        if (!leave_out.no_second_look && load(state, LISTS) != state->list) {
            state->reader = 1;
            return;
        }
        state->uses = state->list;
        break;
    case 4:
        state->uses = 0;
        break;
    default:
        store(state, FRAME, 0);
        state->hits++;
        state->reader = 0;
        return;
    }
    state->reader++;
}

/* One step of tl_call_swap, the barrier, tl_call_quiet until it says so, and the end of the old list. */
static void write_on(struct state *state)
{
    switch (state->writer) {
    case 0:
        state->old = state->memory[LISTS];
        state->memory[LISTS] = state->next;
        break;
    case 1:
        while (!leave_out.no_barrier && state->buffered)
            drain_one(state);
        break;
    case 2:
        state->frame = state->memory[FRAME];
        break;
    case 3:
        if (state->frame && state->memory[LIST] == state->old) {
            state->writer = 2;
            return;
        }
        break;
    default:
        state->freed |= (uint8_t)(1 << state->old);
        state->next++;
        state->writer = 0;
        state->old = state->frame = 0;
        return;
    }
    state->writer++;
}

static void explore(void)
{
    struct state start = {.memory = {0, 0, A}, .next = B};
    memset(used, 0, TABLE);
    depth = states = 0;
    violated = false;
    visit(&start);
    while (depth) {
        struct state now = stack[--depth], then;
        violated = violated || (now.uses && now.freed >> now.uses & 1);
        if (now.hits < HITS) {
            then = now;
            read_on(&then);
            visit(&then);
        }
        if (now.next <= C) {
            then = now;
            write_on(&then);
            visit(&then);
        }
        if (now.buffered) {
            then = now;
            drain_one(&then);
            visit(&then);
        }
    }
}

static void no_hit_is_in_a_list_that_is_gone(void **unused)
{
    (void)unused;
    memset(&leave_out, 0, sizeof(leave_out));
    explore();
    assert_false(violated);
    assert_true(states > 1000);
}

static void each_step_is_needed(void **unused)
{
    (void)unused;
    memset(&leave_out, 0, sizeof(leave_out));
    leave_out.no_barrier = true;
    explore();
    assert_true(violated);
    memset(&leave_out, 0, sizeof(leave_out));
    leave_out.no_second_look = true;
    explore();
    assert_true(violated);
    memset(&leave_out, 0, sizeof(leave_out));
    leave_out.no_first_store = true;
    explore();
    assert_true(violated);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_hit_is_in_a_list_that_is_gone),
        cmocka_unit_test(each_step_is_needed),
    };
    stack = calloc(TABLE, sizeof(*stack));
    seen = calloc(TABLE, sizeof(*seen));
    used = calloc(TABLE, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
