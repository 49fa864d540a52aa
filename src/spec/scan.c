/* SPDX-License-Identifier: MIT */
#include "spec/scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hit/program.h"

bool tl_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool tl_is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool tl_is_word(char c)
{
    return tl_is_word_start(c) || tl_is_digit(c);
}

bool tl_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool tl_is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

bool tl_scan_spaces(struct tl_scan *scan)
{
    size_t start = scan->at;
    while (tl_is_space(tl_scan_peek(scan)))
        scan->at++;
    return scan->at > start;
}

bool tl_scan_take(struct tl_scan *scan, const char *text)
{
    size_t length = strlen(text);
    if (strncmp(scan->text + scan->at, text, length))
        return false;
    scan->at += length;
    return true;
}

size_t tl_scan_word_length(const struct tl_scan *scan)
{
    const char *start = scan->text + scan->at;
    size_t length = 0;
    if (tl_is_word_start(*start))
        while (tl_is_word(start[length]))
            length++;
    return length;
}

bool tl_scan_at_filter(const struct tl_scan *scan)
{
    const char *text = scan->text + scan->at;
    return !strncmp(text, "if", 2) && (!text[2] || text[2] == '(' || tl_is_space(text[2]));
}

size_t tl_scan_run_length(const struct tl_scan *scan)
{
    const char *start = scan->text + scan->at;
    size_t length = 0;
    while (start[length] && !tl_is_space(start[length]))
        length++;
    return length;
}

char *tl_scan_copy(const struct tl_scan *scan, size_t start, size_t length)
{
    return strndup(scan->text + start, length);
}

/* The value of a digit in any base up to 36; larger for everything else. */
static unsigned digit_value(char c)
{
    if (tl_is_digit(c))
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A') + 10;
    return 99;
}

int tl_scan_number(struct tl_scan *scan, const char *what, uint64_t max, uint64_t *value)
{
    size_t start = scan->at;
    const char *text = scan->text;
    if (!tl_is_digit(text[start]))
        return tl_scan_expected(scan, start, "%s (a number)", what);
    unsigned base = 10;
    if (text[start] == '0' && (text[start + 1] | 0x20) == 'x')
        base = 16;
    else if (text[start] == '0' && (text[start + 1] | 0x20) == 'b')
        base = 2;
    else if (text[start] == '0')
        base = 8;
    size_t at = start + (base == 16 || base == 2 ? 2 : 0);
    size_t first = at;
    uint64_t total = 0;
    bool too_large = false;
    for (; digit_value(text[at]) < base; at++)
        too_large |= __builtin_mul_overflow(total, (uint64_t)base, &total) ||
                     __builtin_add_overflow(total, (uint64_t)digit_value(text[at]), &total);
    if (at == first || tl_is_digit(text[at]))
        return tl_scan_expected(scan, at, "a digit of a number in base %u", base);
    if (too_large)
        return tl_scan_fail(scan, start, -EINVAL, "expected %s of at most 64 bits", what);
    if (total > max)
        return tl_scan_fail(scan, start, -EINVAL, "expected %s of at most %llu", what, (unsigned long long)max);
    scan->at = at;
    *value = total;
    return 0;
}

/* One character of a constant, an escape sequence undone. */
static int scan_escaped(struct tl_scan *scan, unsigned char *out)
{
    static const char names[] = "abfnrtv\\\"'?e", values[] = "\a\b\f\n\r\t\v\\\"'?\033";
    const char *text = scan->text;
    size_t start = scan->at;
    if (text[scan->at] != '\\') {
        *out = (unsigned char)text[scan->at++];
        return 0;
    }
    char c = text[++scan->at];
    const char *name = c ? strchr(names, c) : NULL;
    unsigned value = 0, digits = 0, base = c == 'x' ? 16 : 8;
    if (name) {
        scan->at++;
        *out = (unsigned char)values[name - names];
        return 0;
    }
    if (c == 'x')
        scan->at++;
    for (; digits < (base == 16 ? 2 : 3) && digit_value(text[scan->at]) < base; digits++)
        value = value * base + digit_value(text[scan->at++]);
    if (!digits)
        return tl_scan_expected(
            scan, scan->at, c == 'x' ? "a hexadecimal digit" : "an escape sequence of C such as \\n, \\\" or \\x41");
    if (value > 255)
        return tl_scan_fail(scan, start, -EINVAL, "expected an escape sequence of at most \\377");
    *out = (unsigned char)value;
    return 0;
}

int tl_scan_quoted(struct tl_scan *scan, char **text)
{
    size_t start = scan->at;
    if (tl_scan_peek(scan) != '"')
        return tl_scan_expected(scan, start, "a string in double quotes");
    char out[TL_STRING_MAX + 1];
    size_t length = 0;
    for (scan->at++; tl_scan_peek(scan) != '"'; length++) {
        size_t column = scan->at;
        unsigned char c;
        if (!tl_scan_peek(scan))
            return tl_scan_fail(scan, start, -EINVAL, "expected a closing '\"' for this one");
        int error = scan_escaped(scan, &c);
        if (error)
            return error;
        if (!c)
            return tl_scan_fail(scan, column, -EINVAL, "expected a string without a zero byte: strings end there");
        if (length == TL_STRING_MAX)
            return tl_scan_fail(scan, column, -EINVAL, "expected a string of at most %d bytes: no more is fetched",
                                TL_STRING_MAX);
        out[length] = (char)c;
    }
    scan->at++;
    *text = strndup(out, length);
    return *text ? 0 : tl_scan_no_memory(scan);
}

int tl_scan_character(struct tl_scan *scan, uint64_t *value)
{
    unsigned char c;
    scan->at++;
    if (!tl_scan_peek(scan) || tl_scan_peek(scan) == '\'')
        return tl_scan_expected(scan, scan->at, "a character");
    int error = scan_escaped(scan, &c);
    if (error)
        return error;
    if (tl_scan_peek(scan) != '\'')
        return tl_scan_expected(scan, scan->at, "a closing ' after one character");
    scan->at++;
    *value = (uint64_t)(int64_t)(signed char)c; /* char is signed on this machine */
    return 0;
}

/* What stands at a column, fit for a message whatever the bytes are. */
static void describe(const char *text, char *out, size_t size)
{
    if (!*text) {
        snprintf(out, size, "but the spec ends here");
        return;
    }
    size_t length = 0;
    while (length < 24 && tl_is_word(text[length]))
        length++;
    bool is_cut = length == 24 && tl_is_word(text[length]);
    if (length) {
        snprintf(out, size, "not \"%.*s%s\"", (int)length, text, is_cut ? "…" : "");
    } else if (*text == ' ') {
        snprintf(out, size, "not a space");
    } else if ((unsigned char)*text >= 0x20 && (unsigned char)*text < 0x7f) {
        snprintf(out, size, "not '%c'", *text);
    } else {
        snprintf(out, size, "not the byte 0x%02x", (unsigned)(unsigned char)*text);
    }
}

static void fill(const struct tl_scan *scan, size_t column, int code, const char *text)
{
    tl_fail(scan->error, code, "%s", text);
    if (scan->error)
        scan->error->column = (int)column;
}

int tl_scan_fail(const struct tl_scan *scan, size_t column, int code, const char *format, ...)
{
    char text[sizeof scan->error->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fill(scan, column, code, text);
    return code;
}

int tl_scan_expected(const struct tl_scan *scan, size_t column, const char *format, ...)
{
    char what[300], found[80];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    describe(scan->text + column, found, sizeof found);
    return tl_scan_fail(scan, column, -EINVAL, "expected %s, %s", what, found);
}

int tl_scan_no_memory(const struct tl_scan *scan)
{
    return tl_fail(scan->error, -ENOMEM, "out of memory");
}
