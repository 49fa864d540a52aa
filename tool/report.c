/* SPDX-License-Identifier: MIT */
#include "report.h"
#include "watch_hits.h"

#include "base/array.h"

#include "base/now.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* SETTLE_NS: how long an event may be on its way to us; see src/trace/merge.c. */
enum { OUTPUT_BUFFER = 1 << 16, SETTLE_NS = 100000 };

int report_open(struct report *report, const struct options *options, enum work work, const struct watches *watches)
{
    *report = (struct report){.options = options, .work = work, .watches = watches, .out = stdout};
    if (watches && !(report->watched = calloc(watches->count + 1, sizeof *report->watched))) {
        complain("out of memory");
        return EXIT_FAILED;
    }
    report->format = options->json ? &tl_format_json : &tl_format_text;
    if (options->output && !(report->out = fopen(options->output, "we"))) {
        complain("%s: %s", options->output, strerror(errno));
        return EXIT_FAILED;
    }
    setvbuf(report->out, NULL, _IOFBF, OUTPUT_BUFFER);
    return 0;
}

/* A thread of the target, in our name space. */
static int resolve_thread(void *context, uint32_t tid, uint64_t fs_base)
{
    const struct placed *placed = context;
    pid_t found;
    (void)tid;
    return tl_remote_thread(placed->remote, fs_base, &found) ? 0 : found;
}

static void free_source(struct source *source)
{
    tl_reader_close(source->reader);
    tl_tasks_close(source->tasks);
    code_close(source->code);
    stacks_close(source->stacks);
    for (size_t i = 0; source->args && i < source->placed->selection.probe_count; i++)
        free(source->args[i]);
    free(source->args);
    free(source->infos);
    *source = (struct source){0};
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

static int describe_probes(struct source *source)
{
    const struct tl_selection *selection = &source->placed->selection;
    source->infos = calloc(selection->probe_count + 1, sizeof *source->infos);
    source->args = calloc(selection->probe_count + 1, sizeof *source->args);
    for (size_t i = 0; source->infos && source->args && i < selection->probe_count; i++) {
        const struct tl_probe *probe = &selection->probes[i];
        struct tl_probe_info *info = &source->infos[i];
        info->name = probe->name;
        info->how = tl_tactic_name(probe->tactic);
        info->arg_count = probe->spec->arg_count;
        if (!info->arg_count)
            continue;
        /* Neighbours come from the same spec: they share its description. */
        if (i && selection->probes[i - 1].spec == probe->spec)
            info->args = source->infos[i - 1].args;
        else if (!(info->args = source->args[i] = describe_args(probe->spec)))
            return -ENOMEM;
    }
    return source->infos && source->args ? 0 : -ENOMEM;
}

/* 0 or an exit status; what is wrong was said. */
static int open_stacks(struct report *report, struct source *source, pid_t pid)
{
    bool wanted = report->options->stacks || source->watches;
    int status = wanted ? stacks_open(pid, &source->stacks) : 0;
    if (status || !source->watches)
        return status;
    struct tl_watching_facts facts;
    tl_watching_facts(source->placed->watching, &facts);
    source->takes_turns = facts.multiplexed;
    source->code = code_open(stacks_unwinder(source->stacks));
    if (!source->code)
        complain("out of memory");
    return source->code ? 0 : EXIT_FAILED;
}

int report_add(struct report *report, struct source *source, const struct placed *placed,
               const struct program_watches *watches)
{
    const struct tl_remote_facts *facts = tl_remote_facts(placed->remote);
    *source = (struct source){.next = report->sources, .report = report, .placed = placed, .watches = watches};
    if (describe_probes(source) ||
        tl_tasks_open(facts->pid, facts->pid != facts->ns_pid, resolve_thread, (void *)(uintptr_t)placed,
                      &source->tasks) ||
        tl_reader_open(placed->region.area, placed->region.area_size, placed->assembly.layout, NULL, &source->reader)) {
        complain("out of memory");
        free_source(source);
        return EXIT_FAILED;
    }
    report->sources = source;
    return open_stacks(report, source, facts->pid);
}

static void describe_address(void *context, uint64_t addr, char *text, size_t size)
{
    const struct placed *placed = context;
    tl_modules_describe(&placed->modules, addr, text, size);
}

static void show_hit(struct source *source, const struct tl_record *record)
{
    struct report *report = source->report;
    const struct tl_selection *selection = &source->placed->selection;
    struct tl_hit_line line = {.probe = &source->infos[record->probe],
                               .record = record,
                               .pid = tl_remote_facts(source->placed->remote)->pid,
                               .addr = selection->sites[record->site].addr,
                               .describe = describe_address,
                               .describe_context = (void *)(uintptr_t)source->placed};
    line.tid = tl_tasks_find(source->tasks, record->tid, record->fs_base, record->time_ns, &line.comm);
    if (source->stacks)
        stacks_add(source->stacks, record, &line);
    report->format->hit(report->out, &line);
}

static int show(void *context, const struct tl_record *record)
{
    struct source *source = context;
    struct report *report = source->report;
    if (source->watches)
        report->shown += watch_hits_show(source, record);
    else {
        show_hit(source, record);
        report->shown++;
    }
    return report_is_full(report);
}

/* With several processes nothing is shown as it is read: others may have older events. */
static int hold(void *context, const struct tl_record *record)
{
    struct source *source = context;
    struct report *report = source->report;
    struct held *all = tl_array_grown(report->held, report->held_count, &report->held_room, sizeof *all);
    if (!all)
        return show(source, record);
    report->held = all;
    uint8_t *bytes = malloc(record->size ? record->size : 1);
    if (!bytes)
        return show(source, record);
    memcpy(bytes, record->bytes, record->size);
    struct held *held = &report->held[report->held_count++];
    *held = (struct held){.source = source, .record = *record, .arrived = report->arrived++};
    held->record.bytes = bytes;
    return 0;
}

static int by_time(const void *left, const void *right)
{
    const struct held *a = left, *b = right;
    if (a->record.time_ns != b->record.time_ns)
        return a->record.time_ns < b->record.time_ns ? -1 : 1;
    return a->arrived < b->arrived ? -1 : a->arrived > b->arrived;
}

/* A fast program can have written more than is shown in seconds; its probes come out at the time asked for. */
struct hurry {
    struct source *source;
    const volatile sig_atomic_t *interrupted;
    uint64_t deadline_ns;
};

static bool is_late(const struct hurry *hurry)
{
    return *hurry->interrupted || tl_now() >= hurry->deadline_ns;
}

static int show_in_time(void *context, const struct tl_record *record)
{
    const struct hurry *hurry = context;
    return show(hurry->source, record) || is_late(hurry);
}

static void show_in_turn(struct report *report, struct held *held)
{
    if (held->record.time_ns < report->latest)
        report->totals.late++;
    else
        report->latest = held->record.time_ns;
    show(held->source, &held->record);
}

/* Show what is older than `bound`, in order of time. `hurry`: NULL if there is none. */
static size_t show_held(struct report *report, uint64_t bound, const struct hurry *hurry)
{
    size_t shown = 0;
    if (!report->held_count)
        return 0;
    qsort(report->held, report->held_count, sizeof *report->held, by_time);
    for (; shown < report->held_count && report->held[shown].record.time_ns < bound; shown++) {
        if (hurry && is_late(hurry))
            break;
        struct held *held = &report->held[shown];
        if (!report_is_full(report))
            show_in_turn(report, held);
        free((void *)(uintptr_t)held->record.bytes);
    }
    report->held_count -= shown;
    memmove(report->held, report->held + shown, report->held_count * sizeof *report->held);
    return shown;
}

void report_flush(struct report *report)
{
    int error = output_check(report->out, report->options->output);
    if (!report->unwritten)
        report->unwritten = error;
}

bool report_is_whole(const struct report *report)
{
    return !report->unwritten || report->unwritten == -EPIPE;
}

/* Whatever is older than the beginning of this round has been read in it, from all of them. */
static size_t poll_all(struct report *report, const struct hurry *hurry)
{
    uint64_t now = tl_now();
    for (struct source *source = report->sources; source; source = source->next)
        tl_reader_poll(source->reader, hold, source);
    return show_held(report, now - SETTLE_NS, hurry);
}

size_t report_poll(struct report *report, const volatile sig_atomic_t *interrupted, uint64_t deadline_ns)
{
    struct hurry hurry = {report->sources, interrupted, deadline_ns};
    size_t events = report->options->follow ? poll_all(report, &hurry) : 0;
    if (!report->options->follow && report->sources)
        events = tl_reader_poll(report->sources->reader, show_in_time, &hurry);
    if (events)
        report_flush(report);
    return events;
}

bool report_is_full(const struct report *report)
{
    return report->unwritten || (report->options->limit && report->shown >= report->options->limit);
}

static void add_totals(struct tl_reader_totals *sum, const struct tl_reader_totals *more)
{
    sum->seen += more->seen;
    sum->lost += more->lost;
    sum->missed += more->missed;
    sum->damaged += more->damaged;
    sum->unfinished += more->unfinished;
}

/* Its probes go into the table. */
static void add_counts(struct report *report, const struct placed *placed, const struct tl_reader *reader)
{
    const struct tl_selection *selection = &placed->selection;
    uint64_t *counts = calloc(selection->probe_count + 1, sizeof *counts);
    uint64_t *missed = calloc(selection->probe_count + 1, sizeof *missed);
    bool failed = !counts || !missed;
    if (!failed) {
        tl_reader_counts(reader, counts);
        tl_reader_missed(reader, missed);
    }
    for (size_t i = 0; !failed && i < selection->probe_count; i++) {
        const struct tl_probe *probe = &selection->probes[i];
        if (probe->why == TL_WHY_NONE)
            failed = !tally_add(&report->tally, probe, counts[i], missed[i]);
    }
    tally_next(&report->tally);
    if (failed)
        complain("out of memory");
    free(counts);
    free(missed);
}

/* All that is held of a source that has ended. Once that is long enough ago, the others have shown all that is older.
 */
static void show_rest(struct report *report, const struct source *source)
{
    if (report->held_count) {
        nanosleep(&(struct timespec){.tv_nsec = 2 * SETTLE_NS}, NULL);
        poll_all(report, NULL);
    }
    for (size_t i = 0; i < report->held_count; i++) {
        if (report->held[i].source == source) {
            show_held(report, UINT64_MAX, NULL);
            return;
        }
    }
}

void report_end(struct report *report, struct source *source)
{
    if (!source->reader)
        return;
    struct tl_reader_totals totals;
    bool many = report->options->follow;
    if (!report_is_full(report))
        tl_reader_drain(source->reader, many ? hold : show, source);
    if (many)
        show_rest(report, source);
    tl_reader_totals(source->reader, &totals);
    if (report_is_full(report))
        totals.lost = totals.lost_before;
    add_totals(&report->totals, &totals);
    report->totals.late += many ? 0 : totals.late; /* of many: show_in_turn() */
    if (source->watches)
        watch_hits_end(source);
    if (report->work == WORK_COUNT)
        add_counts(report, source->placed, source->reader);
    struct source **at = &report->sources;
    while (*at && *at != source)
        at = &(*at)->next;
    if (*at)
        *at = source->next;
    free_source(source);
    report_flush(report);
}

void report_finish(struct report *report)
{
    const struct tl_reader_totals *totals = &report->totals;
    struct tl_summary_line summary = {.missed = totals->missed,
                                      .lost = totals->lost,
                                      .refused = report->refused,
                                      .of_watches = report->work == WORK_WATCH};
    summary.hits = report->shown;
    if (report->work == WORK_WATCH)
        watch_hits_finish(report);
    if (report->work == WORK_COUNT)
        summary.hits = tally_show(&report->tally, report->options->verbose, report->format, report->out);
    summary.hits += totals->lost + totals->missed;
    report->format->summary(report->out, &summary);
    if (totals->late)
        complain("%llu events are out of order: a thread was in a hit for long", (unsigned long long)totals->late);
    if (totals->damaged)
        complain("the program wrote into trapline's memory: events were thrown away %llu times",
                 (unsigned long long)totals->damaged);
    if (totals->unfinished)
        complain("%llu hits were cut off by a longjmp or by the program's end", (unsigned long long)totals->unfinished);
    report_flush(report);
}

void report_close(struct report *report)
{
    while (report->sources) {
        struct source *source = report->sources;
        report->sources = source->next;
        free_source(source);
    }
    for (size_t i = 0; i < report->held_count; i++)
        free((void *)(uintptr_t)report->held[i].record.bytes);
    free(report->held);
    tally_free(&report->tally);
    writers_free(&report->writers);
    free(report->watched);
    if (report->out && report->out != stdout)
        fclose(report->out);
    memset(report, 0, sizeof *report);
}
