/* SPDX-License-Identifier: MIT
 *
 * A line of output being put together, written out in one piece. Internal to src/trace. A line is for one thread at a
 * time, and not for signal handlers; that writing failed, ferror(out) tells.
 */
#ifndef TRAPLINE_LINE_H
#define TRAPLINE_LINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct tl_line {
    FILE *out;
    size_t used;
    char bytes[4096]; /* flushed to `out` whenever it is full: a line may be longer */
};

void tl_line_begin(struct tl_line *line, FILE *out);
/* Writes a newline and all that is still held back. */
void tl_line_end(struct tl_line *line);

void tl_line_char(struct tl_line *line, char c);
void tl_line_text(struct tl_line *line, const char *text);
void tl_line_unsigned(struct tl_line *line, uint64_t value);
void tl_line_signed(struct tl_line *line, int64_t value);
void tl_line_hex(struct tl_line *line, uint64_t value);                    /* 0x… */
void tl_line_digits(struct tl_line *line, uint64_t value, unsigned width); /* with leading zeros */

/* In double quotes, escaped as in C: printable ASCII stays, the rest becomes \n, \t…, or three octal digits. */
void tl_line_c_string(struct tl_line *line, const char *text, size_t length);
/* In double quotes, escaped as in JSON; UTF-8 stays, bytes that are not UTF-8 become U+FFFD. */
void tl_line_json_string(struct tl_line *line, const char *text, size_t length);
/* As it is, except that what is not UTF-8 or could break a line or a terminal becomes '?'. */
void tl_line_plain(struct tl_line *line, const char *text);

#endif
