/* SPDX-License-Identifier: MIT
 *
 * A table of names and address ranges: sorted by address for "what is here", hashed by name for "where is this".
 * Ranges may nest and overlap (aliases, assembly with labels), so each entry also knows how far the entries up to it
 * reach: looking backwards from an address ends as soon as nothing before can hold it.
 */
#include <stdlib.h>
#include <string.h>

#include "symbol/object.h"

bool table_add(struct table *table, const struct tl_function *entry)
{
    struct tl_function *grown = tl_array_grown(table->entries, table->count, &table->capacity, sizeof *grown);
    if (!grown)
        return false;
    table->entries = grown;
    table->entries[table->count++] = *entry;
    return true;
}

static int by_address(const void *left, const void *right)
{
    const struct tl_function *a = left, *b = right;
    if (a->addr != b->addr)
        return a->addr < b->addr ? -1 : 1;
    return a->name == b->name ? 0 : strcmp(a->name ? a->name : "", b->name ? b->name : "");
}

/* Ten thousand symbols are sorted at each start of the tool, so not by comparing: by the digits of the address, lowest
 * first, and only those of one address by name. False when there is no memory for that. */
static bool sort_by_digits(struct tl_function *entries, size_t count)
{
    enum { BITS = 11, DIGITS = 1 << BITS };
    struct tl_function *from = entries, *to = malloc(count * sizeof *to), *spare = to;
    uint64_t differing = 0;
    if (!to)
        return false;
    for (size_t i = 1; i < count; i++)
        differing |= entries[i].addr ^ entries[0].addr;
    for (unsigned shift = 0; shift < 64 && differing >> shift; shift += BITS) {
        size_t starts[DIGITS + 1] = {0};
        for (size_t i = 0; i < count; i++)
            starts[(from[i].addr >> shift) % DIGITS + 1]++;
        for (size_t d = 0; d < DIGITS; d++)
            starts[d + 1] += starts[d];
        for (size_t i = 0; i < count; i++)
            to[starts[(from[i].addr >> shift) % DIGITS]++] = from[i];
        struct tl_function *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != entries)
        memcpy(entries, from, count * sizeof *entries);
    free(spare);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && entries[end].addr == entries[i].addr;)
            end++;
        if (end - i > 1)
            qsort(entries + i, end - i, sizeof *entries, by_address);
    }
    return true;
}

void table_sort(struct table *table)
{
    size_t kept = 0;
    if (table->count == 0)
        return;
    if (!sort_by_digits(table->entries, table->count))
        qsort(table->entries, table->count, sizeof *table->entries, by_address);
    for (size_t i = 1; i < table->count; i++) {
        struct tl_function *last = &table->entries[kept];
        const struct tl_function *entry = &table->entries[i];
        if (by_address(last, entry) != 0) {
            table->entries[++kept] = *entry;
            continue;
        }
        if (entry->size > last->size)
            last->size = entry->size;
        last->global |= entry->global;
        if (entry->kind == TL_FUNCTION_IFUNC)
            last->kind = TL_FUNCTION_IFUNC;
    }
    table->count = kept + 1;
}

static uint32_t hash(const char *name)
{
    uint32_t value = 2166136261u;
    for (; *name; name++)
        value = (value ^ (uint8_t)*name) * 16777619u;
    return value;
}

bool table_index(struct table *table)
{
    size_t buckets = 16;
    if (table->count >= UINT32_MAX / 4)
        return false;
    while (buckets < table->count * 2)
        buckets *= 2;
    table->reach = malloc((table->count + 1) * sizeof *table->reach);
    table->next = malloc((table->count + 1) * sizeof *table->next);
    table->heads = malloc(buckets * sizeof *table->heads);
    if (!table->reach || !table->next || !table->heads)
        return false;
    table->mask = (uint32_t)buckets - 1;
    memset(table->heads, 0xff, buckets * sizeof *table->heads);
    uint64_t reach = 0;
    for (size_t i = 0; i < table->count; i++) {
        uint64_t end = table->entries[i].addr + table->entries[i].size;
        if (end > reach)
            reach = end;
        table->reach[i] = reach;
    }
    for (size_t i = table->count; i-- > 0;) {
        if (!table->entries[i].name)
            continue;
        uint32_t *head = &table->heads[hash(table->entries[i].name) & table->mask];
        table->next[i] = *head;
        *head = (uint32_t)i;
    }
    return true;
}

/* Of several names for one range, the one that people mean: without leading underscores, global, short. */
static bool better_name(const struct tl_function *a, const struct tl_function *b)
{
    size_t a_under = strspn(a->name ? a->name : "", "_"), b_under = strspn(b->name ? b->name : "", "_");
    if (a_under != b_under)
        return a_under < b_under;
    if (a->global != b->global)
        return a->global;
    return strlen(a->name ? a->name : "") < strlen(b->name ? b->name : "");
}

const struct tl_function *table_at(const struct table *table, uint64_t addr)
{
    const struct tl_function *best = NULL;
    size_t begun =
        tl_array_upto(table->entries, table->count, sizeof *table->entries, offsetof(struct tl_function, addr), addr);
    for (size_t i = begun; i-- > 0 && table->reach[i] > addr;) {
        const struct tl_function *entry = &table->entries[i];
        if (best && entry->addr != best->addr)
            break;
        if (addr - entry->addr < entry->size && (!best || better_name(entry, best)))
            best = entry;
    }
    return best;
}

const struct tl_function *table_named(const struct table *table, const char *name, const struct tl_function *previous)
{
    if (!table->heads)
        return NULL;
    uint32_t i = previous ? table->next[previous - table->entries] : table->heads[hash(name) & table->mask];
    while (i != UINT32_MAX && strcmp(table->entries[i].name, name) != 0)
        i = table->next[i];
    return i == UINT32_MAX ? NULL : &table->entries[i];
}

void table_free(struct table *table)
{
    free(table->entries);
    free(table->reach);
    free(table->heads);
    free(table->next);
    memset(table, 0, sizeof *table);
}
