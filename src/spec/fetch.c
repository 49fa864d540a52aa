/* SPDX-License-Identifier: MIT
 *
 * Fetch arguments as the kernel's uprobe_events writes them, and `$argN`.
 *
 *     ARG  := [NAME '='] EXPR [':' TYPE]
 *     EXPR := '%' REGISTER | '$' WORD | '@' ADDRESS | '\' CONSTANT | ('+' | '-') ['u'] OFFSET '(' EXPR ')'
 *
 * Strings. `+0(%di):string` is the string that begins at that address; and so that nobody has to remember it,
 * `%di:string`, `$arg1:string` and `$retval:string`, which the kernel refuses, are the string that the value points to.
 */
#include "spec/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_expression(struct tl_scan *scan, const struct tl_fetch_place *place, unsigned depth,
                            struct tl_fetch **out);

static void fetch_free(struct tl_fetch *fetch)
{
    while (fetch) {
        struct tl_fetch *inner = fetch->inner;
        free(fetch->name);
        free(fetch);
        fetch = inner;
    }
}

void tl_fetch_arg_free(struct tl_fetch_arg *arg)
{
    free(arg->name);
    free(arg->text);
    fetch_free(arg->fetch);
    *arg = (struct tl_fetch_arg){0};
}

unsigned tl_fetch_loads(const struct tl_fetch *fetch)
{
    unsigned loads = 0;
    bool is_string = fetch->type.show == TL_SHOW_STRING, is_address = fetch->kind == TL_FETCH_DEREF;
    if (is_string && !is_address)
        loads++; /* the value is read, and then the string that it points to */
    for (; fetch; fetch = fetch->inner)
        loads += fetch->kind == TL_FETCH_DEREF || fetch->kind == TL_FETCH_STACK_ENTRY ||
                 (fetch->kind == TL_FETCH_ARGUMENT && fetch->imm > 6);
    return loads;
}

/* A number that a sign may precede, as an offset. */
static int parse_offset(struct tl_scan *scan, bool is_negative, int64_t *offset)
{
    uint64_t value;
    int error = tl_scan_number(scan, "an offset", INT64_MAX, &value);
    if (!error)
        *offset = is_negative ? -(int64_t)value : (int64_t)value;
    return error;
}

static int parse_register(struct tl_scan *scan, struct tl_fetch *fetch)
{
    size_t length = tl_scan_word_length(scan);
    if (!tl_register_find(scan->text + scan->at, length, &fetch->reg))
        return tl_scan_expected(scan, scan->at, "a register such as %%di, %%rdi, %%edi, %%dil, %%r8d or %%flags");
    fetch->kind = TL_FETCH_REGISTER;
    scan->at += length;
    return 0;
}

/* The N behind $stack or $arg. */
static int parse_index(struct tl_scan *scan, const char *what, uint64_t min, uint64_t max, struct tl_fetch *fetch)
{
    uint64_t index;
    size_t column = scan->at;
    int error = tl_scan_number(scan, what, max, &index);
    if (error)
        return error;
    if (index < min)
        return tl_scan_fail(scan, column, -EINVAL, "expected %s of at least %u", what, (unsigned)min);
    fetch->imm = (int64_t)index;
    return 0;
}

static bool take_word(struct tl_scan *scan, const char *word)
{
    size_t length = tl_scan_word_length(scan);
    if (length != strlen(word) || memcmp(scan->text + scan->at, word, length))
        return false;
    scan->at += length;
    return true;
}

static int parse_dollar(struct tl_scan *scan, const struct tl_fetch_place *place, struct tl_fetch *fetch)
{
    size_t column = scan->at - 1;
    if (take_word(scan, "retval")) {
        fetch->kind = TL_FETCH_RETVAL;
        if (!place->is_return)
            return tl_scan_fail(scan, column, -EINVAL,
                                "expected no $retval here: only a return probe (r:, %%return) has it");
        return 0;
    }
    if (take_word(scan, "comm")) {
        fetch->kind = TL_FETCH_COMM;
        return 0;
    }
    if (take_word(scan, "stack")) {
        fetch->kind = TL_FETCH_STACK;
        return 0;
    }
    if (!strncmp(scan->text + scan->at, "stack", 5) && tl_is_digit(scan->text[scan->at + 5])) {
        scan->at += 5;
        fetch->kind = TL_FETCH_STACK_ENTRY;
        return parse_index(scan, "the number of a stack entry", 0, 4095, fetch);
    }
    if (tl_scan_take(scan, "arg")) {
        fetch->kind = TL_FETCH_ARGUMENT;
        if (place->is_return || place->is_inside)
            return tl_scan_fail(scan, column, -EINVAL,
                                "expected no $arg here: arguments are known only at a function's entry");
        return parse_index(scan, "the number of an argument", 1, 255, fetch);
    }
    return tl_scan_expected(scan, scan->at, "$argN, $retval, $stack, $stackN or $comm");
}

static struct tl_fetch *new_fetch(size_t column)
{
    struct tl_fetch *fetch = calloc(1, sizeof *fetch);
    if (fetch)
        fetch->column = column;
    return fetch;
}

/* @ADDR, @+OFFSET, @SYMBOL[+-OFFSET]: the address goes into `inner`, `fetch` reads there. */
static int parse_at(struct tl_scan *scan, struct tl_fetch *fetch)
{
    struct tl_fetch *address = new_fetch(scan->at);
    if (!address)
        return tl_scan_no_memory(scan);
    fetch->kind = TL_FETCH_DEREF;
    fetch->inner = address;
    if (tl_is_digit(tl_scan_peek(scan))) {
        uint64_t value;
        address->kind = TL_FETCH_IMMEDIATE;
        int error = tl_scan_number(scan, "an address", UINT64_MAX, &value);
        if (!error)
            address->imm = (int64_t)value;
        return error;
    }
    if (tl_scan_take(scan, "+")) {
        address->kind = TL_FETCH_FILE_OFFSET;
        return parse_offset(scan, false, &address->imm);
    }
    size_t start = scan->at;
    while (!tl_is_control(tl_scan_peek(scan)) && !strchr(" :()[]+-,\"'\\%=", tl_scan_peek(scan)))
        scan->at++;
    if (scan->at == start)
        return tl_scan_expected(scan, start, "an address, +OFFSET or a variable's name after '@'");
    address->kind = TL_FETCH_VARIABLE;
    address->name = tl_scan_copy(scan, start, scan->at - start);
    if (!address->name)
        return tl_scan_no_memory(scan);
    if (tl_scan_take(scan, "+"))
        return parse_offset(scan, false, &address->imm);
    if (tl_scan_take(scan, "-"))
        return parse_offset(scan, true, &address->imm);
    return 0;
}

static int parse_constant(struct tl_scan *scan, struct tl_fetch *fetch)
{
    if (tl_scan_peek(scan) == '"') {
        fetch->kind = TL_FETCH_TEXT;
        return tl_scan_quoted(scan, &fetch->name);
    }
    fetch->kind = TL_FETCH_IMMEDIATE;
    if (tl_scan_take(scan, "-"))
        return parse_offset(scan, true, &fetch->imm);
    uint64_t value;
    int error = tl_scan_number(scan, "a constant", UINT64_MAX, &value);
    if (!error)
        fetch->imm = (int64_t)value;
    return error;
}

/* The cursor is behind the sign. */
static int parse_deref(struct tl_scan *scan, const struct tl_fetch_place *place, bool is_negative, unsigned depth,
                       struct tl_fetch *fetch)
{
    fetch->kind = TL_FETCH_DEREF;
    tl_scan_take(scan, "u"); /* "user space": the same thing here */
    int error = parse_offset(scan, is_negative, &fetch->imm);
    if (error)
        return error;
    if (!tl_scan_take(scan, "("))
        return tl_scan_expected(scan, scan->at, "'(' and what to dereference");
    if (depth == TL_FETCH_DEPTH)
        return tl_scan_fail(scan, fetch->column, -EINVAL, "expected at most %d dereferences", TL_FETCH_DEPTH);
    error = parse_expression(scan, place, depth + 1, &fetch->inner);
    if (error)
        return error;
    if (fetch->inner->kind == TL_FETCH_COMM || fetch->inner->kind == TL_FETCH_TEXT)
        return tl_scan_fail(scan, fetch->inner->column, -EINVAL, "expected an address to dereference, not a text");
    if (!tl_scan_take(scan, ")"))
        return tl_scan_expected(scan, scan->at, "')'");
    return 0;
}

static int parse_expression(struct tl_scan *scan, const struct tl_fetch_place *place, unsigned depth,
                            struct tl_fetch **out)
{
    struct tl_fetch *fetch = new_fetch(scan->at);
    if (!fetch)
        return tl_scan_no_memory(scan);
    *out = fetch; /* the caller frees it, complete or not */
    if (tl_scan_take(scan, "%"))
        return parse_register(scan, fetch);
    if (tl_scan_take(scan, "$"))
        return parse_dollar(scan, place, fetch);
    if (tl_scan_take(scan, "@"))
        return parse_at(scan, fetch);
    if (tl_scan_take(scan, "\\"))
        return parse_constant(scan, fetch);
    if (tl_scan_take(scan, "+"))
        return parse_deref(scan, place, false, depth, fetch);
    if (tl_scan_take(scan, "-"))
        return parse_deref(scan, place, true, depth, fetch);
    return tl_scan_expected(scan, scan->at,
                            "something to fetch: %%REG, $argN, $retval, $stackN, @ADDR, +OFFSET(…) or \\CONSTANT");
}

static int parse_name(struct tl_scan *scan, size_t index, struct tl_fetch_arg *arg)
{
    size_t start = scan->at, length = tl_scan_word_length(scan);
    if (length && scan->text[start + length] == '=') {
        if (length > TL_ARG_NAME_MAX)
            return tl_scan_fail(scan, start, -EINVAL, "expected a name of at most %d characters", TL_ARG_NAME_MAX);
        arg->name = tl_scan_copy(scan, start, length);
        scan->at += length + 1;
    } else {
        char name[16];
        snprintf(name, sizeof name, "arg%zu", index + 1);
        arg->name = strdup(name);
    }
    return arg->name ? 0 : tl_scan_no_memory(scan);
}

static int parse_type(struct tl_scan *scan, struct tl_fetch *fetch)
{
    bool is_text = fetch->kind == TL_FETCH_COMM || fetch->kind == TL_FETCH_TEXT;
    fetch->type = (struct tl_type){.size = 8, .show = TL_SHOW_HEX};
    if (fetch->kind == TL_FETCH_REGISTER)
        fetch->type.size = fetch->reg.size;
    if (tl_scan_take(scan, ":")) {
        size_t column = scan->at;
        int error = tl_type_parse(scan, &fetch->type);
        if (error)
            return error;
        if (is_text && fetch->type.show != TL_SHOW_STRING)
            return tl_scan_fail(scan, column, -EINVAL, "expected the type string: this is a text");
    }
    if (is_text)
        fetch->type.show = fetch->kind == TL_FETCH_COMM ? TL_SHOW_COMM : TL_SHOW_TEXT;
    return 0;
}

int tl_fetch_arg_parse(struct tl_scan *scan, const struct tl_fetch_place *place, size_t index, struct tl_fetch_arg *arg)
{
    arg->slot = (uint8_t)index;
    int error = parse_name(scan, index, arg);
    if (!error)
        error = parse_expression(scan, place, 0, &arg->fetch);
    if (!error)
        error = parse_type(scan, arg->fetch);
    if (error)
        return error;
    arg->show = arg->fetch->type.show;
    if (arg->show == TL_SHOW_TEXT && !(arg->text = strdup(arg->fetch->name)))
        return tl_scan_no_memory(scan);
    if (tl_scan_peek(scan) && !tl_is_space(tl_scan_peek(scan)))
        return tl_scan_expected(scan, scan->at, "a blank after the argument \"%s\"%s", arg->name,
                                arg->fetch->type.bits || scan->text[scan->at - 1] == ')' ? "" : " or ':' and its type");
    return 0;
}
