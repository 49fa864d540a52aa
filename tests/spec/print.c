/* SPDX-License-Identifier: MIT */
#include "print.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"
#include "spec/fetch.h"
#include "spec/filter.h"

static const char *const registers[] = {"ax", "cx",  "dx",  "bx",  "sp",  "bp",  "si",  "di", "r8",
                                        "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ip", "flags"};
static const char *const op_names[] = {
#define OP_NAME(name) #name,
    TL_OPS(OP_NAME)
#undef OP_NAME
};
static const char *const shows[] = {"unsigned", "signed", "hex", "string", "comm", "char", "symbol", "text"};

static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++)
        fprintf(out,
                (unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e || strchr("\"\\", *text) ? "\\%03o" : "%c",
                (unsigned char)*text);
    fputc('"', out);
}

static void print_register(FILE *out, const struct tl_register *reg)
{
    const char *name = registers[reg->reg];
    bool is_numbered = reg->reg >= TL_R8 && reg->reg <= TL_R15;
    if (reg->size == 8)
        fprintf(out, "%%%s", name);
    else if (is_numbered)
        fprintf(out, "%%%s%c", name, reg->size == 4 ? 'd' : reg->size == 2 ? 'w' : 'b');
    else if (reg->size == 4)
        fprintf(out, "%%e%s", name);
    else if (reg->reg < TL_RSP)
        fprintf(out, "%%%c%c", name[0], reg->shift ? 'h' : 'l');
    else
        fprintf(out, "%%%sl", name);
}

static void print_fetch(FILE *out, const struct tl_fetch *fetch)
{
    const struct tl_fetch *inner = fetch->inner;
    switch ((enum tl_fetch_kind)fetch->kind) {
    case TL_FETCH_REGISTER:
        print_register(out, &fetch->reg);
        break;
    case TL_FETCH_STACK:
        fprintf(out, "$stack");
        break;
    case TL_FETCH_STACK_ENTRY:
        fprintf(out, "$stack%" PRId64, fetch->imm);
        break;
    case TL_FETCH_ARGUMENT:
        fprintf(out, "$arg%" PRId64, fetch->imm);
        break;
    case TL_FETCH_RETVAL:
        fprintf(out, "$retval");
        break;
    case TL_FETCH_COMM:
        fprintf(out, "$comm");
        break;
    case TL_FETCH_IMMEDIATE:
        fprintf(out, "\\0x%" PRIx64, (uint64_t)fetch->imm);
        break;
    case TL_FETCH_TEXT:
        fputc('\\', out);
        print_quoted(out, fetch->name);
        break;
    case TL_FETCH_FILE_OFFSET:
        fprintf(out, "@+0x%" PRIx64, (uint64_t)fetch->imm);
        break;
    case TL_FETCH_VARIABLE:
        fprintf(out, "@%s%+" PRId64, fetch->name, fetch->imm);
        break;
    case TL_FETCH_DEREF:
        /* "@X" is the dereference and its address in one. */
        if (!fetch->imm && (inner->kind == TL_FETCH_FILE_OFFSET || inner->kind == TL_FETCH_VARIABLE)) {
            print_fetch(out, inner);
        } else {
            fprintf(out, "%+" PRId64 "(", fetch->imm);
            print_fetch(out, inner);
            fputc(')', out);
        }
    }
}

static void print_type(FILE *out, const struct tl_type *type)
{
    static const char letters[] = {[TL_SHOW_UNSIGNED] = 'u', [TL_SHOW_SIGNED] = 's', [TL_SHOW_HEX] = 'x'};
    if (type->bits)
        fprintf(out, "b%u@%u/%u", type->bits, type->bit_offset, type->size * 8u);
    else if (type->show <= TL_SHOW_HEX)
        fprintf(out, "%c%u", letters[type->show], type->size * 8u);
    else
        fprintf(out, "%s", type->show == TL_SHOW_COMM || type->show == TL_SHOW_TEXT ? "string" : shows[type->show]);
}

static void print_arg(FILE *out, const struct tl_fetch_arg *arg)
{
    fprintf(out, "%s=", arg->name);
    print_fetch(out, arg->fetch);
    fputc(':', out);
    print_type(out, &arg->fetch->type);
}

static const char *operator_of(const struct tl_expr *expr)
{
    static const char *const operators[TL_OP_COUNT] = {
        [TL_OP_ADD] = "+",   [TL_OP_SUB] = "-",  [TL_OP_MUL] = "*",   [TL_OP_DIV] = "/",   [TL_OP_MOD] = "%",
        [TL_OP_UDIV] = "/",  [TL_OP_UMOD] = "%", [TL_OP_AND] = "&",   [TL_OP_OR] = "|",    [TL_OP_XOR] = "^",
        [TL_OP_SHL] = "<<",  [TL_OP_SHR] = ">>", [TL_OP_SAR] = ">>",  [TL_OP_EQ] = "==",   [TL_OP_NE] = "!=",
        [TL_OP_LT] = "<",    [TL_OP_LE] = "<=",  [TL_OP_GT] = ">",    [TL_OP_GE] = ">=",   [TL_OP_ULT] = "<",
        [TL_OP_ULE] = "<=",  [TL_OP_UGT] = ">",  [TL_OP_UGE] = ">=",  [TL_OP_NOT] = "!",   [TL_OP_NEG] = "-",
        [TL_OP_COM] = "~",   [TL_OP_GLOB] = "~", [TL_OP_PID] = "pid", [TL_OP_TID] = "tid", [TL_OP_OLD] = "old",
        [TL_OP_NEW] = "new", [TL_OP_REG] = "ip",
    };
    return expr->kind == TL_EXPR_AND ? "&&" : expr->kind == TL_EXPR_OR ? "||" : operators[expr->op];
}

static void print_expr(FILE *out, const struct tl_spec *spec, const struct tl_expr *expr)
{
    switch ((enum tl_expr_kind)expr->kind) {
    case TL_EXPR_NUMBER:
        if (expr->imm < 0 && !expr->is_unsigned) /* no constant is negative, but a folded one may be */
            fprintf(out, "~0x%" PRIx64, (uint64_t)~expr->imm);
        else
            fprintf(out, "0x%" PRIx64 "%s", (uint64_t)expr->imm, expr->is_unsigned ? "ul" : "");
        break;
    case TL_EXPR_SLOT:
    case TL_EXPR_STRING:
        fprintf(out, "%s", spec->args[expr->slot].name);
        break;
    case TL_EXPR_TASK:
    case TL_EXPR_WATCHED:
        fprintf(out, "%s", operator_of(expr));
        break;
    case TL_EXPR_UNARY:
        fprintf(out, "%s", operator_of(expr));
        print_expr(out, spec, expr->left);
        break;
    case TL_EXPR_MATCH:
        fprintf(out, "(%s %s ", spec->args[expr->slot].name, operator_of(expr));
        print_quoted(out, expr->text);
        fputc(')', out);
        break;
    case TL_EXPR_TEXT:
        print_quoted(out, expr->text);
        break;
    case TL_EXPR_BINARY:
    case TL_EXPR_AND:
    case TL_EXPR_OR:
        fputc('(', out);
        print_expr(out, spec, expr->left);
        fprintf(out, " %s ", operator_of(expr));
        print_expr(out, spec, expr->right);
        fputc(')', out);
    }
}

static void print_place(FILE *out, const struct tl_spec *spec)
{
    const char *module = spec->module ? spec->module : "*";
    if (spec->pid || spec->every_entry_offset) {
        char pid[24] = "$target", name[24] = "entry";
        if (spec->pid)
            snprintf(pid, sizeof pid, "%d", spec->pid);
        if (spec->every_entry_offset)
            snprintf(name, sizeof name, "%" PRIx64, spec->offset);
        fprintf(out, "pid%s:%s:%s:%s", pid, module, spec->symbol, spec->is_return ? "return" : name);
        return;
    }
    if (spec->where == TL_WHERE_ADDRESS)
        fprintf(out, "%s:%s:", spec->is_return ? "uretprobe" : "uprobe", module);
    else if (spec->where == TL_WHERE_MODULE_OFFSET)
        fprintf(out, "%s!", module);
    else
        fprintf(out, "p%s%s%s%s %s:", spec->group || spec->event ? ":" : "", spec->group ? spec->group : "",
                spec->group ? "/" : "", spec->event ? spec->event : "", module);
    if (spec->where == TL_WHERE_SYMBOL)
        fprintf(out, "%s+0x%" PRIx64, spec->symbol, spec->offset);
    else
        fprintf(out, "0x%" PRIx64, spec->offset);
    if (spec->is_return && spec->where != TL_WHERE_ADDRESS)
        fprintf(out, "%%return");
}

void print_spec(FILE *out, const struct tl_spec *spec)
{
    print_place(out, spec);
    for (size_t i = 0; i < spec->arg_count; i++) {
        fputc(' ', out);
        print_arg(out, &spec->args[i]);
    }
    if (spec->filter) {
        fprintf(out, " if ");
        print_expr(out, spec, spec->filter->root);
    }
}

static void print_operands(FILE *out, const struct kit_program *program, size_t at)
{
    const struct tl_operation *op = &program->code[at];
    switch (op->op) {
    case TL_OP_IMM:
        fprintf(out, " %" PRId64, op->imm);
        break;
    case TL_OP_REG:
        fprintf(out, " %s", registers[op->a]);
        break;
    case TL_OP_LOAD:
    case TL_OP_SIGN:
    case TL_OP_ZERO:
        fprintf(out, " %u", op->a);
        break;
    case TL_OP_BITS:
        fprintf(out, " %u at %u", op->a, op->b);
        break;
    case TL_OP_ARG:
    case TL_OP_STORE:
        fprintf(out, " slot %u", op->a);
        break;
    case TL_OP_STRING:
        fprintf(out, " slot %u, at most %" PRId64, op->a, op->imm);
        break;
    case TL_OP_STREQ:
    case TL_OP_GLOB:
        fprintf(out, " slot %u ", op->a);
        print_quoted(out, program->strings + op->imm);
        break;
    case TL_OP_JZ:
    case TL_OP_JNZ:
    case TL_OP_JUMP:
        fprintf(out, " to %" PRId64, (int64_t)at + 1 + op->imm);
        break;
    }
}

static void print_program(FILE *out, const struct tl_spec *spec)
{
    struct kit_program program;
    struct tl_error error = {0};
    if (kit_compile(spec, spec->is_return ? &kit_return : &kit_entry, &program, &error)) {
        char complaint[800];
        tl_spec_complain(spec->text, &error, complaint, sizeof complaint);
        fprintf(out, "does not compile:\n%s", complaint);
        return;
    }
    for (size_t i = 0; i < program.program.length; i++) {
        fprintf(out, "  %2zu %s", i, op_names[program.code[i].op]);
        print_operands(out, &program, i);
        fputc('\n', out);
    }
    kit_program_free(&program);
}

void print_listing(FILE *out, const struct tl_spec *spec)
{
    static const char *const wheres[] = {"symbol", "file offset", "address", "module offset"};
    fprintf(out, "means: ");
    print_spec(out, spec);
    fprintf(out, "\ngroup %s, event %s, module %s, symbol %s, offset 0x%" PRIx64 ", by %s%s%s%s",
            spec->group ? spec->group : "-", spec->event ? spec->event : "-", spec->module ? spec->module : "-",
            spec->symbol ? spec->symbol : "-", spec->offset, wheres[spec->where], spec->is_return ? ", return" : "",
            spec->is_glob ? ", glob" : "", spec->every_entry_offset ? ", exact" : "");
    fprintf(out, spec->pid ? ", pid %d\n" : "\n", spec->pid);
    for (size_t i = 0; i < spec->arg_count; i++)
        fprintf(out, "slot %u: %s as %s\n", spec->args[i].slot, spec->args[i].name, shows[spec->args[i].show]);
    print_program(out, spec);
}

void print_outcome(FILE *out, const char *text)
{
    struct tl_spec *spec;
    struct tl_error error = {0};
    if (tl_spec_parse(text, &spec, &error)) {
        char complaint[800];
        tl_spec_complain(text, &error, complaint, sizeof complaint);
        fprintf(out, "%s: column %d\n%s", tl_errno_name(-error.code), error.column, complaint);
        return;
    }
    print_listing(out, spec);
    tl_spec_free(spec);
}
