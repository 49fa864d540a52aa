/* SPDX-License-Identifier: MIT
 *
 * Open addressing, a slot being looked for from its home on upwards; removal moves followers back, so that there are no
 * tombstones.
 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t home(const struct table *table, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & (table->room - 1);
}

static size_t find(const struct table *table, uint64_t key)
{
    size_t at = home(table, key);
    while (table->slots[at].key && table->slots[at].key != key)
        at = (at + 1) & (table->room - 1);
    return at;
}

int table_reserve(struct table *table, size_t more)
{
    size_t wanted = (table->count + more) * 2 + 16, room = table->room ? table->room : 64;
    while (room < wanted)
        room *= 2;
    if (room == table->room)
        return 0;
    struct table grown = {calloc(room, sizeof *grown.slots), room, 0};
    if (!grown.slots)
        return -ENOMEM;
    for (size_t i = 0; i < table->room; i++)
        if (table->slots[i].key)
            table_put(&grown, table->slots[i].key, table->slots[i].value);
    free(table->slots);
    *table = grown;
    return 0;
}

void table_put(struct table *table, uint64_t key, void *value)
{
    table->slots[find(table, key)] = (struct table_slot){key, value};
    table->count++;
}

void *table_get(const struct table *table, uint64_t key)
{
    return table->room && key ? table->slots[find(table, key)].value : NULL;
}

void table_remove(struct table *table, uint64_t key)
{
    size_t mask = table->room - 1, hole = find(table, key);
    table->count--;
    for (size_t at = (hole + 1) & mask; table->slots[at].key; at = (at + 1) & mask) {
        /* Who lives between the hole and here at home has to stay. */
        if (((at - home(table, table->slots[at].key)) & mask) < ((at - hole) & mask))
            continue;
        table->slots[hole] = table->slots[at];
        hole = at;
    }
    table->slots[hole] = (struct table_slot){0, NULL};
}

void table_free(struct table *table)
{
    free(table->slots);
    memset(table, 0, sizeof *table);
}
