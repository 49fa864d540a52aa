/* SPDX-License-Identifier: MIT
 *
 * A spec to a program for the runtime.
 *
 * A hit that the filter rejects should cost as little as it can, and a read of memory costs a system call. So the
 * filter is taken apart at its outermost && into conditions, the cheap ones go first, and each is preceded only by the
 * fetches that it needs and that no earlier one has done. The order of conditions is free because
 * evaluating them has no effect but time: what C programmers write && for, guarding a division or a pointer, is
 * done here by faults, which make a condition false. What remains to be fetched is fetched when
 * nothing can reject the hit any more:
 *
 *     fetches of condition 1; condition 1, else to L; fetches of condition 2; …; other fetches; END; L: REJECT
 */
#include "spec/spec.h"

#include <stdlib.h>
#include <string.h>

#include "spec/code.h"
#include "spec/fetch.h"

struct compiler {
    const struct tl_spec *spec;
    const struct tl_compile_target *target;
    struct tl_error *error;
    struct tl_code *made;
    unsigned string_bytes; /* most that one string may take */
    uint32_t stored;       /* slots */
};

static const uint8_t argument_registers[] = {TL_RDI, TL_RSI, TL_RDX, TL_RCX, TL_R8, TL_R9};

static int fail_at(const struct compiler *compiler, size_t column, int code, const char *text)
{
    struct tl_scan scan = {.text = compiler->spec->text, .error = compiler->error};
    return tl_scan_fail(&scan, column, code, "%s", text);
}

static void op(struct compiler *compiler, enum tl_op code, unsigned a, int64_t imm)
{
    tl_code_op(compiler->made, code, a, 0, imm);
}

/* Entry `index` of the stack, or its address. */
static void stack_address(struct compiler *compiler, int64_t index)
{
    op(compiler, TL_OP_REG, TL_RSP, 0);
    if (index) {
        op(compiler, TL_OP_IMM, 0, index * 8);
        op(compiler, TL_OP_ADD, 0, 0);
    }
}

static void emit_register(struct compiler *compiler, const struct tl_register *reg)
{
    op(compiler, TL_OP_REG, reg->reg, 0);
    if (reg->shift)
        tl_code_op(compiler->made, TL_OP_BITS, reg->size * 8u, reg->shift, 0);
    else if (reg->size < 8)
        op(compiler, TL_OP_ZERO, reg->size, 0);
}

static int emit_argument(struct compiler *compiler, const struct tl_fetch *fetch)
{
    if (!compiler->target->at_entry || compiler->target->is_return)
        return fail_at(compiler, fetch->column, -EINVAL,
                       "expected no $arg here: arguments are known only at a function's entry");
    if (fetch->imm <= 6) {
        op(compiler, TL_OP_REG, argument_registers[fetch->imm - 1], 0);
    } else {
        stack_address(compiler, fetch->imm - 6); /* entry 0 is the return address */
        op(compiler, TL_OP_LOAD, 8, 0);
    }
    return 0;
}

static int emit_retval(struct compiler *compiler, const struct tl_fetch *fetch)
{
    if (!compiler->target->is_return)
        return fail_at(compiler, fetch->column, -EINVAL, "expected no $retval here: only a return probe has it");
    if (compiler->target->retval_known) {
        op(compiler, TL_OP_REG, TL_RAX, 0);
    } else { /* a division by zero is the fault that costs nothing */
        op(compiler, TL_OP_IMM, 0, 0);
        op(compiler, TL_OP_IMM, 0, 0);
        op(compiler, TL_OP_UDIV, 0, 0);
    }
    return 0;
}

/* @SYMBOL and @+OFFSET: known now. */
static int emit_address(struct compiler *compiler, const struct tl_fetch *fetch)
{
    const struct tl_compile_target *target = compiler->target;
    uint64_t addr;
    int error = -EINVAL;
    if (fetch->kind == TL_FETCH_VARIABLE && target->variable)
        error = target->variable(target->context, fetch->name, &addr);
    else if (fetch->kind == TL_FETCH_FILE_OFFSET && target->file_offset)
        error = target->file_offset(target->context, (uint64_t)fetch->imm, &addr);
    if (error)
        return fail_at(compiler, fetch->column, error,
                       fetch->kind == TL_FETCH_VARIABLE ? "expected the name of a variable of the target"
                                                        : "expected an offset that is mapped from the probed file");
    if (fetch->kind == TL_FETCH_VARIABLE)
        addr += (uint64_t)fetch->imm;
    op(compiler, TL_OP_IMM, 0, (int64_t)addr);
    return 0;
}

static int emit_fetch(struct compiler *compiler, const struct tl_fetch *fetch);

/* The address that a dereference reads. */
static int emit_deref_address(struct compiler *compiler, const struct tl_fetch *fetch)
{
    int error = emit_fetch(compiler, fetch->inner);
    if (!error && fetch->imm) {
        op(compiler, TL_OP_IMM, 0, fetch->imm);
        op(compiler, TL_OP_ADD, 0, 0);
    }
    return error;
}

/* Push the value of an expression that is not the outermost: a whole 8 bytes. */
static int emit_fetch(struct compiler *compiler, const struct tl_fetch *fetch)
{
    switch ((enum tl_fetch_kind)fetch->kind) {
    case TL_FETCH_REGISTER:
        emit_register(compiler, &fetch->reg);
        return 0;
    case TL_FETCH_STACK:
        stack_address(compiler, 0);
        return 0;
    case TL_FETCH_STACK_ENTRY:
        stack_address(compiler, fetch->imm);
        op(compiler, TL_OP_LOAD, 8, 0);
        return 0;
    case TL_FETCH_ARGUMENT:
        return emit_argument(compiler, fetch);
    case TL_FETCH_RETVAL:
        return emit_retval(compiler, fetch);
    case TL_FETCH_IMMEDIATE:
        op(compiler, TL_OP_IMM, 0, fetch->imm);
        return 0;
    case TL_FETCH_FILE_OFFSET:
    case TL_FETCH_VARIABLE:
        return emit_address(compiler, fetch);
    case TL_FETCH_DEREF: {
        int error = emit_deref_address(compiler, fetch);
        op(compiler, TL_OP_LOAD, 8, 0);
        return error;
    }
    case TL_FETCH_COMM:
    case TL_FETCH_TEXT:
        break; /* have no value; the parser lets them stand only on their own */
    }
    return 0;
}

static bool is_signed(const struct tl_type *type)
{
    return type->show == TL_SHOW_SIGNED || type->show == TL_SHOW_CHAR;
}

static int emit_number(struct compiler *compiler, const struct tl_fetch *fetch)
{
    const struct tl_type *type = &fetch->type;
    bool is_memory = fetch->kind == TL_FETCH_DEREF, is_narrow = type->size < 8;
    int error = is_memory ? emit_deref_address(compiler, fetch) : emit_fetch(compiler, fetch);
    if (error)
        return error;
    if (is_memory)
        op(compiler, TL_OP_LOAD, type->size, 0);
    if (type->bits)
        tl_code_op(compiler->made, TL_OP_BITS, type->bits, type->bit_offset, 0);
    else if (is_narrow && is_signed(type))
        op(compiler, TL_OP_SIGN, type->size, 0);
    else if (is_narrow && !is_memory && !(fetch->kind == TL_FETCH_REGISTER && fetch->reg.size <= type->size))
        op(compiler, TL_OP_ZERO, type->size, 0);
    return 0;
}

static int emit_arg(struct compiler *compiler, const struct tl_fetch_arg *arg)
{
    const struct tl_fetch *fetch = arg->fetch;
    if (arg->show == TL_SHOW_COMM || arg->show == TL_SHOW_TEXT || compiler->stored >> arg->slot & 1)
        return 0;
    compiler->stored |= 1u << arg->slot;
    bool is_string = arg->show == TL_SHOW_STRING;
    int error = !is_string                      ? emit_number(compiler, fetch)
                : fetch->kind == TL_FETCH_DEREF ? emit_deref_address(compiler, fetch)
                                                : emit_fetch(compiler, fetch);
    op(compiler, is_string ? TL_OP_STRING : TL_OP_STORE, arg->slot, is_string ? compiler->string_bytes : 0);
    return error;
}

static int emit_slots(struct compiler *compiler, uint32_t slots)
{
    for (size_t i = 0; i < compiler->spec->arg_count; i++) {
        int error = slots >> i & 1 ? emit_arg(compiler, &compiler->spec->args[i]) : 0;
        if (error)
            return error;
    }
    return 0;
}

static unsigned loads_of(const struct compiler *compiler, uint32_t slots)
{
    unsigned loads = 0;
    for (size_t i = 0; i < compiler->spec->arg_count; i++)
        if ((slots & ~compiler->stored) >> i & 1)
            loads += tl_fetch_loads(compiler->spec->args[i].fetch);
    return loads;
}

/* Emits the cheapest of the conditions that have not been emitted yet, until none is left. */
static int emit_conditions(struct compiler *compiler, const struct tl_expr **conditions, size_t count, int64_t *rejects)
{
    while (count) {
        size_t best = 0;
        for (size_t i = 1; i < count; i++)
            if (loads_of(compiler, conditions[i]->slots) < loads_of(compiler, conditions[best]->slots))
                best = i;
        int error = emit_slots(compiler, conditions[best]->slots);
        if (error)
            return error;
        tl_code_branch(compiler->made, conditions[best], false, rejects);
        memmove(&conditions[best], &conditions[best + 1], (--count - best) * sizeof *conditions);
    }
    return 0;
}

static size_t count_conditions(const struct tl_expr *expr)
{
    return expr->kind == TL_EXPR_AND ? count_conditions(expr->left) + count_conditions(expr->right) : 1;
}

static size_t list_conditions(const struct tl_expr *expr, const struct tl_expr **out)
{
    if (expr->kind != TL_EXPR_AND) {
        *out = expr;
        return 1;
    }
    size_t left = list_conditions(expr->left, out);
    return left + list_conditions(expr->right, out + left);
}

static int emit_filter(struct compiler *compiler, int64_t *rejects)
{
    const struct tl_expr *root = compiler->spec->filter->root;
    const struct tl_expr **conditions = calloc(count_conditions(root), sizeof *conditions);
    if (!conditions)
        return tl_fail(compiler->error, -ENOMEM, "out of memory");
    int error = emit_conditions(compiler, conditions, list_conditions(root, conditions), rejects);
    free(conditions);
    return error;
}

static int emit_spec(struct compiler *compiler)
{
    struct tl_code *code = compiler->made;
    int64_t rejects = TL_NO_JUMPS;
    int error = compiler->spec->filter ? emit_filter(compiler, &rejects) : 0;
    if (!error && !compiler->target->filter_only)
        error = emit_slots(compiler, UINT32_MAX);
    if (error)
        return error;
    op(compiler, TL_OP_END, 0, 0);
    if (rejects != TL_NO_JUMPS) {
        tl_code_land(code, rejects);
        op(compiler, TL_OP_REJECT, 0, 0);
    }
    if (code->error == -E2BIG)
        return fail_at(compiler, 0, -E2BIG,
                       "expected fewer arguments or a shorter filter: this spec is too large to run on a hit");
    return code->error ? tl_fail(compiler->error, code->error, "out of memory") : 0;
}

/* All strings of an event share TL_EVENT_STRINGS bytes: each gets the same part, wherever it stands. */
static unsigned string_bytes(const struct tl_spec *spec)
{
    unsigned strings = 0;
    for (size_t i = 0; i < spec->arg_count; i++)
        strings += spec->args[i].show == TL_SHOW_STRING;
    return strings * TL_STRING_MAX <= TL_EVENT_STRINGS ? TL_STRING_MAX : TL_EVENT_STRINGS / strings;
}

int tl_spec_compile(const struct tl_spec *spec, const struct tl_compile_target *target, struct tl_operation **code,
                    size_t *length, char **strings, size_t *strings_size, struct tl_error *error)
{
    struct tl_code *made = calloc(1, sizeof *made);
    if (!made)
        return tl_fail(error, -ENOMEM, "out of memory");
    struct compiler compiler = {
        .spec = spec, .target = target, .error = error, .made = made, .string_bytes = string_bytes(spec)};
    struct tl_operation *copy = NULL;
    int result = emit_spec(&compiler);
    if (!result) {
        copy = malloc(made->length * sizeof *copy);
        if (!copy)
            result = tl_fail(error, -ENOMEM, "out of memory");
    }
    if (result) {
        free(made->strings);
    } else {
        memcpy(copy, made->ops, made->length * sizeof *copy);
        *code = copy;
        *length = made->length;
        *strings = made->strings;
        *strings_size = made->strings_size;
    }
    free(made);
    return result;
}

bool tl_spec_reads_memory(const struct tl_spec *spec)
{
    for (size_t i = 0; i < spec->arg_count; i++)
        if (tl_fetch_loads(spec->args[i].fetch))
            return true;
    return false;
}
