/* SPDX-License-Identifier: MIT
 *
 * Faults that the program takes care of, by handlers that look closely: at the registers, at the address, at the stack
 * they run on. The answer is the same with probes and without.
 *
 *     repair N       a page is made readable in the handler; the instruction runs again
 *     leave N        siglongjmp, with and without the mask
 *     null N         the handler knows which instruction may fault, and where to go on: as run-time compilers do it
 *     kinds N        a division by zero, an invalid instruction, a page behind the end of a file, a trap
 *     stacks N       handlers on an alternate stack and not; a stack that overflows
 *     deep N         a recursion down to the end of a stack, each time from a place 8 bytes further up
 *     sent N         signals of these numbers that are no faults
 *     segv, ill, fpe nobody takes care of it
 */
#include "obey.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* Registers with values that are known at each of the instructions that may fault. */
long load_at(const volatile long *from);
extern const char load_here[], load_null[], divide_at[], divide_here[], invalid_at[], invalid_here[], trap_at[],
    trap_here[], deep_at[], deep_pushed[], deep_call[], deep_end[];
__asm__(".pushsection .text\n"
        ".globl load_at, divide_at, invalid_at, trap_at, deep_at\n"
        ".type load_at, @function\n"
        ".balign 16\n"
        "load_at:\n"
        "    push %rbx\n"
        "    mov $0x1111, %ebx\n"
        "    mov $0x2222, %ecx\n"
        "    mov $0x3333, %edx\n"
        "    cmp $0x3333, %edx\n"
        "load_here:\n"
        "    mov (%rdi), %rax\n"
        "    add %rbx, %rax\n"
        "    pop %rbx\n"
        "    ret\n"
        "load_null:\n"
        "    lea -1(%rbx), %rax\n"
        "    pop %rbx\n"
        "    ret\n"
        ".size load_at, . - load_at\n"
        ".type divide_at, @function\n"
        "divide_at:\n"
        "    mov %rdi, %rax\n"
        "    cqo\n"
        "divide_here:\n"
        "    idiv %rsi\n"
        "    ret\n"
        ".size divide_at, . - divide_at\n"
        ".type invalid_at, @function\n"
        "invalid_at:\n"
        "    mov $5, %eax\n"
        "invalid_here:\n"
        "    ud2\n"
        "    ret\n"
        ".size invalid_at, . - invalid_at\n"
        ".type trap_at, @function\n"
        "trap_at:\n"
        "    mov $6, %eax\n"
        "trap_here:\n"
        "    int3\n"
        "    ret\n"
        ".size trap_at, . - trap_at\n"
        ".type deep_at, @function\n"
        "deep_at:\n"
        "    push %rdi\n"
        "deep_pushed:\n"
        "    lea 1(%rdi), %rdi\n"
        "deep_call:\n"
        "    call deep_at\n"
        "    pop %rdi\n"
        "    ret\n"
        "deep_end:\n"
        ".size deep_at, . - deep_at\n"
        ".popsection\n");

static long divide(long a, long b)
{
    return ((long (*)(long, long))(uintptr_t)divide_at)(a, b);
}

static long call(const char *function)
{
    return ((long (*)(void))(uintptr_t)function)();
}

static char *page;
static volatile long handled, strange;
static volatile uintptr_t place, address;
static sigjmp_buf back;

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(number, &action, NULL);
}

static void look(const siginfo_t *info, ucontext_t *context)
{
    handled++;
    place = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    address = (uintptr_t)info->si_addr;
}

static int is_blocked(int number)
{
    sigset_t set;
    sigprocmask(SIG_SETMASK, NULL, &set);
    return sigismember(&set, number);
}

static void on_protected(int number, siginfo_t *info, void *context)
{
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    look(info, context);
    strange += regs[REG_RBX] != 0x1111 || regs[REG_RCX] != 0x2222 || regs[REG_RDX] != 0x3333 || !(regs[REG_EFL] & 0x40);
    strange += regs[REG_RDI] != (greg_t)address || regs[REG_TRAPNO] != 14 || !is_blocked(number);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void repair(long rounds)
{
    long sum = 0;
    handle(SIGSEGV, on_protected, 0);
    for (long i = 0; i < rounds; i++) {
        mprotect(page, 4096, PROT_NONE);
        sum += load_at((long *)page + i % 8);
        sum += (long)(address - (uintptr_t)page);
    }
    printf("%ld %ld %ld at +%ld [%d]", handled, strange, sum, (long)(place - (uintptr_t)load_here),
           is_blocked(SIGSEGV));
}

static void on_leave(int number, siginfo_t *info, void *context)
{
    (void)number;
    look(info, context);
    siglongjmp(back, 1);
}

static void leave(long rounds)
{
    static const volatile long *volatile nowhere = (const volatile long *)8;
    sigset_t set;
    volatile long blocked = 0, passed = 0;
    handle(SIGSEGV, on_leave, 0);
    for (volatile long i = 0; i < rounds; i++) {
        if (sigsetjmp(back, i % 2) == 0) {
            load_at(nowhere);
            passed++;
        }
        blocked += is_blocked(SIGSEGV);
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
    printf("%ld %ld %ld +%ld %lu", handled, blocked, passed, (long)(place - (uintptr_t)load_here),
           (unsigned long)address);
}

static void on_null(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    look(info, context);
    if (regs[REG_RIP] == (greg_t)(uintptr_t)load_here)
        regs[REG_RIP] = (greg_t)(uintptr_t)load_null;
    else
        siglongjmp(back, 1);
}

static void null(long rounds)
{
    long value = 3;
    volatile long sum = 0;
    static volatile long *volatile nothing;
    handle(SIGSEGV, on_null, 0);
    if (sigsetjmp(back, 1)) {
        printf("a fault at +%ld", (long)(place - (uintptr_t)load_here));
        return;
    }
    for (long i = 0; i < rounds; i++)
        sum += load_at(i % 3 ? nothing : &value);
    printf("%ld %ld", handled, sum);
}

static void on_kind(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    look(info, context);
    if (number == SIGFPE) {
        strange += place != (uintptr_t)divide_here || address != place || info->si_code != FPE_INTDIV;
        regs[REG_RIP] += 3;
        regs[REG_RAX] = 9;
    } else if (number == SIGILL) {
        strange += place != (uintptr_t)invalid_here || address != place || info->si_code != ILL_ILLOPN;
        regs[REG_RIP] += 2;
    } else if (number == SIGTRAP) {
        strange += place != (uintptr_t)trap_here + 1 || info->si_code != SI_KERNEL;
    } else {
        strange += place != (uintptr_t)load_here || info->si_code != BUS_ADRERR;
        mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
}

static void kinds(long rounds)
{
    static const int numbers[] = {SIGFPE, SIGILL, SIGBUS, SIGTRAP};
    char name[] = "/tmp/faults-XXXXXX";
    int fd = mkstemp(name);
    long sum = 0;
    unlink(name);
    for (int i = 0; i < 4; i++)
        handle(numbers[i], on_kind, 0);
    for (long i = 0; i < rounds; i++) {
        sum += divide(i, i % 2) + call(invalid_at) + call(trap_at);
        mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        sum += load_at((long *)page);
    }
    close(fd);
    printf("%ld %ld %ld", handled, strange, sum);
}

static char alternate[65536];

static void on_stack(int number, siginfo_t *info, void *context)
{
    char here;
    stack_t now;
    look(info, context);
    bool on = &here >= alternate && &here < alternate + sizeof alternate;
    sigaltstack(NULL, &now);
    strange += on != (number == SIGSEGV) || (now.ss_flags == SS_ONSTACK) != on;
    strange += ((uintptr_t)context & 7) != 0 || ((ucontext_t *)context)->uc_stack.ss_sp != alternate;
    siglongjmp(back, 1);
}

long endless(long x);
PROBED long endless(long x)
{
    volatile char room[512];
    room[x & 511] = (char)x;
    return endless(x + 1) + room[x & 511];
}

static void stacks(long rounds)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    handle(SIGSEGV, on_stack, SA_ONSTACK);
    handle(SIGFPE, on_stack, 0);
    handle(SIGILL, on_stack, SA_NODEFER);
    volatile long rest = 0;
    for (volatile long i = 0; i < rounds; i++) {
        if (sigsetjmp(back, 1) == 0)
            rest += endless(i);
        if (sigsetjmp(back, 1) == 0)
            rest += load_at((long *)16);
        if (sigsetjmp(back, 1) == 0)
            rest += divide(1, 0);
        if (sigsetjmp(back, 1) == 0)
            rest += call(invalid_at);
    }
    printf("%ld %ld %ld", handled, strange, rest);
}

enum { DEEP_BYTES = 1 << 16, LEVEL_BYTES = 16, NEAR_BYTES = 1024 };
static char *deep_stack;
static uintptr_t deep_top;

/* Each level has its number in rdi, and puts two words on the stack. */
static void on_deep(int number, siginfo_t *info, void *context)
{
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    look(info, context);
    uintptr_t used = deep_top - (uintptr_t)regs[REG_RSP];
    greg_t level = (greg_t)((used - 1) / LEVEL_BYTES);
    bool is_at = place == (uintptr_t)deep_at && used % LEVEL_BYTES == 8 && regs[REG_RDI] == level;
    bool is_pushed = place == (uintptr_t)deep_pushed && used % LEVEL_BYTES == 0 && regs[REG_RDI] == level;
    bool is_call = place == (uintptr_t)deep_call && used % LEVEL_BYTES == 0 && regs[REG_RDI] == level + 1;
    strange += !(is_at || is_pushed || is_call);
    strange += regs[REG_RAX] != 0x1111 || regs[REG_RCX] != 0x2222 || regs[REG_RDX] != 0x3333 || !(regs[REG_EFL] & 1);
    strange += address < (uintptr_t)regs[REG_RSP] - NEAR_BYTES || address >= (uintptr_t)deep_stack + DEEP_BYTES;
    siglongjmp(back, 1);
}

static void deep(long rounds)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    handle(SIGSEGV, on_deep, SA_ONSTACK);
    deep_stack = mmap(NULL, 2 * DEEP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(deep_stack, DEEP_BYTES, PROT_NONE);
    for (volatile long i = 0; i < rounds; i++) {
        deep_top = (uintptr_t)deep_stack + 2 * DEEP_BYTES - 8 * (uintptr_t)i;
        if (sigsetjmp(back, 1) == 0)
            __asm__ volatile("mov %0, %%rsp\n"
                             "mov $0x1111, %%eax\n"
                             "mov $0x2222, %%ecx\n"
                             "mov $0x3333, %%edx\n"
                             "xor %%edi, %%edi\n"
                             "stc\n"
                             "call deep_at\n"
                             :
                             : "r"(deep_top)
                             : "memory", "rax", "rcx", "rdx", "rdi", "cc");
    }
    munmap(deep_stack, 2 * DEEP_BYTES);
    printf("%ld %ld", handled, strange);
}

static void on_sent(int number, siginfo_t *info, void *context)
{
    (void)context;
    handled++;
    strange += info->si_code > 0 || info->si_pid != getpid() || !is_blocked(number);
    raise(number); /* waits until we are done, and comes once more */
    if (handled % 2 == 0)
        signal(number, SIG_IGN);
}

static void sent(long rounds)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (long i = 0; i < rounds; i++) {
        for (int k = 0; k < 4; k++) {
            handle(numbers[k], on_sent, 0);
            i % 2 ? raise(numbers[k]) : kill(getpid(), numbers[k]);
            raise(numbers[k]);
        }
    }
    printf("%ld %ld", handled, strange);
}

static void carry(char **words, int count)
{
    long number = count > 1 ? atol(words[1]) : 1;
    static const struct {
        const char *name;
        void (*run)(long);
    } commands[] = {{"repair", repair}, {"leave", leave}, {"null", null}, {"kinds", kinds},
                    {"stacks", stacks}, {"sent", sent},   {"deep", deep}};
    handled = strange = 0;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(words[0], commands[i].name))
            commands[i].run(number);
    if (!strcmp(words[0], "segv"))
        load_at((long *)0x123);
    else if (!strcmp(words[0], "ill"))
        call(invalid_at);
    else if (!strcmp(words[0], "fpe"))
        divide(1, 0);
    else if (!strcmp(words[0], "trap"))
        call(trap_at);
}

int main(int argc, char **argv)
{
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return obey(argc, argv, carry);
}
