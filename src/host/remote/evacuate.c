/* SPDX-License-Identifier: MIT
 *
 * Nobody may be left in memory that is about to go.
 *
 * A program counter in there is moved to where the program would be without us, or has to run on. Beside program
 * counters there are saved ones: a signal that came inside a trampoline left a frame on some stack. These frames are
 * looked for from each stack pointer upward (the frame's own saved stack pointer leads on to the next stack, where a
 * handler runs on an alternate one). Other words that happen to look like our addresses are what earlier calls left
 * behind, and mean nothing: our code returns into itself only while a program counter is in it.
 */
#include "host/remote/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STACK_MAX = 8 << 20, CHUNK_WORDS = 8192, STACKS = 64, RED_ZONE = 128 };

/* Words of a saved context, from its rcx on. */
enum { SAVED_CX, SAVED_SP, SAVED_IP, SAVED_FLAGS, SAVED_SEGMENTS, SAVED_WORDS };

struct search {
    struct tl_remote *r;
    tl_locate *locate;
    void *context;
    const struct tl_remote_area *areas;
    size_t area_count;
    struct {
        uint64_t from, to;
    } stacks[STACKS];
    size_t stack_count;
    bool held; /* somebody has to run on */
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
        s->held = true; /* what was not looked at may lead back to us */
        return;
    }
    from = from < area->start ? area->start : from;
    uint64_t to = area->end - from > STACK_MAX ? from + STACK_MAX : area->end;
    s->stacks[s->stack_count].from = from;
    s->stacks[s->stack_count++].to = to;
}

static bool plausible(const uint64_t *word)
{
    uint64_t segments = word[SAVED_SEGMENTS];
    return (segments & 0xffff) == 0x33 && (segments >> 48 == 0x2b || segments >> 48 == 0) &&
           (word[SAVED_FLAGS] & ~0x3fffffull) == 0 && (word[SAVED_FLAGS] & 0x202) == 0x202 &&
           word[SAVED_SP] < 1ull << 47;
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

static void saved_context(struct search *s, uint64_t at, const uint64_t *word, uint64_t rsp)
{
    uint64_t original;
    int fix_rcx = 0;
    if (is_left_behind(s, at, rsp))
        return;
    add_stack(s, word[SAVED_SP]);
    switch (s->locate(s->context, word[SAVED_IP], &original, &fix_rcx)) {
    case 0:
        tl_remote_step("saved context");
        if (fix_rcx)
            tl_mem_write(s->r, at + 8 * SAVED_CX, &original, 8);
        tl_mem_write(s->r, at + 8 * SAVED_IP, &original, 8);
        return;
    case -ENOENT:
        return;
    default:
        s->held = true;
    }
}

static void search_stack(struct search *s, uint64_t from, uint64_t to, uint64_t *words)
{
    const uint64_t rsp = from + RED_ZONE;
    while (to - from >= 8 * SAVED_WORDS) {
        size_t count = (to - from) / 8 < CHUNK_WORDS ? (to - from) / 8 : CHUNK_WORDS;
        if (tl_mem_read(s->r, from, words, count * 8)) {
            /* A page that cannot be read (a guard, a device): look behind it. */
            uint64_t next = (from | (TL_PAGE - 1)) + 1;
            size_t part = next < to ? (next - from) / 8 : count;
            if (tl_mem_read(s->r, from, words, part * 8)) {
                from = next < to ? next : to;
                continue;
            }
            count = part;
        }
        for (size_t i = 0; i + SAVED_WORDS <= count; i++) {
            if (plausible(words + i))
                saved_context(s, from + 8 * i, words + i, rsp);
        }
        from += 8 * (count > SAVED_WORDS ? count - SAVED_WORDS + 1 : count);
    }
}

static int move_task(struct search *s, struct tl_task *task)
{
    uint64_t original;
    int fix_rcx = 0;
    int result = s->locate(s->context, task->regs.rip, &original, &fix_rcx);
    if (result == 0) {
        struct user_regs_struct regs = task->regs;
        regs.rip = original;
        if (fix_rcx)
            regs.rcx = original;
        tl_remote_step("move");
        result = tl_set_regs(task->tid, &regs);
        if (result == 0)
            task->regs = regs;
        return result == -ESRCH ? 0 : result;
    }
    if (result != -ENOENT)
        s->held = true;
    return 0;
}

int tl_port_evacuate(struct tl_remote *r, tl_locate *locate, void *context)
{
    if (r->stops == 0)
        return -EINVAL;
    struct search s = {.r = r, .locate = locate, .context = context};
    struct tl_remote_area *areas;
    int result = tl_read_areas(r->pid, &areas, &s.area_count);
    uint64_t *words = malloc(CHUNK_WORDS * sizeof *words);
    s.areas = areas;
    if (result == 0 && !words)
        result = -ENOMEM;
    for (size_t i = 0; i < r->task_count && result == 0; i++)
        result = move_task(&s, &r->tasks[i]);
    for (size_t i = 0; i < r->task_count && result == 0 && !s.held; i++) {
        s.stack_count = 0;
        add_stack(&s, r->tasks[i].regs.rsp);
        for (size_t j = 0; j < s.stack_count; j++)
            search_stack(&s, s.stacks[j].from, s.stacks[j].to, words);
    }
    free(words);
    free(areas);
    return result ? result : s.held ? -EAGAIN : 0;
}
