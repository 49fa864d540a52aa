/* SPDX-License-Identifier: MIT
 *
 * Random programs seldom verify as they come; so each is grown operation by operation, keeping only what can still be
 * completed (with an END for each way that is open).
 */
#include "random_program.h"

#include <stddef.h>

enum { LONGEST = 50, ENDS = 8, SLOTS = 2 };

const char random_page[4096] = {[RANDOM_MEMORY - RANDOM_PAGE] = 'a',
                                'b',
                                0,
                                'a',
                                'n',
                                'd',
                                ' ',
                                'm',
                                'o',
                                'r',
                                'e',
                                ' ',
                                'u',
                                'p',
                                ' ',
                                't',
                                'o',
                                ' ',
                                't',
                                'h',
                                'e',
                                ' ',
                                'e',
                                'n'};

/* An operation that is probably valid, over few slots and small distances. */
static struct tl_operation random_operation(struct chance *chance)
{
    static const uint8_t sizes[] = {1, 2, 4, 8};
    static const uint64_t numbers[] = {0, 1, 2, 7, 63, 64, RANDOM_MEMORY, UINT64_MAX, 1ull << 63};
    struct tl_operation op = {.op = (uint8_t)chance_below(chance, TL_OP_COUNT)};
    switch (op.op) {
    case TL_OP_IMM:
        op.imm = (int64_t)numbers[chance_below(chance, 9)];
        break;
    case TL_OP_REG:
        op.a = (uint8_t)chance_below(chance, TL_REG_COUNT);
        break;
    case TL_OP_LOAD:
    case TL_OP_SIGN:
    case TL_OP_ZERO:
        op.a = sizes[chance_below(chance, 4)];
        break;
    case TL_OP_LOAD_DIRECT:
        op.a = 8;
        break;
    case TL_OP_BITS:
        op.a = (uint8_t)(1 + chance_below(chance, 33));
        op.b = (uint16_t)chance_below(chance, 33);
        break;
    case TL_OP_STRING:
    case TL_OP_STREQ:
    case TL_OP_GLOB:
        op.imm = op.op == TL_OP_STRING ? 1 + chance_below(chance, 40) : 3 * chance_below(chance, 2);
        op.a = (uint8_t)chance_below(chance, SLOTS);
        break;
    case TL_OP_ARG:
    case TL_OP_STORE:
        op.a = (uint8_t)chance_below(chance, SLOTS);
        break;
    case TL_OP_JZ:
    case TL_OP_JNZ:
    case TL_OP_JUMP:
        op.imm = chance_below(chance, 6);
    }
    return op;
}

struct tl_program random_program(struct chance *chance, struct tl_operation code[RANDOM_PROGRAM_MAX])
{
    struct tl_program program = {code, 0, "ab\0[a-c]*", sizeof "ab\0[a-c]*"};
    size_t length = 0;
    for (unsigned tries = 0; tries < 120 && length < LONGEST; tries++) {
        struct tl_operation *next = &code[length];
        *next = random_operation(chance);
        if ((next->op == TL_OP_END || next->op == TL_OP_REJECT) && tries < 80)
            continue;
        for (size_t i = 1; i <= ENDS; i++)
            next[i] = (struct tl_operation){.op = TL_OP_END};
        program.length = length + 1 + ENDS;
        length += tl_program_verify(&program) == 0;
    }
    for (size_t i = 0; i < ENDS; i++)
        code[length++] = (struct tl_operation){.op = TL_OP_END};
    program.length = length;
    return program;
}

struct machine random_machine(struct chance *chance)
{
    struct machine machine = {.pid = 1, .tid = 2};
    for (unsigned i = 0; i < TL_REG_COUNT; i++)
        machine.regs[i] = chance_below(chance, 2) ? chance_bits(chance) : RANDOM_MEMORY + chance_below(chance, 30);
    machine_map(&machine, RANDOM_PAGE, random_page, sizeof random_page);
    return machine;
}
