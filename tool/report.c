/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT_BUFFER = 1 << 16 };

static size_t refused_probes(const struct placed *placed)
{
    size_t refused = 0;
    for (size_t i = 0; i < placed->selection.probe_count; i++)
        refused += placed->selection.probes[i].why != TL_WHY_NONE;
    return refused;
}

static enum tl_why first_refusal(const struct tl_selection *selection)
{
    enum tl_why why = TL_WHY_NONE;
    for (size_t i = 0; i < selection->probe_count && why == TL_WHY_NONE; i++)
        why = selection->probes[i].why;
    return why;
}

int report_open(struct report *report, const struct options *options, const struct placed *placed, bool count)
{
    *report = (struct report){.options = options, .placed = placed, .count = count, .out = stdout};
    report->format = options->json ? &tl_format_json : &tl_format_text;
    if (options->output && !(report->out = fopen(options->output, "we"))) {
        complain("%s: %s", options->output, strerror(errno));
        return EXIT_FAILED;
    }
    setvbuf(report->out, NULL, _IOFBF, OUTPUT_BUFFER);
    return 0;
}

int report_refusals(struct report *report)
{
    const struct options *options = report->options;
    const struct tl_selection *selection = &report->placed->selection;
    size_t refused = refused_probes(report->placed), left = selection->probe_count - refused;
    bool named = false;
    for (size_t i = 0; i < selection->probe_count; i++) {
        const struct tl_probe *probe = &selection->probes[i];
        if (probe->why == TL_WHY_NONE)
            continue;
        bool of_glob = probe->spec->is_glob || options->every_instruction;
        named |= !of_glob;
        if (options->json)
            report->format->refused(report->out, probe->name, tl_why_errno(probe->why), tl_why_text(probe->why));
        else if (!of_glob || options->verbose)
            report->format->refused(stderr, probe->name, tl_why_errno(probe->why), tl_why_text(probe->why));
    }
    if (refused && !named && !options->verbose && !options->quiet && !options->json)
        complain("%zu of %zu probes refused (-v says why)", refused, selection->probe_count);
    if (options->verbose)
        complain("%zu probes at %zu places in place", left, report->placed->plan.write_count);
    if (left && !named)
        return 0;
    if (!named)
        complain("no probe is left to place: %s", tl_why_text(first_refusal(selection)));
    if (options->json)
        report_finish(report);
    return EXIT_FAILED;
}

/* A thread of the target, in our name space. */
static int resolve_thread(void *context, uint32_t tid, uint64_t fs_base)
{
    const struct placed *placed = context;
    pid_t found;
    (void)tid;
    return tl_remote_thread(placed->remote, fs_base, &found) ? 0 : found;
}

static struct tl_arg_info *describe_args(const struct tl_spec *spec)
{
    struct tl_arg_info *args = calloc(spec->arg_count + 1, sizeof *args);
    for (size_t i = 0; args && i < spec->arg_count; i++)
        args[i] = (struct tl_arg_info){.name = spec->args[i].name,
                                       .show = spec->args[i].show,
                                       .slot = spec->args[i].slot,
                                       .text = spec->args[i].text};
    return args;
}

static int describe_probes(struct report *report)
{
    const struct tl_selection *selection = &report->placed->selection;
    report->infos = calloc(selection->probe_count + 1, sizeof *report->infos);
    report->args = calloc(selection->probe_count + 1, sizeof *report->args);
    for (size_t i = 0; report->infos && report->args && i < selection->probe_count; i++) {
        const struct tl_probe *probe = &selection->probes[i];
        struct tl_probe_info *info = &report->infos[i];
        info->name = probe->name;
        info->how = tl_tactic_name(probe->tactic);
        info->arg_count = probe->spec->arg_count;
        if (!info->arg_count)
            continue;
        /* Neighbours come from the same spec: they share its description. */
        if (i && selection->probes[i - 1].spec == probe->spec)
            info->args = report->infos[i - 1].args;
        else if (!(info->args = report->args[i] = describe_args(probe->spec)))
            return -ENOMEM;
    }
    return report->infos && report->args ? 0 : -ENOMEM;
}

int report_start(struct report *report)
{
    const struct placed *placed = report->placed;
    const struct tl_remote_facts *facts = tl_remote_facts(placed->remote);
    if (describe_probes(report) ||
        tl_tasks_open(facts->pid, facts->pid != facts->ns_pid, resolve_thread, (void *)(uintptr_t)placed,
                      &report->tasks) ||
        tl_reader_open(placed->region.area, placed->region.area_size, placed->assembly.layout, NULL, &report->reader)) {
        complain("out of memory");
        return EXIT_FAILED;
    }
    return report->options->stacks ? stacks_open(facts->pid, &report->stacks) : 0;
}

static void describe_address(void *context, uint64_t addr, char *text, size_t size)
{
    const struct placed *placed = context;
    tl_modules_describe(&placed->modules, addr, text, size);
}

static int show(void *context, const struct tl_record *record)
{
    struct report *report = context;
    const struct tl_selection *selection = &report->placed->selection;
    struct tl_hit_line line = {.probe = &report->infos[record->probe],
                               .record = record,
                               .pid = tl_remote_facts(report->placed->remote)->pid,
                               .addr = selection->sites[record->site].addr,
                               .describe = describe_address,
                               .describe_context = (void *)(uintptr_t)report->placed};
    line.tid = tl_tasks_find(report->tasks, record->tid, record->fs_base, record->time_ns, &line.comm);
    if (report->stacks)
        stacks_add(report->stacks, record, &line);
    report->format->hit(report->out, &line);
    report->shown++;
    return report_is_full(report);
}

/* The first failure is said. That nobody reads on is none: who closes the pipe has seen enough. */
static void flush(struct report *report)
{
    if ((!fflush(report->out) && !ferror(report->out)) || report->write_failed)
        return;
    report->write_failed = true;
    if (errno != EPIPE)
        complain("%s: %s", report->options->output ? report->options->output : "standard output", strerror(errno));
}

struct hurry {
    struct report *report;
    const volatile sig_atomic_t *interrupted;
    uint64_t deadline_ns;
};

/* A fast program can have written more than is shown in seconds; its probes come out at the time asked for. */
static int show_in_time(void *context, const struct tl_record *record)
{
    const struct hurry *hurry = context;
    struct timespec now;
    int full = show(hurry->report, record);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return full || *hurry->interrupted ||
           (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec >= hurry->deadline_ns;
}

size_t report_poll(struct report *report, const volatile sig_atomic_t *interrupted, uint64_t deadline_ns)
{
    struct hurry hurry = {report, interrupted, deadline_ns};
    size_t events = tl_reader_poll(report->reader, show_in_time, &hurry);
    if (events)
        flush(report);
    return events;
}

bool report_is_full(const struct report *report)
{
    return report->write_failed || (report->options->limit && report->shown >= report->options->limit);
}

/* The busiest first; otherwise in the order of the specs and of their addresses. */
static int by_hits(const void *left, const void *right)
{
    const struct tl_count_line *a = left, *b = right;
    if (a->hits != b->hits)
        return a->hits > b->hits ? -1 : 1;
    return a->probe < b->probe ? -1 : a->probe > b->probe;
}

static uint64_t report_counts(struct report *report)
{
    const struct tl_selection *selection = &report->placed->selection;
    uint64_t *counts = calloc(selection->probe_count, sizeof *counts), total = 0;
    uint64_t *missed = calloc(selection->probe_count, sizeof *missed);
    struct tl_count_line *lines = calloc(selection->probe_count, sizeof *lines);
    size_t used = 0;
    if (counts && missed && lines) {
        tl_reader_counts(report->reader, counts);
        tl_reader_missed(report->reader, missed);
        for (size_t i = 0; i < selection->probe_count; i++) {
            total += counts[i];
            bool of_glob = selection->probes[i].spec->is_glob;
            bool hit = counts[i] || missed[i];
            if (selection->probes[i].why == TL_WHY_NONE && (hit || !of_glob || report->options->verbose))
                lines[used++] =
                    (struct tl_count_line){.probe = &report->infos[i], .hits = counts[i], .missed = missed[i]};
        }
        qsort(lines, used, sizeof *lines, by_hits);
        report->format->counts(report->out, lines, used);
    } else {
        complain("out of memory");
    }
    free(counts);
    free(missed);
    free(lines);
    return total;
}

void report_finish(struct report *report)
{
    struct tl_reader_totals totals = {0};
    if (report->reader) {
        if (!report_is_full(report))
            tl_reader_drain(report->reader, show, report);
        tl_reader_totals(report->reader, &totals);
    }
    struct tl_summary_line summary = {
        .missed = totals.missed, .lost = totals.lost, .refused = refused_probes(report->placed)};
    summary.hits = report->count && report->reader ? report_counts(report) : report->shown;
    summary.hits += totals.lost + totals.missed;
    report->format->summary(report->out, &summary);
    if (totals.late)
        complain("%llu events are out of order: a thread was in a hit for long", (unsigned long long)totals.late);
    if (totals.damaged)
        complain("the program wrote into trapline's memory: events were thrown away %llu times",
                 (unsigned long long)totals.damaged);
    if (totals.unfinished)
        complain("%llu hits were cut off by a longjmp or by the program's end", (unsigned long long)totals.unfinished);
    flush(report);
}

void report_close(struct report *report)
{
    tl_reader_close(report->reader);
    tl_tasks_close(report->tasks);
    stacks_close(report->stacks);
    for (size_t i = 0; report->args && report->placed && i < report->placed->selection.probe_count; i++)
        free(report->args[i]);
    free(report->args);
    free(report->infos);
    if (report->out && report->out != stdout)
        fclose(report->out);
    memset(report, 0, sizeof *report);
}
