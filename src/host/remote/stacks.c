/* SPDX-License-Identifier: MIT
 *
 * Contexts that signals have saved. Each handler that has not returned yet has a frame on some stack, with the
 * registers and the signal mask that its thread goes on with. These frames are looked for from each stack pointer
 * upward (the frame's own saved stack pointer leads on to the next stack, where a handler runs on an alternate one).
 */
#include "host/remote/internal.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { STACK_MAX = 8 << 20, CHUNK_WORDS = 8192, STACKS = 64, RED_ZONE = 128 };

struct search {
    struct tl_remote *r;
    const struct tl_remote_area *areas;
    size_t area_count;
    uint64_t *words;
    struct {
        uint64_t from, to;
    } stacks[STACKS];
    size_t stack_count;
    bool incomplete;
};

static void add_stack(struct search *s, uint64_t rsp)
{
    uint64_t from = (rsp - RED_ZONE) & ~7ull;
    for (size_t i = 0; i < s->stack_count; i++) {
        if (from >= s->stacks[i].from && from < s->stacks[i].to)
            return;
    }
    const struct tl_remote_area *area = tl_area_at(s->areas, s->area_count, rsp);
    if (!area || !(area->prot & PROT_READ))
        return;
    if (s->stack_count == STACKS) {
        s->incomplete = true;
        return;
    }
    from = from < area->start ? area->start : from;
    uint64_t to = area->end - from > STACK_MAX ? from + STACK_MAX : area->end;
    s->stacks[s->stack_count].from = from;
    s->stacks[s->stack_count++].to = to;
}

static bool plausible(const uint64_t *word)
{
    uint64_t segments = word[TL_SAVED_SEGMENTS];
    return (segments & 0xffff) == 0x33 && (segments >> 48 == 0x2b || segments >> 48 == 0) &&
           (word[TL_SAVED_FLAGS] & ~0x3fffffull) == 0 && (word[TL_SAVED_FLAGS] & 0x202) == 0x202 &&
           word[TL_SAVED_SP] < 1ull << 47;
}

bool tl_saved_plausible(struct tl_remote *r, uint64_t at)
{
    uint64_t word[TL_SAVED_WORDS];
    return tl_mem_read(r, at, word, sizeof word) == 0 && plausible(word);
}

/* Whether the frame around a saved context stands on an alternate stack on which nobody is: left behind by a handler
 * that has returned. The frame itself tells which alternate stack was in force (Go keeps all its stacks side by side).
 */
static bool is_left_behind(const struct search *s, uint64_t at, uint64_t rsp)
{
    uint64_t stack[3]; /* ss_sp, ss_flags, ss_size; the general registers begin right behind, rcx is the 15th of them */
    if (tl_mem_read(s->r, at - 14 * 8 - sizeof stack, stack, sizeof stack))
        return false;
    return at - stack[0] < stack[2] && rsp < stack[0];
}

static bool search_stack(struct search *s, uint64_t from, uint64_t to, tl_saved_visit *visit, void *context)
{
    const uint64_t rsp = from + RED_ZONE;
    while (to - from >= 8 * TL_SAVED_WORDS) {
        size_t count = (to - from) / 8 < CHUNK_WORDS ? (to - from) / 8 : CHUNK_WORDS;
        if (tl_mem_read(s->r, from, s->words, count * 8)) {
            /* A page that cannot be read (a guard, a device): look behind it. */
            uint64_t next = (from | (TL_PAGE - 1)) + 1;
            size_t part = next < to ? (next - from) / 8 : count;
            if (tl_mem_read(s->r, from, s->words, part * 8)) {
                from = next < to ? next : to;
                continue;
            }
            count = part;
        }
        for (size_t i = 0; i + TL_SAVED_WORDS <= count; i++) {
            uint64_t at = from + 8 * i;
            if (!plausible(s->words + i) || is_left_behind(s, at, rsp))
                continue;
            add_stack(s, s->words[i + TL_SAVED_SP]);
            if (!visit(context, at, s->words + i))
                return false;
        }
        from += 8 * (count > TL_SAVED_WORDS ? count - TL_SAVED_WORDS + 1 : count);
    }
    return true;
}

int tl_saved_contexts(struct tl_remote *r, const struct tl_remote_area *areas, size_t area_count,
                      const struct tl_task *task, tl_saved_visit *visit, void *context)
{
    struct search s = {.r = r, .areas = areas, .area_count = area_count};
    s.words = malloc(CHUNK_WORDS * sizeof *s.words);
    if (!s.words)
        return -ENOMEM;
    add_stack(&s, task->regs.rsp);
    for (size_t i = 0; i < s.stack_count; i++) {
        if (!search_stack(&s, s.stacks[i].from, s.stacks[i].to, visit, context))
            break;
    }
    free(s.words);
    return s.incomplete ? -E2BIG : 0;
}
