/* SPDX-License-Identifier: MIT
 *
 * Open addressing, a slot being looked for from its home on upwards; removal moves followers back, so that there are no
 * tombstones.
 */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t home(const struct keys *keys, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & (keys->room - 1);
}

static size_t find(const struct keys *keys, uint64_t key)
{
    size_t at = home(keys, key);
    while (keys->slots[at].key && keys->slots[at].key != key)
        at = (at + 1) & (keys->room - 1);
    return at;
}

int keys_reserve(struct keys *keys, size_t more)
{
    size_t wanted = (keys->count + more) * 2 + 16, room = keys->room ? keys->room : 64;
    while (room < wanted)
        room *= 2;
    if (room == keys->room)
        return 0;
    struct keys grown = {calloc(room, sizeof *grown.slots), room, 0};
    if (!grown.slots)
        return -ENOMEM;
    for (size_t i = 0; i < keys->room; i++)
        if (keys->slots[i].key)
            keys_put(&grown, keys->slots[i].key, keys->slots[i].value);
    free(keys->slots);
    *keys = grown;
    return 0;
}

void keys_put(struct keys *keys, uint64_t key, void *value)
{
    keys->slots[find(keys, key)] = (struct keys_slot){key, value};
    keys->count++;
}

void *keys_get(const struct keys *keys, uint64_t key)
{
    return keys->room && key ? keys->slots[find(keys, key)].value : NULL;
}

void keys_remove(struct keys *keys, uint64_t key)
{
    size_t mask = keys->room - 1, hole = find(keys, key);
    keys->count--;
    for (size_t at = (hole + 1) & mask; keys->slots[at].key; at = (at + 1) & mask) {
        /* Who lives between the hole and here at home has to stay. */
        if (((at - home(keys, keys->slots[at].key)) & mask) < ((at - hole) & mask))
            continue;
        keys->slots[hole] = keys->slots[at];
        hole = at;
    }
    keys->slots[hole] = (struct keys_slot){0, NULL};
}

void keys_free(struct keys *keys)
{
    free(keys->slots);
    memset(keys, 0, sizeof *keys);
}
