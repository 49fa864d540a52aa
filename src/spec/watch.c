/* SPDX-License-Identifier: MIT
 *
 * Watch specs. Names of variables may hold colons, dots, blanks (in template arguments) and slashes (in paths before
 * them), so what stands behind WHERE is taken off from the right, and then what stands before the name.
 */
#include "spec/watch.h"

#include <stdlib.h>
#include <string.h>

#include "spec/filter.h"
#include "spec/watch_filter.h"

enum { SPEC_MAX = 16384, STEPS_MAX = 64, LENGTH_OF_ADDRESSES = 4 };

static const char mem[] = "mem:", watchpoint[] = "watchpoint:", asynchronous[] = "asyncwatchpoint:";

static void symbol_free(struct tl_variable_name *symbol)
{
    for (size_t i = 0; i < symbol->step_count; i++)
        free(symbol->steps[i].name);
    free(symbol->steps);
    free(symbol->scope);
    free(symbol->file);
    free(symbol->name);
    free(symbol->whole);
}

void tl_watch_free(struct tl_watch *watch)
{
    if (!watch)
        return;
    symbol_free(&watch->symbol);
    free(watch->text);
    free(watch->name);
    free(watch);
}

/* The end of a word in which brackets may hold blanks: "(anonymous namespace)::x", "table<int, char>::x". */
static size_t word_end(const struct tl_scan *scan)
{
    size_t at = scan->at, depth = 0;
    for (char c; (c = scan->text[at]) && (depth || !tl_is_space(c)); at++) {
        if (c == '(' || c == '<')
            depth++;
        else if (depth && (c == ')' || (c == '>' && scan->text[at - 1] != '-')))
            depth--;
    }
    return at;
}

/* The last colon in [start, end) that is not half of a "::", and stands in no brackets; or `end`. */
static size_t last_colon(const struct tl_scan *scan, size_t start, size_t end)
{
    size_t depth = 0;
    for (size_t at = end; at > start; at--) {
        char c = scan->text[at - 1];
        if (c == ')' || (c == '>' && at - 1 > start && scan->text[at - 2] != '-'))
            depth++;
        else if (depth && (c == '(' || c == '<'))
            depth--;
        if (c != ':' || depth)
            continue;
        if (at - 1 > start && scan->text[at - 2] == ':')
            at--;
        else
            return at - 1;
    }
    return end;
}

static int copy(struct tl_scan *scan, size_t start, size_t end, char **out)
{
    *out = tl_scan_copy(scan, start, end - start);
    return *out ? 0 : tl_scan_no_memory(scan);
}

static int parse_access(struct tl_scan *scan, size_t end, unsigned *access)
{
    size_t start = scan->at;
    unsigned found = 0;
    for (; scan->at < end; scan->at++) {
        char c = tl_scan_peek(scan);
        unsigned bit = c == 'r' ? TL_WATCH_R : c == 'w' ? TL_WATCH_W : c == 'x' ? TL_WATCH_X : 0;
        if (!bit || found & bit)
            return tl_scan_expected(scan, scan->at, "r, w, rw or x");
        found |= bit;
    }
    if (!found)
        return tl_scan_expected(scan, start, "r, w, rw or x");
    if (found & TL_WATCH_X && found != TL_WATCH_X)
        return tl_scan_fail(scan, start, -EINVAL,
                            "expected x alone: a watch is for execution, or for reads and writes");
    *access = found;
    return 0;
}

static int parse_length(struct tl_scan *scan, size_t end, uint64_t *length)
{
    size_t start = scan->at;
    int error = tl_scan_number(scan, "a length", UINT32_MAX, length);
    if (error)
        return error;
    if (scan->at < end)
        return tl_scan_expected(scan, scan->at, "the end of the length");
    return *length ? 0 : tl_scan_fail(scan, start, -EINVAL, "expected a length of at least 1 byte");
}

/* [/LENGTH][:ACCESS] at the end of [start, *end), which is taken off. A path has slashes, too, and a scope a colon. */
static int parse_mem_tail(struct tl_scan *scan, size_t start, size_t *end, struct tl_watch *watch)
{
    size_t colon = last_colon(scan, start, *end);
    if (colon < *end && strspn(scan->text + colon + 1, "rwx") >= *end - colon - 1) {
        scan->at = colon + 1;
        int error = parse_access(scan, *end, &watch->access);
        if (error)
            return error;
        *end = colon;
    }
    for (size_t at = *end; at > start && scan->text[at - 1] != ':'; at--) {
        if (scan->text[at - 1] != '/')
            continue;
        scan->at = at;
        int error = parse_length(scan, *end, &watch->length);
        *end = at - 1;
        return error;
    }
    return 0;
}

/* :LENGTH:ACCESS at the end. */
static int parse_watchpoint_tail(struct tl_scan *scan, size_t start, size_t *end, struct tl_watch *watch)
{
    size_t access = last_colon(scan, start, *end);
    size_t length = access < *end ? last_colon(scan, start, access) : access;
    if (length == access)
        return tl_scan_expected(scan, *end, "watchpoint:ADDRESS:LENGTH:ACCESS, such as watchpoint:counter:4:w");
    scan->at = access + 1;
    int error = parse_access(scan, *end, &watch->access);
    scan->at = length + 1;
    if (!error)
        error = parse_length(scan, access, &watch->length);
    *end = length;
    return error;
}

static bool is_name(char c)
{
    return tl_is_word(c) || c == '$' || c == '/' || (unsigned char)c >= 0x80;
}

/* Over NAME, up to its path: identifiers with :: between them, brackets with anything, and numbers behind dots, as
 * compilers append them. */
static void skip_name(struct tl_scan *scan, size_t end)
{
    size_t depth = 0;
    while (scan->at < end) {
        const char *text = scan->text + scan->at;
        if (*text == '(' || *text == '<')
            depth++;
        else if (depth && (*text == ')' || *text == '>'))
            depth--;
        else if (!depth && !is_name(*text) && *text != ':' && *text != '~' && !(*text == '.' && tl_is_digit(text[1])))
            return;
        scan->at++;
    }
}

static int parse_step(struct tl_scan *scan, size_t end, struct tl_step *step)
{
    static const char pointer[] = "expected a path that follows no pointer: what it points to now, it need not point "
                                  "to later; watch that address";
    step->column = scan->at;
    if (tl_scan_take(scan, "[")) {
        step->kind = TL_STEP_ELEMENT;
        int error = tl_scan_number(scan, "an element's number", INT64_MAX, &step->index);
        if (!error && !tl_scan_take(scan, "]"))
            error = tl_scan_expected(scan, scan->at, "a closing ']'");
        return error;
    }
    if (tl_scan_take(scan, "->"))
        return tl_scan_fail(scan, step->column, -ENOTSUP, pointer);
    if (!tl_scan_take(scan, "."))
        return tl_scan_expected(scan, scan->at, "a path such as .member or [3], +OFFSET, or the end");
    size_t start = scan->at;
    while (scan->at < end && is_name(tl_scan_peek(scan)))
        scan->at++;
    if (scan->at == start || tl_is_digit(scan->text[start]))
        return tl_scan_expected(scan, start, "the name of a member");
    step->kind = TL_STEP_MEMBER;
    return copy(scan, start, scan->at, &step->name);
}

static int parse_steps(struct tl_scan *scan, size_t end, struct tl_variable_name *symbol)
{
    while (scan->at < end && tl_scan_peek(scan) != '+') {
        if (symbol->step_count == STEPS_MAX)
            return tl_scan_fail(scan, scan->at, -EINVAL, "expected a path of at most %d steps", STEPS_MAX);
        struct tl_step *steps = realloc(symbol->steps, (symbol->step_count + 1) * sizeof *steps);
        if (!steps)
            return tl_scan_no_memory(scan);
        symbol->steps = steps;
        steps[symbol->step_count] = (struct tl_step){0};
        int error = parse_step(scan, end, &steps[symbol->step_count++]);
        if (error)
            return error;
    }
    return 0;
}

static int parse_scope(struct tl_scan *scan, size_t start, size_t end, struct tl_variable_name *symbol)
{
    size_t colon = last_colon(scan, start, end);
    symbol->scope_column = start;
    if (colon == start || start == end || colon + 1 == end)
        return tl_scan_expected(scan, colon + 1 == end ? end : start, "a file, or a library's name, before the ':'");
    int error = copy(scan, start, colon, &symbol->scope);
    return error || colon == end ? error : copy(scan, colon + 1, end, &symbol->file);
}

/* [SCOPE:][FILE:]NAME[STEPS][+OFFSET] */
static int parse_symbol(struct tl_scan *scan, size_t end, struct tl_watch *watch)
{
    struct tl_variable_name *symbol = &watch->symbol;
    size_t start = scan->at, colon = last_colon(scan, start, end);
    if (colon < end) {
        int error = parse_scope(scan, start, colon, symbol);
        if (error)
            return error;
        start = colon + 1;
    }
    scan->at = symbol->column = start;
    if (start < end && (tl_scan_peek(scan) == '*' || tl_scan_peek(scan) == '&'))
        return tl_scan_fail(scan, start, -ENOTSUP,
                            "expected a variable's name: expressions are not supported, but for members and elements");
    if (start < end && tl_scan_peek(scan) == '/')
        return tl_scan_expected(scan, end, "':' and a variable's name after the path");
    skip_name(scan, end);
    if (scan->at == start || tl_is_digit(scan->text[start]))
        return tl_scan_expected(scan, start, "a variable's name or an address (0x…)");
    size_t name_end = scan->at;
    int error = copy(scan, start, name_end, &symbol->name);
    if (!error)
        error = parse_steps(scan, end, symbol);
    if (!error)
        error = copy(scan, start, scan->at, &symbol->whole);
    if (error || scan->at == end)
        return error;
    scan->at++; /* the + */
    error = tl_scan_number(scan, "an offset", INT64_MAX, &watch->offset);
    return !error && scan->at < end ? tl_scan_expected(scan, scan->at, "the end of the offset") : error;
}

static int parse_address(struct tl_scan *scan, size_t end, struct tl_watch *watch)
{
    watch->is_address = true;
    int error = tl_scan_number(scan, "an address", UINT64_MAX, &watch->addr);
    if (!error && scan->at < end)
        error = tl_scan_expected(scan, scan->at, "the end of the address");
    return error;
}

static int parse_where(struct tl_scan *scan, struct tl_watch *watch)
{
    size_t end = word_end(scan), word = end;
    int error = 0;
    if (!strncmp(scan->text + scan->at, asynchronous, strlen(asynchronous)))
        return tl_scan_fail(scan, scan->at, -ENOTSUP, "expected watchpoint: here; asyncwatchpoint is not supported");
    watch->access = TL_WATCH_W;
    if (tl_scan_take(scan, mem)) {
        watch->column = scan->at;
        error = parse_mem_tail(scan, watch->column, &end, watch);
    } else if (tl_scan_take(scan, watchpoint)) {
        watch->column = scan->at;
        error = parse_watchpoint_tail(scan, watch->column, &end, watch);
    } else {
        watch->column = scan->at;
    }
    if (error)
        return error;
    scan->at = watch->column;
    if (scan->at == end)
        return tl_scan_expected(scan, end, "a variable's name or an address");
    watch->symbol.or_function = watch->access == TL_WATCH_X;
    error = tl_is_digit(tl_scan_peek(scan)) && last_colon(scan, scan->at, end) == end ? parse_address(scan, end, watch)
                                                                                      : parse_symbol(scan, end, watch);
    if (error)
        return error;
    scan->at = word;
    if (watch->access == TL_WATCH_X)
        watch->length = 0;
    else if (watch->is_address && !watch->length)
        watch->length = LENGTH_OF_ADDRESSES;
    return copy(scan, watch->column, end, &watch->name);
}

static int parse_watch(struct tl_scan *scan, struct tl_watch *watch)
{
    tl_scan_spaces(scan);
    int error = parse_where(scan, watch);
    if (error)
        return error;
    tl_scan_spaces(scan);
    if (!tl_scan_peek(scan))
        return 0;
    if (!tl_scan_at_filter(scan))
        return tl_scan_expected(scan, scan->at, "a filter (if EXPR) or the end");
    scan->at += strlen("if");
    tl_scan_spaces(scan);
    watch->filter_column = scan->at;
    return tl_watch_filter_check(watch, scan->error);
}

int tl_watch_parse(const char *text, struct tl_watch **out, struct tl_error *error)
{
    struct tl_scan scan = {.text = text, .error = error};
    *out = NULL;
    if (strnlen(text, SPEC_MAX + 1) > SPEC_MAX)
        return tl_scan_fail(&scan, SPEC_MAX, -EINVAL, "expected a spec of at most %d bytes", SPEC_MAX);
    struct tl_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return tl_scan_no_memory(&scan);
    watch->text = strdup(text);
    int result = watch->text ? parse_watch(&scan, watch) : tl_scan_no_memory(&scan);
    if (result) {
        tl_watch_free(watch);
        return result;
    }
    *out = watch;
    return 0;
}
