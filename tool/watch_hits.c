/* SPDX-License-Identifier: MIT */
#include "watch_hits.h"

#include "base/now.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 512, NAME_MAX_SHOWN = 512, SHARE_EVERY_NS = 50000000 };

/* A hit on its way to its line. */
struct hit {
    struct source *source;
    const struct tl_record *record;
    const struct tl_watch *spec;
    const struct watched *watched;
    const struct watch_wish *wish;
    const struct watch_spot *spot;
    uint64_t rip, ip;
    bool late;
    const struct seen_beside *values; /* instead of the record's; or NULL */
    const struct tl_datatype *type;   /* of what is shown */
    uint64_t at;                      /* … and where in the spot that is */
    char name[NAME_MAX_SHOWN], old[VALUE_MAX], new[VALUE_MAX];
};

static bool slot(const struct tl_record *record, unsigned number, uint64_t *value)
{
    bool is_there = record->stored >> number & 1;
    *value = is_there ? record->values[number] : 0;
    return is_there;
}

static bool executes(const struct hit *hit)
{
    return hit->spec->access & TL_WATCH_X;
}

/* Where the instruction is that did it. False: it was not of the kind that is watched. */
static bool find_accessor(struct hit *hit)
{
    struct code *code = hit->source->code;
    struct tl_access access = {.kinds =
                                   hit->spec->access == TL_WATCH_W ? TL_INSN_WRITES : TL_INSN_READS | TL_INSN_WRITES,
                               .addr = hit->spot->addr,
                               .length = hit->spot->length};
    access.has_value = slot(hit->record, WATCH_SLOT_NEW, &access.value);
    hit->ip = hit->rip;
    if (executes(hit) || hit->late)
        return true;
    hit->ip = code_accessor(code, hit->rip, &access);
    if (hit->spec->access != TL_WATCH_R || hit->ip == hit->rip)
        return true;
    unsigned kinds = tl_unwinder_access(stacks_unwinder(hit->source->stacks), hit->ip);
    return !kinds || kinds & TL_INSN_READS;
}

/* A change was seen on the occasion of another spot's signal. Whether this thread's instruction has made it, as far as
 * the registers tell: if not, whoever did will claim it. */
static bool may_be_accessor(const struct hit *hit)
{
    uint64_t registers[16];
    for (unsigned i = 0; i < 16; i++)
        slot(hit->record, WATCH_SLOT_REGISTERS + i, &registers[i]);
    return hit->ip == hit->rip || tl_unwinder_may_touch(stacks_unwinder(hit->source->stacks), hit->ip, registers,
                                                        hit->spot->addr, hit->spot->length);
}

/* The value before or behind the access. */
static bool value_of(const struct hit *hit, unsigned number, uint64_t *value)
{
    if (!hit->values)
        return slot(hit->record, number, value);
    *value = number == WATCH_SLOT_OLD ? hit->values->old : hit->values->new;
    return true;
}

/* It may come without values, and before what it is about. */
static bool is_claim_shown(struct hit *hit, struct seen_beside *beside)
{
    uint64_t old, new;
    bool has_old = slot(hit->record, WATCH_SLOT_OLD, &old), has_new = slot(hit->record, WATCH_SLOT_NEW, &new);
    bool is_empty = has_old && has_new && old == new;
    if (!beside->is_left) {
        beside->is_early = is_empty;
        beside->new = new;
        return false;
    }
    beside->is_left = false;
    hit->values = is_empty ? beside : NULL;
    return true;
}

/* Of a change that is told twice, by two threads, one is to be shown. */
static bool is_shown(struct hit *hit, uint64_t how)
{
    struct seen_beside *beside = &hit->source->beside[hit->record->site];
    if (how & TL_WATCHED_CLAIM)
        return is_claim_shown(hit, beside);
    if (how & TL_WATCHED_BESIDE) {
        uint64_t claimed = beside->new;
        slot(hit->record, WATCH_SLOT_OLD, &beside->old);
        slot(hit->record, WATCH_SLOT_NEW, &beside->new);
        bool is_claimed = beside->is_early && claimed == beside->new;
        beside->is_early = false;
        beside->is_left = !is_claimed && !may_be_accessor(hit);
        return !beside->is_left;
    }
    return !(how & TL_WATCHED_GUESS) || may_be_accessor(hit);
}

/* Bytes of which nothing is known but how many they are. */
static const struct tl_datatype *unknown(uint64_t size)
{
    static char name[] = "";
    static const struct tl_datatype types[] = {{.kind = TL_DATA_BYTES, .size = 1, .name = name},
                                               {.kind = TL_DATA_BYTES, .size = 2, .name = name},
                                               {.kind = TL_DATA_BYTES, .size = 4, .name = name},
                                               {.kind = TL_DATA_BYTES, .size = 8, .name = name}};
    return &types[size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3];
}

/* The smallest aligned piece of a spot in which two values differ. */
static void narrow(uint64_t old, uint64_t new, uint64_t *at, uint64_t *size)
{
    uint64_t differs = old ^ new, whole = *size;
    for (*size = 1; *size < whole; *size *= 2)
        for (*at = 0; *at < whole; *at += *size)
            if (!(differs & ~(((1ull << *size * 8) - 1) << *at * 8)))
                return;
    *at = 0;
}

/* Of a range in several pieces: which member or element of the variable this one is, or which one in it has changed. */
static void name_piece(struct hit *hit)
{
    const struct tl_datatype *whole = hit->watched->variable.type;
    uint64_t offset = hit->spec->offset + hit->spot->addr - hit->wish->addr, size = hit->spot->length, old, new;
    char path[NAME_MAX_SHOWN / 2] = "";
    bool has_old = value_of(hit, WATCH_SLOT_OLD, &old);
    bool both = value_of(hit, WATCH_SLOT_NEW, &new) && has_old;
    hit->type = whole ? tl_datatype_at(whole, offset, size, path, sizeof path) : NULL;
    if (whole && !hit->type && both && old != new) {
        narrow(old, new, &hit->at, &size);
        while (size < hit->spot->length &&
               !(hit->type = tl_datatype_at(whole, offset + hit->at, size, path, sizeof path))) {
            size *= 2;
            hit->at &= ~(size - 1);
        }
    }
    if (!hit->type) {
        hit->at = 0;
        snprintf(path, sizeof path, "+0x%" PRIx64, offset);
    }
    if (hit->spec->is_address)
        snprintf(hit->name, sizeof hit->name, "0x%" PRIx64, hit->spot->addr);
    else
        snprintf(hit->name, sizeof hit->name, "%s%s", hit->spec->offset ? hit->watched->variable.name : hit->spec->name,
                 path);
}

static void describe_what(struct hit *hit)
{
    hit->type = hit->watched->type;
    snprintf(hit->name, sizeof hit->name, "%s", hit->spec->name);
    if (!executes(hit) && hit->spot->length != hit->wish->length)
        name_piece(hit);
    if (!hit->type)
        hit->type = unknown(hit->spot->length);
}

/* NULL: it is not known. */
static const char *value_text(const struct hit *hit, unsigned number, char text[VALUE_MAX])
{
    const struct tl_modules *modules = &hit->source->placed->modules;
    struct tl_value_names names = {tl_modules_name, (void *)(uintptr_t)modules};
    uint64_t value;
    if (!value_of(hit, number, &value))
        return NULL;
    const uint8_t *bytes = (const uint8_t *)&value + hit->at;
    size_t size = hit->spot->length - hit->at;
    if (size > hit->type->size)
        size = hit->type->size;
    if (hit->source->report->options->json)
        tl_value_json(hit->type, bytes, size, text, VALUE_MAX);
    else
        tl_value_text(hit->type, bytes, size, &names, text, VALUE_MAX);
    return text;
}

static void add_stack(const struct hit *hit, struct tl_watch_line *line)
{
    struct source *source = hit->source;
    struct tl_frame *frames;
    size_t count = stacks_frames(source->stacks, hit->record, hit->rip, &frames, &line->stack_cut);
    if (!count)
        return;
    /* It is where it was found, but for the one instruction. */
    if (hit->rip - hit->ip < 2 * TL_INSN_MAX)
        frames[0].addr = hit->ip;
    line->stack = code_stack(source->code, frames, count, !source->report->options->json, &line->stack_count);
}

/* To count takes a system call a thread, so it is done now and then. */
static double share_of(struct source *source, uint32_t index)
{
    struct watch_share *share = &source->shares[index];
    uint64_t now = tl_now();
    if (now - share->asked_ns > SHARE_EVERY_NS) {
        struct tl_watching_count count;
        place_watches_count(source->placed, index, &count);
        *share = (struct watch_share){.armed = count.armed, .asked_ns = now};
    }
    return share->armed;
}

bool watch_hits_show(struct source *source, const struct tl_record *record)
{
    struct report *report = source->report;
    const struct program_watches *program = source->watches;
    uint64_t how;
    if (record->probe >= program->count || record->site >= program->place.spot_count)
        return false;
    const struct watched *watched = &program->list[record->probe];
    struct hit hit = {.source = source,
                      .record = record,
                      .spec = program->specs->list[watched->spec],
                      .watched = watched,
                      .wish = &program->place.wishes[record->probe],
                      .spot = &program->place.spots[record->site]};
    slot(record, WATCH_SLOT_IP, &hit.rip);
    slot(record, WATCH_SLOT_HOW, &how);
    hit.late = how & TL_WATCHED_LATE;
    code_begin(source->code);
    if (!find_accessor(&hit) || !is_shown(&hit, how))
        return false;
    describe_what(&hit);
    const struct code_frame *frame = code_frame(source->code, &(struct tl_frame){.addr = hit.ip});
    struct tl_watch_line line = {.watch = hit.name,
                                 .pid = tl_remote_facts(source->placed->remote)->pid,
                                 .time_ns = record->time_ns,
                                 .ip = hit.ip,
                                 .symbol = frame ? frame->symbol : "?",
                                 .source = frame ? frame->source : NULL,
                                 .has_values = !executes(&hit),
                                 .late = hit.late};
    line.old = value_text(&hit, WATCH_SLOT_OLD, hit.old);
    line.new = value_text(&hit, WATCH_SLOT_NEW, hit.new);
    line.tid = tl_tasks_find(source->tasks, record->tid, record->fs_base, record->time_ns, &line.comm);
    line.takes_turns = source->takes_turns;
    if (line.takes_turns)
        line.armed = share_of(source, record->probe);
    if (report->options->stacks)
        add_stack(&hit, &line);
    report->format->watch(report->out, &line);
    report->watched[watched->spec].reported++;
    if (hit.late)
        writers_add(&report->writers, hit.name, "(seen late)", NULL);
    else
        writers_add(&report->writers, hit.name, frame ? frame->function : "?", line.source);
    return true;
}

void watch_hits_end(struct source *source)
{
    struct tl_watching_facts facts;
    const struct placed *placed = source->placed;
    if (!placed->watching)
        return;
    tl_watching_facts(placed->watching, &facts);
    for (size_t i = 0; i < source->watches->count; i++) {
        struct watch_total *total = &source->report->watched[source->watches->list[i].spec];
        struct tl_watching_count count;
        place_watches_count(placed, i, &count);
        total->accesses += count.accesses;
        total->uncounted |= !count.counted;
        total->late += count.late;
        total->armed += count.armed;
        total->programs++;
        total->how = facts.mechanism;
    }
    if (facts.uncovered)
        complain("%zu threads that came later were watched only from when they were found on", facts.uncovered);
}

void watch_hits_finish(struct report *report)
{
    size_t count = report->watches->count, used = 0;
    struct tl_watched_line *lines = calloc(count + 1, sizeof *lines);
    writers_show(&report->writers, report->format, report->out);
    for (size_t i = 0; lines && i < count; i++) {
        const struct watch_total *total = &report->watched[i];
        if (total->programs)
            lines[used++] = (struct tl_watched_line){.watch = report->watches->list[i]->name,
                                                     .accesses = total->accesses,
                                                     .counted = !total->uncounted,
                                                     .reported = total->reported,
                                                     .late = total->late,
                                                     .armed = total->armed / (double)total->programs,
                                                     .how = total->how};
    }
    if (lines)
        report->format->watched(report->out, lines, used);
    free(lines);
}
