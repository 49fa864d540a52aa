/* SPDX-License-Identifier: MIT
 *
 * The way back.
 *
 * A task that runs a call of ours must find its way back even when nobody restores its registers. So before its
 * registers change there is a signal frame in its memory, as the kernel itself would have made it, with everything that
 * it needs to go on: rt_sigreturn on that frame is what it falls into. A call that the stop interrupted is started
 * again from the frame: there rip is moved back onto the instruction and rax holds the number of the call (a relative
 * timeout starts afresh then; the ordinary way back, PTRACE_SETREGSET, leaves even that to the kernel).
 */
#include "host/remote/internal.h"

#include <cpuid.h>
#include <elf.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* The kernel's layout on the stack. */
struct context {
    uint64_t flags, link;
    uint64_t stack_sp;
    int32_t stack_flags, pad;
    uint64_t stack_size;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
    uint64_t mask;
};
struct frame {
    uint64_t restorer;
    struct context context;
    uint8_t info[128];
};
struct software_bytes { /* at XSAVE_SOFTWARE in the legacy area */
    uint32_t magic, extended_size;
    uint64_t features;
    uint32_t size, pad[7];
};
/* Vector state of the extended kind, ss is valid and to be restored; and no such state of an alternate stack as the
 * kernel knows, so that it leaves the thread's own as it is. */
enum { FLAGS = 7, NO_STACK = 0x40 };
enum { XSAVE_SOFTWARE = 464, XSAVE_HEADER = 512, XSAVE_LEAST = 576, XSAVE_MAX = 12288 };

_Static_assert(sizeof(struct context) == 304, "struct ucontext");
_Static_assert(sizeof(struct frame) == 440, "struct rt_sigframe");

/* Bytes that the standard format of these components takes. */
static uint32_t xsave_size(uint64_t features)
{
    uint32_t size = XSAVE_LEAST;
    for (unsigned i = 2; i < 63; i++) {
        uint32_t a, b, c, d;
        if (!(features >> i & 1))
            continue;
        __cpuid_count(13, i, a, b, c, d);
        size = a + b > size ? a + b : size;
    }
    return size;
}

/* The vector state as rt_sigreturn wants it, with its magic numbers. */
static int vector_state(pid_t tid, uint8_t *bytes, size_t *size)
{
    struct iovec io = {bytes, XSAVE_MAX};
    if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &io) != 0)
        return -errno;
    uint64_t features, used;
    memcpy(&features, bytes + XSAVE_SOFTWARE, 8);
    memcpy(&used, bytes + XSAVE_HEADER, 8);
    /* The tile registers are for those who asked the kernel for them; others must not even name them. */
    features &= ~(3ull << 17) | used;
    uint32_t length = xsave_size(features);
    if (io.iov_len < XSAVE_LEAST || length > io.iov_len || length + 4 > XSAVE_MAX)
        return -ENOTSUP;
    struct software_bytes software = {
        .magic = 0x46505853, .extended_size = length + 4, .features = features, .size = length};
    memcpy(bytes + XSAVE_SOFTWARE, &software, sizeof software);
    memcpy(bytes + length, &(uint32_t){0x46505845}, 4);
    *size = length + 4;
    return 0;
}

/* The number with which an interrupted call starts again. One that was interrupted before shows as restart_syscall,
 * whose state in the kernel rt_sigreturn discards; its own number is then still to be seen where it was loaded. */
static uint64_t call_number(struct tl_remote *r, const struct user_regs_struct *regs)
{
    uint8_t code[32];
    if (regs->orig_rax != SYS_restart_syscall || tl_mem_read(r, regs->rip - 2 - sizeof code, code, sizeof code))
        return regs->orig_rax;
    for (size_t i = sizeof code - 5 + 1; i-- > 0;) {
        uint32_t number;
        memcpy(&number, code + i + 1, sizeof number);
        if (code[i] == 0xb8 &&
            (number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_poll || number == SYS_futex))
            return number;
    }
    return regs->orig_rax;
}

int tl_frame_build(struct tl_remote *r, const struct tl_task *task, uint64_t mask, uint64_t addr, uint64_t restorer,
                   uint8_t frame[TL_FRAME_MAX], size_t *size)
{
    const struct user_regs_struct *regs = &task->regs;
    size_t vector_at = ((addr + sizeof(struct frame) + 63) & ~63ull) - addr, vector_size = 0;
    int result = vector_state(task->tid, frame + vector_at, &vector_size);
    if (result)
        return result;
    struct frame f = {.restorer = restorer};
    f.context = (struct context){
        .flags = FLAGS,
        .stack_flags = NO_STACK,
        .r8 = regs->r8,
        .r9 = regs->r9,
        .r10 = regs->r10,
        .r11 = regs->r11,
        .r12 = regs->r12,
        .r13 = regs->r13,
        .r14 = regs->r14,
        .r15 = regs->r15,
        .di = regs->rdi,
        .si = regs->rsi,
        .bp = regs->rbp,
        .bx = regs->rbx,
        .dx = regs->rdx,
        .ax = regs->rax,
        .cx = regs->rcx,
        .sp = regs->rsp,
        .ip = regs->rip,
        .eflags = regs->eflags,
        .cs = (uint16_t)regs->cs,
        .ss = (uint16_t)regs->ss,
        .fpstate = addr + vector_at,
        .mask = mask,
    };
    if (tl_in_restartable_call(regs)) {
        f.context.ip -= 2;
        f.context.ax = call_number(r, regs);
    }
    memcpy(frame, &f, sizeof f);
    memset(frame + sizeof f, 0, vector_at - sizeof f);
    *size = vector_at + vector_size;
    return 0;
}

bool tl_frame_is(const uint8_t *bytes)
{
    struct frame f;
    memcpy(&f, bytes, sizeof f);
    return f.context.flags == FLAGS && f.context.link == 0 && f.context.stack_sp == 0 &&
           f.context.stack_flags == NO_STACK && f.context.stack_size == 0 && (f.context.eflags & 2) &&
           f.context.cs == 0x33;
}
