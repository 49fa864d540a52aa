/* SPDX-License-Identifier: MIT
 *
 * The short shapes: frida-trace's MODULE!GLOB and MODULE!0xOFFSET, and a bare name or glob for every module.
 */
#include "spec/grammar.h"

#include <string.h>

int tl_parse_frida(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t start = scan->at, end = start + tl_scan_run_length(scan), mark = start;
    while (scan->text[mark] != '!')
        mark++;
    if (start < mark) { /* nothing before the mark means any module, as in frida-trace */
        int error = tl_parse_module(scan, start, mark, "a module", spec);
        if (error)
            return error;
    }
    scan->at = mark + 1;
    return tl_parse_place(scan, end, TL_WHERE_MODULE_OFFSET, true, spec);
}

int tl_parse_bare(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t start = scan->at, end = start + tl_scan_run_length(scan);
    for (size_t at = start; at < end; at++)
        if (scan->text[at] == ':')
            return tl_scan_expected(scan, at,
                                    "a function's name (for one in a certain file: FILE!FUNCTION or p FILE:FUNCTION)");
    if (strchr("%$@+-\\", scan->text[start]) || scan->text[start + tl_scan_word_length(scan)] == '=')
        return tl_scan_expected(scan, start, "a function or a probe first, then what to fetch");
    return tl_parse_place(scan, end, TL_NO_NUMBER, true, spec);
}
