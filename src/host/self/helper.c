/* SPDX-License-Identifier: MIT
 *
 * The helper: a task that shares our memory, is not one of our threads, and so may trace them.
 *
 * It makes no use of the C library and of no thread-local storage (it runs with the thread pointer of the one who made
 * it, who goes on at the same time), takes no lock, and is built without any instrumentation. Whatever becomes of it,
 * the kernel lets go of all that it traces when it ends; it ends with the thread that made it; and the word `state`
 * becomes 0. So nobody waits for a helper that is gone, and no thread is left standing.
 *
 * How it stops the others is what the host for other processes does, for one's own: seize and interrupt every thread
 * until a look at /proc shows no new one; calls that the kernel ends with EINTR for that are made to start again.
 *
 * A thread that waits for its vfork child cannot be stopped before the child is gone. One that is seen in time is not
 * even asked, nor is its child. When somebody does not stop in time, the helper gives up; its end takes the request
 * back, and whoever sent it tries again a few times.
 */
#include "host/self/internal.h"
#include "host/self/world.h"

#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

enum { PATIENCE_MS = 100, PATIENCE_BUSY_MS = 500, NUMBER_BYTES = 16, LIST_BYTES = 4096 };

/* clone, for a function that is to run on a stack of its own. */
static long spawn(long flags, long stack, long function, long argument, long word)
{
    long result;
    register long r10 __asm__("r10") = word;
    register long r8 __asm__("r8") = 0;
    register long r12 __asm__("r12") = function;
    register long r13 __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(0L), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
                     : "rcx", "r11", "memory");
    return result;
}

static long real_call(long number, long a, long b, long c, long d, long e, long f)
{
    if (number == SYS_clone)
        return spawn(a, b, c, d, e);
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

long (*tl_self_call)(long number, long a, long b, long c, long d, long e, long f) = real_call;

static uint64_t now_ms(void)
{
    struct timespec t = {0, 0};
    CALL(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static long trace(long request, pid_t tid, void *addr, void *data)
{
    return CALL(SYS_ptrace, request, tid, addr, data);
}

/* "TID/file" or "TID/task/…", read whole as far as it fits. Returns the length, 0 where there is none. */
static size_t read_of(struct tl_world *w, pid_t tid, const char *file, char *text, size_t size)
{
    char path[NUMBER_BYTES * 2];
    char digits[NUMBER_BYTES];
    size_t n = 0, at = 0, length = 0;
    for (unsigned value = (unsigned)tid; value || n == 0; value /= 10)
        digits[n++] = (char)('0' + value % 10);
    while (n)
        path[at++] = digits[--n];
    for (path[at++] = '/'; *file; file++)
        path[at++] = *file;
    path[at] = 0;
    long fd = CALL(SYS_openat, w->directory, path, 02000000 /* O_RDONLY | O_CLOEXEC */, 0);
    if (fd < 0)
        return 0;
    while (length < size - 1) {
        long got = CALL(SYS_read, fd, text + length, size - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    CALL(SYS_close, fd);
    text[length] = 0;
    return length;
}

/* 'R', 'Z'… of a thread of ours; 0: it is gone. */
static char state_of(struct tl_world *w, pid_t tid)
{
    char text[256];
    size_t length = read_of(w, tid, "stat", text, sizeof text);
    while (length && text[length - 1] != ')') /* the name may hold anything */
        length--;
    return length ? text[length + 1] : 0;
}

static bool is_traced(struct tl_world *w, pid_t tid)
{
    static const char key[] = "\nTracerPid:\t";
    char text[LIST_BYTES];
    size_t length = read_of(w, tid, "status", text, sizeof text), matched = 0;
    for (size_t i = 0; i < length; i++) {
        if (matched == sizeof key - 1)
            return text[i] != '0';
        matched = text[i] == key[matched] ? matched + 1 : text[i] == key[0];
    }
    return false;
}

static struct tl_world_task *known(struct tl_world *w, pid_t tid)
{
    for (size_t i = w->count; i-- > 0;) {
        if (w->tasks[i].tid == tid)
            return &w->tasks[i];
    }
    return NULL;
}

/* In a vfork, waiting for the child: nothing can stop it before that is over. */
static bool waits_for_vfork(struct tl_world *w, pid_t tid)
{
    char text[128];
    long number = 0;
    size_t length = read_of(w, tid, "syscall", text, sizeof text), i = 0;
    while (i < length && text[i] >= '0' && text[i] <= '9')
        number = number * 10 + (text[i++] - '0');
    return i > 0 && (number == SYS_vfork || number == SYS_clone || number == SYS_clone3);
}

/* 1: a new one; 0: nothing to do; -errno. */
static long seize(struct tl_world *w, pid_t tid, bool outside)
{
    if (tid == w->caller || tid == w->helper || known(w, tid))
        return 0;
    if (!outside && state_of(w, tid) == 'D' && waits_for_vfork(w, tid)) {
        w->vfork = true;
        return 0;
    }
    if (w->count == w->room)
        return -EAGAIN; /* more threads than when we were sent: another try makes room */
    long result = trace(PTRACE_SEIZE, tid, NULL, NULL);
    if (result) {
        char state = outside ? 0 : state_of(w, tid);
        if (state == 0 || state == 'Z' || state == 'X')
            return 0;
        return is_traced(w, tid) ? -EBUSY : result == -ESRCH ? -EPERM : result;
    }
    struct tl_world_task *task = &w->tasks[w->count++];
    task->tid = tid;
    task->outside = outside;
    task->stopped = false;
    trace(PTRACE_INTERRUPT, tid, NULL, NULL);
    return 1;
}

/* Children that share our memory: of a vfork, or of a clone of the program's own. */
static long seize_children(struct tl_world *w, pid_t tid)
{
    char text[LIST_BYTES];
    size_t length = read_of(w, tid, "children", text, sizeof text);
    long added = 0;
    pid_t pid = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = pid * 10 + (text[i] - '0');
            continue;
        }
        if (pid && pid != w->helper && CALL(SYS_kcmp, w->caller, pid, KCMP_VM, 0, 0) == 0) {
            long result = seize(w, pid, true);
            if (result < 0)
                return result;
            added += result;
        }
        pid = 0;
    }
    return added;
}

struct entry { /* as getdents64 gives them */
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* How many were added, or -errno. */
static long seize_all(struct tl_world *w)
{
    char list[LIST_BYTES] __attribute__((aligned(8)));
    long added = 0, got;
    bool found = false;
    CALL(SYS_lseek, w->directory, 0, 0);
    while ((got = CALL(SYS_getdents64, w->directory, list, sizeof list)) > 0) {
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(const void *)(list + at);
            pid_t tid = 0;
            for (const char *c = entry->name; *c >= '0' && *c <= '9'; c++)
                tid = tid * 10 + (*c - '0');
            at += entry->length;
            if (tid == 0)
                continue;
            found = found || tid == w->caller;
            long result = seize(w, tid, false);
            if (result >= 0 && !w->vfork)
                added += result, result = seize_children(w, tid);
            if (result < 0)
                return result;
            added += result;
        }
    }
    return got < 0 ? got : found ? added : -ENOENT; /* a /proc of another pid name space */
}

/* Calls that a ptrace stop ends with EINTR although no signal came start again, as after ERESTARTNOHAND. */
static void mend_restart(struct user_regs_struct *regs)
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

static long registers(long request, struct tl_world_task *task)
{
    struct iovec io = {&task->regs, sizeof task->regs};
    return trace(request, task->tid, (void *)NT_PRSTATUS, &io);
}

static void nap(unsigned turn)
{
    struct timespec t = {0, turn < 256 ? 50000 : 500000};
    if (turn < 64)
        CALL(SYS_sched_yield);
    else
        CALL(SYS_nanosleep, &t, NULL);
}

/* 0: it stands in a trap of ours or a group stop; -ESRCH: it has ended; -EAGAIN. */
static long settle(struct tl_world *w, struct tl_world_task *task, uint64_t deadline, uint64_t busy_deadline)
{
    for (unsigned turn = 0;; turn++) {
        int status = 0;
        long got = CALL(SYS_wait4, task->tid, &status, __WALL | WNOHANG, NULL);
        if (got == task->tid) {
            if (!WIFSTOPPED(status))
                return -ESRCH;
            if (status >> 16 == PTRACE_EVENT_STOP)
                return 0;
            /* A signal on its way: pass it on, and ask again. */
            trace(PTRACE_INTERRUPT, task->tid, NULL, NULL);
            trace(PTRACE_CONT, task->tid, NULL, (void *)(long)(status >> 16 ? 0 : WSTOPSIG(status)));
            continue;
        }
        if (got < 0 && got != -EINTR)
            return -ESRCH;
        if (turn >= 64) {
            uint64_t now = now_ms(); /* one that only lacks a processor comes as soon as it gets one */
            if (now >= busy_deadline || (now >= deadline && state_of(w, task->tid) != 'R'))
                return -EAGAIN;
        }
        nap(turn);
    }
}

static long collect(struct tl_world *w, uint64_t deadline, uint64_t busy_deadline)
{
    for (size_t i = 0; i < w->count;) {
        struct tl_world_task *task = &w->tasks[i];
        long result = task->stopped ? 0 : settle(w, task, deadline, busy_deadline);
        if (result == 0 && !task->stopped)
            result = registers(PTRACE_GETREGSET, task);
        if (result == -ESRCH) {
            struct tl_world_task *last = &w->tasks[--w->count];
            task->tid = last->tid;
            task->outside = last->outside;
            task->stopped = last->stopped;
            for (size_t k = 0; k < sizeof task->regs / 8; k++)
                ((volatile unsigned long long *)&task->regs)[k] = ((unsigned long long *)&last->regs)[k];
            continue;
        }
        if (result)
            return result;
        if (!task->stopped) {
            unsigned long long rax = task->regs.rax;
            task->stopped = true;
            mend_restart(&task->regs);
            if (task->regs.rax != rax)
                registers(PTRACE_SETREGSET, task);
        }
        i++;
    }
    return 0;
}

static long stop_all(struct tl_world *w)
{
    uint64_t begin = now_ms();
    for (;;) {
        w->vfork = false;
        long added = seize_all(w);
        long result = added < 0 ? added : collect(w, begin + PATIENCE_MS, begin + PATIENCE_BUSY_MS);
        if (result || (added == 0 && !w->vfork))
            return result;
        if (w->vfork && now_ms() >= begin + PATIENCE_MS)
            return -EAGAIN;
        if (w->vfork)
            nap(128);
    }
}

static void tell(struct tl_world *w, int state)
{
    __atomic_store_n(&w->state, state, __ATOMIC_SEQ_CST);
    CALL(SYS_futex, &w->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Wait for an order other than `last`. */
static int hear(struct tl_world *w, int last)
{
    const struct timespec t = {0, TL_WORLD_LOOK_NS};
    for (;;) {
        int order = __atomic_load_n(&w->order, __ATOMIC_SEQ_CST);
        if (order != last)
            return order;
        CALL(SYS_futex, &w->order, FUTEX_WAIT, last, &t, NULL, 0);
    }
}

void tl_world_help(struct tl_world *w)
{
    long result = CALL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (result == 0 && CALL(SYS_getppid) == w->pid) {
        hear(w, TL_WORLD_WAIT);
        w->helper = (pid_t)CALL(SYS_getpid);
        result = stop_all(w);
        w->error = (int)result;
        tell(w, result ? TL_WORLD_FAILED : TL_WORLD_STOPPED);
        for (int order; result == 0 && (order = hear(w, TL_WORLD_GO)) != TL_WORLD_RELEASE;) {
            w->call.result = trace(w->call.request, (pid_t)w->call.tid, (void *)w->call.addr, (void *)w->call.data);
            __atomic_store_n(&w->order, TL_WORLD_GO, __ATOMIC_SEQ_CST);
            CALL(SYS_futex, &w->order, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
        for (size_t i = 0; i < w->count; i++) {
            if (w->tasks[i].stopped)
                trace(PTRACE_DETACH, w->tasks[i].tid, NULL, NULL);
        }
    }
    for (;;)
        CALL(SYS_exit, 0);
}
