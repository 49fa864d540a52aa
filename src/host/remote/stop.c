/* SPDX-License-Identifier: MIT
 *
 * Stop the world of one address space.
 *
 * Every task that shares the memory is seized and interrupted: the threads of the group until a look at /proc shows no
 * new one, then CLONE_VM tasks outside of the group, found by kcmp. When all that are known stand still nobody is left
 * to make a new one, so one quiet round is enough.
 *
 * A stop must not be felt. Signals that are on their way are passed on; a group stop survives a detach by itself; and
 * the calls that the kernel ends with EINTR when a tracer stops them are made to start again (tl_mend_restart). That
 * holds for a stop that is given up as well: whoever has been interrupted is waited for, as long as it is on its way.
 *
 * A vfork parent does not stop before its child execs. One that is seen in time is not even asked, and when one is
 * asked and does not come within the time, the tracing thread ends, which lets go of everything (tracer.c); so it does
 * where tasks have been killed while they stood, as a program that ends does with all of its threads. A task that
 * merely waits for its turn on a busy machine does come, and gets more time. Whoever asked for the stop tries again a
 * few times (tl_patiently in remote.c): between two tries the program runs, and most vforks are over in a moment.
 */
#include "host/remote/internal.h"

#include "base/array.h"

#include <elf.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STOP_MS = 100, BUSY_MS = 400, LATE_MS = 5000 };

int tl_get_regs(pid_t tid, struct user_regs_struct *regs)
{
    struct iovec io = {regs, sizeof *regs};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) != 0)
        return -errno;
    return io.iov_len == sizeof *regs && regs->cs == 0x33 ? 0 : -ENOEXEC;
}

int tl_set_regs(pid_t tid, const struct user_regs_struct *regs)
{
    struct user_regs_struct copy = *regs;
    struct iovec io = {&copy, sizeof copy};
    return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &io) == 0 ? 0 : -errno;
}

/* Calls that a ptrace stop ends with EINTR although no signal came: these start again, with their timeout, as after
 * ERESTARTNOHAND. A handler that does run makes EINTR of that again. */
void tl_mend_restart(struct user_regs_struct *regs)
{
    switch ((long)regs->orig_rax) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_rt_sigtimedwait:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_io_getevents:
    case SYS_io_pgetevents:
    case SYS_io_uring_enter:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
        if ((long)regs->rax == -EINTR)
            regs->rax = (unsigned long long)-514L;
    }
}

bool tl_in_restartable_call(const struct user_regs_struct *regs)
{
    long rax = (long)regs->rax;
    return (long)regs->orig_rax >= 0 && (rax == -512 || rax == -513 || rax == -514 || rax == -516);
}

struct tl_task *tl_add_task(struct tl_remote *r, pid_t tid)
{
    struct tl_task *tasks = tl_array_grown(r->tasks, r->task_count, &r->task_room, sizeof *tasks);
    if (!tasks)
        return NULL;
    r->tasks = tasks;
    struct tl_task *task = &r->tasks[r->task_count++];
    *task = (struct tl_task){.tid = tid};
    return task;
}

int tl_wait(struct tl_remote *r, pid_t tid, uint64_t deadline, int *status)
{
    for (unsigned turn = 0;; turn++) {
        pid_t got = waitpid(tid, status, __WALL | WNOHANG);
        if (got == tid) {
            if (WIFSTOPPED(*status))
                return 0;
            if (tid == r->pid && (r->facts.launched || r->follow)) {
                r->reaped = true;
                r->status = *status;
            }
            return -ESRCH;
        }
        if (got < 0 && errno != EINTR)
            return -ESRCH;
        if (turn < 64)
            sched_yield();
        else if (tl_now() >= deadline)
            return -ETIMEDOUT;
        else
            tl_nap(turn < 256 ? 50 : 500);
    }
}

int tl_go_on(pid_t tid, int request, int status)
{
    /* A group stop's or our own trap: just go on; the kernel remembers the group stop. A signal: deliver it. */
    long signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
    if (signal == (SIGTRAP | 0x80))
        signal = 0;
    return ptrace(request, tid, NULL, signal) == 0 ? 0 : -errno;
}

/* 0 when the task stands in a trap of ours or a group stop: where registers may be changed and calls still restart. */
static int settle(struct tl_remote *r, pid_t tid, uint64_t deadline)
{
    for (int status;;) {
        int result = tl_wait(r, tid, deadline, &status);
        if (result)
            return result;
        if (status >> 16 == PTRACE_EVENT_STOP)
            return 0;
        if (tl_follow_keep(r, tid, status))
            return -ESRCH;
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL); /* a stop for something else has used up the first request */
        result = tl_go_on(tid, PTRACE_CONT, status);
        if (result && result != -ESRCH)
            return result;
    }
}

int tl_interrupt(struct tl_remote *r, pid_t tid, bool stopped, uint64_t deadline)
{
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0 || (stopped && ptrace(PTRACE_CONT, tid, NULL, 0L) != 0))
        return -errno;
    return settle(r, tid, deadline);
}

struct round {
    struct tl_remote *r;
    bool outside, added, vfork;
    int result;
};

/* In a vfork, waiting for the child: nothing can stop it before that is over. */
static bool waits_for_vfork(pid_t tid)
{
    char *text = tl_proc_file(tid, "syscall", NULL);
    long number = text ? strtol(text, NULL, 10) : -1;
    free(text);
    return number == SYS_vfork || number == SYS_clone || number == SYS_clone3;
}

static int seize(void *context, int tid)
{
    struct round *round = context;
    struct tl_remote *r = round->r;
    for (size_t i = 0; i < r->task_count; i++) {
        if (r->tasks[i].tid == tid)
            return 0;
    }
    char state = tl_task_state(tid);
    if (state == 0 || state == 'Z' || state == 'X')
        return 0;
    if (state == 'D' && waits_for_vfork(tid)) {
        round->vfork = true;
        return 0;
    }
    /* One that is followed is ours already, and can be interrupted. */
    if (!(r->follow && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0) &&
        ptrace(PTRACE_SEIZE, tid, NULL, tl_trace_options(r)) != 0) {
        int error = -errno;
        state = tl_task_state(tid);
        if (state == 0 || state == 'Z' || state == 'X')
            return 0;
        round->result = error == -ESRCH ? -EPERM : error;
        return 1;
    }
    struct tl_task *task = tl_add_task(r, tid);
    if (!task) {
        round->result = -ENOMEM;
        return 1;
    }
    task->outside = round->outside;
    round->added = true;
    tl_remote_step("seized");
    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
    tl_remote_step("interrupted");
    return 0;
}

/* A process beside the target: does it share the memory? */
static int seize_sharer(void *context, int pid)
{
    struct round *round = context;
    if (pid == round->r->pid || syscall(SYS_kcmp, round->r->tasks[0].tid, pid, KCMP_VM, 0, 0) != 0)
        return 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    round->outside = true;
    tl_each_number(path, seize, context);
    return round->result != 0;
}

/* A task that only lacks a processor comes as soon as it gets one: the bound is for those that the kernel holds. */
static int settle_busy(struct tl_remote *r, pid_t tid, uint64_t deadline)
{
    int result = settle(r, tid, deadline);
    for (int i = STOP_MS; result == -ETIMEDOUT && i < BUSY_MS && tl_task_state(tid) == 'R'; i += STOP_MS)
        result = settle(r, tid, tl_now() + STOP_MS * 1000000ull);
    return result;
}

/* A task that has come to its stop: what it goes on with. */
static int take(struct tl_remote *r, struct tl_task *task)
{
    int result = tl_get_regs(task->tid, &task->regs);
    if (result)
        return result;
    task->stopped = true;
    if (r->follow && r->suspend_seccomp)
        ptrace(PTRACE_SETOPTIONS, task->tid, NULL, tl_trace_options(r));
    unsigned long long rax = task->regs.rax;
    tl_mend_restart(&task->regs);
    if (task->regs.rax != rax)
        tl_set_regs(task->tid, &task->regs);
    tl_remote_step("stopped");
    return 0;
}

static int collect(struct tl_remote *r, uint64_t deadline)
{
    for (size_t i = 0; i < r->task_count;) {
        struct tl_task *task = &r->tasks[i];
        int result = task->stopped ? 0 : settle_busy(r, task->tid, deadline);
        while (result == 0 && !task->stopped && (result = take(r, task)) == -ESRCH)
            result = settle_busy(r, task->tid, deadline); /* killed where it stood: we are told of its end */
        if (result == -ESRCH) {
            *task = r->tasks[--r->task_count];
            continue;
        }
        if (result)
            return result;
        i++;
    }
    return 0;
}

/* The stop is given up, but this task has been interrupted: let it come to where its call can be made to start again.
 * One that the kernel holds (a vfork) has nothing to be mended when it comes out. */
static void take_late(struct tl_remote *r, struct tl_task *task, uint64_t deadline)
{
    int result = -ETIMEDOUT;
    while (result == -ETIMEDOUT && tl_now() < deadline && tl_task_state(task->tid) != 'D')
        result = settle(r, task->tid, tl_now() + STOP_MS * 1000000ull);
    if (result == 0)
        take(r, task);
}

/* A task that is killed where it stands cannot be let go of, nor is its process over, before its tracer has heard of
 * its end, or is gone. */
static void let_go(struct tl_remote *r)
{
    uint64_t late = tl_now() + LATE_MS * 1000000ull;
    for (size_t i = 0; i < r->task_count; i++) {
        if (!tl_stays(r) && !r->tasks[i].stopped)
            take_late(r, &r->tasks[i], late);
        /* Where we stay, a stop that comes late finds us. */
        if (tl_stays(r) && r->tasks[i].stopped)
            tl_carry_on(r, r->tasks[i].tid);
        else if (!tl_stays(r) && (!r->tasks[i].stopped || ptrace(PTRACE_DETACH, r->tasks[i].tid, NULL, 0L) != 0))
            tl_tracer_condemn(r);
        tl_remote_step("detached");
    }
    r->task_count = 0;
}

int tl_stop_all(struct tl_remote *r)
{
    uint64_t deadline = tl_now() + STOP_MS * 1000000ull;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", r->pid);
    for (;;) {
        struct round round = {.r = r};
        int result = tl_each_number(path, seize, &round);
        if (round.result || result < 0)
            return round.result ? round.result : result;
        result = collect(r, deadline);
        if (result)
            return result == -ETIMEDOUT ? -EAGAIN : result;
        if (!round.added && !round.vfork) {
            if (r->task_count == 0)
                return -ESRCH;
            tl_each_number("/proc", seize_sharer, &round);
            if (round.result)
                return round.result;
            if (!round.added && !round.vfork)
                return 0;
        }
        if (round.vfork) {
            if (tl_now() >= deadline)
                return -EAGAIN;
            tl_nap(200);
        }
    }
}

static bool is_own_thread(long long tid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%lld", tid);
    return tid > 0 && access(path, F_OK) == 0;
}

int tl_stop(struct tl_remote *r, struct tl_error *error)
{
    if (r->stops++ > 0)
        return 0;
    r->stop_began = tl_now();
    int result = r->replaced || r->reaped ? -ESRCH : tl_stop_all(r);
    uint8_t byte;
    if (result == 0 && tl_mem_read(r, r->tasks[0].regs.rip, &byte, 1) == -ESRCH)
        result = -ESRCH; /* the descriptor is of the memory before an exec */
    if (result == 0) {
        r->facts.threads = r->task_count;
        return 0;
    }
    let_go(r);
    r->stops = 0;
    r->stop_began = 0;
    r->unstopped = result == -EAGAIN;
    switch (result) {
    case -EAGAIN:
        return tl_fail(error, result,
                       "process %d could not be stopped: one of its threads stays inside the kernel (vfork, a device), "
                       "or gets no processor; try again",
                       r->pid);
    case -ESRCH:
        return tl_fail(error, result, "process %d has ended, or runs another program by now", r->pid);
    case -ENOEXEC:
        return tl_fail(error, result, "process %d is not a 64-bit x86 program", r->pid);
    case -ENOMEM:
        return tl_fail(error, result, "out of memory");
    default: {
        char *status = tl_proc_file(r->pid, "status", NULL);
        long long tracer = status ? tl_status_number(status, "TracerPid", 10) : 0;
        free(status);
        if (is_own_thread(tracer)) /* let_go() did not reach it any more: it is on its way out */
            return tl_fail(error, -ESRCH, "process %d has ended", r->pid);
        if (tracer > 0)
            return tl_fail(error, -EBUSY, "process %d is already traced by process %lld", r->pid, tracer);
        return tl_explain_refusal(r->pid, result, error);
    }
    }
}

void tl_resume(struct tl_remote *r)
{
    if (r->stops == 0 || --r->stops > 0)
        return;
    let_go(r);
    if (r->stop_began)
        r->facts.stopped_ns += tl_now() - r->stop_began;
    r->stop_began = 0;
}
