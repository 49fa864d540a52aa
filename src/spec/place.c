/* SPDX-License-Identifier: MIT
 *
 * What all grammars of probes have in common: modules, and places in them.
 */
#include "spec/grammar.h"

#include <string.h>

enum { MODULE_MAX = 4095 };

size_t tl_find_last(const struct tl_scan *scan, size_t start, size_t end, char c)
{
    for (size_t at = end; at > start; at--)
        if (scan->text[at - 1] == c)
            return at - 1;
    return end;
}

/* Bytes that no path and no symbol has, but that typing errors have. */
static int check_bytes(const struct tl_scan *scan, size_t start, size_t end, const char *forbidden, const char *what)
{
    for (size_t at = start; at < end; at++) {
        char c = scan->text[at];
        if (c == ',')
            return tl_scan_fail(scan, at, -EINVAL, "expected one %s: write a spec of its own for each", what);
        if (tl_is_control(c) || strchr(forbidden, c))
            return tl_scan_expected(scan, at, "a %s", what);
    }
    return 0;
}

int tl_parse_module(struct tl_scan *scan, size_t start, size_t end, const char *what, struct tl_spec *spec)
{
    if (start == end)
        return tl_scan_expected(scan, start, "%s", what);
    if (end - start > MODULE_MAX)
        return tl_scan_fail(scan, start, -EINVAL, "expected a path of at most %d bytes", MODULE_MAX);
    for (size_t at = start; at < end; at++)
        if (tl_is_control(scan->text[at]))
            return tl_scan_expected(scan, at, "%s", what);
    if (end - start == 1 && scan->text[start] == '*')
        return 0;
    spec->module = tl_scan_copy(scan, start, end - start);
    return spec->module ? 0 : tl_scan_no_memory(scan);
}

int tl_parse_symbol(struct tl_scan *scan, size_t start, size_t end, struct tl_spec *spec)
{
    if (start == end)
        return tl_scan_expected(scan, start, "a function's name");
    int error = check_bytes(scan, start, end, "\"'=;{}|%", "function's name");
    if (error)
        return error;
    spec->where = TL_WHERE_SYMBOL;
    spec->symbol = tl_scan_copy(scan, start, end - start);
    if (!spec->symbol)
        return tl_scan_no_memory(scan);
    spec->is_glob = strpbrk(spec->symbol, "*?[") != NULL;
    return 0;
}

/* A number that ends at `end`. */
static int parse_whole_number(struct tl_scan *scan, size_t end, const char *what, uint64_t *value)
{
    int error = tl_scan_number(scan, what, INT64_MAX, value);
    if (!error && scan->at < end)
        error = tl_scan_expected(scan, scan->at, "the end of %s", what);
    return error;
}

static int parse_number_or_symbol(struct tl_scan *scan, size_t end, int number_is, struct tl_spec *spec)
{
    size_t start = scan->at;
    if (start < end && tl_is_digit(tl_scan_peek(scan)) && number_is != TL_NO_NUMBER) {
        spec->where = (uint8_t)number_is;
        size_t counter = tl_find_last(scan, start, end, '(');
        if (counter < end)
            return tl_scan_fail(scan, counter, -ENOTSUP,
                                "expected no reference counter (semaphore): they are not supported");
        return parse_whole_number(scan, end, "an offset", &spec->offset);
    }
    size_t plus = tl_find_last(scan, start, end, '+');
    if (start < end && tl_is_digit(tl_scan_peek(scan)))
        return tl_scan_expected(scan, start, "a function's name (an address needs its file: EXE!0x…)");
    int error = tl_parse_symbol(scan, start, plus, spec);
    scan->at = end;
    if (error || plus == end)
        return error;
    scan->at = plus + 1;
    return parse_whole_number(scan, end, "an offset", &spec->offset);
}

int tl_parse_place(struct tl_scan *scan, size_t end, int number_is, bool may_return, struct tl_spec *spec)
{
    size_t start = scan->at, percent = tl_find_last(scan, start, end, '%');
    if (percent < end && may_return) {
        static const char suffix[] = "%return";
        if (end - percent != strlen(suffix) || memcmp(scan->text + percent, suffix, strlen(suffix)))
            return tl_scan_expected(scan, percent + 1, "return after '%%'");
        spec->is_return = true;
    } else {
        percent = end;
    }
    int error = parse_number_or_symbol(scan, percent, number_is, spec);
    if (error)
        return error;
    if (spec->is_return && spec->where == TL_WHERE_SYMBOL && spec->offset)
        return tl_scan_fail(scan, tl_find_last(scan, start, end, '+'), -EINVAL,
                            "expected no offset: a return probe is of a whole function");
    scan->at = end;
    return 0;
}
