/* SPDX-License-Identifier: MIT
 *
 * A thread is inside code if its program counter is; it may come back into it if the address is anywhere where a return
 * or a jump could take it from: in a register, on its stack, in the frame of a signal that interrupted it there. Words
 * on a stack are not told apart from what earlier calls left behind: what may be an address is one. Then a slot is
 * reused later than it could be; the other way round would be a crash.
 *
 * From the frame of a signal the look goes on to the stack that was interrupted: handlers may run on an alternate one.
 * Handlers of probes run on stacks of their own, too; these are small, and everything on them that may be the address
 * of a stack is followed.
 */
#include "host/self/look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_MAX = 8 << 20, CHUNK = 512, STACKS = 256, RED_ZONE = 128 };

/* Words of a saved context, from its rsp on. */
enum { SAVED_SP, SAVED_IP, SAVED_FLAGS, SAVED_SEGMENTS, SAVED_WORDS };

static int by_start(const void *a, const void *b)
{
    const struct tl_look_range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

int tl_look_sort(const struct tl_self_range *ranges, size_t count, struct tl_look_range *sorted)
{
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct tl_look_range){ranges[i].start, ranges[i].end, i};
    if (count > 1)
        qsort(sorted, count, sizeof *sorted, by_start);
    for (size_t i = 0; i < count; i++) {
        if (sorted[i].end <= sorted[i].start || (i > 0 && sorted[i].start < sorted[i - 1].end))
            return -EINVAL;
    }
    return 0;
}

static void look_at(const struct tl_look *look, uint64_t word)
{
    if (look->count == 0 || word < look->ranges[0].start || word >= look->ranges[look->count - 1].end)
        return;
    for (size_t from = 0, to = look->count; from < to;) {
        size_t middle = from + (to - from) / 2;
        const struct tl_look_range *range = &look->ranges[middle];
        if (word < range->start)
            to = middle;
        else if (word >= range->end)
            from = middle + 1;
        else {
            look->inside[range->index] = 1;
            return;
        }
    }
}

static void look_at_pc(const struct tl_look *look, uint64_t pc)
{
    look_at(look, pc);
    look_at(look, look->leads(look->context, pc));
}

static void give_up(const struct tl_look *look)
{
    memset(look->inside, 1, look->count);
}

struct stacks {
    const struct tl_look *look;
    struct {
        uint64_t from, to;
        bool handlers;
    } list[STACKS];
    size_t count;
    bool unseen; /* something was not looked at, which may lead back */
};

static void follow(struct stacks *stacks, uint64_t sp, bool certain)
{
    struct tl_look_stack stack;
    uint64_t from = sp - RED_ZONE;
    for (size_t i = 0; i < stacks->count; i++) {
        if (from >= stacks->list[i].from && from < stacks->list[i].to)
            return;
    }
    bool found = stacks->look->stack(stacks->look->context, sp, &stack);
    if (!found || (stack.handlers && !certain)) {
        stacks->unseen = stacks->unseen || (!found && stacks->count == 0);
        return;
    }
    if (stacks->count == STACKS) {
        stacks->unseen = true;
        return;
    }
    from = from < stack.start ? stack.start : from;
    stacks->list[stacks->count].from = from;
    stacks->list[stacks->count].to = stack.end - from > STACK_MAX ? from + STACK_MAX : stack.end;
    stacks->list[stacks->count++].handlers = stack.handlers;
}

static bool is_context(const uint64_t *word)
{
    uint64_t segments = word[SAVED_SEGMENTS];
    return (segments & 0xffff) == 0x33 && (segments >> 48 == 0x2b || segments >> 48 == 0) &&
           (word[SAVED_FLAGS] & ~0x3fffffull) == 0 && (word[SAVED_FLAGS] & 0x202) == 0x202 &&
           word[SAVED_SP] < 1ull << 47;
}

static void search(struct stacks *stacks, size_t index, bool only_contexts)
{
    const struct tl_look *look = stacks->look;
    uint64_t words[CHUNK], at = stacks->list[index].from;
    const uint64_t to = stacks->list[index].to;
    while (to - at >= 8) {
        size_t count = (to - at) / 8 < CHUNK ? (to - at) / 8 : CHUNK;
        count = look->read(look->context, at, words, count);
        stacks->unseen = stacks->unseen || (count == 0 && at == stacks->list[index].from);
        for (size_t i = 0; i < count; i++) {
            if (!only_contexts)
                look_at(look, words[i]);
            if (i + SAVED_WORDS <= count && is_context(words + i)) {
                look_at_pc(look, words[i + SAVED_IP]);
                follow(stacks, words[i + SAVED_SP], true);
            } else if (stacks->list[index].handlers && words[i] % 8 == 0)
                follow(stacks, words[i], false);
        }
        if (count < SAVED_WORDS)
            return; /* not readable from here on */
        at += 8 * (to - at == 8 * count ? count : count - SAVED_WORDS + 1);
    }
}

void tl_look_thread(const struct tl_look *look, const uint64_t *registers, size_t count, uint64_t sp,
                    bool only_contexts)
{
    struct stacks stacks = {.look = look};
    if (count > 0)
        look_at_pc(look, registers[0]);
    for (size_t i = 1; i < count; i++)
        look_at(look, registers[i]);
    follow(&stacks, sp, true);
    if (sp % 8)
        follow(&stacks, (sp + 8) & ~7ull, true);
    for (size_t i = 0; i < stacks.count; i++)
        search(&stacks, i, only_contexts);
    if (stacks.unseen)
        give_up(look);
}
