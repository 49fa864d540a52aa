/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include "probe/plan.h"

#include <stdlib.h>
#include <string.h>

struct tally_row {
    char *name;
    uint64_t hits, missed;
    uint32_t program; /* the last that added to it, + 1 */
    uint8_t tactic;   /* the slowest */
    bool of_glob;
};

static size_t hash(const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 1099511628211u;
    return (size_t)(h >> 20);
}

static void enter(struct tally *tally, uint32_t row)
{
    size_t i = hash(tally->rows[row].name);
    while (tally->table[i & (tally->table_room - 1)])
        i++;
    tally->table[i & (tally->table_room - 1)] = row + 1;
}

static bool make_room(struct tally *tally)
{
    if (tally->count < tally->room)
        return true;
    size_t room = tally->room ? tally->room * 2 : 64;
    struct tally_row *rows = realloc(tally->rows, room * sizeof *rows);
    if (rows)
        tally->rows = rows;
    uint32_t *table = calloc(room * 2, sizeof *table);
    if (!rows || !table) {
        free(table);
        return false;
    }
    free(tally->table);
    tally->table = table;
    tally->table_room = room * 2;
    tally->room = room;
    for (size_t i = 0; i < tally->count; i++)
        enter(tally, (uint32_t)i);
    return true;
}

/* A row of this name to which this program has not added yet. */
static struct tally_row *find(const struct tally *tally, const char *name)
{
    for (size_t i = hash(name); tally->table_room; i++) {
        uint32_t row = tally->table[i & (tally->table_room - 1)];
        if (!row)
            break;
        struct tally_row *found = &tally->rows[row - 1];
        if (found->program != tally->program + 1 && !strcmp(found->name, name))
            return found;
    }
    return NULL;
}

bool tally_add(struct tally *tally, const struct tl_probe *probe, uint64_t hits, uint64_t missed)
{
    bool of_glob = probe->spec->is_glob;
    struct tally_row *row = find(tally, probe->name);
    if (!row) {
        char *copy = make_room(tally) ? strdup(probe->name) : NULL;
        if (!copy)
            return false;
        row = &tally->rows[tally->count++];
        *row = (struct tally_row){.name = copy, .of_glob = of_glob};
        enter(tally, (uint32_t)(tally->count - 1));
    }
    row->program = tally->program + 1;
    row->hits += hits;
    row->missed += missed;
    row->of_glob &= of_glob;
    row->tactic = probe->tactic > row->tactic ? probe->tactic : row->tactic;
    return true;
}

void tally_next(struct tally *tally)
{
    tally->program++;
}

/* The busiest first; otherwise in the order in which they came: that of the specs and of their addresses. */
static int by_hits(const void *left, const void *right)
{
    const struct tl_count_line *a = left, *b = right;
    if (a->hits != b->hits)
        return a->hits > b->hits ? -1 : 1;
    return a->probe < b->probe ? -1 : a->probe > b->probe;
}

uint64_t tally_show(const struct tally *tally, bool all, const struct tl_format *format, FILE *out)
{
    struct tl_probe_info *infos = calloc(tally->count + 1, sizeof *infos);
    struct tl_count_line *lines = calloc(tally->count + 1, sizeof *lines);
    uint64_t total = 0;
    size_t used = 0;
    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_row *row = &tally->rows[i];
        total += row->hits;
        bool hit = row->hits || row->missed;
        if (!infos || !lines || !(hit || !row->of_glob || all))
            continue;
        infos[used] = (struct tl_probe_info){.name = row->name, .how = tl_tactic_name(row->tactic)};
        lines[used] = (struct tl_count_line){.probe = &infos[used], .hits = row->hits, .missed = row->missed};
        used++;
    }
    if (infos && lines) {
        qsort(lines, used, sizeof *lines, by_hits);
        format->counts(out, lines, used);
    }
    free(infos);
    free(lines);
    return total;
}

void tally_free(struct tally *tally)
{
    for (size_t i = 0; i < tally->count; i++)
        free(tally->rows[i].name);
    free(tally->rows);
    free(tally->table);
    *tally = (struct tally){0};
}
