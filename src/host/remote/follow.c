/* SPDX-License-Identifier: MIT
 *
 * The loop of a tracer that stays.
 *
 * Little is remembered. A new task says so itself, by the trap that it begins with; what it is, /proc and kcmp tell: a
 * thread, a process that shares memory with one that we know, or a new process. So it does not matter in which order
 * the kernel reports parent and child, nor whether a report came while something else was waited for (settle, in
 * stop.c), and the parents' own fork events need no look at all. Only an exec must not get lost: tl_follow_keep.
 *
 * A program that was just executed runs on to its gate (launch.c) while the loop goes on: a constructor may fork, and
 * wait for its child.
 */
#include "host/remote/follow.h"
#include "base/array.h"
#include "host/remote/internal.h"

#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOAD_LOOK_US = 200 };

struct tl_follow {
    struct tl_tracer *tracer;
    struct tl_remote **members; /* known processes: each has its own memory */
    size_t count, room;
    struct kept {
        pid_t tid;
        int status;
    } * kept;
    size_t kept_count, kept_room;
    pid_t first;
    bool launched, first_ended;
    bool alone; /* no tracee is left: not even one that was born just now, and has not said so */
    int first_status;
    int children; /* signalfd for SIGCHLD */
    sigset_t signals_before;
};

/* ---- what the rest of the host asks ---- */

long tl_trace_options(const struct tl_remote *r)
{
    long options = PTRACE_O_TRACESYSGOOD;
    if (r->suspend_seccomp && r->stops > 0)
        options |= PTRACE_O_SUSPEND_SECCOMP;
    if (tl_stays(r))
        options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    return options;
}

bool tl_stays(const struct tl_remote *r)
{
    return r->follow != NULL;
}

/* The code of the trap that it stands in says whether its group is stopped. */
static bool in_group_stop(pid_t tid)
{
    siginfo_t info;
    return ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) == 0 && info.si_code >> 8 == PTRACE_EVENT_STOP &&
           (info.si_code & 0x7f) != SIGTRAP;
}

void tl_carry_on(struct tl_remote *r, pid_t tid)
{
    if (r->suspend_seccomp)
        ptrace(PTRACE_SETOPTIONS, tid, NULL, tl_trace_options(r));
    ptrace(in_group_stop(tid) ? PTRACE_LISTEN : PTRACE_CONT, tid, NULL, 0L);
}

static struct tl_remote *member(const struct tl_follow *f, pid_t pid)
{
    for (size_t i = 0; i < f->count; i++) {
        struct tl_remote *r = f->members[i];
        if (r->pid == pid && !r->replaced && !r->reaped)
            return r;
    }
    return NULL;
}

/* True: on_next will see it. */
static bool keep(struct tl_follow *f, pid_t tid, int status)
{
    struct kept *kept = tl_array_grown(f->kept, f->kept_count, &f->kept_room, sizeof *kept);
    if (!kept)
        return false;
    f->kept = kept;
    f->kept[f->kept_count++] = (struct kept){tid, status};
    return true;
}

static bool is_exec(int status)
{
    return status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8);
}

bool tl_follow_keep(struct tl_remote *r, pid_t tid, int status)
{
    struct tl_follow *f = r->follow;
    if (!f || !is_exec(status) || !keep(f, tid, status))
        return false;
    struct tl_remote *old = member(f, tid);
    if (old)
        old->replaced = true;
    return true;
}

/* ---- members ---- */

static bool add_member(struct tl_follow *f, struct tl_remote *r)
{
    struct tl_remote **members = tl_array_grown(f->members, f->count, &f->room, sizeof *members);
    if (!members)
        return false;
    f->members = members;
    f->members[f->count++] = r;
    r->follow = f;
    return true;
}

void tl_follow_forget(struct tl_remote *r)
{
    struct tl_follow *f = r->follow;
    for (size_t i = 0; i < f->count; i++) {
        if (f->members[i] == r) {
            memmove(&f->members[i], &f->members[i + 1], (--f->count - i) * sizeof *f->members);
            return;
        }
    }
}

static struct tl_remote *new_member(struct tl_follow *f, pid_t pid)
{
    struct tl_remote *r = tl_remote_create(pid, f->tracer);
    if (r && !add_member(f, r)) {
        tl_remote_close(r);
        r = NULL;
    }
    if (!r)
        return NULL;
    r->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    r->facts.pid = pid;
    r->facts.ns_pid = tl_innermost_pid(pid);
    r->facts.launched = pid == f->first && f->launched;
    return r;
}

static bool shares_memory(const struct tl_follow *f, pid_t pid)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct tl_remote *r = f->members[i];
        if (r->pid != pid && !r->replaced && !r->reaped && syscall(SYS_kcmp, pid, r->pid, KCMP_VM, 0, 0) == 0)
            return true;
    }
    return false;
}

/* The member from which the memory of `r` was copied: the core is its. */
static struct tl_remote *find_origin(const struct tl_follow *f, struct tl_remote *r)
{
    struct tl_remote_area *areas;
    struct tl_remote *origin = NULL;
    size_t count;
    if (tl_read_areas(r->pid, &areas, &count))
        return NULL;
    for (size_t i = 0; i < f->count && !origin; i++) {
        struct tl_remote *m = f->members[i];
        const struct tl_remote_area *area = m != r && m->core.page ? tl_area_at(areas, count, m->core.addr) : NULL;
        if (area && tl_is_ours(area) && area->inode == m->core.inode && m->told)
            origin = m;
    }
    free(areas);
    return origin;
}

/* A fork child in its first trap: what it inherited of ours goes. */
static void adopt(struct tl_remote *r, struct tl_follow_event *event)
{
    struct tl_error *error = &event->error;
    struct tl_task *task = tl_add_task(r, r->pid);
    r->stops = 1;
    r->held = true;
    int result = task ? tl_mem_open(r) : -ENOMEM;
    if (task)
        task->stopped = true;
    if (result == 0)
        result = tl_get_regs(r->pid, &task->regs);
    if (result)
        tl_fail(error, result, "process %d cannot be followed (%s)", r->pid, tl_errno_name(-result));
    if (result == 0)
        result = tl_check_seccomp(r, error);
    if (result == 0 && r->suspend_seccomp)
        ptrace(PTRACE_SETOPTIONS, r->pid, NULL, tl_trace_options(r));
    if (result == 0) {
        tl_learn_processor(r);
        r->facts.threads = 1;
        tl_learn_threads(r);
        event->forked_from = find_origin(r->follow, r);
        if (tl_residue_suspected(r))
            result = tl_residue_clean(r, false, error);
    }
    event->failed = result != 0;
}

static void came(struct tl_follow_event *event, struct tl_remote *r)
{
    *event = (struct tl_follow_event){.kind = TL_FOLLOW_CAME, .remote = r};
    r->told = true;
}

/* ---- what tasks report ---- */

/* A new program, at its exec stop. Not yet an event: it has to come to its entry first. */
static void execed(struct tl_follow *f, pid_t pid)
{
    struct tl_remote *old = member(f, pid);
    if (old)
        old->replaced = true;
    struct tl_remote *r = new_member(f, pid);
    if (!r) {
        ptrace(PTRACE_CONT, pid, NULL, 0L);
        return;
    }
    struct tl_error *error = &r->last;
    int result = tl_check_seccomp(r, error);
    if (result == 0 && r->suspend_seccomp) {
        r->stops = 1;
        ptrace(PTRACE_SETOPTIONS, pid, NULL, tl_trace_options(r));
    }
    if (result == 0)
        result = tl_load_begin(r, error);
    if (result == 0 && !r->loading)
        result = tl_load_finish(r, error);
    r->last.code = result;
    if (result) {
        if (r->task_count == 0 && tl_add_task(r, pid))
            r->tasks[0].stopped = true;
        r->stops = 1;
        r->held = true;
    }
}

/* Those that have come to their gates are stopped there at once: they would not wait for ever. */
static void finish_loading(struct tl_follow *f)
{
    for (size_t i = 0; i < f->count; i++) {
        struct tl_remote *r = f->members[i];
        if (r->loading && !r->reaped && !r->replaced && tl_load_arrived(r))
            r->last.code = tl_load_finish(r, &r->last);
    }
}

static bool is_leader(pid_t tid)
{
    char *status = tl_proc_file(tid, "status", NULL);
    bool leader = status && tl_status_number(status, "Tgid", 10) == tid;
    free(status);
    return leader;
}

static void ended(struct tl_follow *f, pid_t tid, int status)
{
    struct tl_remote *r = member(f, tid);
    if (r) {
        r->reaped = true;
        r->status = status;
    }
    if (tid == f->first && !f->first_ended) {
        f->first_ended = true;
        f->first_status = status;
    }
}

/* What brings nothing new: the task goes on. False for an exec and for a new process. */
static bool pass_on(struct tl_follow *f, pid_t tid, int status)
{
    if (!WIFSTOPPED(status)) {
        ended(f, tid, status);
        return true;
    }
    if (is_exec(status))
        return false;
    if (status >> 16 != PTRACE_EVENT_STOP) {
        tl_go_on(tid, PTRACE_CONT, status);
        return true;
    }
    if (!member(f, tid) && is_leader(tid) && !shares_memory(f, tid))
        return false;
    ptrace(WSTOPSIG(status) == SIGTRAP ? PTRACE_CONT : PTRACE_LISTEN, tid, NULL, 0L);
    return true;
}

/* True: *event says what is new. */
static bool handle(struct tl_follow *f, pid_t tid, int status, struct tl_follow_event *event)
{
    if (pass_on(f, tid, status))
        return false;
    if (is_exec(status)) {
        execed(f, tid);
        return false;
    }
    struct tl_remote *r = new_member(f, tid);
    if (!r) {
        ptrace(PTRACE_CONT, tid, NULL, 0L);
        return false;
    }
    came(event, r);
    adopt(r, event);
    return true;
}

static pid_t next_status(int *status)
{
    pid_t tid;
    do {
        tid = waitpid(-1, status, __WALL | __WNOTHREAD | WNOHANG);
    } while (tid < 0 && errno == EINTR);
    return tid;
}

void tl_follow_attend(struct tl_remote *r)
{
    int status;
    for (pid_t tid; (tid = next_status(&status)) > 0;) {
        struct tl_remote *old = member(r->follow, tid);
        if (pass_on(r->follow, tid, status))
            continue;
        if (!keep(r->follow, tid, status))
            ptrace(PTRACE_CONT, tid, NULL, 0L);
        if (old && is_exec(status))
            old->replaced = true;
    }
}

/* Handles whose memory is gone, by exec or by the end. */
static bool next_gone(struct tl_follow *f, struct tl_follow_event *event)
{
    for (size_t i = 0; i < f->count; i++) {
        struct tl_remote *r = f->members[i];
        if (!r->reaped && !r->replaced)
            continue;
        if (r->reaped)
            ended(f, r->pid, r->status);
        tl_follow_forget(r);
        if (!r->told) {
            r->held = false;
            r->stops = 0;
            tl_remote_close(r);
            i--;
            continue;
        }
        *event = (struct tl_follow_event){.kind = TL_FOLLOW_WENT, .remote = r};
        return true;
    }
    return false;
}

/* Programs that have come to their entries. */
static bool next_loaded(struct tl_follow *f, struct tl_follow_event *event)
{
    for (size_t i = 0; i < f->count; i++) {
        struct tl_remote *r = f->members[i];
        if (r->told || r->loading)
            continue;
        came(event, r);
        event->failed = r->last.code != 0;
        event->error = r->last;
        return true;
    }
    return false;
}

struct job {
    struct tl_follow *f;
    struct tl_follow_event *event;
};

static int on_next(struct tl_remote *r, void *argument)
{
    struct tl_follow *f = ((struct job *)argument)->f;
    struct tl_follow_event *event = ((struct job *)argument)->event;
    (void)r;
    for (;;) {
        int status;
        pid_t tid;
        finish_loading(f);
        if (next_gone(f, event) || next_loaded(f, event))
            return 1;
        if (f->kept_count) {
            tid = f->kept[0].tid;
            status = f->kept[0].status;
            memmove(f->kept, f->kept + 1, --f->kept_count * sizeof *f->kept);
        } else {
            tid = next_status(&status);
            f->alone = tid < 0;
        }
        if (tid <= 0)
            return 0;
        if (handle(f, tid, status, event))
            return 1;
    }
}

/* Work needs a handle; any will do. */
static int on_tracer(struct tl_follow *f, int (*work)(struct tl_remote *, void *), void *argument)
{
    struct tl_remote any = {.tracer = f->tracer};
    return tl_on_tracer(&any, work, argument);
}

bool tl_follow_next(struct tl_follow *f, struct tl_follow_event *event)
{
    struct job job = {f, event};
    return on_tracer(f, on_next, &job) == 1;
}

int tl_follow_wait(struct tl_follow *f, int timeout_us)
{
    for (size_t i = 0; i < f->count; i++) {
        if (f->members[i]->loading && (timeout_us < 0 || timeout_us > LOAD_LOOK_US))
            timeout_us = LOAD_LOOK_US;
    }
    struct timespec timeout = {timeout_us / 1000000, timeout_us % 1000000 * 1000L};
    struct pollfd fd = {.fd = f->children, .events = POLLIN};
    int n = ppoll(&fd, 1, timeout_us < 0 ? NULL : &timeout, NULL);
    if (n < 0)
        return -errno;
    struct signalfd_siginfo info;
    return n == 0 || read(f->children, &info, sizeof info) > 0 || errno == EAGAIN ? 0 : -errno;
}

/* Only a kill takes a task out of its stop. */
static int on_dying(struct tl_remote *r, void *unused)
{
    unsigned long message;
    (void)unused;
    return r->reaped || r->task_count == 0 ||
           (ptrace(PTRACE_GETEVENTMSG, r->tasks[0].tid, NULL, &message) != 0 && errno == ESRCH);
}

bool tl_follow_is_dying(struct tl_remote *r)
{
    return tl_on_tracer(r, on_dying, NULL) == 1;
}

bool tl_follow_first_ended(const struct tl_follow *f, int *status)
{
    *status = f->first_status;
    return f->first_ended;
}

bool tl_follow_await_first(struct tl_follow *f, int timeout_us, int *status)
{
    for (int tries = 0; tries < 2 && f->launched && !f->first_ended; tries++) {
        if (tries)
            tl_follow_wait(f, timeout_us);
        f->first_ended = waitpid(f->first, &f->first_status, WNOHANG) == f->first;
    }
    *status = f->first_status;
    return f->first_ended;
}

bool tl_follow_idle(const struct tl_follow *f)
{
    return f->alone && f->count == 0 && f->kept_count == 0;
}

/* ---- beginning and end ---- */

static int on_begin(struct tl_remote *r, void *argument)
{
    int result = tl_stop(r, argument);
    if (result)
        return result;
    for (size_t i = 0; i < r->task_count; i++)
        ptrace(PTRACE_SETOPTIONS, r->tasks[i].tid, NULL, tl_trace_options(r));
    tl_resume(r);
    return 0;
}

int tl_follow_begin(struct tl_remote *first, struct tl_follow **out, struct tl_error *error)
{
    struct tl_follow *f = calloc(1, sizeof *f);
    if (!f)
        return tl_fail(error, -ENOMEM, "out of memory");
    f->tracer = tl_tracer_share(first->tracer);
    f->first = first->pid;
    f->launched = first->facts.launched;
    first->told = true;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &f->signals_before);
    f->children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    int result = f->children < 0 ? tl_fail(error, -errno, "out of file descriptors") : 0;
    if (result == 0 && !add_member(f, first))
        result = tl_fail(error, -ENOMEM, "out of memory");
    if (result == 0)
        result = tl_patiently(first, on_begin, error);
    if (result) {
        first->follow = NULL;
        tl_follow_end(f);
        return result;
    }
    *out = f;
    return 0;
}

static int on_leave(struct tl_remote *r, void *unused)
{
    (void)unused;
    tl_tracer_forget(r);
    tl_follow_forget(r);
    r->follow = NULL;
    r->held = false;
    r->stops = r->stops ? 1 : 0;
    tl_resume(r);
    return 0;
}

void tl_follow_leave(struct tl_remote *r)
{
    struct tl_tracer *own = tl_tracer_create();
    tl_on_tracer(r, on_leave, NULL);
    if (own) {
        tl_tracer_drop(r->tracer);
        r->tracer = own;
    }
}

static int on_abandon(struct tl_remote *r, void *argument)
{
    struct tl_follow *f = argument;
    while (f->count) {
        struct tl_remote *left = f->members[0];
        bool told = left->told;
        if (left->loading)
            __atomic_store_n(&left->core.page->entry.go, 1, __ATOMIC_RELEASE);
        on_leave(left, NULL);
        if (!told)
            tl_remote_close(left);
    }
    tl_tracer_condemn(r);
    return 0;
}

void tl_follow_abandon(struct tl_follow *f)
{
    on_tracer(f, on_abandon, f);
}

void tl_follow_end(struct tl_follow *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        f->members[i]->follow = NULL;
    if (f->children >= 0)
        close(f->children);
    sigprocmask(SIG_SETMASK, &f->signals_before, NULL);
    tl_tracer_drop(f->tracer);
    free(f->members);
    free(f->kept);
    free(f);
}
