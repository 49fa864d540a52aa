/* SPDX-License-Identifier: MIT
 *
 * Nobody may be left in memory that is about to go.
 *
 * A program counter in there is moved to where the program would be without us, or has to run on. Beside program
 * counters there are saved ones: a signal that came inside a trampoline left a frame on some stack (stacks.c). Other
 * words that happen to look like our addresses are what earlier calls left behind, and mean nothing: our code returns
 * into itself only while a program counter is in it.
 *
 * A thread in the broker's handler, or in what a guard calls, has its program counter in the runtime, or, where a signal
 * came to a guard, a saved one: it runs on. So masks and actions are given back under nobody.
 *
 * A thread that a guard has sent to sleep in a system call of the program's makes that call again from where the
 * program makes it. One for which an instruction has just raised a signal runs on: the signal tells where that was.
 */
#include "hit/abi.h"
#include "host/remote/internal.h"

#include <stdlib.h>

struct evacuation {
    struct tl_remote *r;
    tl_locate *locate;
    void *context;
    struct tl_broker *broker; /* a copy; NULL: not armed */
    bool held;                /* somebody has to run on */
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

/* Its registers as the program had them, before the call. False: it is not asleep, or not any more. */
static bool wake_up(struct tl_remote *r, const struct tl_task *task, struct user_regs_struct *regs)
{
    struct tl_hit_regs saved;
    if (!r->asleep || task->regs.rip != r->asleep || !tl_in_restartable_call(&task->regs) ||
        tl_mem_read(r, task->regs.rsp, &saved, sizeof saved))
        return false;
    const uint64_t *reg = saved.r;
    regs->rax = reg[TL_RAX], regs->rcx = reg[TL_RCX], regs->rdx = reg[TL_RDX], regs->rbx = reg[TL_RBX];
    regs->rsp = reg[TL_RSP], regs->rbp = reg[TL_RBP], regs->rsi = reg[TL_RSI], regs->rdi = reg[TL_RDI];
    regs->r8 = reg[TL_R8], regs->r9 = reg[TL_R9], regs->r10 = reg[TL_R10], regs->r11 = reg[TL_R11];
    regs->r12 = reg[TL_R12], regs->r13 = reg[TL_R13], regs->r14 = reg[TL_R14], regs->r15 = reg[TL_R15];
    regs->rip = reg[TL_RIP] - 2;
    regs->eflags = reg[TL_RFLAGS];
    regs->orig_rax = (uint64_t)-1;
    return true;
}

static int set_task(struct tl_task *task, const struct user_regs_struct *regs)
{
    tl_remote_step("move");
    int result = tl_set_regs(task->tid, regs);
    if (result == 0)
        task->regs = *regs;
    return result == -ESRCH ? 0 : result;
}

/* Inside of the one instruction for which the broker has set TF. */
static bool is_stepping(const struct evacuation *e, const struct tl_task *task)
{
    const struct tl_broker_thread *thread =
        e->broker && !task->outside ? tl_broker_thread(e->broker, task->regs.fs_base) : NULL;
    return thread && thread->step && thread->step == task->regs.rip;
}

static int copy_broker(struct evacuation *e)
{
    e->broker = e->r->broker ? malloc(sizeof *e->broker) : NULL;
    if (!e->r->broker)
        return 0;
    return e->broker ? tl_mem_read(e->r, e->r->broker, e->broker, sizeof *e->broker) : -ENOMEM;
}

static int move_task(struct evacuation *e, struct tl_task *task)
{
    uint64_t original;
    int fix_rcx = 0;
    struct user_regs_struct regs = task->regs;
    if (tl_has_raised(task->tid) || is_stepping(e, task)) {
        e->held = true;
        return 0;
    }
    if (wake_up(e->r, task, &regs))
        return set_task(task, &regs);
    int result = e->locate(e->context, task->regs.rip, &original, &fix_rcx);
    if (result == 0) {
        regs.rip = original;
        if (fix_rcx)
            regs.rcx = original;
        return set_task(task, &regs);
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
    if (result)
        return result;
    result = copy_broker(&e);
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
    free(e.broker);
    return result ? result : e.held ? -EAGAIN : 0;
}
