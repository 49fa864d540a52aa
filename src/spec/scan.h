/* SPDX-License-Identifier: MIT
 *
 * A cursor over the text of a spec, and the way to complain about a column of it. Internal to src/spec. Functions that
 * return int return 0, or a negative errno with the column told. For threads and signals spec.h holds here too.
 */
#ifndef TRAPLINE_SPEC_SCAN_H
#define TRAPLINE_SPEC_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trapline/error.h"

struct tl_scan {
    const char *text; /* terminated by NUL */
    size_t at;
    struct tl_error *error; /* or NULL */
};

static inline char tl_scan_peek(const struct tl_scan *scan)
{
    return scan->text[scan->at];
}

/* Character classes of the C locale, whatever the program's own is. */
bool tl_is_digit(char c);
bool tl_is_word_start(char c); /* letter or underscore */
bool tl_is_word(char c);       /* letter, digit or underscore */
bool tl_is_space(char c);
bool tl_is_control(char c);

/* Skip blanks; whether there were any. */
bool tl_scan_spaces(struct tl_scan *scan);
/* Take this text if it comes next. */
bool tl_scan_take(struct tl_scan *scan, const char *text);
/* Bytes of the identifier, or of the run of non-blanks, that comes next; 0 for none. */
size_t tl_scan_word_length(const struct tl_scan *scan);
size_t tl_scan_run_length(const struct tl_scan *scan);

/* Whether a filter comes next: `if`, and not a name that begins so. */
bool tl_scan_at_filter(const struct tl_scan *scan);

/* An unsigned number as in C (decimal, 0x, 0b, 0 for octal), at most `max`. `what` says what it is: "an offset". */
int tl_scan_number(struct tl_scan *scan, const char *what, uint64_t max, uint64_t *value);
/* A constant in double quotes with the escapes of C; *text is to be freed. No NUL in it, at most TL_STRING_MAX bytes.
 */
int tl_scan_quoted(struct tl_scan *scan, char **text);
/* A character constant, after its opening ' has been seen but not taken. */
int tl_scan_character(struct tl_scan *scan, uint64_t *value);

/* A copy of `length` bytes from `start`; NULL without memory. */
char *tl_scan_copy(const struct tl_scan *scan, size_t start, size_t length);

/* Fill the error with a message about `column`; returns `code`, or -EINVAL. */
int tl_scan_fail(const struct tl_scan *scan, size_t column, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "expected WHAT, not 'found'" about `column`; returns -EINVAL. */
int tl_scan_expected(const struct tl_scan *scan, size_t column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int tl_scan_no_memory(const struct tl_scan *scan);

#endif
