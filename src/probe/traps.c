/* SPDX-License-Identifier: MIT */
#include "probe/traps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hit/broker.h"
#include "probe/trampoline.h"

enum { PART_TRAPS = 2, PART_MARKS = TL_STRETCHES_MAX * TL_COPY_MARKS };

struct tl_traps_part {
    unsigned trap_count, range_count, mark_count;
    uint64_t sigreturn; /* the system call that the site guards, if it is rt_sigreturn; or 0 */
    struct tl_trap traps[PART_TRAPS];
    struct tl_trap_range ranges[TL_STRETCHES_MAX]; /* first_mark counts within the part */
    struct tl_mark marks[];
};

/* The site, however it is patched: while a jump is written into running code, its first byte is an int3 too. And the
 * int3 that begins a step. */
static void add_traps(struct tl_traps_part *part, const struct tl_site *site, uint32_t index)
{
    part->traps[part->trap_count++] =
        (struct tl_trap){.addr = site->addr, .to = site->trampoline, .how = TL_TRAP_JUMP, .index = index};
    uint64_t start = site->trampoline + site->copy_at;
    if (site->step_at)
        part->traps[part->trap_count++] =
            (struct tl_trap){.addr = start, .to = start + site->step_at, .how = TL_TRAP_STEP, .index = index};
}

/* By its parts: what lies between them stays zero, so that the same sites give the same image. */
static void copy_mark(struct tl_mark *to, const struct tl_mark *from)
{
    to->at = from->at;
    to->state = from->state;
    to->borrowed = from->borrowed;
    to->unwind = from->unwind;
    to->addr = from->addr;
}

int tl_traps_part_make(const struct tl_site *site, uint32_t index, struct tl_traps_part **out)
{
    struct tl_stretch stretches[TL_STRETCHES_MAX];
    unsigned count = tl_trampoline_stretches(site, stretches), marks = 0;
    for (unsigned i = 0; i < count; i++)
        marks += stretches[i].marks_used;
    struct tl_traps_part *part = calloc(1, sizeof *part + marks * sizeof *part->marks);
    *out = part;
    if (!part)
        return -ENOMEM;
    add_traps(part, site, index);
    part->sigreturn = site->guard == TL_GUARD_RETURN ? site->addr + site->guard_at : 0;
    for (unsigned i = 0; i < count; i++) {
        const struct tl_stretch *stretch = &stretches[i];
        part->ranges[part->range_count++] = (struct tl_trap_range){.start = stretch->start,
                                                                   .end = stretch->end,
                                                                   .addr = stretch->addr,
                                                                   .index = index,
                                                                   .first_mark = part->mark_count,
                                                                   .mark_count = stretch->marks_used,
                                                                   .length = stretch->length};
        part->ranges[part->range_count - 1].flags =
            (uint16_t)((stretch->is_syscall ? TL_RANGE_SYSCALL : 0) | (stretch->behind ? TL_RANGE_BEHIND : 0));
        for (unsigned k = 0; k < stretch->marks_used; k++)
            copy_mark(&part->marks[part->mark_count++], &stretch->marks[k]);
    }
    return 0;
}

uint64_t tl_traps_part_addr(const struct tl_traps_part *part)
{
    return part->traps[0].addr;
}

void tl_traps_part_gone(struct tl_traps_part *part, bool gone)
{
    part->traps[0].how = gone ? TL_TRAP_GONE : TL_TRAP_JUMP;
}

void tl_traps_part_free(struct tl_traps_part *part)
{
    free(part);
}

static int by_trap(const void *left, const void *right)
{
    const struct tl_trap *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

static int by_range(const void *left, const void *right)
{
    const struct tl_trap_range *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

static int by_number(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

static int by_memory(const void *left, const void *right)
{
    const struct tl_trap_memory *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

static struct tl_trap *traps_of(struct tl_broker_tables *tables)
{
    return (struct tl_trap *)((uint8_t *)tables + tables->traps);
}

static struct tl_trap_range *ranges_of(struct tl_broker_tables *tables)
{
    return (struct tl_trap_range *)((uint8_t *)tables + tables->ranges);
}

static struct tl_mark *marks_of(struct tl_broker_tables *tables)
{
    return (struct tl_mark *)((uint8_t *)tables + tables->marks);
}

static uint64_t *returns_of(struct tl_broker_tables *tables)
{
    return (uint64_t *)((uint8_t *)tables + tables->returns);
}

static struct tl_trap_memory *memory_of(struct tl_broker_tables *tables)
{
    return (struct tl_trap_memory *)((uint8_t *)tables + tables->memory);
}

/* Where everything will be, as if there were no duplicates. */
static struct tl_broker_tables *lay_out(const struct tl_traps_part *const *parts, size_t count, size_t memory_count)
{
    struct tl_broker_tables head = {.magic = TL_BROKER_TABLES_MAGIC, .memory_count = (uint32_t)memory_count};
    for (size_t i = 0; i < count; i++) {
        head.trap_count += parts[i]->trap_count;
        head.range_count += parts[i]->range_count;
        head.mark_count += parts[i]->mark_count;
        head.return_count += parts[i]->sigreturn != 0;
    }
    head.traps = sizeof head;
    head.ranges = head.traps + head.trap_count * sizeof(struct tl_trap);
    head.marks = head.ranges + head.range_count * sizeof(struct tl_trap_range);
    head.memory = head.marks + head.mark_count * sizeof(struct tl_mark);
    head.returns = head.memory + memory_count * sizeof(struct tl_trap_memory);
    head.size = head.returns + head.return_count * sizeof(uint64_t);
    struct tl_broker_tables *tables = calloc(1, head.size);
    if (tables)
        *tables = head;
    return tables;
}

/* Where the stretch that is in order from `from` on ends. */
static size_t ordered(const uint8_t *items, size_t from, size_t count, size_t size,
                      int (*order)(const void *, const void *))
{
    for (from++; from < count; from++)
        if (order(items + (from - 1) * size, items + from * size) > 0)
            break;
    return from < count ? from : count;
}

/* Two stretches of `from`, [first, middle) and [middle, end), go to the same place in `to` in order. */
static void merge(uint8_t *to, const uint8_t *from, size_t first, size_t middle, size_t end, size_t size,
                  int (*order)(const void *, const void *))
{
    size_t left = first, right = middle;
    for (size_t at = first; at < end; at++) {
        bool takes_left = right == end || (left < middle && order(from + left * size, from + right * size) <= 0);
        memcpy(to + at * size, from + (takes_left ? left++ : right++) * size, size);
    }
}

/* In order. Parts come by address, and their trampolines were made arena by arena: there are a few stretches that are
 * in order already, as a rule, and tables are built for each probe. */
static void sort(void *items, size_t count, size_t size, int (*order)(const void *, const void *))
{
    uint8_t *from = items, *spare = NULL, *to = NULL;
    while (ordered(from, 0, count, size, order) < count) {
        if (!spare && !(spare = malloc(count * size))) {
            qsort(items, count, size, order);
            return;
        }
        to = from == spare ? items : spare;
        for (size_t first = 0; first < count;) {
            size_t middle = ordered(from, first, count, size, order);
            size_t end = middle < count ? ordered(from, middle, count, size, order) : count;
            merge(to, from, first, middle, end, size, order);
            first = end;
        }
        from = to;
    }
    if (from != items)
        memcpy(items, from, count * size);
    free(spare);
}

static void copy_parts(struct tl_broker_tables *tables, const struct tl_traps_part *const *parts, size_t count)
{
    struct tl_trap *traps = traps_of(tables);
    struct tl_trap_range *ranges = ranges_of(tables);
    struct tl_mark *marks = marks_of(tables);
    uint64_t *returns = returns_of(tables);
    uint32_t first_mark = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tl_traps_part *part = parts[i];
        memcpy(traps, part->traps, part->trap_count * sizeof *traps);
        memcpy(ranges, part->ranges, part->range_count * sizeof *ranges);
        memcpy(marks, part->marks, part->mark_count * sizeof *marks);
        for (unsigned k = 0; k < part->range_count; k++)
            ranges[k].first_mark += first_mark;
        if (part->sigreturn)
            *returns++ = part->sigreturn;
        traps += part->trap_count;
        ranges += part->range_count;
        marks += part->mark_count;
        first_mark += part->mark_count;
    }
}

/* Pieces that touch become one. */
static void merge_memory(struct tl_broker_tables *tables, const struct tl_traps_memory *memory, size_t count)
{
    struct tl_trap_memory *pieces = memory_of(tables);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        pieces[i] = (struct tl_trap_memory){memory[i].start, memory[i].end};
    sort(pieces, count, sizeof *pieces, by_memory);
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].start >= pieces[i].end)
            continue;
        if (kept && pieces[i].start <= pieces[kept - 1].end) {
            if (pieces[i].end > pieces[kept - 1].end)
                pieces[kept - 1].end = pieces[i].end;
            continue;
        }
        pieces[kept++] = pieces[i];
    }
    tables->memory_count = (uint32_t)kept;
}

int tl_traps_build(const struct tl_traps_part *const *parts, size_t count, const struct tl_traps_memory *memory,
                   size_t memory_count, void **image, size_t *size)
{
    struct tl_broker_tables *tables = lay_out(parts, count, memory_count);
    if (!tables)
        return -ENOMEM;
    copy_parts(tables, parts, count);
    sort(traps_of(tables), tables->trap_count, sizeof(struct tl_trap), by_trap);
    sort(ranges_of(tables), tables->range_count, sizeof(struct tl_trap_range), by_range);
    sort(returns_of(tables), tables->return_count, sizeof(uint64_t), by_number);
    merge_memory(tables, memory, memory_count);
    *image = tables;
    *size = tables->size;
    return 0;
}

int tl_traps_of_sites(const struct tl_site *sites, size_t count, const struct tl_traps_memory *memory,
                      size_t memory_count, void **image, size_t *size)
{
    struct tl_traps_part **parts = calloc(count + 1, sizeof(struct tl_traps_part *));
    size_t made = 0;
    int error = parts ? 0 : -ENOMEM;
    for (size_t i = 0; i < count && !error; i++)
        if (sites[i].trampoline)
            error = tl_traps_part_make(&sites[i], (uint32_t)i, &parts[made++]);
    if (!error)
        error = tl_traps_build((const struct tl_traps_part *const *)parts, made, memory, memory_count, image, size);
    for (size_t i = 0; i < made; i++)
        tl_traps_part_free(parts[i]);
    free(parts);
    return error;
}
