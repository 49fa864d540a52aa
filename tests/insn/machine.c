/* SPDX-License-Identifier: MIT
 *
 * A signal handler is the way in and the way out: what it leaves in its frame is what the processor continues with, and
 * what it finds there is what the processor came to. So a run is: SIGUSR1, whose handler exchanges the frame for the
 * start state; the instruction; the signal that ends it, whose handler takes the frame as the result and puts the old
 * one back.
 *
 * Both run with the fs base that the test has chosen until they have set their own, so nothing in them may use
 * thread-local storage or the stack protector, nor alignment checks that a popf has switched on.
 */
#include "machine.h"

#include <cpuid.h>
#include <err.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <ucontext.h>
#include <unistd.h>

const struct place places[PLACE_COUNT] = {
    [PLACE_HIGH] = {0x200000000000, 0x200000010000, 0x200000020000, 0x200010000000, 0x400000000000},
    [PLACE_LOW] = {0x20000000, 0x20010000, 0x20020000, 0x30000000, 0x500000000000},
};

struct cpu machine_fresh;
size_t machine_xstate_size;
struct xpart_place machine_xparts[XPART_COUNT];

static const int register_slots[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static struct cpu home;
/* volatile: the compiler does not believe that a system call gets back into this file. */
static const struct cpu *volatile start_state;
static struct outcome *volatile result;

uint64_t *machine_parts_used(struct cpu *cpu)
{
    return (uint64_t *)(void *)(cpu->xstate + 512);
}

/* arch_prctl by hand: errno is thread-local. */
static void set_segment_base(long which, uint64_t base)
{
    long number = SYS_arch_prctl;
    __asm__ volatile("syscall" : "+a"(number) : "D"(which), "S"(base) : "rcx", "r11", "memory");
}

static uint64_t get_segment_base(long which)
{
    uint64_t base = 0;
    long number = SYS_arch_prctl;
    __asm__ volatile("syscall" : "+a"(number) : "D"(which), "S"(&base) : "rcx", "r11", "memory");
    return base;
}

static void copy_bytes(void *to, const void *from, size_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void take(const ucontext_t *frame, struct cpu *cpu)
{
    for (int i = 0; i < 16; i++)
        cpu->gpr[i] = (uint64_t)frame->uc_mcontext.gregs[register_slots[i]];
    cpu->rip = (uint64_t)frame->uc_mcontext.gregs[REG_RIP];
    cpu->flags = (uint64_t)frame->uc_mcontext.gregs[REG_EFL];
    copy_bytes(cpu->xstate, frame->uc_mcontext.fpregs, machine_xstate_size);
}

static void put(ucontext_t *frame, const struct cpu *cpu)
{
    for (int i = 0; i < 16; i++)
        frame->uc_mcontext.gregs[register_slots[i]] = (greg_t)cpu->gpr[i];
    frame->uc_mcontext.gregs[REG_RIP] = (greg_t)cpu->rip;
    frame->uc_mcontext.gregs[REG_EFL] = (greg_t)cpu->flags;
    copy_bytes(frame->uc_mcontext.fpregs, cpu->xstate, machine_xstate_size);
}

/* The kernel says in a reserved part of the frame how long it is. */
static size_t frame_xstate_size(const ucontext_t *frame)
{
    uint32_t magic, size;
    const uint8_t *reserved = (const uint8_t *)frame->uc_mcontext.fpregs + 464;
    copy_bytes(&magic, reserved, 4);
    copy_bytes(&size, reserved + 16, 4);
    return magic == 0x46505853 ? size : 512;
}

static void begin(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    ucontext_t *frame = context;
    if (!start_state) { /* the first time: only look */
        machine_xstate_size = frame_xstate_size(frame);
        if (machine_xstate_size <= XSTATE_MAX)
            take(frame, &machine_fresh);
        return;
    }
    take(frame, &home);
    home.fs_base = get_segment_base(ARCH_GET_FS);
    home.gs_base = get_segment_base(ARCH_GET_GS);
    put(frame, start_state);
    set_segment_base(ARCH_SET_GS, start_state->gs_base);
    set_segment_base(ARCH_SET_FS, start_state->fs_base);
}

static void end(int signal, siginfo_t *info, void *context)
{
    __asm__ volatile("sub $128, %%rsp; push $0x202; popfq; add $128, %%rsp" : : : "memory", "cc");
    struct outcome *outcome = result;
    ucontext_t *frame = context;
    if (!outcome)
        _exit(126); /* not ours: the test itself has gone wrong */
    outcome->cpu.fs_base = get_segment_base(ARCH_GET_FS);
    outcome->cpu.gs_base = get_segment_base(ARCH_GET_GS);
    take(frame, &outcome->cpu);
    outcome->signal = signal;
    outcome->code = info->si_code;
    outcome->address = (uint64_t)info->si_addr;
    outcome->trap = (uint64_t)frame->uc_mcontext.gregs[REG_TRAPNO];
    outcome->error = (uint64_t)frame->uc_mcontext.gregs[REG_ERR];
    put(frame, &home);
    set_segment_base(ARCH_SET_GS, home.gs_base);
    set_segment_base(ARCH_SET_FS, home.fs_base);
}

/* raise() may hold signals back, and would give its mask to the frame. The compiler believes that syscall() never gets
 * back into this file: it is told that memory changes. */
static void interrupt(void)
{
    syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
    __asm__ volatile("" : : : "memory");
}

void machine_run(const struct cpu *start, struct outcome *outcome)
{
    start_state = start;
    result = outcome;
    interrupt();
    result = NULL;
}

static void map(uint64_t addr, size_t size, int protection)
{
    void *at = (void *)addr;
    if (mmap(at, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
        err(1, "cannot map %p", at);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    if (sigaction(signal, &action, NULL) != 0)
        err(1, "sigaction");
}

static void find_xparts(void)
{
    unsigned a, b, c, d;
    uint32_t have = machine_xstate_size > 576 && __get_cpuid_count(0xd, 0, &a, &b, &c, &d) ? a : 0;
    for (unsigned i = XPART_YMM; i < XPART_COUNT; i++)
        if (have >> i & 1 && __get_cpuid_count(0xd, i, &a, &b, &c, &d) && b + a <= machine_xstate_size) {
            machine_xparts[i].at = b;
            machine_xparts[i].size = a;
        }
}

void machine_start(void)
{
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    for (int i = 0; i < PLACE_COUNT; i++) {
        map(places[i].text, TEXT_SIZE, all);
        map(places[i].near, 0x1000, all);
        map(places[i].far, 0x1000, all);
        map(places[i].data, DATA_SIZE, PROT_READ | PROT_WRITE);
        map(places[i].stack, STACK_SIZE, all);
    }
    static uint8_t stack[1 << 17];
    if (sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL) != 0)
        err(1, "sigaltstack");
    handle(SIGUSR1, begin);
    const int ends[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        handle(ends[i], end);
    interrupt();
    if (machine_xstate_size > XSTATE_MAX)
        errx(1, "the vector state is larger than this test knows");
    find_xparts();
}
