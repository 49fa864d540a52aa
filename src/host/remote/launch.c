/* SPDX-License-Identifier: MIT
 *
 * Start a command and hold it where its own code would begin.
 *
 * At the exec stop a dynamic program is not there yet: ld.so still has to map and relocate the libraries. No breakpoint
 * waits for it at the entry, for we might be killed meanwhile. Instead the word AT_ENTRY on its new stack, from which
 * every ld.so takes the address it jumps to in the end, is changed to a gate in our core. The gate saves the registers,
 * says that it was reached, and waits for us, five seconds at most (a minute where we follow many, and may be busy with
 * others); then it goes on to the real entry by itself. When
 * we see it there we stop it and put the thread onto the real entry, with the registers that ld.so left.
 *
 * Without an ld.so (static programs) the exec stop is the entry.
 */
#include "host/remote/internal.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXEC_MS = 60000, HOLD_TURNS = 5000, HOLD_TURNS_FOLLOWED = 60000, STOP_MS = 2000 };

struct launch {
    char *const *argv;
    int go, why; /* to the child: a byte when it is traced; from it: the errno of exec */
    struct tl_error *error;
};

/* As execvp, but a file that is no program for this machine is an error, and not a script for the shell. Returns the
 * errno. */
static int execute(char *const argv[])
{
    const char *path = getenv("PATH");
    int error = ENOENT;
    if (strchr(argv[0], '/')) {
        execv(argv[0], argv);
        return errno;
    }
    if (!path)
        path = "/usr/local/bin:/usr/bin:/bin";
    for (size_t length; *argv[0] && error != ENOEXEC; path += length + 1) {
        char file[PATH_MAX];
        length = strcspn(path, ":");
        int n = snprintf(file, sizeof file, "%.*s%s%s", (int)length, path, length ? "/" : "", argv[0]);
        if (n > 0 && (size_t)n < sizeof file) {
            execv(file, argv);
            if (errno != ENOENT && errno != ENOTDIR)
                error = errno;
        }
        if (!path[length])
            break;
    }
    return error;
}

static void child(char *const argv[], int go, int why)
{
    char byte;
    ssize_t n;
    do {
        n = read(go, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) {
        int error = execute(argv);
        n = write(why, &error, sizeof error);
    }
    _exit(127);
}

/* Until the kernel has put the new program in place. */
static int to_exec(struct tl_remote *r, struct launch *l)
{
    uint64_t deadline = tl_now() + EXEC_MS * 1000000ull;
    for (int status;;) {
        int result = tl_wait(r, r->pid, deadline, &status);
        if (result == -ESRCH) {
            int error = 0;
            if (read(l->why, &error, sizeof error) == (ssize_t)sizeof error)
                return tl_fail(l->error, -error, "%s: %s", l->argv[0], strerror(error));
        }
        if (result)
            return tl_fail(l->error, result, "%s ended before it began", l->argv[0]);
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
            return 0;
        tl_go_on(r->pid, PTRACE_CONT, status);
    }
}

/* Where AT_ENTRY's value stands on the new stack. */
static uint64_t find_entry_word(struct tl_remote *r, uint64_t rsp, uint64_t entry)
{
    uint64_t word[2], at = rsp + 8;
    if (tl_mem_read(r, rsp, word, 8) || word[0] > 1 << 24)
        return 0;
    at += 8 * (word[0] + 1);
    do {
        if (tl_mem_read(r, at, word, 8))
            return 0;
        at += 8;
    } while (word[0]);
    for (;; at += 16) {
        if (tl_mem_read(r, at, word, 16) || word[0] == AT_NULL)
            return 0;
        if (word[0] == AT_ENTRY)
            return word[1] == entry ? at + 8 : 0;
    }
}

static int leave_gate(struct tl_remote *r, struct tl_error *error)
{
    struct tl_task *task = &r->tasks[0];
    struct user_regs_struct regs;
    const uint64_t *saved = r->core.page->entry.saved;
    int result = tl_get_regs(r->pid, &regs);
    if (result)
        return tl_fail(error, result, "the command has ended");
    bool waiting = regs.rip >= r->core.addr && regs.rip < r->core.addr + TL_PAGE;
    if (!waiting)
        return tl_fail(error, -EAGAIN, "the command did not wait long enough at its entry: the machine is too busy");
    regs.rax = saved[0], regs.rcx = saved[1], regs.rdx = saved[2], regs.rbx = saved[3], regs.rsp = saved[4];
    regs.rbp = saved[5], regs.rsi = saved[6], regs.rdi = saved[7], regs.r8 = saved[8], regs.r9 = saved[9];
    regs.r10 = saved[10], regs.r11 = saved[11], regs.r12 = saved[12], regs.r13 = saved[13], regs.r14 = saved[14];
    regs.r15 = saved[15], regs.eflags = saved[16];
    regs.rip = r->entry;
    regs.orig_rax = (uint64_t)-1;
    tl_remote_step("at entry");
    result = tl_set_regs(r->pid, &regs);
    task->regs = regs;
    return result ? tl_fail(error, result, "the command has ended") : 0;
}

static int send_to_gate(struct tl_remote *r, struct tl_error *error)
{
    uint64_t word = find_entry_word(r, r->tasks[0].regs.rsp, r->entry);
    if (!word)
        return tl_fail(error, -ENOEXEC, "the command's stack has no AT_ENTRY");
    int result = tl_core_create(r, error);
    if (result)
        return result;
    struct tl_core_page *page = r->core.page;
    uint64_t gate = r->core.addr + tl_runner_gate;
    page->entry =
        (struct tl_entry){.turns = r->follow ? HOLD_TURNS_FOLLOWED : HOLD_TURNS, .entry = r->entry, .word = word};
    tl_tracer_hold(r);
    tl_remote_step("entry word");
    result = tl_mem_write(r, word, &gate, sizeof gate);
    if (result == 0 && ptrace(PTRACE_CONT, r->pid, NULL, 0L) != 0)
        result = -errno;
    tl_remote_step("loading");
    r->loading = result == 0;
    return result ? tl_fail(error, result, "the command ended before its program began") : 0;
}

int tl_load_begin(struct tl_remote *r, struct tl_error *error)
{
    struct tl_task *task = tl_add_task(r, r->pid);
    if (!task)
        return tl_fail(error, -ENOMEM, "out of memory");
    r->stops = 1;
    r->held = true;
    task->stopped = true;
    int result = tl_interrupt(r, r->pid, true, tl_now() + STOP_MS * 1000000ull);
    if (result == 0)
        result = tl_get_regs(r->pid, &task->regs);
    if (result == 0)
        result = tl_mem_open(r);
    if (result)
        return tl_fail(error, result,
                       result == -ENOEXEC ? "process %d is not a 64-bit x86 program"
                                          : "process %d ended before its program began",
                       r->pid);
    r->entry = tl_auxv(r->pid, AT_ENTRY);
    return task->regs.rip != r->entry ? send_to_gate(r, error) : 0;
}

bool tl_load_arrived(struct tl_remote *r)
{
    return !r->loading || __atomic_load_n(&r->core.page->entry.reached, __ATOMIC_ACQUIRE);
}

int tl_load_finish(struct tl_remote *r, struct tl_error *error)
{
    int result = 0;
    if (r->loading) {
        r->loading = false;
        result = tl_interrupt(r, r->pid, false, tl_now() + STOP_MS * 1000000ull);
        result = result ? tl_fail(error, result, "the command has ended") : leave_gate(r, error);
        tl_tracer_forget(r);
    }
    if (result == 0)
        result = tl_stop_all(r); /* threads that a constructor made */
    if (result == 0) {
        tl_learn_processor(r);
        r->facts.threads = r->task_count;
        tl_learn_threads(r);
    }
    return result;
}

/* While ld.so works: pass its signals on, until it comes to the gate or ends. */
static int to_gate(struct tl_remote *r)
{
    while (!tl_load_arrived(r)) {
        int status, result = tl_wait(r, r->pid, 0, &status);
        if (result == 0 && status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP)
            ptrace(PTRACE_LISTEN, r->pid, NULL, NULL);
        else if (result == 0)
            tl_go_on(r->pid, PTRACE_CONT, status);
        else if (result == -ESRCH)
            return result;
        tl_nap(30);
    }
    return 0;
}

static int launch(struct tl_remote *r, void *argument)
{
    struct launch *l = argument;
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, r->pid, NULL, options) != 0)
        return tl_explain_refusal(r->pid, -errno, l->error);
    tl_remote_step("child seized");
    if (write(l->go, "", 1) != 1)
        return tl_fail(l->error, -EIO, "the command cannot be started");
    int result = to_exec(r, l);
    if (result)
        return result;
    tl_remote_step("executed");
    ptrace(PTRACE_SETOPTIONS, r->pid, NULL, (long)PTRACE_O_TRACESYSGOOD);
    result = tl_load_begin(r, l->error);
    if (result == -ENOEXEC)
        return tl_fail(l->error, result, "%s is not a 64-bit x86 program", l->argv[0]);
    if (result == 0 && to_gate(r) != 0)
        result = tl_fail(l->error, -ESRCH, "the command ended before its program began");
    return result ? result : tl_load_finish(r, l->error);
}

int tl_launch(struct tl_remote *r, char *const argv[], struct tl_error *error)
{
    int go[2], why[2];
    if (pipe2(go, O_CLOEXEC) != 0)
        return tl_fail(error, -errno, "out of file descriptors");
    if (pipe2(why, O_CLOEXEC) != 0) {
        close(go[0]);
        close(go[1]);
        return tl_fail(error, -EMFILE, "out of file descriptors");
    }
    r->pid = fork();
    if (r->pid == 0) {
        close(go[1]);
        child(argv, go[0], why[1]);
    }
    close(go[0]);
    close(why[1]);
    struct launch l = {argv, go[1], why[0], error};
    int result = r->pid < 0 ? tl_fail(error, -errno, "fork: %s", strerror(errno)) : 0;
    r->facts.launched = true;
    r->facts.pid = r->facts.ns_pid = r->pid;
    if (result == 0) {
        r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
        result = tl_on_tracer(r, launch, &l);
    }
    close(go[1]);
    close(why[0]);
    if (result && r->pid > 0 && !r->reaped) {
        kill(r->pid, SIGKILL); /* it never ran: nobody can miss it */
        waitpid(r->pid, NULL, 0);
        r->reaped = true;
    }
    return result;
}
