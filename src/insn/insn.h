/* SPDX-License-Identifier: MIT
 *
 * One instruction at a time: what it is, and a copy of it that does the same from another address.
 * Pure: no allocation, no I/O, no state; safe in any thread and in signal handlers. Lengths are in bytes. The decoder
 * underneath is Zydis.
 */
#ifndef TRAPLINE_INSN_H
#define TRAPLINE_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trapline/error.h"

enum { TL_INSN_MAX = 15, TL_COPY_MAX = 96, TL_COPY_MARKS = 12 };

/* Where control goes after an instruction. */
enum tl_flow {
    TL_FLOW_NEXT,          /* the next instruction, always (int 0x80, syscall and rep string instructions included) */
    TL_FLOW_JUMP,          /* jmp rel: `target` */
    TL_FLOW_BRANCH,        /* jcc, loop*, jrcxz: `target` or the next */
    TL_FLOW_CALL,          /* call rel: `target`, comes back */
    TL_FLOW_RET,           /* ret, ret imm, iret */
    TL_FLOW_JUMP_INDIRECT, /* jmp reg/mem */
    TL_FLOW_CALL_INDIRECT, /* call reg/mem, comes back */
    TL_FLOW_STOP           /* ud2, hlt, int3…: control does not go on in any way the program means */
};

struct tl_insn {
    uint64_t addr;
    uint64_t target; /* JUMP, BRANCH, CALL: where to */
    uint64_t memory; /* rip_relative: the address of the operand */
    uint8_t bytes[TL_INSN_MAX];
    uint8_t length;
    uint8_t flow; /* enum tl_flow */
    uint8_t why;  /* enum tl_why: why a copy alone does not do, wherever it goes; TL_WHY_NONE: it does. TRAP_INSN: there
                     is a copy, whose trap somebody has to turn back with its marks. FAR, PREFIX: see tl_insn_step */
    uint8_t displacement_at; /* rip_relative: index in bytes[] of the 4-byte displacement */
    bool rip_relative;
    bool is_syscall;  /* the SYSCALL instruction: rcx is the return address afterwards */
    bool implausible; /* valid, but no program means it (00 00, port I/O, far transfers): a hint that this is data */
};

/* Decode the instruction at `addr`, of which `available` bytes are at `text`. 0, or -EILSEQ for bytes that are no
 * instruction (or do not end within `available`). */
int tl_insn_decode(const uint8_t *text, size_t available, uint64_t addr, struct tl_insn *insn);

/* What an indirect jump or call goes to, as an expression over registers (numbers as in the encoding: rax 0, rcx 1,
 * rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7, r8…r15; TL_NO_REG). If `memory`, the target is the 8 bytes at
 * fs/gs-less base + index * scale + displacement; otherwise it is the register `base`. */
enum { TL_NO_REG = 0xff };
struct tl_operand {
    bool memory;
    uint8_t base, index, scale;
    int64_t displacement; /* rip-relative: already the absolute address, base TL_NO_REG */
};
/* 0, or -ENOTSUP (segment override, not an indirect transfer). */
int tl_insn_indirect_target(const struct tl_insn *insn, struct tl_operand *operand);

/* A copy of an instruction, with its ways out: when it has run, control is where the original would have gone.
 * `marks` say, for the first byte of each instruction of the copy, what an interrupted thread found there has done:
 * BEFORE: nothing yet, it may be moved to insn->addr with its registers as they are. AFTER: all of it, it may be moved
 * to `addr` of the mark. WITHIN: between the two; let it run on.
 *
 * An instruction that faults cannot be let run on. Where one that is WITHIN can fault, `unwind` is not 0 and says how
 * to get back to where the program would be: if `borrowed` is a register, load it from [rsp]; add `unwind` to rsp; then
 * the thread is at `addr`. Behind a syscall (insn->is_syscall, AFTER) rcx has to be set to `addr` as well. */
enum tl_mark_state { TL_MARK_BEFORE, TL_MARK_AFTER, TL_MARK_WITHIN };
struct tl_mark {
    uint8_t at;       /* offset in code[] */
    uint8_t state;    /* enum tl_mark_state */
    uint8_t borrowed; /* WITHIN: the register whose own value is at [rsp], or TL_NO_REG */
    uint8_t unwind;   /* WITHIN: bytes; 0: cannot be undone, and does not fault */
    uint64_t addr;    /* in the original program */
};
struct tl_copy {
    uint8_t code[TL_COPY_MAX];
    uint8_t length;
    uint8_t marks_used;
    struct tl_mark marks[TL_COPY_MARKS];
    enum tl_why why; /* when tl_insn_relocate fails */
};

/* The mark of the instruction that begins at code[at], or NULL. */
const struct tl_mark *tl_copy_mark(const struct tl_copy *copy, size_t at);

/* Build in *copy what has to stand at `at` so that it does what `insn` does at insn->addr. 0, or the negative errno of
 * copy->why. A syscall's copy has an AFTER mark behind the syscall instruction (a blocked thread sits there), and sets
 * rcx as the original would have. */
int tl_insn_relocate(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy);

/* For what tl_insn_relocate refuses as FAR or PREFIX: the bare instruction, to be executed at `at` alone, with the trap
 * flag set. Whatever it makes of its own address is `at` - insn->addr too high: rip where it went on behind itself, the
 * address that it pushed. Where it went elsewhere, that is right. Marks: BEFORE, and AFTER behind it. 0, or the
 * negative errno of copy->why: not one of these, or it cannot be done from there. */
int tl_insn_step(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy);

/* For an exit by a branch (TL_FLOW_BRANCH): code at `at` that goes to the next original instruction where the branch is
 * not taken and falls out of its end (copy->length) where it is taken, registers and flags as the original leaves them
 * (loop has counted). What follows is the caller's (a hook, then a jump to insn->target). */
int tl_insn_relocate_taken(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy);

/* What an instruction does to general registers (numbers as above). One of them, `gives`, may get a number that is in
 * the instruction, or the lower half of another register: `from`. */
struct tl_effect {
    uint16_t written; /* a bit a register, in any part of it; that of `gives` too */
    uint8_t gives;    /* or TL_NO_REG */
    uint8_t from;     /* or TL_NO_REG: `number` */
    uint32_t number;
};
void tl_insn_effect(const struct tl_insn *insn, struct tl_effect *effect);

/* How an instruction accesses memory, the stack included: a cmpxchg that may not write writes. REPEATS: it is a string
 * instruction with a repeat prefix, and may be interrupted between two accesses, with rip at itself. */
enum { TL_INSN_READS = 1, TL_INSN_WRITES = 2, TL_INSN_REPEATS = 4 };
unsigned tl_insn_access(const struct tl_insn *insn);

/* Emit `jmp rel32` (5 bytes) at `at`; 0, or -ERANGE. */
int tl_emit_jump(uint8_t out[5], uint64_t at, uint64_t target);

#endif
