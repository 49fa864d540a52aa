/* SPDX-License-Identifier: MIT */
#include "writers.h"

#include <stdlib.h>
#include <string.h>

struct writer {
    char *watch, *function, *source;
    uint64_t hits;
};

static uint64_t hash_text(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 1099511628211u;
    return h * 31;
}

static size_t hash(const char *watch, const char *function, const char *source)
{
    return (size_t)(hash_text(hash_text(hash_text(14695981039346656037u, watch), function), source) >> 20);
}

static bool make_room(struct writers *writers)
{
    if (writers->count < writers->room)
        return true;
    size_t room = writers->room ? writers->room * 2 : 64;
    struct writer *rows = realloc(writers->rows, room * sizeof *rows);
    if (rows)
        writers->rows = rows;
    uint32_t *table = calloc(room * 2, sizeof *table);
    if (!rows || !table) {
        free(table);
        return false;
    }
    free(writers->table);
    writers->table = table;
    writers->table_room = room * 2;
    writers->room = room;
    for (size_t i = 0; i < writers->count; i++) {
        size_t at = hash(rows[i].watch, rows[i].function, rows[i].source);
        while (table[at & (room * 2 - 1)])
            at++;
        table[at & (room * 2 - 1)] = (uint32_t)i + 1;
    }
    return true;
}

bool writers_add(struct writers *writers, const char *watch, const char *function, const char *source)
{
    const char *where = source ? source : "";
    if (!make_room(writers))
        return false;
    size_t at = hash(watch, function, where);
    uint32_t *found;
    while (*(found = &writers->table[at & (writers->table_room - 1)])) {
        struct writer *row = &writers->rows[*found - 1];
        if (!strcmp(row->watch, watch) && !strcmp(row->function, function) && !strcmp(row->source, where)) {
            row->hits++;
            return true;
        }
        at++;
    }
    struct writer row = {.watch = strdup(watch), .function = strdup(function), .source = strdup(where), .hits = 1};
    if (!row.watch || !row.function || !row.source) {
        free(row.watch);
        free(row.function);
        free(row.source);
        return false;
    }
    writers->rows[writers->count++] = row;
    *found = (uint32_t)writers->count;
    return true;
}

uint64_t writers_hits(const struct writers *writers, const char *watch)
{
    uint64_t hits = 0;
    for (size_t i = 0; i < writers->count; i++)
        if (!strcmp(writers->rows[i].watch, watch))
            hits += writers->rows[i].hits;
    return hits;
}

/* A row, and the place of its watch: that of the first row of that name. */
struct ranked {
    const struct writer *row;
    size_t watch, order;
};

static int by_rank(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    if (a->watch != b->watch)
        return a->watch < b->watch ? -1 : 1;
    if (a->row->hits != b->row->hits)
        return a->row->hits > b->row->hits ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static size_t first_of_watch(const struct writers *writers, const struct writer *row)
{
    size_t i = 0;
    while (strcmp(writers->rows[i].watch, row->watch))
        i++;
    return i;
}

void writers_show(const struct writers *writers, const struct tl_format *format, FILE *out)
{
    struct ranked *ranked = calloc(writers->count + 1, sizeof *ranked);
    struct tl_writer_line *lines = calloc(writers->count + 1, sizeof *lines);
    for (size_t i = 0; ranked && i < writers->count; i++)
        ranked[i] = (struct ranked){&writers->rows[i], first_of_watch(writers, &writers->rows[i]), i};
    if (ranked && lines) {
        qsort(ranked, writers->count, sizeof *ranked, by_rank);
        for (size_t i = 0; i < writers->count; i++) {
            const struct writer *row = ranked[i].row;
            lines[i] = (struct tl_writer_line){.watch = row->watch,
                                               .writer = row->function,
                                               .source = *row->source ? row->source : NULL,
                                               .hits = row->hits,
                                               .share = (double)row->hits / (double)writers_hits(writers, row->watch)};
        }
        format->writers(out, lines, writers->count);
    }
    free(ranked);
    free(lines);
}

void writers_free(struct writers *writers)
{
    for (size_t i = 0; i < writers->count; i++) {
        free(writers->rows[i].watch);
        free(writers->rows[i].function);
        free(writers->rows[i].source);
    }
    free(writers->rows);
    free(writers->table);
    *writers = (struct writers){0};
}
