/* SPDX-License-Identifier: MIT
 *
 * The code in front of a displaced instruction: it counts in line, or enters the runtime, and leaves registers, flags,
 * red zone and vector state as they were. Pure: emits bytes for an address, in any thread or signal handler.
 *
 * Near each group of trampolines there is one *gate* page, private and wiped on fork (MADV_WIPEONFORK), with the
 * pointers that a hook needs. In a fork child it reads as zeros, which switches every hook off.
 *
 * A hook needs the program's stack: the red zone's 128 bytes and up to 512 more (32 for a count, about 230 for an event
 * of registers). So it cannot stand where the stack is gone already, as between munmap and exit at a thread's end in
 * musl.
 */
#ifndef TRAPLINE_HOOK_H
#define TRAPLINE_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "insn/insn.h"

/* TL_HOOK_STACK: what a hit takes of the stack below the red zone, at most. */
enum { TL_HOOK_BYTES_MAX = 128, TL_HOOK_STACK = 512 };

/* The gate page's content. */
struct tl_gate {
    uint64_t enter;  /* the runtime's entry point, or 0: off */
    uint64_t counts; /* the table of per-thread count blocks, or 0: off */
    uint64_t claim;  /* the runtime's routine that finds or claims the count block of a thread */
    uint64_t call;   /* what CALL hooks call, or 0: off */
    uint64_t reserved[4];
};

enum tl_hook_kind {
    TL_HOOK_NONE,  /* nothing: only displace (tests, benchmarks) */
    TL_HOOK_COUNT, /* hits of probe `index` counted in line, exact under threads */
    TL_HOOK_ENTER, /* enter the runtime with site `index` */
    TL_HOOK_CALL   /* call gate.call, whoever that is: see below */
};

/* CALL is for handlers in one's own process. The routine finds on the stack: the return address, `index` sign-extended
 * to 8 bytes, the red zone, then what rsp pointed to in the program (at rsp + 144); every register but rsp and all
 * flags as the program has them. It keeps whatever it uses. If it returns, the displaced instruction is executed (or
 * what follows it, for a hook behind); or it resumes elsewhere, and never returns. */

struct tl_hook {
    enum tl_hook_kind kind;
    uint32_t index;       /* COUNT: which counter; ENTER: which site; CALL: whatever the caller means by it */
    uint64_t gate;        /* address of the gate page, within reach of a rip-relative operand */
    uint8_t block_shift;  /* COUNT: a count block is 1 << block_shift bytes… */
    uint8_t table_shift;  /* … and there are 1 << table_shift of them, found by a hash of the thread's fs base */
    uint8_t has_fsgsbase; /* rdfsbase may be used (AT_HWCAP2 bit 1), and is */
    /* Without has_fsgsbase: fs:0 holds the fs base in every thread (glibc, musl), and is read for it. A thread that a
     * raw clone makes later without such a block dies of that; rdfsbase cannot fail. */
    uint8_t fs_self;
    uint8_t has_rdpid; /* not used by hooks */
};

/* What stands in front of a guarded system call (guards.h), behind the hook if there is one. It looks at eax, and where
 * the number is of interest calls `routine` (tl_guard_entry, src/hit/broker.h), which finds: the return address and
 * below the program's red zone on the stack (the program's rsp is rsp + 136), r11 = context, rcx = the address behind
 * the system call in the program, all other registers and the flags the program's. It keeps all but rax, rcx, r11;
 * returns rcx 0: execute the system call, with rax as it is now; else:  it is done, rax is the result. (rcx and r11
 * become what the kernel leaves there.) Nothing of ours is on the stack when the system call is executed, or behind it:
 * a child may come back on another. */
struct tl_guard_hook {
    uint64_t routine;
    uint64_t context;
    uint64_t next;  /* behind the system call, in the program */
    uint8_t length; /* of the copied system call, which follows the hook directly; what follows that sets rcx */
    bool known;     /* the number is known to be of interest: no need to look */
};
enum { TL_GUARD_BYTES_MAX = 192 };
/* The same bytes wherever they are to stand. 0, -EINVAL. */
int tl_guard_hook_emit(const struct tl_guard_hook *hook, uint8_t out[TL_GUARD_BYTES_MAX], size_t *length);

/* Emit the hook for address `at`. On its end the program's registers and flags are as at its start. *length = bytes
 * used. 0, -ERANGE when the gate is out of reach, -EINVAL. A thread interrupted anywhere inside a hook has to be let
 * run. */
int tl_hook_emit(const struct tl_hook *hook, uint64_t at, uint8_t out[TL_HOOK_BYTES_MAX], size_t *length);

/* The beginning of a hook needs stack, looks whether there is enough, and may fault for want of it, where the program
 * would not yet have, or at the same place. Until then it can be undone: marks as of a copy (src/insn/insn.h), for a
 * hook that stands where the program is at `addr`. *end: how many bytes they cover. Returns how many marks. */
enum { TL_HOOK_MARKS = 6 };
unsigned tl_hook_marks(const struct tl_hook *hook, uint64_t addr, struct tl_mark marks[TL_HOOK_MARKS], size_t *end);
unsigned tl_guard_hook_marks(const struct tl_guard_hook *hook, uint64_t addr, struct tl_mark marks[TL_HOOK_MARKS],
                             size_t *end);

#endif
