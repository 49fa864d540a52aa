/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include "base/array.h"
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

/* A row of this name to which this program has not added yet. */
static struct tally_row *find(const struct tally *tally, const char *name, uint64_t hash)
{
    size_t at = 0;
    for (uint32_t row; (row = row_next(&tally->index, hash, &at)) != ROW_NONE;) {
        struct tally_row *found = &tally->rows[row];
        if (found->program != tally->program + 1 && !strcmp(found->name, name))
            return found;
    }
    return NULL;
}

static struct tally_row *append(struct tally *tally, const char *name, uint64_t hash)
{
    struct tally_row *rows = tl_array_grown(tally->rows, tally->count, &tally->room, sizeof *rows);
    if (!rows)
        return NULL;
    tally->rows = rows;
    char *copy = strdup(name);
    if (!copy || !row_add(&tally->index, hash, (uint32_t)tally->count)) {
        free(copy);
        return NULL;
    }
    rows[tally->count] = (struct tally_row){.name = copy};
    return &rows[tally->count++];
}

bool tally_add(struct tally *tally, const struct tl_probe *probe, uint64_t hits, uint64_t missed)
{
    bool of_glob = probe->spec->is_glob;
    uint64_t hash = row_hash(0, probe->name);
    struct tally_row *row = find(tally, probe->name, hash);
    if (!row) {
        row = append(tally, probe->name, hash);
        if (!row)
            return false;
        row->of_glob = of_glob;
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
    row_index_free(&tally->index);
    *tally = (struct tally){0};
}
