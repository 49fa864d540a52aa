/* SPDX-License-Identifier: MIT
 *
 * Glob patterns over short texts: the one backtracking point is behind the last star, so that time is bounded by the
 * product of the lengths and no stack is needed.
 */
#include "hit/runtime.h"

/* Match one byte against the pattern item at `pattern`; the item's length, or 0 when it does not match. */
static size_t match_one(const char *pattern, uint8_t byte)
{
    if (*pattern == '?')
        return 1;
    if (*pattern != '[')
        return *pattern && (uint8_t)*pattern == byte;

    bool negated = pattern[1] == '!' || pattern[1] == '^', found = false;
    size_t i = 1 + negated;
    do { /* a bracket that comes first stands for itself */
        uint8_t low = (uint8_t)pattern[i], high = low;
        if (!low)
            return byte == '['; /* never closed: an ordinary character */
        if (pattern[i + 1] == '-' && pattern[i + 2] && pattern[i + 2] != ']') {
            high = (uint8_t)pattern[i + 2];
            i += 2;
        }
        found |= byte >= low && byte <= high;
        i++;
    } while (pattern[i] != ']');
    return found != negated ? i + 1 : 0;
}

bool tl_glob_match(const char *pattern, const uint8_t *text, size_t length)
{
    const char *behind_star = NULL;
    size_t at = 0, retry = 0;
    while (at < length) {
        size_t item;
        if (*pattern == '*') {
            behind_star = ++pattern;
            retry = at;
        } else if ((item = match_one(pattern, text[at])) != 0) {
            pattern += item;
            at++;
        } else if (behind_star) {
            pattern = behind_star;
            at = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
