/* SPDX-License-Identifier: MIT
 *
 * Call stacks of another process, from registers and a piece of the stack that were copied at some moment: by the
 * unwind tables of the files that it has mapped, so that code needs no frame pointers. Built on libdwfl. An unwinder
 * is for one thread at a time; nothing here is for signal handlers.
 */
#ifndef TRAPLINE_UNWIND_H
#define TRAPLINE_UNWIND_H

#include "symbol/symbol.h"

/* Registers by their DWARF numbers: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip. */
enum { TL_UNWIND_RBP = 6, TL_UNWIND_RSP = 7, TL_UNWIND_RIP = 16, TL_UNWIND_REGS = 17 };

/* A thread as it was. */
struct tl_snapshot {
    uint64_t regs[TL_UNWIND_REGS];
    uint64_t stack_addr; /* where the copied bytes were: from rsp or a little below it upwards */
    const uint8_t *stack;
    size_t stack_size;
};

struct tl_frame {
    uint64_t addr;  /* of the instruction that runs next in it */
    bool is_return; /* it is the return address of a call, and belongs to the function of the byte before it */
};

struct tl_unwinder;

/* Opens what is mapped now; what is mapped later is found when it turns up in a stack. From then on the process is not
 * needed any more, only its files, which stay open: stacks can be unwound after its end. -ESRCH, -EACCES, -ENOMEM. */
int tl_unwinder_open(pid_t pid, struct tl_unwinder **unwinder, struct tl_error *error);
void tl_unwinder_close(struct tl_unwinder *unwinder); /* NULL is allowed */

/* The frames of a stack, innermost first, at most `most` (and at least the first); returns how many. It ends where the
 * program's own stack does, or earlier: with the bytes that were copied, in code of no file, and where a file does not
 * describe its code and nothing certain can be said. *cut: it goes on, and more bytes or a greater `most` would show
 * more. */
size_t tl_unwind(struct tl_unwinder *unwinder, const struct tl_snapshot *snapshot, struct tl_frame *frames, size_t most,
                 bool *cut);
/* "name+0x12", as tl_modules_describe. */
void tl_unwinder_describe(const struct tl_unwinder *unwinder, const struct tl_frame *frame, char *text, size_t size);

#endif
