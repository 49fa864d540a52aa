/* SPDX-License-Identifier: MIT
 *
 * bpftrace's probes: uprobe:PATH:FUNC[+OFFSET], uprobe:PATH:ADDRESS, uretprobe:PATH:FUNC, and their short names u and
 * ur.
 */
#include "spec/grammar.h"

#include <string.h>

static const struct {
    const char *word;
    bool is_return;
    const char *why_not;
} providers[] = {
    {"uprobe:", false, NULL},
    {"u:", false, NULL},
    {"uretprobe:", true, NULL},
    {"ur:", true, NULL},
    {"usdt:", false, "expected uprobe: or uretprobe: here; usdt probes are not supported yet"},
    {"U:", false, "expected uprobe: or uretprobe: here; usdt probes are not supported yet"},
    {"watchpoint:", false, "expected uprobe: or uretprobe: here; for a watchpoint use the watch command"},
    {"kprobe:", false, "expected uprobe: or uretprobe: here; this is a tool for processes, not for the kernel"},
    {"kretprobe:", false, "expected uprobe: or uretprobe: here; this is a tool for processes, not for the kernel"},
    {"tracepoint:", false, "expected uprobe: or uretprobe: here; this is a tool for processes, not for the kernel"},
};

static size_t find_provider(const struct tl_scan *scan)
{
    size_t i = 0;
    while (i < sizeof providers / sizeof *providers &&
           strncmp(scan->text + scan->at, providers[i].word, strlen(providers[i].word)))
        i++;
    return i;
}

bool tl_is_bpftrace(const struct tl_scan *scan)
{
    return find_provider(scan) < sizeof providers / sizeof *providers;
}

int tl_parse_bpftrace(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t provider = find_provider(scan);
    if (providers[provider].why_not)
        return tl_scan_fail(scan, scan->at, -ENOTSUP, "%s", providers[provider].why_not);
    spec->is_return = providers[provider].is_return;
    size_t end = scan->at + tl_scan_run_length(scan);
    scan->at += strlen(providers[provider].word);
    size_t start = scan->at, colon = tl_find_last(scan, start, end, ':');
    int error = tl_parse_module(scan, start, colon, "a path", spec);
    if (error)
        return error;
    if (colon == end)
        return tl_scan_expected(scan, end, "':' and a function after the path");
    scan->at = colon + 1;
    return tl_parse_place(scan, end, TL_WHERE_ADDRESS, false, spec);
}
