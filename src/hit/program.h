/* SPDX-License-Identifier: MIT
 *
 * The fetch program: what a probe reads on a hit and whether the hit counts, as a small verified byte code.
 *
 * A stack machine over 64-bit values. The tool compiles specs to it (src/spec/compile.c); the runtime runs it
 * (src/hit/fetch.c) and trusts it only as far as tl_program_verify has checked it: known operations, jumps forward
 * only, the stack within TL_PROGRAM_STACK, slots within TL_EVENT_ARGS, so that each run ends and touches nothing else.
 *
 * Faults. A value read through a pointer that cannot be read is "faulted"; whatever is computed from it is faulted too,
 * storing it stores the fault. Division by zero faults its result. Comparing ends that: EQ to UGE, STREQ and GLOB push
 * 0, a value like any other, where an operand is faulted (NE too, so that NE is not the opposite of EQ there). Nothing
 * is read at a faulted address.
 *
 * Arithmetic wraps at 64 bits and never traps: the shift counts are taken modulo 64, the lowest number divided by -1 is
 * itself and leaves the remainder 0.
 *
 * Slots. STORE and STRING put a value or its fault into a slot, in place of what was there; a slot that a run has not
 * come to is not part of the event. Verified programs read a slot (ARG, STREQ, GLOB) only behind the STORE or STRING
 * that fills it, on every way. tl_program_verify is safe in any thread and in signal handlers.
 */
#ifndef TRAPLINE_PROGRAM_H
#define TRAPLINE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { TL_PROGRAM_STACK = 16, TL_PROGRAM_MAX = 512, TL_EVENT_ARGS = 32, TL_STRING_MAX = 255, TL_EVENT_STRINGS = 1024 };

/* X(NAME): see the table below. */
#define TL_OPS(X)                                                                                                      \
    X(END)         /* accept the hit: write the event, or count it */                                                  \
    X(IMM)         /* push imm */                                                                                      \
    X(REG)         /* push register a (enum tl_reg) */                                                                 \
    X(PID)         /* push the process id */                                                                           \
    X(TID)         /* push the thread id (0 where unknown) */                                                          \
    X(OLD)         /* push what the watched memory held before the access, zero-extended */                            \
    X(NEW)         /* … and after it; both are faults in a hit of no watch */                                        \
    X(HOW)         /* push how a watch's hit was noticed: TL_WATCHED_… (watch.h) */                                  \
    X(LOAD)        /* pop address, push a bytes there (1,2,4,8), zero-extended */                                      \
    X(LOAD_DIRECT) /* the same, a = 8, without protection: only for what the instruction itself is about to read */    \
    X(SIGN)        /* sign-extend the top from a bytes (1,2,4,8) */                                                    \
    X(ZERO)        /* zero-extend the top from a bytes */                                                              \
    X(BITS)        /* top = (top >> b) & mask of a bits (a from 1, a + b to 64) */                                     \
    X(ADD)                                                                                                             \
    X(SUB)                                                                                                             \
    X(MUL)                                                                                                             \
    X(DIV)                                                                                                             \
    X(MOD) X(UDIV) X(UMOD) X(AND) X(OR) X(XOR) X(SHL) X(SHR) X(SAR) X(EQ) X(NE) X(LT) X(LE) X(GT) X(GE) X(ULT) X(ULE)  \
        X(UGT) X(UGE)         /* pop b, pop a, push a OP b as 0 or 1 */                                                \
        X(NOT)                /* ! */                                                                                  \
        X(NEG) X(COM)         /* ~ */                                                                                  \
        X(DUP) X(DROP) X(ARG) /* push the value stored in slot a */                                                    \
        X(STORE)              /* pop into slot a */                                                                    \
        X(STRING) /* pop address, read the NUL-terminated string there into slot a, at most imm bytes (1 to            \
                     TL_STRING_MAX) */                                                                                 \
        X(STREQ)  /* push 1 if the string in slot a equals the constant at imm (offset in the program's string pool),  \
                     else 0 */                                                                                         \
        X(GLOB)   /* the same, the constant being a glob pattern (* ? [a-z] [!a-z]) */                                 \
        X(JZ)     /* pop; if zero (or faulted) go forward by imm operations (imm = 1: just the next one is skipped) */ \
        X(JNZ)    /* pop; if not zero and not faulted, likewise */                                                     \
        X(JUMP)   /* go forward by imm */                                                                              \
        X(REJECT) /* not a hit: nothing is written or counted */

#define TL_OP_ENUM(name) TL_OP_##name,
enum tl_op { TL_OPS(TL_OP_ENUM) TL_OP_COUNT };
#undef TL_OP_ENUM

/* The registers as the program had them at the probed instruction, in this order in struct tl_hit_regs. */
enum tl_reg {
    TL_RAX,
    TL_RCX,
    TL_RDX,
    TL_RBX,
    TL_RSP,
    TL_RBP,
    TL_RSI,
    TL_RDI,
    TL_R8,
    TL_R9,
    TL_R10,
    TL_R11,
    TL_R12,
    TL_R13,
    TL_R14,
    TL_R15,
    TL_RIP,
    TL_RFLAGS,
    TL_REG_COUNT
};

struct tl_operation { /* what an operation does not use is 0 */
    uint8_t op;
    uint8_t a;
    uint16_t b;
    uint32_t zero; /* must be 0 */
    int64_t imm;
};

struct tl_program {
    const struct tl_operation *code; /* ends with END or REJECT on every path; at least 1, at most TL_PROGRAM_MAX */
    size_t length;                   /* operations */
    const char *strings;             /* constants, each NUL-terminated */
    size_t strings_size;
};

/* 0, or -EINVAL: unknown operations, operands out of range, unused fields that are not 0, ways that run off the end, a
 * stack that is too deep, too shallow, or not equally deep on all ways to an operation, slots read as what they do not
 * hold. Operations that no way reaches are checked only for themselves. Pure; safe on hostile input. */
int tl_program_verify(const struct tl_program *program);

#endif
