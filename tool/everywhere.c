/* SPDX-License-Identifier: MIT
 *
 * There is no program to stop, to place anything in, or to ask for values: the kernel's events say who and where. So
 * a session of its own, with the same lines and tables.
 */
#include "everywhere.h"
#include "report.h"
#include "session.h"

#include "base/now.h"
#include "host/machine/machine.h"
#include "symbol/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 5, NAME_ROOM = 256, STACK_SHOWN = 64, LENGTH_DEFAULT = 4 };

struct everywhere {
    const struct options *options;
    struct watches watches;
    struct tl_kernel_symbols *symbols; /* NULL: not to be had */
    struct tl_machine *machine;
    struct report report;
    char stack[STACK_SHOWN][NAME_ROOM];
};

/* 0 or an exit status; what is wrong was said. */
static int find_address(struct everywhere *all, const struct tl_watch *spec, uint64_t *addr)
{
    struct tl_error error;
    *addr = spec->addr;
    if (spec->is_address)
        return 0;
    int result = 0;
    if (!all->symbols)
        result = tl_kernel_symbols_read(NULL, &all->symbols, &error);
    if (!result && (spec->symbol.step_count || spec->symbol.scope || spec->symbol.file))
        result = tl_fail(&error, -ENOTSUP, "of the kernel's variables only names are known, no files and no members");
    if (!result)
        result = tl_kernel_find(all->symbols, spec->symbol.name, addr, &error);
    if (result)
        complain("%s: %s", spec->text, error.text);
    return result ? EXIT_FAILED : 0;
}

static int check(const struct tl_watch *spec, const struct tl_hwbp_attr *attr)
{
    struct tl_hwbp_piece piece;
    if (spec->filter_column) {
        complain("%s: filters are decided in programs: there are none with -a", spec->text);
        return EXIT_USAGE;
    }
    uint64_t pieces = attr->access == TL_ACCESS_X ? 1 : tl_hwbp_split(attr->addr, attr->length, &piece, 1);
    if (attr->addr < TL_USER_SPACE_END)
        complain("%s: 0x%" PRIx64 " is no kernel address: -p PID or a command says whose it is", spec->text,
                 attr->addr);
    else if (pieces != 1)
        complain("%s: that would take %" PRIu64
                 " debug registers on each processor: 1, 2, 4 or 8 aligned bytes take one",
                 spec->text, pieces);
    else
        return 0;
    return EXIT_FAILED;
}

static int resolve(struct everywhere *all, struct tl_hwbp_attr *attrs)
{
    for (size_t i = 0; i < all->watches.count; i++) {
        const struct tl_watch *spec = all->watches.list[i];
        struct tl_hwbp_attr *attr = &attrs[i];
        int status = find_address(all, spec, &attr->addr);
        if (status)
            return status;
        attr->addr += spec->offset;
        attr->access = spec->access & TL_WATCH_R ? TL_ACCESS_RW : spec->access;
        attr->length = attr->access == TL_ACCESS_X ? sizeof(long) : spec->length ? spec->length : LENGTH_DEFAULT;
        status = check(spec, attr);
        if (status)
            return status;
    }
    return 0;
}

static void describe(const struct everywhere *all, uint64_t addr, char *text, size_t size)
{
    if (all->symbols)
        tl_kernel_describe(all->symbols, addr, text, size);
    else
        snprintf(text, size, "0x%" PRIx64, addr);
}

static void read_comm(pid_t tid, char *comm, size_t size)
{
    char path[64];
    snprintf(comm, size, "%s", tid ? "?" : "swapper");
    snprintf(path, sizeof path, "/proc/%d/comm", tid);
    FILE *file = tid ? fopen(path, "re") : NULL;
    if (file && fgets(comm, (int)size, file))
        comm[strcspn(comm, "\n")] = 0;
    if (file)
        fclose(file);
}

static int show(void *context, const struct tl_machine_hit *hit)
{
    struct everywhere *all = context;
    struct report *report = &all->report;
    const struct tl_watch *spec = all->watches.list[hit->watch];
    const char *frames[STACK_SHOWN];
    char symbol[NAME_ROOM], comm[64];
    if (report_is_full(report))
        return 1;
    describe(all, hit->ip, symbol, sizeof symbol);
    read_comm(hit->tid, comm, sizeof comm);
    struct tl_watch_line line = {.watch = spec->name,
                                 .pid = hit->pid,
                                 .tid = hit->tid,
                                 .comm = comm,
                                 .time_ns = hit->time_ns,
                                 .ip = hit->ip,
                                 .symbol = symbol};
    for (; line.stack_count < hit->stack_count && line.stack_count < STACK_SHOWN; line.stack_count++) {
        describe(all, hit->stack[line.stack_count], all->stack[line.stack_count], NAME_ROOM);
        frames[line.stack_count] = all->stack[line.stack_count];
    }
    line.stack = all->options->stacks ? frames : NULL;
    report->format->watch(report->out, &line);
    report->shown++;
    report->watched[hit->watch].reported++;
    symbol[strcspn(symbol, "+")] = 0;
    writers_add(&report->writers, spec->name, symbol, NULL);
    return report_is_full(report);
}

static void follow_events(struct everywhere *all)
{
    const struct options *options = all->options;
    uint64_t deadline = options->seconds > 0 ? tl_now() + (uint64_t)(options->seconds * 1e9) : UINT64_MAX;
    while (!session_interrupted && !report_is_full(&all->report) && tl_now() < deadline) {
        if (tl_machine_poll(all->machine, show, all))
            report_flush(&all->report);
        poll(NULL, 0, WAIT_MS);
    }
}

/* Open on all processors, read until it is enough, report. */
static int watch(struct everywhere *all, const struct tl_hwbp_attr *attrs)
{
    struct tl_error error;
    struct report *report = &all->report;
    if (tl_machine_open(attrs, all->watches.count, all->options->stacks, &all->machine, &error)) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    if (!all->symbols && tl_kernel_symbols_read(NULL, &all->symbols, &error) && !all->options->quiet)
        complain("addresses without names: %s", error.text);
    if (!all->options->quiet)
        complain("on whole processors there are no values before and after, and ip is behind the instruction");
    if (all->options->verbose)
        complain("%zu watch%s in place on every processor, by perf events", all->watches.count,
                 all->watches.count == 1 ? "" : "es");
    follow_events(all);
    tl_machine_drain(all->machine, show, all);
    report->totals.lost = report_is_full(report) ? 0 : tl_machine_lost(all->machine);
    for (size_t i = 0; i < all->watches.count; i++) {
        struct watch_total *total = &report->watched[i];
        total->accesses = tl_machine_count(all->machine, i);
        total->armed = 1;
        total->programs = 1;
        total->how = "perf event";
    }
    report_finish(report);
    return report_is_whole(report) ? EXIT_FINE : EXIT_FAILED;
}

int everywhere_run(const struct options *options)
{
    struct everywhere all = {.options = options};
    session_catch_signals();
    int status = watches_parse(&all.watches, options);
    struct tl_hwbp_attr *attrs = calloc(options->spec_count, sizeof *attrs);
    if (!status && !attrs) {
        complain("out of memory");
        status = EXIT_FAILED;
    }
    if (!status)
        status = resolve(&all, attrs);
    if (!status)
        status = report_open(&all.report, options, WORK_WATCH, &all.watches);
    if (!status)
        status = watch(&all, attrs);
    report_close(&all.report);
    tl_machine_close(all.machine);
    tl_kernel_symbols_free(all.symbols);
    watches_free(&all.watches);
    free(attrs);
    return status;
}
