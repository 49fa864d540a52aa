/* SPDX-License-Identifier: MIT
 *
 * Is anybody in there? All other threads are stopped for the look (look.c).
 *
 * A breakpoint that has been executed leads to its trampoline, whatever the text holds by now: from its signal, which
 * may still be pending when the thread is stopped, or from the broker's handler, which may not have got so far. Both go
 * by the program counter behind the breakpoint.
 */
#include "host/self/internal.h"
#include "host/self/look.h"
#include "host/self/world.h"

#include "hit/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

enum { SIGNALS_AT_ONCE = 4 };

struct places {
    const struct tl_self *self;
    const struct tl_line *lines;
    size_t line_count;
};

static size_t read_words(void *context, uint64_t addr, uint64_t *words, size_t count)
{
    (void)context;
    return tl_peek(addr, words, count * 8) / 8;
}

static bool find_stack(void *context, uint64_t addr, struct tl_look_stack *stack)
{
    const struct places *places = context;
    const struct tl_self *self = places->self;
    *stack = (struct tl_look_stack){0};
    for (size_t i = 0; i < self->stack_count; i++) {
        if (addr >= self->stacks[i].start && addr < self->stacks[i].end) {
            *stack = (struct tl_look_stack){self->stacks[i].start, self->stacks[i].end, true};
            return true;
        }
    }
    const struct tl_line *line = tl_line_at(places->lines, places->line_count, addr);
    if (!line || !line->readable || !line->writable)
        return false;
    stack->start = line->start;
    stack->end = line->end;
    return true;
}

/* An instruction of the thread's has raised a signal, which is on its way. */
static bool has_raised(struct tl_world *world, pid_t tid, uint64_t mask)
{
    struct tl_siginfo infos[SIGNALS_AT_ONCE];
    struct __ptrace_peeksiginfo_args from = {.nr = SIGNALS_AT_ONCE};
    long count;
    while ((count = tl_world_ptrace(world, PTRACE_PEEKSIGINFO, tid, &from, infos)) > 0) {
        for (long i = 0; i < count; i++) {
            int number = infos[i].number;
            if (number > 0 && number <= TL_SIGNALS && TL_THE_FIVE & ~mask & TL_SIGNAL_BIT(number) && infos[i].code > 0)
                return true;
        }
        from.off += (unsigned long long)count;
    }
    return false;
}

bool tl_comes_to_broker(const struct tl_self *self, struct tl_world *world, const struct tl_world_task *task)
{
    uint8_t stack[TL_BROKER_DEPTH] __attribute__((aligned(8)));
    uint64_t mask;
    return tl_world_ptrace(world, PTRACE_GETSIGMASK, task->tid, (void *)sizeof mask, &mask) ||
           has_raised(world, task->tid, mask) ||
           tl_broker_is_inside(self->broker, mask, stack, tl_peek(task->regs.rsp, stack, sizeof stack));
}

/* Where a thread goes on that has just executed a breakpoint in front of pc, if there is one, or was. */
static uint64_t leads(void *context, uint64_t pc)
{
    const struct places *places = context;
    const struct tl_broker_tables *tables = places->self->broker ? tl_broker_tables(places->self->broker) : NULL;
    const struct tl_trap *trap = tables ? tl_trap_find(tables, pc - 1) : NULL;
    return trap ? trap->to : 0;
}

static void look_at_task(const struct tl_look *look, const struct user_regs_struct *r)
{
    const uint64_t registers[] = {r->rip, r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->rsp,
                                  r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    tl_look_thread(look, registers, sizeof registers / sizeof *registers, r->rsp, false);
}

int tl_inside(struct tl_self *self, const struct tl_self_range *ranges, size_t count, uint8_t *inside,
              struct tl_error *error)
{
    struct places places = {.self = self};
    struct tl_line *lines = NULL;
    struct tl_look_range *sorted = calloc(count ? count : 1, sizeof *sorted);
    int result = sorted ? tl_look_sort(ranges, count, sorted) : -ENOMEM;
    if (result == 0)
        result = tl_lines_read(&lines, &places.line_count);
    if (result)
        tl_explain(error, result, "it cannot be seen who is inside a trampoline");
    places.lines = lines;
    struct tl_world *world = NULL;
    if (result == 0 && tl_world_threads() != 1) {
        result = tl_world_stop(&world);
        if (result)
            tl_explain_stop(error, result);
    }
    if (result == 0) {
        struct tl_look look = {sorted, count, inside, read_words, find_stack, leads, &places};
        memset(inside, 0, count);
        for (size_t i = 0; world && i < world->count; i++)
            look_at_task(&look, &world->tasks[i].regs);
        tl_look_thread(&look, NULL, 0, (uint64_t)__builtin_frame_address(0), true);
        if (world)
            tl_world_resume(world);
    }
    free(lines);
    free(sorted);
    return result;
}

bool tl_nobody_inside(struct tl_self *self, const struct tl_plan *plan)
{
    struct tl_self_range *ranges = calloc(plan->map_count + 1, sizeof *ranges);
    uint8_t *inside = calloc(1, plan->map_count + 1);
    bool nobody = ranges && inside;
    for (size_t i = 0; i < plan->map_count && nobody; i++)
        ranges[i] = (struct tl_self_range){plan->maps[i].addr, plan->maps[i].addr + plan->maps[i].size};
    if (nobody && plan->map_count)
        nobody = tl_inside(self, ranges, plan->map_count, inside, NULL) == 0 && !memchr(inside, 1, plan->map_count);
    free(ranges);
    free(inside);
    return nobody;
}

int tl_self_inside(struct tl_self *self, const struct tl_self_range *ranges, size_t count, uint8_t *inside,
                   struct tl_error *error)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    result = tl_inside(self, ranges, count, inside, error);
    tl_leave(&entered);
    return result;
}

static bool is_on_one_stack(struct places *places, uint64_t one, uint64_t other)
{
    struct tl_look_stack here, there;
    return find_stack(places, one, &here) && find_stack(places, other, &there) && here.start == there.start;
}

/* Where nobody else is, the caller looks on behalf of threads that have ended. */
static bool has_left(struct places *places, const struct tl_world *world, uint64_t fs_base,
                     const struct tl_self_range *stack, uint64_t frame)
{
    enum { BELOW_FRAME = 16, FRAME = 64 };
    struct tl_self_range ranges[2] = {{frame - BELOW_FRAME, frame + FRAME}};
    struct tl_look_range sorted[2];
    uint8_t inside[2] = {0};
    struct tl_look look = {sorted, stack ? 2 : 1, inside, read_words, find_stack, leads, places};
    if (stack)
        ranges[1] = *stack;
    for (size_t i = 0; world && i < world->count; i++) {
        const struct user_regs_struct *r = &world->tasks[i].regs;
        if (r->fs_base != fs_base)
            continue;
        if (tl_look_sort(ranges, look.count, sorted) || (stack && !is_on_one_stack(places, r->rsp, frame)))
            return false;
        look_at_task(&look, r);
        return !inside[0] && !inside[1];
    }
    return true; /* it has ended */
}

int tl_self_note_left(struct tl_self *self, const uint64_t *fs_base, const struct tl_self_range *stack, uint64_t *frame,
                      struct tl_error *error)
{
    struct tl_entered entered;
    struct places places = {.self = self};
    struct tl_line *lines = NULL;
    struct tl_world *world = NULL;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    result = tl_lines_read(&lines, &places.line_count);
    places.lines = lines;
    if (result == 0 && tl_world_threads() != 1)
        result = tl_world_stop(&world);
    uint64_t now = __atomic_load_n(frame, __ATOMIC_ACQUIRE);
    if (result == 0 && now && has_left(&places, world, *fs_base, stack, now))
        __atomic_store_n(frame, 0, __ATOMIC_RELEASE);
    if (world)
        tl_world_resume(world);
    free(lines);
    tl_leave(&entered);
    return result ? tl_explain_stop(error, result) : 0;
}

int tl_self_add_stacks(struct tl_self *self, const struct tl_self_range *stacks)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return result;
    struct tl_self_range *more = realloc(self->stacks, (self->stack_count + 1) * sizeof *more);
    if (more) {
        self->stacks = more;
        self->stacks[self->stack_count++] = *stacks;
    }
    tl_leave(&entered);
    return more ? 0 : -ENOMEM;
}
