/* SPDX-License-Identifier: MIT
 *
 * Nobody may be left in memory that is about to go.
 *
 * A program counter in there is moved to where the program would be without us, or has to run on. Beside program
 * counters there are saved ones: a signal that came inside a trampoline left a frame on some stack (stacks.c). Other
 * words that happen to look like our addresses are what earlier calls left behind, and mean nothing: our code returns
 * into itself only while a program counter is in it.
 */
#include "host/remote/internal.h"

#include <stdlib.h>

struct evacuation {
    struct tl_remote *r;
    tl_locate *locate;
    void *context;
    bool held; /* somebody has to run on */
};

static bool saved_context(void *context, uint64_t at, const uint64_t *word)
{
    struct evacuation *e = context;
    uint64_t original;
    int fix_rcx = 0;
    switch (e->locate(e->context, word[TL_SAVED_IP], &original, &fix_rcx)) {
    case 0:
        tl_remote_step("saved context");
        if (fix_rcx)
            tl_mem_write(e->r, at + 8 * TL_SAVED_CX, &original, 8);
        tl_mem_write(e->r, at + 8 * TL_SAVED_IP, &original, 8);
        return true;
    case -ENOENT:
        return true;
    default:
        e->held = true;
        return false;
    }
}

static int move_task(struct evacuation *e, struct tl_task *task)
{
    uint64_t original;
    int fix_rcx = 0;
    int result = e->locate(e->context, task->regs.rip, &original, &fix_rcx);
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
        e->held = true;
    return 0;
}

int tl_port_evacuate(struct tl_remote *r, tl_locate *locate, void *context)
{
    if (r->stops == 0)
        return -EINVAL;
    struct evacuation e = {.r = r, .locate = locate, .context = context};
    struct tl_remote_area *areas;
    size_t area_count;
    int result = tl_read_areas(r->pid, &areas, &area_count);
    for (size_t i = 0; i < r->task_count && result == 0; i++)
        result = move_task(&e, &r->tasks[i]);
    for (size_t i = 0; i < r->task_count && result == 0 && !e.held; i++) {
        result = tl_saved_contexts(r, areas, area_count, &r->tasks[i], saved_context, &e);
        if (result == -E2BIG) { /* what was not looked at may lead back to us */
            e.held = true;
            result = 0;
        }
    }
    free(areas);
    return result ? result : e.held ? -EAGAIN : 0;
}
