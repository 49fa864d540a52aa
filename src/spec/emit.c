/* SPDX-License-Identifier: MIT
 *
 * Expressions to byte code.
 *
 * Truth is compiled to jumps, so that && and || need no values and stop early. Two rules about faults: a comparison
 * with something that could not be read is false, and `!` of something that could not be read (but not of such a
 * comparison) is itself unreadable. So only what is always readable, comparisons and their kin, may be
 * negated by turning the jump around.
 */
#include "spec/emit.h"

#include <stdlib.h>
#include <string.h>

void tl_emit(struct tl_emit *emit, enum tl_op op, unsigned a, unsigned b, int64_t imm)
{
    if (emit->error)
        return;
    if (emit->length == TL_PROGRAM_MAX)
        emit->error = -E2BIG;
    else
        emit->code[emit->length++] =
            (struct tl_operation){.op = (uint8_t)op, .a = (uint8_t)a, .b = (uint16_t)b, .imm = imm};
}

void tl_code_jump(struct tl_emit *emit, enum tl_op op, int64_t *jumps)
{
    tl_emit(emit, op, 0, 0, *jumps);
    if (!emit->error)
        *jumps = (int64_t)emit->length - 1;
}

void tl_code_land(struct tl_emit *emit, int64_t jumps)
{
    while (jumps != TL_NO_JUMPS) {
        struct tl_operation *jump = &emit->code[jumps];
        int64_t next = jump->imm;
        jump->imm = (int64_t)emit->length - 1 - jumps;
        jumps = next;
    }
}

/* Offset of a constant in the pool, which holds each one once. */
static int64_t add_string(struct tl_emit *emit, const char *text)
{
    size_t size = strlen(text) + 1;
    for (size_t at = 0; at < emit->strings_size; at += strlen(emit->strings + at) + 1)
        if (!strcmp(emit->strings + at, text))
            return (int64_t)at;
    char *strings = realloc(emit->strings, emit->strings_size + size);
    if (!strings) {
        emit->error = emit->error ? emit->error : -ENOMEM;
        return 0;
    }
    memcpy(strings + emit->strings_size, text, size);
    emit->strings = strings;
    emit->strings_size += size;
    return (int64_t)(emit->strings_size - size);
}

static void emit_match(struct tl_emit *emit, const struct tl_expr *expr)
{
    if (expr->op == TL_OP_NE) {
        /* Not equal, but readable: only a string that could be read matches the pattern "*". */
        tl_emit(emit, TL_OP_GLOB, expr->slot, 0, add_string(emit, "*"));
        tl_emit(emit, TL_OP_STREQ, expr->slot, 0, add_string(emit, expr->text));
        tl_emit(emit, TL_OP_NOT, 0, 0, 0);
        tl_emit(emit, TL_OP_AND, 0, 0, 0);
    } else {
        tl_emit(emit, expr->op == TL_OP_GLOB ? TL_OP_GLOB : TL_OP_STREQ, expr->slot, 0, add_string(emit, expr->text));
    }
}

void tl_code_value(struct tl_emit *emit, const struct tl_expr *expr)
{
    int64_t is_false = TL_NO_JUMPS, end = TL_NO_JUMPS;
    switch ((enum tl_expr_kind)expr->kind) {
    case TL_EXPR_NUMBER:
        tl_emit(emit, TL_OP_IMM, 0, 0, expr->imm);
        break;
    case TL_EXPR_SLOT:
        tl_emit(emit, TL_OP_ARG, expr->slot, 0, 0);
        break;
    case TL_EXPR_TASK:
        tl_emit(emit, (enum tl_op)expr->op, 0, 0, 0);
        break;
    case TL_EXPR_UNARY:
        tl_code_value(emit, expr->left);
        tl_emit(emit, (enum tl_op)expr->op, 0, 0, 0);
        break;
    case TL_EXPR_BINARY:
        tl_code_value(emit, expr->left);
        tl_code_value(emit, expr->right);
        tl_emit(emit, (enum tl_op)expr->op, 0, 0, 0);
        break;
    case TL_EXPR_AND:
    case TL_EXPR_OR:
        tl_code_branch(emit, expr, false, &is_false);
        tl_emit(emit, TL_OP_IMM, 0, 0, 1);
        tl_code_jump(emit, TL_OP_JUMP, &end);
        tl_code_land(emit, is_false);
        tl_emit(emit, TL_OP_IMM, 0, 0, 0);
        tl_code_land(emit, end);
        break;
    case TL_EXPR_MATCH:
        emit_match(emit, expr);
        break;
    case TL_EXPR_STRING:
    case TL_EXPR_TEXT:
        break; /* the parser lets them stand only in a MATCH */
    }
}

static bool is_always_readable(const struct tl_expr *expr)
{
    switch (expr->kind) {
    case TL_EXPR_NUMBER:
    case TL_EXPR_TASK:
    case TL_EXPR_AND:
    case TL_EXPR_OR:
    case TL_EXPR_MATCH:
        return true;
    case TL_EXPR_UNARY:
        return is_always_readable(expr->left);
    case TL_EXPR_BINARY:
        return expr->op >= TL_OP_EQ && expr->op <= TL_OP_UGE;
    default:
        return false;
    }
}

void tl_code_branch(struct tl_emit *emit, const struct tl_expr *expr, bool sense, int64_t *jumps)
{
    if (expr->kind == TL_EXPR_UNARY && expr->op == TL_OP_NOT && is_always_readable(expr->left)) {
        tl_code_branch(emit, expr->left, !sense, jumps);
    } else if (expr->kind == TL_EXPR_AND || expr->kind == TL_EXPR_OR) {
        /* && is decided as soon as one side is false, || as soon as one is true. */
        bool deciding = expr->kind == TL_EXPR_OR;
        int64_t past = TL_NO_JUMPS;
        tl_code_branch(emit, expr->left, deciding, sense == deciding ? jumps : &past);
        tl_code_branch(emit, expr->right, sense, jumps);
        tl_code_land(emit, past);
    } else {
        tl_code_value(emit, expr);
        tl_code_jump(emit, sense ? TL_OP_JNZ : TL_OP_JZ, jumps);
    }
}
