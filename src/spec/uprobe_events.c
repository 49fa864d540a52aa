/* SPDX-License-Identifier: MIT
 *
 * The kernel's uprobe_events: p[:[GRP/]EVENT] PATH:WHERE, r[:…] PATH:WHERE, and %return behind WHERE.
 */
#include "spec/grammar.h"

#include <string.h>

#include "spec/fetch.h"

/* "p" and "r" may also be functions: then what follows is not a path but the filter, or something to fetch. */
static bool path_follows(struct tl_scan scan)
{
    if (!tl_scan_spaces(&scan) || !tl_scan_peek(&scan))
        return false;
    size_t length = tl_scan_word_length(&scan);
    const char *text = scan.text + scan.at;
    if (length == 2 && !memcmp(text, "if", 2) && (!text[2] || tl_is_space(text[2]) || text[2] == '('))
        return false;
    return !strchr("%$@+-\\", *text) && !(length && text[length] == '=');
}

bool tl_is_uprobe_events(const struct tl_scan *scan)
{
    struct tl_scan after = *scan;
    if (!tl_scan_take(&after, "p") && !tl_scan_take(&after, "r"))
        return false;
    while (tl_is_digit(tl_scan_peek(&after)))
        after.at++;
    return tl_scan_peek(&after) == ':' || path_follows(after);
}

static int parse_event_word(struct tl_scan *scan, size_t end, const char *what, bool may_dash, char **word)
{
    size_t start = scan->at;
    if (start == end)
        return tl_scan_expected(scan, start, "%s", what);
    if (end - start > TL_EVENT_NAME_MAX)
        return tl_scan_fail(scan, start, -EINVAL, "expected %s of at most %d characters", what, TL_EVENT_NAME_MAX);
    for (size_t at = start; at < end; at++) {
        char c = scan->text[at];
        if (!(at == start ? tl_is_word_start(c) : tl_is_word(c) || (may_dash && c == '-')))
            return tl_scan_expected(scan, at, "%s: letters, digits and '_', no digit first", what);
    }
    scan->at = end;
    *word = tl_scan_copy(scan, start, end - start);
    return *word ? 0 : tl_scan_no_memory(scan);
}

/* [GRP/]EVENT or GRP/ behind the colon. */
static int parse_event(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t end = scan->at + tl_scan_run_length(scan), slash = scan->at;
    while (slash < end && scan->text[slash] != '/')
        slash++;
    if (slash < end) {
        int error = parse_event_word(scan, slash, "a group's name", true, &spec->group);
        if (error)
            return error;
        scan->at++;
        if (scan->at == end)
            return 0;
    }
    return parse_event_word(scan, end, "an event's name", false, &spec->event);
}

int tl_parse_uprobe_events(struct tl_scan *scan, struct tl_spec *spec)
{
    spec->is_return = tl_scan_peek(scan) == 'r';
    scan->at++;
    if (tl_is_digit(tl_scan_peek(scan)))
        return tl_scan_expected(scan, scan->at, "':' or a blank (there is no limit of active returns to set)");
    if (tl_scan_take(scan, ":")) {
        int error = parse_event(scan, spec);
        if (error)
            return error;
    }
    tl_scan_spaces(scan);
    size_t start = scan->at, end = start + tl_scan_run_length(scan);
    if (start == end)
        return tl_scan_expected(scan, start, "PATH:SYMBOL, PATH:SYMBOL+OFFSET or PATH:OFFSET");
    size_t colon = tl_find_last(scan, start, end, ':');
    if (colon == end)
        return tl_scan_expected(scan, end, "':' and a function or an offset after the path");
    int error = tl_parse_module(scan, start, colon, "a path before ':'", spec);
    if (error)
        return error;
    scan->at = colon + 1;
    return tl_parse_place(scan, end, TL_WHERE_FILE_OFFSET, true, spec);
}
