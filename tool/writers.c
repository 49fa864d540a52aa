/* SPDX-License-Identifier: MIT */
#include "writers.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

struct writer {
    char *watch, *function, *source;
    uint64_t hits;
};

static struct writer *find(const struct writers *writers, const struct writer *like, uint64_t hash)
{
    size_t at = 0;
    for (uint32_t number; (number = row_next(&writers->index, hash, &at)) != ROW_NONE;) {
        struct writer *row = &writers->rows[number];
        if (!strcmp(row->watch, like->watch) && !strcmp(row->function, like->function) &&
            !strcmp(row->source, like->source))
            return row;
    }
    return NULL;
}

static void free_texts(const struct writer *row)
{
    free(row->watch);
    free(row->function);
    free(row->source);
}

static bool append(struct writers *writers, const struct writer *like, uint64_t hash)
{
    struct writer *rows = tl_array_grown(writers->rows, writers->count, &writers->room, sizeof *rows);
    if (!rows)
        return false;
    writers->rows = rows;
    struct writer row = {
        .watch = strdup(like->watch), .function = strdup(like->function), .source = strdup(like->source), .hits = 1};
    if (!row.watch || !row.function || !row.source || !row_add(&writers->index, hash, (uint32_t)writers->count)) {
        free_texts(&row);
        return false;
    }
    rows[writers->count++] = row;
    return true;
}

bool writers_add(struct writers *writers, const char *watch, const char *function, const char *source)
{
    const struct writer like = {.watch = (char *)(uintptr_t)watch,
                                .function = (char *)(uintptr_t)function,
                                .source = source ? (char *)(uintptr_t)source : (char *)""};
    uint64_t hash = row_hash(row_hash(row_hash(0, like.watch), like.function), like.source);
    struct writer *row = find(writers, &like, hash);
    if (!row)
        return append(writers, &like, hash);
    row->hits++;
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
    for (size_t i = 0; i < writers->count; i++)
        free_texts(&writers->rows[i]);
    free(writers->rows);
    row_index_free(&writers->index);
    *writers = (struct writers){0};
}
