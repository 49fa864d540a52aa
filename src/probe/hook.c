/* SPDX-License-Identifier: MIT
 *
 * The machine code of hooks.
 *
 * ENTER                              COUNT
 *     lea  rsp, [rsp - 128]              lea  rsp, [rsp - 160]
 *     push rcx                           mov  [rsp], rcx
 *     mov  rcx, [rsp - 504]              mov  rcx, [rip + gate.counts]
 *     mov  rcx, [rip + gate.enter]       jrcxz off
 *     jrcxz off                          mov  [rsp + 8], rax; mov [rsp + 16], rdx; lahf; seto al
 *     push site                          rdfsbase rdx; not rdx; mov [rsp + 24], rdx   find the thread's block
 *     call rcx                           imul edx, edx, TL_HASH_FACTOR                in rdx, its key in rcx
 *     pop  rcx                           shr  edx, 32 - table_shift
 *  off:                                  shl  rdx, block_shift
 *     pop  rcx                           add  rdx, rcx
 *     lea  rsp, [rsp + 128]              mov  rcx, [rsp + 24]
 *                                        cmp  rcx, [rdx]
 *                                        je   mine
 *                                        mov  rdx, [rip + gate.claim]
 *                                        test rdx, rdx
 *                                        je   done
 *                                        call rdx
 *                                    mine:
 *                                        inc  qword [rdx + TL_COUNT_BLOCK_HEAD + 8 * index]
 *                                    done:
 *                                        add  al, 127; sahf; mov rdx, [rsp + 16]; mov rax, [rsp + 8]
 *                                    off:
 *                                        mov  rcx, [rsp]
 *                                        lea  rsp, [rsp + 160]
 *
 * CALL: lea rsp, [rsp - 128]; push index; call [rip + gate.call]; lea rsp, [rsp + 136]
 *
 * One of the first accesses is to the end of the stack that will be needed. Where the program's ends before, this one
 * faults, at a point from which there is a way back, and not something deep in the runtime: so a program that looks for
 * the end of its stack, as languages with an unlimited depth of calls do, meets it at its own instruction. (CALL does
 * not look: it would take a register, or a twentieth of the time of a handler. It goes without: src/hit/call_room.c.)
 *
 * The red zone is skipped, and left again, by lea: it is the one way to add to rsp that keeps the flags. Flags are
 * saved by lahf and seto: pushf and popf cost three times what all the rest does. DF and the system flags are never
 * changed.
 *
 * Counting is exact without a lock prefix because the block that is incremented belongs to the thread (src/hit/abi.h),
 * and one instruction cannot be divided by a signal. When the first look does not find the thread's block, the
 * runtime's claim routine looks further: it takes the key in rcx, returns in rdx the block to increment, and keeps all
 * other registers but rcx and the flags. For a thread that gets no block it counts in the overflow block itself, by a
 * locked increment, and returns a block in which the increment hits padding: for that it reads the displacement of the
 * `inc` that it returns to.
 *
 * Where rdfsbase does not work, the key is fs:0, read once for the hash and once for the comparison.
 *
 * Each pointer of the gate is read once, into the register that is tested and used, so that a gate may go off between
 * any two instructions of a hook: a signal handler that interrupts a hook may fork, and its child comes back here.
 */
#include "probe/hook.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "hit/abi.h"

/* COUNT: what it keeps on the stack, from the bottom up: rcx, rax, rdx, the key. */
enum { COUNT_BYTES = 8 * 4, COUNT_FRAME = TL_RED_ZONE + COUNT_BYTES };

struct code {
    uint8_t *out;
    size_t length, room;
    uint64_t at;
    int error;
};

static void put(struct code *code, const void *bytes, size_t count)
{
    if (code->error || count > code->room - code->length) {
        code->error = code->error ? code->error : -EINVAL;
        return;
    }
    memcpy(code->out + code->length, bytes, count);
    code->length += count;
}

#define PUT(code, ...) put(code, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void put32(struct code *code, uint32_t value)
{
    put(code, &value, sizeof value);
}

/* The displacement, at the end of an instruction, of a rip-relative operand. */
static void put_displacement(struct code *code, uint64_t target)
{
    int64_t displacement = (int64_t)(target - (code->at + code->length + 4));
    if (displacement != (int32_t)displacement && !code->error)
        code->error = -ERANGE;
    put32(code, (uint32_t)displacement);
}

/* A short jump forward (jrcxz, je) whose distance `land` fills in. */
static size_t jump(struct code *code, uint8_t opcode)
{
    PUT(code, opcode, 0);
    return code->length;
}

static void land(struct code *code, size_t from)
{
    if (!code->error)
        code->out[from - 1] = (uint8_t)(code->length - from);
}

static void skip_red_zone(struct code *code)
{
    PUT(code, 0x48, 0x8d, 0x64, 0x24, 0x80); /* lea rsp, [rsp - 128] */
}

static void leave_red_zone(struct code *code)
{
    PUT(code, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0); /* lea rsp, [rsp + 128] */
}

static void emit_enter(struct code *code, const struct tl_hook *hook)
{
    skip_red_zone(code);
    PUT(code, 0x51);                   /* push rcx */
    PUT(code, 0x48, 0x8b, 0x8c, 0x24); /* mov rcx, [rsp - …] */
    put32(code, -(uint32_t)(TL_HOOK_STACK - 8));
    PUT(code, 0x48, 0x8b, 0x0d); /* mov rcx, [rip + enter] */
    put_displacement(code, hook->gate + offsetof(struct tl_gate, enter));
    size_t off = jump(code, 0xe3); /* jrcxz */
    PUT(code, 0x68);               /* push site */
    put32(code, hook->index);
    PUT(code, 0xff, 0xd1); /* call rcx */
    PUT(code, 0x59);       /* pop rcx */
    land(code, off);
    PUT(code, 0x59); /* pop rcx */
    leave_red_zone(code);
}

static void emit_call(struct code *code, const struct tl_hook *hook)
{
    skip_red_zone(code);
    PUT(code, 0x68); /* push index */
    put32(code, hook->index);
    PUT(code, 0xff, 0x15); /* call [rip + call] */
    put_displacement(code, hook->gate + offsetof(struct tl_gate, call));
    PUT(code, 0x48, 0x8d, 0xa4, 0x24, 0x88, 0, 0, 0); /* lea rsp, [rsp + 136] */
}

/* The table is in rcx; afterwards the block where the thread's counters should be is in rdx, and the thread's key in
 * rcx. Complementing what rdfsbase gives makes sure that a key is not 0, which is how a free block looks. */
static void emit_find_block(struct code *code, const struct tl_hook *hook)
{
    if (!hook->has_fsgsbase)
        PUT(code, 0x64, 0x69, 0x14, 0x25, 0, 0, 0, 0); /* imul edx, fs:[0], … */
    else
        PUT(code, 0xf3, 0x48, 0x0f, 0xae, 0xc2, /* rdfsbase rdx */
            0x48, 0xf7, 0xd2,                   /* not rdx */
            0x48, 0x89, 0x54, 0x24, 24,         /* mov [rsp + 24], rdx */
            0x69, 0xd2);                        /* imul edx, edx, … */
    put32(code, TL_HASH_FACTOR);
    PUT(code, 0xc1, 0xea, (uint8_t)(32 - hook->table_shift)); /* shr edx, … */
    PUT(code, 0x48, 0xc1, 0xe2, hook->block_shift);           /* shl rdx, … */
    PUT(code, 0x48, 0x01, 0xca);                              /* add rdx, rcx */
    if (!hook->has_fsgsbase)
        PUT(code, 0x64, 0x48, 0x8b, 0x0c, 0x25, 0, 0, 0, 0); /* mov rcx, fs:[0] */
    else
        PUT(code, 0x48, 0x8b, 0x4c, 0x24, 24); /* mov rcx, [rsp + 24] */
}

/* … and for what is to be in rax and rdx. */
static void save_rax(struct code *code)
{
    PUT(code, 0x48, 0x89, 0x44, 0x24, 8); /* mov [rsp + 8], rax */
}

static void restore_rax(struct code *code)
{
    PUT(code, 0x48, 0x8b, 0x44, 0x24, 8); /* mov rax, [rsp + 8] */
}

static void emit_count_own(struct code *code, const struct tl_hook *hook)
{
    save_rax(code);
    PUT(code, 0x48, 0x89, 0x54, 0x24, 16, 0x9f, 0x0f, 0x90, 0xc0); /* mov [rsp + 16], rdx; lahf; seto al */
    emit_find_block(code, hook);
    PUT(code, 0x48, 0x3b, 0x0a);    /* cmp rcx, [rdx] */
    size_t mine = jump(code, 0x74); /* je */
    PUT(code, 0x48, 0x8b, 0x15);    /* mov rdx, [rip + claim] */
    put_displacement(code, hook->gate + offsetof(struct tl_gate, claim));
    PUT(code, 0x48, 0x85, 0xd2);    /* test rdx, rdx */
    size_t done = jump(code, 0x74); /* je */
    PUT(code, 0xff, 0xd2);          /* call rdx */
    land(code, mine);
    PUT(code, 0x48, 0xff, 0x82); /* inc qword [rdx + …] */
    put32(code, TL_COUNT_BLOCK_HEAD + 8 * hook->index);
    land(code, done);
    PUT(code, 0x04, 0x7f, 0x9e, 0x48, 0x8b, 0x54, 0x24, 16); /* add al, 127; sahf; mov rdx, [rsp + 16] */
    restore_rax(code);
}

/* Where the fs base cannot be had, every thread counts in the overflow block, behind the table in rcx. */
static void emit_count_shared(struct code *code, const struct tl_hook *hook)
{
    save_rax(code);
    PUT(code, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
    PUT(code, 0xf0, 0x48, 0xff, 0x81); /* lock inc qword [rcx + …] */
    put32(code, (1u << (hook->table_shift + hook->block_shift)) + TL_COUNT_BLOCK_HEAD + 8 * hook->index);
    PUT(code, 0x04, 0x7f, 0x9e); /* add al, 127; sahf */
    restore_rax(code);
}

static void emit_count(struct code *code, const struct tl_hook *hook)
{
    bool own = hook->fs_self || hook->has_fsgsbase;
    PUT(code, 0x48, 0x8d, 0xa4, 0x24); /* lea rsp, [rsp - …] */
    put32(code, -(uint32_t)COUNT_FRAME);
    PUT(code, 0x48, 0x89, 0x0c, 0x24); /* mov [rsp], rcx */
    PUT(code, 0x48, 0x8b, 0x0d);       /* mov rcx, [rip + counts] */
    put_displacement(code, hook->gate + offsetof(struct tl_gate, counts));
    size_t off = jump(code, 0xe3); /* jrcxz */
    if (own)
        emit_count_own(code, hook);
    else
        emit_count_shared(code, hook);
    land(code, off);
    PUT(code, 0x48, 0x8b, 0x0c, 0x24, 0x48, 0x8d, 0xa4, 0x24); /* mov rcx, [rsp]; lea rsp, [rsp + …] */
    put32(code, COUNT_FRAME);
}

/* All displacements from the start of the table, the overflow block's included, fit in 31 bits. */
static bool table_is_sane(const struct tl_hook *hook)
{
    if (hook->table_shift < 1 || hook->block_shift < 7 || hook->table_shift + hook->block_shift > 29)
        return false;
    return hook->index < ((1u << hook->block_shift) - TL_COUNT_BLOCK_HEAD) / 8;
}

int tl_hook_emit(const struct tl_hook *hook, uint64_t at, uint8_t out[TL_HOOK_BYTES_MAX], size_t *length)
{
    struct code code = {.out = out, .at = at, .room = TL_HOOK_BYTES_MAX};
    switch (hook->kind) {
    case TL_HOOK_NONE:
        break;
    case TL_HOOK_ENTER:
        /* What `push` sign-extends, the runtime cuts again. */
        emit_enter(&code, hook);
        break;
    case TL_HOOK_CALL:
        emit_call(&code, hook);
        break;
    case TL_HOOK_COUNT:
        if (!table_is_sane(hook))
            return -EINVAL;
        emit_count(&code, hook);
        break;
    default:
        return -EINVAL;
    }
    if (!code.error)
        *length = code.length;
    return code.error;
}

static unsigned mark(struct tl_mark *marks, unsigned used, unsigned at, uint64_t addr, uint8_t unwind, uint8_t borrowed)
{
    marks[used] = (struct tl_mark){.at = (uint8_t)at,
                                   .state = at ? TL_MARK_WITHIN : TL_MARK_BEFORE,
                                   .borrowed = borrowed,
                                   .unwind = unwind,
                                   .addr = addr};
    return used + 1;
}

unsigned tl_hook_marks(const struct tl_hook *hook, uint64_t addr, struct tl_mark marks[TL_HOOK_MARKS], size_t *end)
{
    enum { RCX = 1, RED_ZONE = TL_RED_ZONE, BEHIND_GATE = 7, BEHIND_TEST = 9 };
    enum { ENTER_PUSH = 5, ENTER_LOOK = 6, ENTER_GATE = 14, COUNT_STORE = 8, COUNT_GATE = 12, CALL_CALL = 10 };
    unsigned used = 0;
    *end = 0;
    if (hook->kind == TL_HOOK_NONE)
        return 0;
    used = mark(marks, used, 0, addr, 0, TL_NO_REG);
    if (hook->kind == TL_HOOK_CALL) {
        *end = CALL_CALL + 6;
        used = mark(marks, used, ENTER_PUSH, addr, RED_ZONE, TL_NO_REG);
        return mark(marks, used, CALL_CALL, addr, RED_ZONE + 8, TL_NO_REG);
    }
    bool counts = hook->kind == TL_HOOK_COUNT;
    uint8_t frame = counts ? COUNT_FRAME : RED_ZONE + 8;
    unsigned gate = counts ? COUNT_GATE : ENTER_GATE;
    if (counts) {
        used = mark(marks, used, COUNT_STORE, addr, COUNT_FRAME, TL_NO_REG);
    } else {
        used = mark(marks, used, ENTER_PUSH, addr, RED_ZONE, TL_NO_REG);
        used = mark(marks, used, ENTER_LOOK, addr, frame, RCX);
    }
    used = mark(marks, used, gate, addr, frame, RCX);
    used = mark(marks, used, gate + BEHIND_GATE, addr, frame, RCX);
    *end = gate + BEHIND_TEST + 1; /* and the first byte behind jrcxz */
    return mark(marks, used, gate + BEHIND_TEST, addr, frame, RCX);
}
