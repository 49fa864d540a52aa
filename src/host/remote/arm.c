/* SPDX-License-Identifier: MIT
 *
 * Handing a program's signals to the broker (src/hit/broker.h), and giving them back.
 *
 * What was there before stands in the broker's own memory: private to the program, and copied with it by fork. A record
 * in the log says where that is. So whoever finds the record can give everything back, again and again, and what the
 * program has set itself meanwhile stays. All of it can be written by the program, which fools but itself with that:
 * offsets in it are numbers of its own memory, and the sizes are ours.
 *
 * The guards are in place before and after all that, but dormant: until one store wakes them all, and from the store on
 * that sends them all to sleep again, the program's calls are between it and the kernel, and what the broker says of
 * threads' masks counts for nothing. In between it counts, whether the kernel blocks SIGTRAP for a thread already, or
 * still, or not: so its masks change behind the first store and before the second, and at whichever step the tool dies
 * the program is told what its masks are. Breakpoints come later and go sooner.
 *
 * A handler that has not returned yet has a saved mask on some stack, with which its thread goes on. Where there is a
 * guard on its return, that mask is the program's, before, while and after the broker is armed. Where there is none,
 * and SIGTRAP is blocked in there, it is let through, and the log says where; the broker is told of the handler that a
 * thread is in.
 */
#include "host/remote/internal.h"
#include "hit/blob.h"

#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const uint64_t trap = TL_SIGNAL_BIT(TL_SIGTRAP);
enum { FRAMES_MAX = 1024, CX_IN_FRAME = offsetof(struct tl_signal_frame, context.rcx) };
_Static_assert(offsetof(struct tl_context, mask) - offsetof(struct tl_context, rcx) == 8 * TL_SAVED_MASK, "saved mask");

/* Saved masks that hold SIGTRAP and are not changed on the way back by a guard, and what the innermost handler of the
 * thread being looked at goes back to. And SIGTRAPs that nobody blocks, which are on their way to a handler while the
 * target stands still: an int3 of the program's own has just been met, or somebody has sent one. */
struct frames {
    struct tl_remote *r;
    const struct tl_broker_tables *tables;
    struct coming {
        pid_t tid; /* who takes it */
        struct tl_siginfo info;
    } * coming;
    size_t coming_count;
    bool waiting; /* some wait for a mask to open */
    struct {
        uint64_t at, mask;
    } blocked[FRAMES_MAX];
    size_t count;
    uint64_t innermost, innermost_mask;
    bool innermost_is_seen;
};

/* Whether a guard changes the saved mask around `at` on the way back. */
static bool is_seen_to_return(struct tl_remote *r, const struct tl_broker_tables *tables, uint64_t at)
{
    uint64_t restorer;
    return tables && tl_mem_read(r, at - CX_IN_FRAME, &restorer, sizeof restorer) == 0 &&
           tl_return_is_seen(tables, restorer);
}

static bool look_at_frame(void *context, uint64_t at, const uint64_t *word)
{
    struct frames *f = context;
    uint64_t mask;
    (void)word;
    if (tl_mem_read(f->r, at + 8 * TL_SAVED_MASK, &mask, sizeof mask))
        return true;
    bool is_seen = is_seen_to_return(f->r, f->tables, at);
    if (!f->innermost) {
        f->innermost = at - CX_IN_FRAME;
        f->innermost_mask = mask;
        f->innermost_is_seen = is_seen;
    }
    if (is_seen)
        return true;
    if (mask & trap) {
        f->blocked[f->count].at = at + 8 * TL_SAVED_MASK;
        f->blocked[f->count].mask = mask;
        f->count++;
    }
    return f->count < FRAMES_MAX;
}

/* Only pages that differ are written: most of it is never used. */
static int write_back(struct tl_remote *r, uint64_t addr, const uint8_t *before, const uint8_t *now, size_t size)
{
    for (size_t at = 0; at < size; at += TL_PAGE) {
        size_t part = size - at < TL_PAGE ? size - at : TL_PAGE;
        if (memcmp(before + at, now + at, part) == 0)
            continue;
        tl_remote_step("broker");
        int result = tl_mem_write(r, addr + at, now + at, part);
        if (result)
            return result;
    }
    return 0;
}

static bool note_coming(struct frames *f, pid_t tid, bool shared)
{
    struct coming *coming = &f->coming[f->coming_count];
    coming->tid = tid;
    bool is_coming = tl_trap_pending(tid, shared, &coming->info);
    f->coming_count += is_coming;
    return is_coming;
}

/* A thread that lets SIGTRAP through: the broker is to know whom it can hand one to that comes to another. There are as
 * many records as there are. */
static void adopt_open(struct tl_broker *broker, const struct tl_task *task)
{
    if (!tl_broker_thread(broker, task->regs.fs_base))
        tl_broker_adopt_thread(broker, task->regs.fs_base, (uint32_t)tl_innermost_pid(task->tid), false);
}

/* The records of the threads in the broker's memory, in our copy of it. A SIGTRAP that waits for a mask to open waits
 * in there: let through, it would end the system calls that threads are in. */
static int adopt_tasks(struct tl_remote *r, uint64_t addr, struct tl_broker *broker, struct frames *f,
                       struct tl_error *error)
{
    struct tl_remote_area *areas;
    size_t area_count;
    pid_t taker = 0; /* of one for the process */
    f->coming = calloc(r->task_count + 1, sizeof *f->coming);
    if (!f->coming)
        return -ENOMEM;
    int result = tl_read_areas(r->pid, &areas, &area_count);
    struct tl_broker_tables *tables = result ? NULL : tl_tables_load(r, areas, area_count, addr);
    f->tables = tables;
    for (size_t i = 0; i < r->task_count && result == 0; i++) {
        const struct tl_task *task = &r->tasks[i];
        uint64_t mask;
        result = tl_get_mask(task->tid, &mask);
        if (result == 0 && !(mask & trap)) {
            bool is_busy = note_coming(f, task->tid, false);
            if (!task->outside && (!taker || !is_busy))
                taker = task->tid;
            if (!task->outside)
                adopt_open(broker, task);
        }
        if (result == 0) {
            f->innermost = 0;
            result = tl_saved_contexts(r, areas, area_count, task, look_at_frame, f);
        }
        if (result == 0 && f->count == FRAMES_MAX)
            result = -E2BIG;
        if (result || !(mask & trap))
            continue;
        result = tl_broker_adopt_thread(broker, task->regs.fs_base, (uint32_t)tl_innermost_pid(task->tid), true);
        struct tl_broker_thread *thread = result ? NULL : tl_broker_thread(broker, task->regs.fs_base);
        if (thread && tl_trap_pending(task->tid, false, &thread->info)) {
            thread->pending = 1;
            f->waiting = true;
        }
        const struct tl_remote_area *stack = tl_area_at(areas, area_count, f->innermost);
        if (thread && stack && !f->innermost_is_seen) {
            thread->handler = f->innermost;
            thread->handler_low = stack->start;
            thread->trap_after = (f->innermost_mask & trap) != 0;
        }
    }
    free(tables);
    f->tables = NULL;
    free(areas);
    if (result == 0 && taker)
        note_coming(f, taker, true);
    else if (result == 0 && r->task_count && tl_trap_pending(r->tasks[0].tid, true, &broker->process.info)) {
        broker->process.pending = 1;
        f->waiting = true;
    }
    return result ? tl_fail(error, -ENOSYS, "the threads of process %d cannot be told apart", r->pid) : 0;
}

static int unblock(struct tl_remote *r, const struct frames *f)
{
    int result = 0;
    for (size_t i = 0; i < r->task_count && result == 0; i++) {
        uint64_t mask;
        result = tl_get_mask(r->tasks[i].tid, &mask);
        if (result || !(mask & trap))
            continue;
        tl_remote_step("thread's mask");
        result = tl_set_mask(r->tasks[i].tid, mask & ~trap);
    }
    for (size_t i = 0; i < f->count && result == 0; i++) {
        struct tl_record record = {.kind = TL_RECORD_MASK, .addr = f->blocked[i].at, .size = 8};
        uint64_t open = f->blocked[i].mask & ~trap;
        memcpy(record.old_bytes, &f->blocked[i].mask, 8);
        memcpy(record.new_bytes, &open, 8);
        if (!tl_log_add(r, &record))
            return -ENOSPC;
        tl_remote_step("saved mask");
        result = tl_mem_write(r, f->blocked[i].at, &open, sizeof open);
    }
    return result;
}

/* Whoever shares the memory but not the actions would meet our breakpoints without the broker. */
static bool all_share_actions(const struct tl_remote *r)
{
    for (size_t i = 1; i < r->task_count; i++) {
        if (r->tasks[i].outside && syscall(SYS_kcmp, r->tasks[0].tid, r->tasks[i].tid, KCMP_SIGHAND, 0, 0) != 0)
            return false;
    }
    return true;
}

static int adopt_actions(struct tl_remote *r, struct tl_broker *broker, bool waiting, struct tl_sigaction *kernels,
                         int *numbers, size_t *count)
{
    struct tl_sigaction actions[TL_SIGNALS + 1];
    int result = tl_actions_read(r, actions);
    *count = 0;
    for (int i = 1; i <= TL_SIGNALS && result == 0; i++) {
        if (!tl_broker_adopt_action(broker, i, &actions[i], &kernels[*count]))
            continue;
        numbers[(*count)++] = i;
        if (i != TL_SIGTRAP || !waiting)
            continue;
        /* Ignored for a moment: this throws away all that are pending. The broker has by now what waits; those that are
         * on their way are sent again. */
        kernels[*count] = kernels[*count - 1];
        kernels[*count - 1] = (struct tl_sigaction){.handler = TL_SIG_IGN};
        numbers[(*count)++] = i;
    }
    return result;
}

/* One store: all guards begin to count, or to count for nothing. */
static int set_dormant(struct tl_remote *r, uint64_t addr, uint64_t *flags, bool dormant)
{
    *flags = dormant ? *flags | TL_BROKER_DORMANT : *flags & ~(uint64_t)TL_BROKER_DORMANT;
    tl_remote_step(dormant ? "broker asleep" : "broker awake");
    return tl_mem_write(r, addr + offsetof(struct tl_broker, flags), flags, sizeof *flags);
}

bool tl_is_dormant(struct tl_remote *r, uint64_t addr)
{
    uint64_t flags = 0;
    return tl_mem_read(r, addr + offsetof(struct tl_broker, flags), &flags, sizeof flags) || flags & TL_BROKER_DORMANT;
}

static int arm(struct tl_remote *r, uint64_t addr, struct tl_broker *broker, struct tl_broker *before, struct frames *f,
               struct tl_error *error)
{
    struct tl_sigaction kernels[TL_SIGNALS + 1];
    int numbers[TL_SIGNALS + 1];
    size_t count;
    int result = tl_mem_read(r, addr, broker, sizeof *broker);
    memcpy(before, broker, sizeof *broker);
    f->r = r;
    if (result == 0)
        result = adopt_tasks(r, addr, broker, f, error);
    if (result == 0)
        result = adopt_actions(r, broker, f->waiting, kernels, numbers, &count);
    if (result == 0)
        result = tl_log_room(r, f->count + 1, error);
    struct tl_record record = {.kind = TL_RECORD_BROKER, .addr = addr, .size = sizeof *broker};
    uint64_t asleep = broker->entry - tl_blob_broker_entry() + tl_blob_guard_asleep();
    memcpy(record.old_bytes, &asleep, sizeof asleep);
    if (result == 0 && !(r->armed = tl_log_add(r, &record)))
        result = -ENOSPC;
    if (result)
        return result;
    r->broker = addr;
    r->asleep = asleep;
    /* What waits in there is not in the kernel any more, once the actions are set. */
    size_t sooner = f->waiting ? sizeof *broker : offsetof(struct tl_broker, keys);
    /* All actions stand there before one word says which of them are to be given back. */
    uint64_t changed = broker->process.changed;
    broker->process.changed = 0;
    result = write_back(r, addr, (uint8_t *)before, (uint8_t *)broker, sooner);
    broker->process.changed = changed;
    tl_remote_step("broker");
    if (result == 0)
        result = tl_mem_write(r, addr + offsetof(struct tl_broker, process.changed), &changed, sizeof changed);
    if (result == 0)
        result = tl_actions_set(r, kernels, numbers, count);
    if (result == 0)
        result = write_back(r, addr + sooner, (uint8_t *)before + sooner, (uint8_t *)broker + sooner,
                            sizeof *broker - sooner);
    for (size_t i = 0; i < f->coming_count && f->waiting && result == 0; i++)
        result = tl_signal_queue(r, f->coming[i].tid, &f->coming[i].info);
    if (result == 0)
        result = set_dormant(r, addr, &broker->flags, false);
    if (result == 0)
        result = unblock(r, f);
    if (result)
        tl_port_disarm(r, NULL);
    return result;
}

int tl_port_arm(struct tl_remote *r, uint64_t addr, struct tl_error *error)
{
    if (r->stops == 0 || !r->core.page || r->broker)
        return tl_fail(error, -EINVAL, "arming without a stop or a region, or twice");
    if (r->facts.no_syscalls)
        return tl_fail(error, -ENOSYS, "process %d confines itself with seccomp", r->pid);
    if (!all_share_actions(r))
        return tl_fail(error, -ENOSYS, "process %d shares its memory, but not its signal handlers, with another",
                       r->pid);
    struct tl_broker *broker = malloc(2 * sizeof *broker);
    struct frames *frames = calloc(1, sizeof *frames);
    int result = broker && frames ? arm(r, addr, broker, broker + 1, frames, error) : -ENOMEM;
    free(broker);
    if (frames)
        free(frames->coming);
    free(frames);
    if (result && result != -ENOSYS)
        tl_fail(error, result, "the signals of process %d cannot be taken over (%s)", r->pid, tl_errno_name(-result));
    return result;
}

/* ---- the way back ---- */

/* A handler that runs with SIGTRAP blocked may be over without the broker having had to notice. */
static bool handler_is_over(const struct tl_broker_thread *thread, uint64_t rsp)
{
    return rsp > thread->handler || rsp < thread->handler_low;
}

struct blocking {
    struct tl_remote *r;
    const struct tl_broker_tables *tables;
};

static bool block_in_frame(void *context, uint64_t at, const uint64_t *word)
{
    const struct blocking *blocking = context;
    struct tl_remote *r = blocking->r;
    uint64_t mask;
    (void)word;
    if (is_seen_to_return(r, blocking->tables, at))
        return true;
    at += 8 * TL_SAVED_MASK;
    if (tl_mem_read(r, at, &mask, sizeof mask) == 0 && !(mask & trap)) {
        mask |= trap;
        tl_remote_step("saved mask back");
        tl_mem_write(r, at, &mask, sizeof mask);
    }
    return true;
}

/* The broker wanted to be told when the handler is over, and has set TF in its frame: see hit/broker_pending.c. */
static void unstep(struct tl_remote *r, struct tl_task *task, struct tl_broker_thread *thread)
{
    uint64_t flags, at = thread->handler + offsetof(struct tl_signal_frame, context);
    thread->kick = 0;
    if (handler_is_over(thread, task->regs.rsp)) {
        task->regs.eflags &= ~(uint64_t)TL_FLAG_TRAP;
        tl_set_regs(task->tid, &task->regs);
        return;
    }
    at += offsetof(struct tl_context, rflags);
    if (tl_mem_read(r, at, &flags, sizeof flags) == 0 && tl_saved_plausible(r, thread->handler + CX_IN_FRAME)) {
        flags &= ~(uint64_t)TL_FLAG_TRAP;
        tl_mem_write(r, at, &flags, sizeof flags);
    }
}

/* Handlers that have not returned yet go back to where SIGTRAP was not really blocked: it is to be from now on. */
static int block_again(struct tl_remote *r, uint64_t addr, struct tl_broker *broker)
{
    struct tl_remote_area *areas;
    size_t area_count;
    int result = tl_read_areas(r->pid, &areas, &area_count);
    struct tl_broker_tables *tables = result ? NULL : tl_tables_load(r, areas, area_count, addr);
    struct blocking blocking = {r, tables};
    for (size_t i = 0; i < r->task_count && result == 0; i++) {
        struct tl_task *task = &r->tasks[i];
        struct tl_broker_thread *thread = task->outside ? NULL : tl_broker_thread(broker, task->regs.fs_base);
        uint64_t mask;
        if (thread && thread->kick)
            unstep(r, task, thread);
        if (thread && thread->handler && handler_is_over(thread, task->regs.rsp)) {
            thread->trap_blocked = thread->trap_after;
            thread->handler = 0;
        }
        if (thread && (thread->handler ? thread->trap_after : thread->trap_blocked))
            tl_saved_contexts(r, areas, area_count, task, block_in_frame, &blocking);
        if (!thread || !thread->trap_blocked || tl_get_mask(task->tid, &mask) || mask & trap)
            continue;
        tl_remote_step("thread's mask back");
        tl_set_mask(task->tid, mask | trap);
    }
    free(tables);
    free(areas);
    return result;
}

static int restore_actions(struct tl_remote *r, const struct tl_broker *broker)
{
    struct tl_sigaction actions[TL_SIGNALS + 1], programs[TL_SIGNALS];
    int numbers[TL_SIGNALS], result = tl_actions_read(r, actions);
    size_t count = 0;
    for (int i = 1; i <= TL_SIGNALS && result == 0; i++) {
        if (tl_broker_restore_action(broker, i, &actions[i], &programs[count]))
            numbers[count++] = i;
    }
    return result ? result : tl_actions_set(r, programs, numbers, count);
}

/* What waits in the broker for a mask to open waits in the kernel from now on. */
static int send_again(struct tl_remote *r, struct tl_broker *broker)
{
    struct tl_siginfo info;
    int result = 0;
    if (broker->process.pid != (uint32_t)r->facts.ns_pid) /* a fork child's parent's */
        return 0;
    if (tl_broker_pending(broker, 0, &info))
        result = tl_signal_queue(r, 0, &info);
    for (size_t i = 0; i < r->task_count && result == 0; i++) {
        if (r->tasks[i].regs.fs_base && !r->tasks[i].outside &&
            tl_broker_pending(broker, r->tasks[i].regs.fs_base, &info))
            result = tl_signal_queue(r, r->tasks[i].tid, &info);
    }
    return result;
}

/* From here on it knows nothing of the program's signals, and would give nothing back a second time. */
static int forget(struct tl_remote *r, uint64_t addr, struct tl_broker *broker, struct tl_broker *before)
{
    memcpy(before, broker, sizeof *before);
    broker->process.pending = 0;
    broker->process.changed = 0;
    memset(broker->keys, 0, sizeof broker->keys);
    return write_back(r, addr, (uint8_t *)before, (uint8_t *)broker, sizeof *broker);
}

int tl_masks_back(struct tl_remote *r, uint64_t addr)
{
    struct tl_broker *broker = malloc(sizeof *broker);
    int result = broker ? tl_mem_read(r, addr, broker, sizeof *broker) : -ENOMEM;
    if (result == 0 && !(broker->flags & TL_BROKER_DORMANT)) {
        result = block_again(r, addr, broker);
        if (result == 0)
            result = set_dormant(r, addr, &broker->flags, true);
    }
    free(broker);
    return result;
}

int tl_disarm(struct tl_remote *r, uint64_t addr, struct tl_error *error)
{
    struct tl_broker *broker = malloc(2 * sizeof *broker);
    int result = broker ? tl_masks_back(r, addr) : -ENOMEM;
    if (result == 0)
        result = tl_mem_read(r, addr, broker, sizeof *broker);
    if (result == 0)
        result = restore_actions(r, broker);
    if (result == 0)
        result = send_again(r, broker);
    if (result == 0)
        result = forget(r, addr, broker, broker + 1);
    free(broker);
    tl_remote_step("disarmed");
    return result && result != -EAGAIN ? tl_fail(error, result, "process %d cannot be given its signals back (%s)",
                                                 r->pid, tl_errno_name(-result))
                                       : result;
}

void tl_restore_mask(struct tl_remote *r, const struct tl_record *record)
{
    uint64_t now, open, mask;
    memcpy(&mask, record->old_bytes, sizeof mask);
    memcpy(&open, record->new_bytes, sizeof open);
    if (tl_mem_read(r, record->addr, &now, sizeof now) || now != open || open != (mask & ~trap) ||
        !tl_saved_plausible(r, record->addr - 8 * TL_SAVED_MASK))
        return;
    tl_mem_write(r, record->addr, &mask, sizeof mask);
}

int tl_port_disarm(struct tl_remote *r, struct tl_error *error)
{
    if (r->stops == 0)
        return tl_fail(error, -EINVAL, "disarming without a stop");
    if (!r->broker)
        return 0;
    if (!tl_is_dormant(r, r->broker))
        tl_each_own_record(r, TL_RECORD_MASK, tl_restore_mask);
    int result = tl_disarm(r, r->broker, error);
    if (result)
        return result;
    r->armed->live = 0;
    r->armed = NULL;
    r->broker = r->asleep = 0;
    return 0;
}
