/* SPDX-License-Identifier: MIT
 *
 * One task of the target makes a few system calls for us, one at a time, with a stop before and after each.
 *
 * What would happen if we died now:
 *
 *   - while the frame is being written: dead memory holds some bytes;
 *   - with registers set and signals not yet blocked: the call runs, and `ret` leads to the restorer, which leads back;
 *     a signal's handler may run before that, and has room below the frame;
 *   - with signals blocked: the same, and the restorer's rt_sigreturn opens them again;
 *   - with the calls done and signals open again: `ret`, the restorer, back;
 *   - with registers restored: as if nothing had been.
 *
 * That fixes the order: mask after registers on the way in, before them on the way out. No instruction is ever
 * single-stepped.
 */
#include "host/remote/internal.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { CALL_MS = 10000 };

int tl_get_mask(pid_t tid, uint64_t *mask)
{
    return ptrace(PTRACE_GETSIGMASK, tid, sizeof *mask, mask) == 0 ? 0 : -errno;
}

int tl_set_mask(pid_t tid, uint64_t mask)
{
    return ptrace(PTRACE_SETSIGMASK, tid, sizeof mask, &mask) == 0 ? 0 : -errno;
}

/* A task of the group itself (it has the group's descriptors), by preference one that is not inside a call; or the one
 * that has to be it. */
struct tl_task *tl_worker(struct tl_remote *r)
{
    struct tl_task *best = NULL;
    for (size_t i = 0; i < r->task_count; i++) {
        struct tl_task *task = &r->tasks[i];
        if (r->sender && task->tid == r->sender)
            return task;
        if (!task->outside && (!best || (!tl_in_restartable_call(&task->regs) && tl_in_restartable_call(&best->regs))))
            best = task;
    }
    return best;
}

/* Inside a restartable sequence: the stop has ended it, as the kernel would find on the way back; but after a call of
 * ours, made from elsewhere, it no longer would. So it is taken to its abort handler here. */
void tl_leave_sequence(struct tl_remote *r, struct tl_task *task)
{
    struct {
        uint64_t area;
        uint32_t size, signature, flags, pad;
    } configuration = {0};
    struct {
        uint32_t version, flags;
        uint64_t start, length, abort;
    } sequence;
    uint64_t at;
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, task->tid, sizeof configuration, &configuration) <= 0 ||
        configuration.area == 0 || tl_mem_read(r, configuration.area + 8, &at, sizeof at) || at == 0 ||
        tl_mem_read(r, at, &sequence, sizeof sequence) || task->regs.rip - sequence.start >= sequence.length)
        return;
    tl_remote_step("abort sequence");
    task->regs.rip = sequence.abort;
    tl_set_regs(task->tid, &task->regs);
}

int tl_session_begin(struct tl_remote *r, struct tl_session *s, struct tl_error *error)
{
    static const char name[8 + 1] = TL_CORE_NAME;
    uint8_t frame[TL_FRAME_MAX + 64];
    size_t size;
    *s = (struct tl_session){0};
    int result = tl_gadgets_find(r, error);
    if (result == 0)
        result = tl_scratch_find(r, TL_FRAME_MAX + sizeof name, &s->task, &s->frame, error);
    if (result)
        return result;
    if (tl_suspend_seccomp(r, s->task->tid))
        return tl_fail(error, -EPERM, "process %d has confined itself with seccomp by now: run trapline as root",
                       r->pid);
    tl_leave_sequence(r, s->task);
    result = tl_get_mask(s->task->tid, &s->mask);
    if (result == 0)
        result = tl_frame_build(r, s->task, s->mask, s->frame, r->gadgets.restorer, frame, &size);
    if (result)
        return tl_fail(error, result, "the registers of thread %d cannot be read", s->task->tid);
    s->name = s->frame + size;
    memcpy(frame + size, name, sizeof name);
    tl_remote_step("frame");
    result = tl_mem_write(r, s->frame, frame, size + sizeof name);
    return result ? tl_fail(error, result, "the stack of process %d cannot be written", r->pid) : 0;
}

/* Run to the next stop at an end of a system call. */
static int to_call_stop(struct tl_remote *r, pid_t tid)
{
    uint64_t deadline = tl_now() + CALL_MS * 1000000ull;
    int result = ptrace(PTRACE_SYSCALL, tid, NULL, NULL) == 0 ? 0 : -errno;
    while (result == 0) {
        int status;
        tl_remote_step("running");
        result = tl_wait(r, tid, deadline, &status);
        if (result == 0 && WSTOPSIG(status) == (SIGTRAP | 0x80))
            return 0;
        if (result == 0)
            result = tl_go_on(tid, PTRACE_SYSCALL, status);
    }
    return result;
}

int tl_session_call(struct tl_remote *r, struct tl_session *s, long number, const uint64_t arguments[6],
                    int64_t *result)
{
    struct user_regs_struct regs = s->task->regs;
    pid_t tid = s->task->tid;
    regs.rip = r->gadgets.call;
    regs.rsp = s->frame;
    regs.rax = (uint64_t)number;
    regs.orig_rax = (uint64_t)-1;
    regs.rdi = arguments[0];
    regs.rsi = arguments[1];
    regs.rdx = arguments[2];
    regs.r10 = arguments[3];
    regs.r8 = arguments[4];
    regs.r9 = arguments[5];
    regs.eflags &= ~0x500ull; /* neither TF nor DF */
    tl_remote_step("registers");
    int error = tl_set_regs(tid, &regs);
    if (error == 0 && !s->entered) {
        s->entered = true;
        tl_remote_step("mask");
        error = tl_set_mask(tid, ~0ull);
    }
    if (error == 0)
        error = to_call_stop(r, tid);
    tl_remote_step("call entered");
    if (error == 0)
        error = to_call_stop(r, tid);
    tl_remote_step("call left");
    if (error == 0)
        error = tl_get_regs(tid, &regs);
    *result = (int64_t)regs.rax;
    return error;
}

void tl_session_end(struct tl_remote *r, struct tl_session *s)
{
    if (!s->entered)
        return;
    pid_t tid = s->task->tid;
    if (tl_interrupt(r, tid, true, tl_now() + CALL_MS * 1000000ull) != 0)
        return;
    tl_remote_step("unmask");
    tl_set_mask(tid, s->mask);
    tl_remote_step("registers back");
    tl_set_regs(tid, &s->task->regs);
    tl_remote_step("registers are back");
    static const uint8_t zeros[TL_FRAME_MAX];
    tl_mem_write(r, s->frame, zeros, s->name + sizeof TL_CORE_NAME - s->frame);
    s->entered = false;
}
