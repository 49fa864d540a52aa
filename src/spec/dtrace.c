/* SPDX-License-Identifier: MIT
 *
 * DTrace's pid provider: pid$target:MODULE:FUNCTION:entry|return|OFFSET, or pidNNN for one process. A field left empty
 * stands for everything; a.out is the program itself; OFFSET is hexadecimal, with or without 0x.
 */
#include "spec/grammar.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool tl_is_dtrace(const struct tl_scan *scan)
{
    struct tl_scan after = *scan;
    if (!tl_scan_take(&after, "pid"))
        return false;
    if (tl_scan_peek(&after) == '$')
        return true;
    if (!tl_is_digit(tl_scan_peek(&after)))
        return false;
    after.at += tl_scan_run_length(&after);
    return tl_find_last(&after, scan->at, after.at, ':') < after.at;
}

static int parse_provider(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t column = scan->at += strlen("pid");
    uint64_t pid = 0;
    if (!tl_scan_take(scan, "$target")) {
        if (!tl_is_digit(tl_scan_peek(scan)))
            return tl_scan_expected(scan, column, "$target or a process id after \"pid\"");
        int error = tl_scan_number(scan, "a process id", INT_MAX, &pid);
        if (error)
            return error;
        if (!pid)
            return tl_scan_fail(scan, column, -EINVAL, "expected a process id of at least 1");
    }
    spec->pid = (int)pid;
    return tl_scan_take(scan, ":") ? 0 : tl_scan_expected(scan, scan->at, "':' and MODULE:FUNCTION:entry");
}

static int parse_offset(struct tl_scan *scan, size_t end, struct tl_spec *spec)
{
    static const char digits[] = "0123456789abcdef";
    size_t start = scan->at;
    if (!tl_scan_take(scan, "0x"))
        tl_scan_take(scan, "0X");
    size_t first = scan->at;
    for (; scan->at < end; scan->at++) {
        const char *digit = strchr(digits, scan->text[scan->at] | 0x20);
        if (!digit || spec->offset >> 59)
            break;
        spec->offset = spec->offset * 16 + (uint64_t)(digit - digits);
    }
    if (scan->at < end && spec->offset >> 59)
        return tl_scan_fail(scan, start, -EINVAL, "expected an offset of less than 64 bits");
    if (scan->at < end || first == end)
        return tl_scan_expected(scan, start, "entry, return or a hexadecimal offset");
    spec->every_entry_offset = true;
    return 0;
}

static int parse_name(struct tl_scan *scan, size_t end, struct tl_spec *spec)
{
    size_t length = end - scan->at;
    const char *name = scan->text + scan->at;
    if (length == strlen("entry") && !memcmp(name, "entry", length)) {
        scan->at = end;
        return 0;
    }
    if (length == strlen("return") && !memcmp(name, "return", length)) {
        spec->is_return = true;
        scan->at = end;
        return 0;
    }
    return parse_offset(scan, end, spec);
}

int tl_parse_dtrace(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t end = scan->at + tl_scan_run_length(scan);
    int error = parse_provider(scan, spec);
    if (error)
        return error;
    /* The function may hold colons of its own, so the name is what follows the last one. */
    size_t module = scan->at, module_end = module, name = tl_find_last(scan, module, end, ':');
    while (module_end < end && scan->text[module_end] != ':')
        module_end++;
    if (module_end == end)
        return tl_scan_expected(scan, end, "':' and FUNCTION:entry");
    if (name == module_end)
        return tl_scan_expected(scan, end, "':' and entry, return or an offset");
    if (module_end - module == strlen("a.out") && !memcmp(scan->text + module, "a.out", strlen("a.out"))) {
        spec->module = strdup("EXE");
        if (!spec->module)
            return tl_scan_no_memory(scan);
    } else if (module < module_end) {
        error = tl_parse_module(scan, module, module_end, "a module", spec);
        if (error)
            return error;
    }
    if (module_end + 1 < name) {
        error = tl_parse_symbol(scan, module_end + 1, name, spec);
        if (error)
            return error;
    } else {
        spec->symbol = strdup("*");
        spec->is_glob = true;
        if (!spec->symbol)
            return tl_scan_no_memory(scan);
    }
    scan->at = name + 1;
    return parse_name(scan, end, spec);
}
