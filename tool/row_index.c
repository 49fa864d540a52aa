/* SPDX-License-Identifier: MIT */
#include "row_index.h"

#include <stdlib.h>

enum { FIRST_ROOM = 128 };

struct row_place {
    uint64_t hash;
    uint32_t row; /* + 1; 0: free */
};

uint64_t row_hash(uint64_t before, const char *text)
{
    uint64_t h = before * 31 ^ 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 1099511628211u;
    return h;
}

/* The place that is `step` behind a hash's own. */
static struct row_place *place_of(const struct row_index *index, uint64_t hash, size_t step)
{
    return &index->places[((size_t)(hash >> 20) + step) & (index->room - 1)];
}

uint32_t row_next(const struct row_index *index, uint64_t hash, size_t *at)
{
    while (index->room) {
        const struct row_place *place = place_of(index, hash, (*at)++);
        if (!place->row)
            break;
        if (place->hash == hash)
            return place->row - 1;
    }
    return ROW_NONE;
}

static void enter(struct row_index *index, const struct row_place *entry)
{
    size_t step = 0;
    while (place_of(index, entry->hash, step)->row)
        step++;
    *place_of(index, entry->hash, step) = *entry;
}

static bool grow(struct row_index *index)
{
    struct row_index larger = {.count = index->count, .room = index->room ? 2 * index->room : FIRST_ROOM};
    larger.places = calloc(larger.room, sizeof *larger.places);
    if (!larger.places)
        return false;
    for (size_t i = 0; i < index->room; i++)
        if (index->places[i].row)
            enter(&larger, &index->places[i]);
    free(index->places);
    *index = larger;
    return true;
}

bool row_add(struct row_index *index, uint64_t hash, uint32_t row)
{
    if (2 * (index->count + 1) > index->room && !grow(index))
        return false;
    enter(index, &(struct row_place){hash, row + 1});
    index->count++;
    return true;
}

void row_index_free(struct row_index *index)
{
    free(index->places);
    *index = (struct row_index){0};
}
