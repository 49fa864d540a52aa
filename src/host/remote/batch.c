/* SPDX-License-Identifier: MIT
 *
 * Many system calls in one go. The table stands in the core; a task is sent to the runner there (runner.c), makes one
 * call after the other without a stop, says so, and waits for us to fetch it. A thousand mappings take a few
 * milliseconds so.
 *
 * Dead meanwhile, we leave a task that ends the table, waits its bounded time and goes back by the frame in the core.
 * When we are that slow ourselves, the task has gone on alone: then it is stopped wherever it is, like any other.
 */
#include "host/remote/internal.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

enum { BATCH_MS = 10000, WAIT_TURNS = 2000 };

/* Until the runner is done. Signals are blocked; what stops it are group stops, which it has to be sent on from. */
static int watch(struct tl_remote *r, pid_t tid)
{
    struct tl_runner *runner = &r->core.page->runner;
    uint64_t deadline = tl_now() + BATCH_MS * 1000000ull;
    for (unsigned turn = 0; !__atomic_load_n(&runner->done, __ATOMIC_ACQUIRE); turn++) {
        int status;
        pid_t got = waitpid(tid, &status, __WALL | WNOHANG);
        if (got == tid && !WIFSTOPPED(status)) {
            if (tid == r->pid && (r->facts.launched || r->follow)) {
                r->reaped = true;
                r->status = status;
            }
            return -ESRCH;
        }
        if (got < 0 && errno != EINTR)
            return -ESRCH;
        if (got == tid)
            tl_go_on(tid, PTRACE_CONT, status);
        if (tl_now() > deadline)
            return -ETIMEDOUT;
        if (turn < 64)
            sched_yield();
        else
            tl_nap(50);
    }
    return 0;
}

static int run(struct tl_remote *r, struct tl_call *calls, size_t count, bool stop_on_error, size_t *done)
{
    struct tl_core_page *page = r->core.page;
    struct tl_slot *slots = (struct tl_slot *)((uint8_t *)page - TL_CORE_DATA + TL_CORE_CALLS);
    struct tl_task *task = tl_worker(r);
    uint8_t frame[TL_FRAME_MAX];
    uint64_t mask, code = r->core.addr;
    size_t size;
    if (!task)
        return -ESRCH;
    int result = tl_suspend_seccomp(r, task->tid);
    if (result)
        return result;
    tl_leave_sequence(r, task);
    result = tl_get_mask(task->tid, &mask);
    if (result == 0)
        result = tl_frame_build(r, task, mask, code + TL_CORE_FRAME, 0, frame, &size);
    if (result)
        return result;
    memcpy((uint8_t *)page - TL_CORE_DATA + TL_CORE_FRAME, frame, size);
    for (size_t i = 0; i < count; i++) {
        slots[i] = (struct tl_slot){.number = calls[i].number, .result = -ECANCELED};
        memcpy(slots[i].arguments, calls[i].arguments, sizeof slots[i].arguments);
    }
    page->runner = (struct tl_runner){.count = count, .stop_on_error = stop_on_error, .turns = WAIT_TURNS};
    tl_tracer_hold(r);
    struct user_regs_struct regs = task->regs;
    regs.rip = code;
    regs.rsp = code + TL_CORE_FRAME;
    regs.orig_rax = (uint64_t)-1;
    regs.rax = 0;
    regs.eflags &= ~0x500ull;
    tl_remote_step("batch");
    result = tl_set_regs(task->tid, &regs);
    tl_remote_step("batch mask");
    if (result == 0)
        result = tl_set_mask(task->tid, ~0ull);
    tl_remote_step("batch go");
    if (result == 0)
        result = ptrace(PTRACE_CONT, task->tid, NULL, 0L) == 0 ? 0 : -errno;
    tl_remote_step("batch running");
    if (result == 0)
        result = watch(r, task->tid);
    tl_remote_step("batch done");
    if (result != -ESRCH) {
        int late = result;
        result = tl_interrupt(r, task->tid, false, tl_now() + BATCH_MS * 1000000ull);
        if (result == 0)
            result = tl_get_regs(task->tid, &regs);
        if (result == 0 && regs.rip >= code && regs.rip < code + TL_PAGE) {
            tl_remote_step("batch unmask");
            tl_set_mask(task->tid, mask);
            tl_remote_step("batch back");
            result = tl_set_regs(task->tid, &task->regs);
        } else if (result == 0) {
            tl_mend_restart(&regs);
            task->regs = regs;
            tl_set_regs(task->tid, &regs);
        }
        result = result ? result : late;
    }
    uint64_t next = __atomic_load_n(&page->runner.next, __ATOMIC_ACQUIRE); /* once: the target can write to it */
    size_t reached = next < count ? (size_t)next : count;
    for (size_t i = 0; i < reached; i++)
        calls[i].result = slots[i].result;
    *done += reached;
    if (result == 0)
        tl_tracer_forget(r);
    tl_remote_step("batch over");
    return result;
}

int tl_batch(struct tl_remote *r, struct tl_call *calls, size_t count, bool stop_on_error, size_t *done)
{
    *done = 0;
    while (*done < count) {
        size_t before = *done, part = count - before < TL_BATCH_MAX ? count - before : TL_BATCH_MAX;
        int result = run(r, calls + before, part, stop_on_error, done);
        if (result)
            return result;
        int64_t last = *done > before ? calls[*done - 1].result : 0;
        if (stop_on_error && last < 0 && last > -TL_PAGE)
            return (int)last;
        if (*done - before < part)
            return -EIO;
    }
    return 0;
}

static int by_batch(struct tl_remote *r, void *context, long number, const uint64_t arguments[6], int64_t *result)
{
    struct tl_call call = {.number = number, .result = -ECANCELED};
    size_t done;
    (void)context;
    memcpy(call.arguments, arguments, sizeof call.arguments);
    int failed = tl_batch(r, &call, 1, false, &done);
    *result = call.result;
    return failed;
}

int tl_batch_file(struct tl_remote *r, uint64_t *fd, int *file)
{
    /* The name stands where the frame ends: the core's own page has it nowhere else. */
    enum { NAME = TL_CORE_CALLS - 64 };
    memcpy((uint8_t *)r->core.page - TL_CORE_DATA + NAME, TL_CORE_NAME, sizeof TL_CORE_NAME);
    struct tl_task *task = tl_worker(r);
    return task ? tl_make_file(r, by_batch, NULL, task->tid, r->core.addr + NAME, fd, file) : -ESRCH;
}

/* Large memory goes where no jump of a module may want to go: into the largest gap. 0: wherever the kernel likes. */
static uint64_t out_of_the_way(struct tl_remote *r, size_t size)
{
    enum { LARGE = 1 << 20 };
    struct tl_remote_area *areas;
    size_t count;
    uint64_t largest = 0, addr = 0;
    if (size < LARGE || tl_read_areas(r->pid, &areas, &count))
        return 0;
    for (size_t i = 1; i < count; i++) {
        uint64_t gap = areas[i].start - areas[i - 1].end;
        if (areas[i].end > INT64_MAX || gap <= largest || gap / 4 < size)
            continue;
        largest = gap;
        addr = (areas[i - 1].end + gap / 4) & ~(uint64_t)(TL_PAGE - 1);
    }
    free(areas);
    return addr;
}

int tl_share(struct tl_remote *r, size_t size, void **local, uint64_t *addr, struct tl_error *error)
{
    size_t done;
    uint64_t fd;
    int file, result = tl_batch_file(r, &fd, &file);
    if (result)
        return tl_explain_limit(r, result, "make a memory file", error);
    if (ftruncate(file, (off_t)size) != 0)
        result = -errno;
    tl_remote_step("shared file sized");
    if (result == 0 && fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        result = -errno;
    *local = result ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (result == 0 && *local == MAP_FAILED)
        result = -errno;
    uint64_t hint = out_of_the_way(r, size);
    struct tl_call finish[2] = {{SYS_mmap, {hint, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0}, -ECANCELED},
                                {SYS_close, {fd}, 0}};
    if (result) {
        tl_batch(r, &finish[1], 1, false, &done);
    } else {
        result = tl_batch(r, finish, 2, false, &done);
        if (result == 0 && finish[0].result < 0 && finish[0].result > -TL_PAGE)
            result = (int)finish[0].result;
    }
    close(file);
    if (result) {
        if (*local != MAP_FAILED)
            munmap(*local, size);
        return tl_explain_limit(r, result, "map memory", error);
    }
    *addr = (uint64_t)finish[0].result;
    return 0;
}
