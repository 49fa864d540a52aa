/* SPDX-License-Identifier: MIT
 *
 * Handlers that see and change SIGTRAP in masks: their own, and those that they return to; round and round, each time
 * as the kernel has it, with an instruction to put a breakpoint on (progress->probe) wherever SIGTRAP is blocked. And
 * stacks are unwound from inside of handlers, by the C library, through the signal's frame.
 *
 * With an argument: without what only a guard on the return from handlers makes exact. With `value` not 0 it rests.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <execinfo.h>
#endif

#include "five_bytes.h"
#include "progress.h"

static struct progress *p;
static int plain;

static void expect(int good, unsigned what)
{
    if (good && five_bytes() == 0x12345678)
        return;
    p->errors++;
    p->where = what;
}

static int blocked(void)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, SIGTRAP);
}

static int pending(void)
{
    sigset_t now;
    sigpending(&now);
    return sigismember(&now, SIGTRAP);
}

static void change(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    sigprocmask(how, &set, NULL);
}

static void set_handler(int number, void (*handler)(int, siginfo_t *, void *), int with_trap)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    if (with_trap)
        sigaddset(&action.sa_mask, SIGTRAP);
    sigaction(number, &action, NULL);
}

static int traps;

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    expect(blocked(), 1);
    traps++;
}

static void blocks(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number, (void)info;
    expect(!sigismember(&uc->uc_sigmask, SIGTRAP) && !blocked(), 2);
    sigaddset(&uc->uc_sigmask, SIGTRAP);
}

static void unblocks(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number, (void)info;
    expect(sigismember(&uc->uc_sigmask, SIGTRAP) && blocked() && pending(), 3);
    sigdelset(&uc->uc_sigmask, SIGTRAP);
}

static void by_return(void)
{
    set_handler(SIGUSR1, blocks, 0);
    raise(SIGUSR1);
    expect(blocked(), 4);
    raise(SIGTRAP);
    expect(pending() && traps == 0, 5);
    set_handler(SIGUSR1, unblocks, 0);
    raise(SIGUSR1);
    expect(!blocked() && !pending() && traps == 1, 6);
}

static sigjmp_buf back;

static void inner(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number, (void)info;
    expect(plain || sigismember(&uc->uc_sigmask, SIGTRAP), 7);
    expect(blocked(), 8);
    if (!plain)
        change(SIG_UNBLOCK);
    if (p->loops[0] & 1)
        siglongjmp(back, 1);
}

static void outer(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number, (void)info;
    expect(!sigismember(&uc->uc_sigmask, SIGTRAP) && blocked(), 9);
    raise(SIGUSR2);
    expect(blocked(), 10);
    raise(SIGTRAP);
    expect(pending() && traps == 0, 11);
}

static void one_in_another(void)
{
    set_handler(SIGUSR1, outer, 1);
    set_handler(SIGUSR2, inner, 0);
    if (sigsetjmp(back, 1) == 0) {
        raise(SIGUSR1);
        expect(!blocked() && traps == 1, 12);
    } else {
        expect(!blocked() && traps == 0, 13);
    }
}

#ifdef __GLIBC__
/* The same addresses each time: this file's. */
enum { DEEP = 16 };
static void *seen[DEEP], *interrupted;
static int depth;

static void looks_back(int number, siginfo_t *info, void *context)
{
    void *frames[DEEP];
    ucontext_t *uc = context;
    int count = backtrace(frames, DEEP), same = 0;
    (void)number, (void)info;
    if (!interrupted) {
        interrupted = (void *)uc->uc_mcontext.gregs[REG_RIP];
        for (depth = count; count-- > 0;)
            seen[count] = frames[count];
        return;
    }
    expect((void *)uc->uc_mcontext.gregs[REG_RIP] == interrupted, 14);
    for (int i = 0; i < count && i < depth; i++)
        same += frames[i] == seen[i];
    expect(count == depth && depth > 4 && same == depth, 15);
}

__attribute__((noinline)) static void unwinding(void)
{
    sigset_t set;
    set_handler(SIGUSR1, looks_back, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* the signal comes behind the system call */
}
#else
static void unwinding(void)
{
}
#endif

__attribute__((noinline)) static void once(void)
{
    traps = 0;
    if (!plain)
        by_return();
    traps = 0;
    one_in_another();
    unwinding();
}

int main(int argc, char **argv)
{
    (void)argv;
    p = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    p->probe = (uintptr_t)five_bytes;
    plain = argc > 1;
    set_handler(SIGTRAP, on_trap, 0);
    while (!p->stop) {
        if (p->value)
            usleep(100);
        else
            once();
        expect(!blocked() && !pending(), 16);
        p->loops[0]++;
        p->ready = 1;
    }
    return 0;
}
