/* SPDX-License-Identifier: MIT
 *
 * What is registered, whichever of the three kinds it is.
 */
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "stubs.h"

struct entry *entry_new(const void *key, enum entry_kind kind)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->key = key;
        entry->kind = kind;
    }
    return entry;
}

void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    if (entry->stub)
        stub_free(entry->stub);
    free(entry->sites);
    free(entry->calls);
    free(entry);
}

uint64_t entry_flags(const struct entry *entry)
{
    switch (entry->kind) {
    case ENTRY_PROBE:
        return entry->probe.flags;
    case ENTRY_RETURN:
        return entry->returns.flags;
    default:
        return entry->jump.flags;
    }
}

#define WANTED(from) ((struct wanted){(uintptr_t)(from).address, (from).symbol, (from).module, (from).offset})

struct wanted entry_wanted(const struct entry *entry)
{
    switch (entry->kind) {
    case ENTRY_PROBE:
        return WANTED(entry->probe);
    case ENTRY_RETURN:
        return WANTED(entry->returns);
    default:
        return WANTED(entry->jump);
    }
}

struct entry *entry_find(const void *key, enum entry_kind kind)
{
    struct entry *entry = keys_get(&engine.entries, (uintptr_t)key);
    return entry && entry->kind == kind ? entry : NULL;
}

uint64_t entry_missed(const struct entry *entry)
{
    uint64_t missed = entry->missed;
    if (entry->enabled && entry->site_count)
        missed += site_missed(entry->sites[0]) - entry->missed_base;
    if (entry->calls)
        missed += tl_call_return_missed(entry->calls);
    return missed;
}
