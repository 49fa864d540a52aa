/* SPDX-License-Identifier: MIT
 *
 * What a person sees of a mistake: the spec, a caret under the column, and the message.
 *
 *     p /bin/ls:main %dj
 *                     ^ expected a register such as …, not "dj"
 */
#include "spec/spec.h"

#include <stdio.h>
#include <string.h>

#include "spec/scan.h"

/* Of a long spec, this many bytes before and behind the caret. */
enum { BEFORE = 60, BEHIND = 40 };

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* The part of the text that is shown, in whole characters. */
static void choose(const char *text, size_t column, size_t *start, size_t *end)
{
    size_t length = strlen(text);
    *start = column > BEFORE ? column - BEFORE : 0;
    *end = length - column > BEHIND ? column + BEHIND : length;
    while (*start < column && is_continuation(text[*start]))
        ++*start;
    while (*end < length && is_continuation(text[*end]))
        ++*end;
}

void tl_spec_complain(const char *text, const struct tl_error *error, char *out, size_t size)
{
    size_t length = strlen(text), start, end, width = 0;
    if (!size)
        return;
    if (error->column < 0) {
        snprintf(out, size, "%s\n", error->text);
        return;
    }
    size_t column = (size_t)error->column < length ? (size_t)error->column : length;
    choose(text, column, &start, &end);
    char line[BEFORE + BEHIND + 8];
    size_t used = 0;
    for (size_t at = start; at < end && used < sizeof line - 1; at++) {
        /* A tab or an escape sequence would move the caret, or worse. */
        line[used++] = tl_is_control(text[at]) ? ' ' : text[at];
        width += at < column && !is_continuation(text[at]);
    }
    line[used] = 0;
    const char *before = start ? "…" : "", *behind = end < length ? "…" : "";
    snprintf(out, size, "%s%s%s\n%*s^ %s\n", before, line, behind, (int)(width + (start ? 1 : 0)), "", error->text);
}
