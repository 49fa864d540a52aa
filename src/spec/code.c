/* SPDX-License-Identifier: MIT
 *
 * Expressions to byte code.
 *
 * Truth is compiled to jumps, so that && and || need no values and stop early. Two rules about faults: a comparison
 * with something that could not be read is false, and `!` of something that could not be read (but not of such a
 * comparison) is itself unreadable. So only what is always readable, comparisons and their kin, may be
 * negated by turning the jump around.
 */
#include "spec/code.h"

#include <stdlib.h>
#include <string.h>

void tl_code_op(struct tl_code *code, enum tl_op op, unsigned a, unsigned b, int64_t imm)
{
    if (code->error)
        return;
    if (code->length == TL_PROGRAM_MAX)
        code->error = -E2BIG;
    else
        code->ops[code->length++] =
            (struct tl_operation){.op = (uint8_t)op, .a = (uint8_t)a, .b = (uint16_t)b, .imm = imm};
}

void tl_code_jump(struct tl_code *code, enum tl_op op, int64_t *jumps)
{
    tl_code_op(code, op, 0, 0, *jumps);
    if (!code->error)
        *jumps = (int64_t)code->length - 1;
}

void tl_code_land(struct tl_code *code, int64_t jumps)
{
    while (jumps != TL_NO_JUMPS) {
        struct tl_operation *jump = &code->ops[jumps];
        int64_t next = jump->imm;
        jump->imm = (int64_t)code->length - 1 - jumps;
        jumps = next;
    }
}

/* Offset of a constant in the pool, which holds each one once. */
static int64_t add_string(struct tl_code *code, const char *text)
{
    size_t size = strlen(text) + 1;
    for (size_t at = 0; at < code->strings_size; at += strlen(code->strings + at) + 1)
        if (!strcmp(code->strings + at, text))
            return (int64_t)at;
    char *strings = realloc(code->strings, code->strings_size + size);
    if (!strings) {
        code->error = code->error ? code->error : -ENOMEM;
        return 0;
    }
    memcpy(strings + code->strings_size, text, size);
    code->strings = strings;
    code->strings_size += size;
    return (int64_t)(code->strings_size - size);
}

static void emit_match(struct tl_code *code, const struct tl_expr *expr)
{
    if (expr->op == TL_OP_NE) {
        /* Not equal, but readable: only a string that could be read matches the pattern "*". */
        tl_code_op(code, TL_OP_GLOB, expr->slot, 0, add_string(code, "*"));
        tl_code_op(code, TL_OP_STREQ, expr->slot, 0, add_string(code, expr->text));
        tl_code_op(code, TL_OP_NOT, 0, 0, 0);
        tl_code_op(code, TL_OP_AND, 0, 0, 0);
    } else {
        tl_code_op(code, expr->op == TL_OP_GLOB ? TL_OP_GLOB : TL_OP_STREQ, expr->slot, 0,
                   add_string(code, expr->text));
    }
}

void tl_code_watched(struct tl_code *code, enum tl_op op, const struct tl_field *field)
{
    tl_code_op(code, op, 0, 0, 0);
    if (field->bits) { /* up against the sign, and down again */
        tl_code_op(code, TL_OP_IMM, 0, 0, 64 - field->bits - field->bit_offset);
        tl_code_op(code, TL_OP_SHL, 0, 0, 0);
        tl_code_op(code, TL_OP_IMM, 0, 0, 64 - field->bits);
        tl_code_op(code, field->is_signed ? TL_OP_SAR : TL_OP_SHR, 0, 0, 0);
    } else if (field->is_signed && field->size < 8) {
        tl_code_op(code, TL_OP_SIGN, field->size, 0, 0);
    }
}

void tl_code_value(struct tl_code *code, const struct tl_expr *expr)
{
    int64_t is_false = TL_NO_JUMPS, end = TL_NO_JUMPS;
    switch ((enum tl_expr_kind)expr->kind) {
    case TL_EXPR_NUMBER:
        tl_code_op(code, TL_OP_IMM, 0, 0, expr->imm);
        break;
    case TL_EXPR_SLOT:
        tl_code_op(code, TL_OP_ARG, expr->slot, 0, 0);
        break;
    case TL_EXPR_TASK:
        tl_code_op(code, (enum tl_op)expr->op, expr->slot, 0, 0);
        break;
    case TL_EXPR_WATCHED:
        tl_code_watched(code, (enum tl_op)expr->op, &expr->field);
        break;
    case TL_EXPR_UNARY:
        tl_code_value(code, expr->left);
        tl_code_op(code, (enum tl_op)expr->op, 0, 0, 0);
        break;
    case TL_EXPR_BINARY:
        tl_code_value(code, expr->left);
        tl_code_value(code, expr->right);
        tl_code_op(code, (enum tl_op)expr->op, 0, 0, 0);
        break;
    case TL_EXPR_AND:
    case TL_EXPR_OR:
        tl_code_branch(code, expr, false, &is_false);
        tl_code_op(code, TL_OP_IMM, 0, 0, 1);
        tl_code_jump(code, TL_OP_JUMP, &end);
        tl_code_land(code, is_false);
        tl_code_op(code, TL_OP_IMM, 0, 0, 0);
        tl_code_land(code, end);
        break;
    case TL_EXPR_MATCH:
        emit_match(code, expr);
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

void tl_code_branch(struct tl_code *code, const struct tl_expr *expr, bool sense, int64_t *jumps)
{
    if (expr->kind == TL_EXPR_UNARY && expr->op == TL_OP_NOT && is_always_readable(expr->left)) {
        tl_code_branch(code, expr->left, !sense, jumps);
    } else if (expr->kind == TL_EXPR_AND || expr->kind == TL_EXPR_OR) {
        /* && is decided as soon as one side is false, || as soon as one is true. */
        bool deciding = expr->kind == TL_EXPR_OR;
        int64_t past = TL_NO_JUMPS;
        tl_code_branch(code, expr->left, deciding, sense == deciding ? jumps : &past);
        tl_code_branch(code, expr->right, sense, jumps);
        tl_code_land(code, past);
    } else {
        tl_code_value(code, expr);
        tl_code_jump(code, sense ? TL_OP_JNZ : TL_OP_JZ, jumps);
    }
}
