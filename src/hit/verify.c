/* SPDX-License-Identifier: MIT
 *
 * What the runtime may rely on when it runs a fetch program.
 *
 * Jumps go forward only, so one pass in order sees every way of reaching an operation before the operation itself. For
 * each it keeps what is true on all these ways: the depth of the stack, which must be the same on each, and which
 * slots hold a number or a string. That a slot holds what it is used as is not a matter of taste: the runtime finds a
 * string by a length and an offset that it has put into the slot itself.
 *
 * Operations that nothing reaches have no state; their operands are checked all the same.
 */
#include "hit/program.h"

#include <errno.h>
#include <stdbool.h>

struct state {
    bool is_reached;
    unsigned depth;
    uint32_t numbers, strings; /* bit n: slot n has been stored as that, on every way here */
};

/* How each operation uses the stack and its fields. A field that is not used must be 0. */
enum use { NONE, SLOT, REGISTER, SIZE, WORD, FIELD, LENGTH, CONSTANT, DISTANCE, ANY_IMM };

static const struct rule {
    uint8_t pops, pushes;
    uint8_t use; /* enum use */
} rules[TL_OP_COUNT] = {
    [TL_OP_END] = {0, 0, NONE},         [TL_OP_IMM] = {0, 1, ANY_IMM},   [TL_OP_REG] = {0, 1, REGISTER},
    [TL_OP_PID] = {0, 1, NONE},         [TL_OP_TID] = {0, 1, NONE},      [TL_OP_LOAD] = {1, 1, SIZE},
    [TL_OP_LOAD_DIRECT] = {1, 1, WORD}, [TL_OP_SIGN] = {1, 1, SIZE},     [TL_OP_ZERO] = {1, 1, SIZE},
    [TL_OP_BITS] = {1, 1, FIELD},       [TL_OP_ADD] = {2, 1, NONE},      [TL_OP_SUB] = {2, 1, NONE},
    [TL_OP_MUL] = {2, 1, NONE},         [TL_OP_DIV] = {2, 1, NONE},      [TL_OP_MOD] = {2, 1, NONE},
    [TL_OP_UDIV] = {2, 1, NONE},        [TL_OP_UMOD] = {2, 1, NONE},     [TL_OP_AND] = {2, 1, NONE},
    [TL_OP_OR] = {2, 1, NONE},          [TL_OP_XOR] = {2, 1, NONE},      [TL_OP_SHL] = {2, 1, NONE},
    [TL_OP_SHR] = {2, 1, NONE},         [TL_OP_SAR] = {2, 1, NONE},      [TL_OP_EQ] = {2, 1, NONE},
    [TL_OP_NE] = {2, 1, NONE},          [TL_OP_LT] = {2, 1, NONE},       [TL_OP_LE] = {2, 1, NONE},
    [TL_OP_GT] = {2, 1, NONE},          [TL_OP_GE] = {2, 1, NONE},       [TL_OP_ULT] = {2, 1, NONE},
    [TL_OP_ULE] = {2, 1, NONE},         [TL_OP_UGT] = {2, 1, NONE},      [TL_OP_UGE] = {2, 1, NONE},
    [TL_OP_NOT] = {1, 1, NONE},         [TL_OP_NEG] = {1, 1, NONE},      [TL_OP_COM] = {1, 1, NONE},
    [TL_OP_DUP] = {1, 2, NONE},         [TL_OP_DROP] = {1, 0, NONE},     [TL_OP_ARG] = {0, 1, SLOT},
    [TL_OP_STORE] = {1, 0, SLOT},       [TL_OP_STRING] = {1, 0, LENGTH}, [TL_OP_STREQ] = {0, 1, CONSTANT},
    [TL_OP_GLOB] = {0, 1, CONSTANT},    [TL_OP_JZ] = {1, 0, DISTANCE},   [TL_OP_JNZ] = {1, 0, DISTANCE},
    [TL_OP_JUMP] = {0, 0, DISTANCE},    [TL_OP_REJECT] = {0, 0, NONE},   [TL_OP_OLD] = {0, 1, NONE},
    [TL_OP_NEW] = {0, 1, NONE},         [TL_OP_HOW] = {0, 1, NONE},
};

static bool is_size(unsigned a)
{
    return a == 1 || a == 2 || a == 4 || a == 8;
}

/* The operands of one operation, which stands at `at`. */
static bool operands_are_valid(const struct tl_program *program, size_t at)
{
    const struct tl_operation *op = &program->code[at];
    if (op->op >= TL_OP_COUNT || op->zero)
        return false;
    enum use use = (enum use)rules[op->op].use;
    if (op->b && use != FIELD)
        return false;
    switch (use) {
    case NONE:
        return !op->a && !op->imm;
    case ANY_IMM:
        return !op->a;
    case SLOT:
        return op->a < TL_EVENT_ARGS && !op->imm;
    case REGISTER:
        return op->a < TL_REG_COUNT && !op->imm;
    case SIZE:
        return is_size(op->a) && !op->imm;
    case WORD:
        return op->a == 8 && !op->imm;
    case FIELD:
        return op->a >= 1 && op->a + op->b <= 64 && !op->imm;
    case LENGTH:
        return op->a < TL_EVENT_ARGS && op->imm >= 1 && op->imm <= TL_STRING_MAX;
    case CONSTANT:
        return op->a < TL_EVENT_ARGS && op->imm >= 0 && (uint64_t)op->imm < program->strings_size;
    case DISTANCE:
        return !op->a && op->imm >= 0 && (uint64_t)op->imm < program->length - at - 1;
    }
    return false;
}

/* One more way of reaching an operation; false where it does not agree with the others. */
static bool reach(struct state *to, const struct state *from)
{
    if (!to->is_reached) {
        *to = *from;
        return true;
    }
    to->numbers &= from->numbers;
    to->strings &= from->strings;
    return to->depth == from->depth;
}

/* What is true behind the operation; false where it may not be run at all. */
static bool step(const struct tl_operation *op, struct state *state)
{
    const struct rule *rule = &rules[op->op];
    uint32_t slot = op->a < TL_EVENT_ARGS ? 1u << op->a : 0;
    if (state->depth < rule->pops || state->depth - rule->pops + rule->pushes > TL_PROGRAM_STACK)
        return false;
    state->depth += (unsigned)rule->pushes - rule->pops;
    switch (op->op) {
    case TL_OP_ARG:
        return state->numbers & slot;
    case TL_OP_STREQ:
    case TL_OP_GLOB:
        return state->strings & slot;
    case TL_OP_STORE:
        state->numbers |= slot;
        state->strings &= ~slot;
        return true;
    case TL_OP_STRING:
        state->strings |= slot;
        state->numbers &= ~slot;
        return true;
    default:
        return true;
    }
}

int tl_program_verify(const struct tl_program *program)
{
    struct state states[TL_PROGRAM_MAX] = {{.is_reached = true}};
    size_t length = program->length;
    if (!program->code || !length || length > TL_PROGRAM_MAX)
        return -EINVAL;
    if (program->strings_size && (!program->strings || program->strings[program->strings_size - 1]))
        return -EINVAL;
    for (size_t at = 0; at < length; at++) {
        const struct tl_operation *op = &program->code[at];
        struct state after = states[at];
        if (!operands_are_valid(program, at))
            return -EINVAL;
        if (!after.is_reached)
            continue;
        if (!step(op, &after))
            return -EINVAL;
        bool jumps = op->op == TL_OP_JZ || op->op == TL_OP_JNZ || op->op == TL_OP_JUMP;
        bool goes_on = op->op != TL_OP_END && op->op != TL_OP_REJECT && op->op != TL_OP_JUMP;
        if (jumps && !reach(&states[at + 1 + (size_t)op->imm], &after))
            return -EINVAL;
        if (goes_on && (at + 1 == length || !reach(&states[at + 1], &after)))
            return -EINVAL;
    }
    return 0;
}
