/* SPDX-License-Identifier: MIT */
#include "trace/line.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

void tl_line_begin(struct tl_line *line, FILE *out)
{
    line->out = out;
    line->used = 0;
}

static void flush(struct tl_line *line)
{
    fwrite_unlocked(line->bytes, 1, line->used, line->out);
    line->used = 0;
}

void tl_line_end(struct tl_line *line)
{
    tl_line_char(line, '\n');
    flush(line);
}

void tl_line_char(struct tl_line *line, char c)
{
    if (line->used == sizeof(line->bytes))
        flush(line);
    line->bytes[line->used++] = c;
}

static void append(struct tl_line *line, const char *bytes, size_t size)
{
    if (size > sizeof(line->bytes) - line->used)
        flush(line);
    if (size > sizeof(line->bytes)) {
        fwrite_unlocked(bytes, 1, size, line->out);
        return;
    }
    memcpy(line->bytes + line->used, bytes, size);
    line->used += size;
}

void tl_line_text(struct tl_line *line, const char *text)
{
    append(line, text, strlen(text));
}

void tl_line_digits(struct tl_line *line, uint64_t value, unsigned width)
{
    char digits[20];
    unsigned at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (at && (value || sizeof(digits) - at < width));
    append(line, digits + at, sizeof(digits) - at);
}

void tl_line_unsigned(struct tl_line *line, uint64_t value)
{
    tl_line_digits(line, value, 1);
}

void tl_line_signed(struct tl_line *line, int64_t value)
{
    if (value < 0)
        tl_line_char(line, '-');
    tl_line_digits(line, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
}

void tl_line_hex(struct tl_line *line, uint64_t value)
{
    char digits[18];
    unsigned at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    digits[--at] = 'x';
    digits[--at] = '0';
    append(line, digits + at, sizeof(digits) - at);
}

/* The letter of a short escape that C and JSON share, or 0. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\n':
        return 'n';
    case '\t':
        return 't';
    case '\r':
        return 'r';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    default:
        return 0;
    }
}

static void escape_short(struct tl_line *line, char letter)
{
    tl_line_char(line, '\\');
    tl_line_char(line, letter);
}

/* Append what needs no escape; how many bytes that was. */
static size_t append_plain(struct tl_line *line, const char *text, size_t length)
{
    size_t plain = 0;
    while (plain < length && text[plain] >= ' ' && text[plain] < 0x7f && text[plain] != '"' && text[plain] != '\\')
        plain++;
    append(line, text, plain);
    return plain;
}

void tl_line_c_string(struct tl_line *line, const char *text, size_t length)
{
    tl_line_char(line, '"');
    for (size_t i = append_plain(line, text, length); i < length; i++, i += append_plain(line, text + i, length - i)) {
        unsigned char c = (unsigned char)text[i];
        char letter = short_escape(c);
        if (letter) {
            escape_short(line, letter);
        } else {
            tl_line_char(line, '\\');
            for (int shift = 6; shift >= 0; shift -= 3)
                tl_line_char(line, (char)('0' + (c >> shift & 7)));
        }
    }
    tl_line_char(line, '"');
}

void tl_line_json_string(struct tl_line *line, const char *text, size_t length)
{
    tl_line_char(line, '"');
    for (size_t i = append_plain(line, text, length); i < length; i += append_plain(line, text + i, length - i)) {
        unsigned char c = (unsigned char)text[i];
        char letter = short_escape(c);
        size_t bytes = tl_utf8_length((const unsigned char *)text + i, length - i);
        if (letter) {
            escape_short(line, letter);
        } else if (c < ' ' || c == 0x7f) {
            tl_line_text(line, "\\u00");
            tl_line_char(line, (char)('0' + (c >> 4)));
            tl_line_char(line, "0123456789abcdef"[c & 15]);
        } else if (bytes == 0) {
            tl_line_text(line, "\\ufffd");
        } else {
            append(line, text + i, bytes);
        }
        i += bytes ? bytes : 1;
    }
    tl_line_char(line, '"');
}

void tl_line_plain(struct tl_line *line, const char *text)
{
    size_t left = strlen(text), bytes;
    for (; left; text += bytes, left -= bytes) {
        const unsigned char *s = (const unsigned char *)text;
        bytes = tl_utf8_length(s, left);
        bool control = s[0] < ' ' || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
        if (bytes == 0 || control) {
            tl_line_char(line, '?');
            bytes = bytes ? bytes : 1;
        } else {
            append(line, text, bytes);
        }
    }
}
