/* SPDX-License-Identifier: MIT
 *
 * The expression parser: precedence climbing over the binary operators of C, types checked on the way up.
 *
 * Every node owns its children; a node that is under way is always reachable from what the caller frees, so a failure
 * anywhere needs no clean-up of its own.
 */
#include "spec/filter.h"

#include <stdlib.h>
#include <string.h>

struct parser {
    struct tl_scan *scan;
    const struct tl_names *names;
    unsigned depth;
};

/* What decides the operation's sign: both operands, the left one only (shifts), or nothing. */
enum sign_rule { SIGN_BOTH, SIGN_LEFT, SIGN_RESULT_INT };

/* Longer spellings before their own prefixes. */
static const struct binary {
    const char *text;
    uint8_t precedence;
    uint8_t kind; /* enum tl_expr_kind */
    uint8_t op, unsigned_op;
    uint8_t sign;
} binaries[] = {
    {"||", 1, TL_EXPR_OR, 0, 0, SIGN_RESULT_INT},
    {"&&", 2, TL_EXPR_AND, 0, 0, SIGN_RESULT_INT},
    {"|", 3, TL_EXPR_BINARY, TL_OP_OR, TL_OP_OR, SIGN_BOTH},
    {"^", 4, TL_EXPR_BINARY, TL_OP_XOR, TL_OP_XOR, SIGN_BOTH},
    {"&", 5, TL_EXPR_BINARY, TL_OP_AND, TL_OP_AND, SIGN_BOTH},
    {"==", 6, TL_EXPR_BINARY, TL_OP_EQ, TL_OP_EQ, SIGN_RESULT_INT},
    {"!=", 6, TL_EXPR_BINARY, TL_OP_NE, TL_OP_NE, SIGN_RESULT_INT},
    {"~", 6, TL_EXPR_MATCH, TL_OP_GLOB, TL_OP_GLOB, SIGN_RESULT_INT},
    {"<<", 8, TL_EXPR_BINARY, TL_OP_SHL, TL_OP_SHL, SIGN_LEFT},
    {">>", 8, TL_EXPR_BINARY, TL_OP_SAR, TL_OP_SHR, SIGN_LEFT},
    {"<=", 7, TL_EXPR_BINARY, TL_OP_LE, TL_OP_ULE, SIGN_RESULT_INT},
    {">=", 7, TL_EXPR_BINARY, TL_OP_GE, TL_OP_UGE, SIGN_RESULT_INT},
    {"<", 7, TL_EXPR_BINARY, TL_OP_LT, TL_OP_ULT, SIGN_RESULT_INT},
    {">", 7, TL_EXPR_BINARY, TL_OP_GT, TL_OP_UGT, SIGN_RESULT_INT},
    {"+", 9, TL_EXPR_BINARY, TL_OP_ADD, TL_OP_ADD, SIGN_BOTH},
    {"-", 9, TL_EXPR_BINARY, TL_OP_SUB, TL_OP_SUB, SIGN_BOTH},
    {"*", 10, TL_EXPR_BINARY, TL_OP_MUL, TL_OP_MUL, SIGN_BOTH},
    {"/", 10, TL_EXPR_BINARY, TL_OP_DIV, TL_OP_UDIV, SIGN_BOTH},
    {"%", 10, TL_EXPR_BINARY, TL_OP_MOD, TL_OP_UMOD, SIGN_BOTH},
};

static int parse_unary(struct parser *parser, struct tl_expr **out);
static int parse_binary(struct parser *parser, unsigned min_precedence, struct tl_expr **out);

static void expr_free(struct tl_expr *expr)
{
    if (!expr)
        return;
    expr_free(expr->left);
    expr_free(expr->right);
    free(expr->text);
    free(expr);
}

void tl_filter_free(struct tl_filter *filter)
{
    if (filter)
        expr_free(filter->root);
    free(filter);
}

static struct tl_expr *new_expr(struct tl_expr **out, enum tl_expr_kind kind, size_t column)
{
    struct tl_expr *expr = calloc(1, sizeof *expr);
    if (expr) {
        expr->kind = (uint8_t)kind;
        expr->column = column;
        expr->stack = 1;
    }
    return *out = expr;
}

static bool is_string(const struct tl_expr *expr)
{
    return expr->kind == TL_EXPR_STRING || expr->kind == TL_EXPR_TEXT;
}

static int expect_number(const struct parser *parser, const struct tl_expr *expr)
{
    return is_string(expr) ? tl_scan_fail(parser->scan, expr->column, -EINVAL,
                                          "expected a number here: a string can only be compared, with ==, != or ~")
                           : 0;
}

static int parse_number(struct parser *parser, struct tl_expr *expr)
{
    struct tl_scan *scan = parser->scan;
    uint64_t value;
    if (tl_scan_peek(scan) == '\'') {
        int error = tl_scan_character(scan, &value);
        if (!error)
            expr->imm = (int64_t)value;
        return error;
    }
    int error = tl_scan_number(scan, "a number", UINT64_MAX, &value);
    if (error)
        return error;
    expr->imm = (int64_t)value;
    size_t start = scan->at, length = tl_scan_word_length(scan), longs = 0, unsigneds = 0;
    for (size_t i = 0; i < length; i++) {
        char c = (char)(scan->text[start + i] | 0x20);
        longs += c == 'l';
        unsigneds += c == 'u';
    }
    if (longs > 2 || unsigneds > 1 || longs + unsigneds < length)
        return tl_scan_expected(scan, start, "the end of the number");
    /* 5u is only 32 bits wide, so that it becomes a signed number of 64. */
    expr->is_unsigned = value > INT64_MAX || (unsigneds && (longs || value > UINT32_MAX));
    scan->at += length;
    return 0;
}

static int parse_name(struct parser *parser, struct tl_expr *expr)
{
    struct tl_scan *scan = parser->scan;
    size_t length = tl_scan_word_length(scan);
    struct tl_name name = {0};
    const char *why = NULL;
    int error = parser->names->find(parser->names->context, scan->text + scan->at, length, &name, &why);
    if (error == -ENOTSUP)
        return tl_scan_fail(scan, scan->at, -EINVAL, "%s", why);
    if (error)
        return tl_scan_expected(scan, scan->at, "%s", parser->names->known);
    scan->at += length;
    expr->is_unsigned = name.is_unsigned;
    switch (name.kind) {
    case TL_NAME_PID:
    case TL_NAME_TID:
        expr->kind = TL_EXPR_TASK;
        expr->op = name.kind == TL_NAME_PID ? TL_OP_PID : TL_OP_TID;
        return 0;
    case TL_NAME_IP:
        expr->kind = TL_EXPR_TASK;
        expr->op = TL_OP_REG;
        expr->slot = TL_RIP;
        return 0;
    case TL_NAME_OLD:
    case TL_NAME_NEW:
        expr->kind = TL_EXPR_WATCHED;
        expr->op = name.kind == TL_NAME_OLD ? TL_OP_OLD : TL_OP_NEW;
        expr->field = name.field;
        expr->stack = name.field.bits ? 2 : 1;
        return 0;
    case TL_NAME_CONSTANT:
        expr->imm = name.imm;
        return 0;
    case TL_NAME_STRING:
        expr->kind = TL_EXPR_STRING;
        break;
    default:
        expr->kind = TL_EXPR_SLOT;
    }
    expr->slot = name.slot;
    expr->slots = 1u << name.slot;
    return 0;
}

static int expected_operator(const struct parser *parser, const char *what)
{
    const struct tl_scan *scan = parser->scan;
    return tl_scan_peek(scan) == '=' ? tl_scan_fail(scan, scan->at, -EINVAL, "expected == to compare, not '='")
                                     : tl_scan_expected(scan, scan->at, "%s", what);
}

static int parse_parentheses(struct parser *parser, struct tl_expr **out)
{
    struct tl_scan *scan = parser->scan;
    size_t open = scan->at++;
    int error = parse_binary(parser, 1, out);
    if (error)
        return error;
    if (!tl_scan_peek(scan))
        return tl_scan_fail(scan, open, -EINVAL, "expected a closing ')' for this one");
    return tl_scan_take(scan, ")") ? 0 : expected_operator(parser, "an operator or ')'");
}

/* A constant is negated here, not on each hit. */
static void fold(enum tl_op op, struct tl_expr *expr)
{
    struct tl_expr *left = expr->left;
    if (left->kind != TL_EXPR_NUMBER)
        return;
    uint64_t value = (uint64_t)left->imm;
    expr->imm = (int64_t)(op == TL_OP_NOT ? !value : op == TL_OP_NEG ? 0 - value : ~value);
    expr->kind = TL_EXPR_NUMBER;
    expr->op = 0;
    expr_free(left);
    expr->left = NULL;
}

static int parse_operator(struct parser *parser, enum tl_op op, struct tl_expr **out)
{
    struct tl_expr *expr = new_expr(out, TL_EXPR_UNARY, parser->scan->at++);
    if (!expr)
        return tl_scan_no_memory(parser->scan);
    expr->op = (uint8_t)op;
    int error = parse_unary(parser, &expr->left);
    if (!error)
        error = expect_number(parser, expr->left);
    if (error)
        return error;
    expr->is_unsigned = op != TL_OP_NOT && expr->left->is_unsigned;
    expr->stack = expr->left->stack;
    expr->slots = expr->left->slots;
    fold(op, expr);
    return 0;
}

static int parse_plus(struct parser *parser, struct tl_expr **out)
{
    parser->scan->at++;
    int error = parse_unary(parser, out);
    return error ? error : expect_number(parser, *out);
}

static int parse_operand(struct parser *parser, struct tl_expr **out)
{
    struct tl_scan *scan = parser->scan;
    char c = tl_scan_peek(scan);
    switch (c) {
    case '(':
        return parse_parentheses(parser, out);
    case '!':
        return parse_operator(parser, TL_OP_NOT, out);
    case '-':
        return parse_operator(parser, TL_OP_NEG, out);
    case '~':
        return parse_operator(parser, TL_OP_COM, out);
    case '+':
        return parse_plus(parser, out);
    }
    struct tl_expr *expr = new_expr(out, TL_EXPR_NUMBER, scan->at);
    if (!expr)
        return tl_scan_no_memory(scan);
    if (c == '"') {
        expr->kind = TL_EXPR_TEXT;
        return tl_scan_quoted(scan, &expr->text);
    }
    if (tl_is_digit(c) || c == '\'')
        return parse_number(parser, expr);
    if (tl_is_word_start(c))
        return parse_name(parser, expr);
    if (c && strchr("$%@", c))
        return tl_scan_expected(scan, scan->at,
                                "%s; what the filter needs is fetched and named before it, as in NAME=$arg1",
                                parser->names->known);
    return tl_scan_expected(scan, scan->at, "a number, a string, '(' or %s", parser->names->known);
}

static int parse_unary(struct parser *parser, struct tl_expr **out)
{
    tl_scan_spaces(parser->scan);
    if (++parser->depth > TL_FILTER_DEPTH)
        return tl_scan_fail(parser->scan, parser->scan->at, -EINVAL, "expected an expression nested at most %d deep",
                            TL_FILTER_DEPTH);
    int error = parse_operand(parser, out);
    parser->depth--;
    return error;
}

static const struct binary *find_binary(const struct tl_scan *scan)
{
    const char *text = scan->text + scan->at;
    for (size_t i = 0; i < sizeof binaries / sizeof *binaries; i++)
        if (!strncmp(text, binaries[i].text, strlen(binaries[i].text)))
            return &binaries[i];
    return NULL;
}

/* A string against a constant: the node takes over what it needs and drops its children. */
static int make_match(struct parser *parser, const struct binary *binary, struct tl_expr *expr)
{
    struct tl_expr *string = expr->left, *text = expr->right;
    if (binary->op != TL_OP_GLOB && string->kind == TL_EXPR_TEXT) {
        string = expr->right;
        text = expr->left;
    }
    if (!is_string(string) && binary->op == TL_OP_GLOB)
        return tl_scan_fail(parser->scan, string->column, -EINVAL,
                            "expected an argument of type string on the left of ~");
    if (binary->op != TL_OP_EQ && binary->op != TL_OP_NE && binary->op != TL_OP_GLOB)
        return expect_number(parser, is_string(expr->left) ? expr->left : expr->right);
    if (string->kind != TL_EXPR_STRING)
        return tl_scan_fail(parser->scan, string->column, -EINVAL,
                            "expected an argument of type string to compare with the constant");
    if (text->kind != TL_EXPR_TEXT)
        return tl_scan_fail(parser->scan, text->column, -EINVAL, "expected a string in double quotes to compare with");
    expr->kind = TL_EXPR_MATCH;
    expr->op = binary->op;
    expr->slot = string->slot;
    expr->slots = string->slots;
    expr->stack = 2;
    expr->text = text->text;
    text->text = NULL;
    expr_free(expr->left);
    expr_free(expr->right);
    expr->left = expr->right = NULL;
    return 0;
}

/* Both operands are there: check and type the operation. */
static int finish_binary(struct parser *parser, const struct binary *binary, struct tl_expr *expr)
{
    struct tl_expr *left = expr->left, *right = expr->right;
    if (binary->kind == TL_EXPR_MATCH || is_string(left) || is_string(right))
        return make_match(parser, binary, expr);
    bool is_unsigned = left->is_unsigned || (binary->sign != SIGN_LEFT && right->is_unsigned);
    bool is_constant = right->kind == TL_EXPR_NUMBER;
    if (is_constant && binary->sign == SIGN_LEFT && (right->imm < 0 || right->imm > 63))
        return tl_scan_fail(parser->scan, right->column, -EINVAL, "expected a shift by 0 to 63 bits");
    if (is_constant && !right->imm && (binary->op == TL_OP_DIV || binary->op == TL_OP_MOD))
        return tl_scan_fail(parser->scan, right->column, -EINVAL, "expected a divisor that is not zero");
    unsigned right_stack = right->stack + (binary->kind == TL_EXPR_BINARY ? 1u : 0u);
    expr->op = is_unsigned ? binary->unsigned_op : binary->op;
    expr->is_unsigned = is_unsigned && binary->sign != SIGN_RESULT_INT;
    expr->slots = left->slots | right->slots;
    expr->stack = (uint8_t)(left->stack > right_stack ? left->stack : right_stack);
    if (expr->stack > TL_PROGRAM_STACK)
        return tl_scan_fail(parser->scan, right->column, -EINVAL,
                            "expected a simpler expression: this one is nested too deeply to evaluate");
    return 0;
}

static int parse_binary(struct parser *parser, unsigned min_precedence, struct tl_expr **out)
{
    struct tl_scan *scan = parser->scan;
    int error = parse_unary(parser, out);
    while (!error) {
        tl_scan_spaces(scan);
        const struct binary *binary = find_binary(scan);
        if (!binary || binary->precedence < min_precedence)
            break;
        struct tl_expr *left = *out, *expr = new_expr(out, (enum tl_expr_kind)binary->kind, scan->at);
        if (!expr) {
            *out = left;
            return tl_scan_no_memory(scan);
        }
        expr->left = left;
        scan->at += strlen(binary->text);
        error = parse_binary(parser, binary->precedence + 1u, &expr->right);
        if (!error)
            error = finish_binary(parser, binary, expr);
    }
    return error;
}

int tl_filter_parse(struct tl_scan *scan, const struct tl_names *names, struct tl_filter **filter)
{
    struct parser parser = {.scan = scan, .names = names};
    *filter = calloc(1, sizeof **filter);
    if (!*filter)
        return tl_scan_no_memory(scan);
    int error = parse_binary(&parser, 1, &(*filter)->root);
    if (!error)
        error = expect_number(&parser, (*filter)->root);
    if (!error && tl_scan_peek(scan))
        error = expected_operator(&parser, "an operator or the end of the filter");
    if (error) {
        tl_filter_free(*filter);
        *filter = NULL;
    }
    return error;
}
