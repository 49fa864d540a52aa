/* SPDX-License-Identifier: MIT
 *
 * A line of the list is ADDRESS TYPE NAME, of a module's symbol with TAB [MODULE] behind it. TYPE is a letter as nm
 * prints it.
 */
#include "symbol/kernel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "symbol/variables.h"

struct kernel_symbol {
    uint64_t addr;
    uint32_t order; /* in the list, from 0 */
    char type;
    char *name, *module; /* module: part of the same memory, or NULL */
};

/* Where a kernel lists functions only, some marks between sections are listed all the same. */
enum { DATA_FEW = 1000 };

struct tl_kernel_symbols {
    struct kernel_symbol *list; /* by address, then as listed */
    size_t count, room;
    size_t data; /* how many of them are variables */
};

/* 0, -ENOMEM, or -EINVAL: no such line. */
static int add_line(struct tl_kernel_symbols *symbols, char *line)
{
    char type, *end, *rest;
    uint64_t addr = strtoull(line, &end, 16);
    if (end == line || *end != ' ' || !(type = end[1]) || end[2] != ' ')
        return -EINVAL;
    rest = end + 3;
    rest[strcspn(rest, "\n")] = 0;
    struct kernel_symbol *list = tl_array_grown(symbols->list, symbols->count, &symbols->room, sizeof *list);
    char *name = list ? strdup(rest) : NULL;
    if (list)
        symbols->list = list;
    if (!name)
        return -ENOMEM;
    char *module = strchr(name, '\t');
    if (module)
        *module++ = 0;
    list[symbols->count] = (struct kernel_symbol){addr, (uint32_t)symbols->count, type, name, module};
    symbols->count++;
    symbols->data += strchr("bBdD", type) != NULL;
    return 0;
}

static int by_address(const void *left, const void *right)
{
    const struct kernel_symbol *a = left, *b = right;
    if (a->addr != b->addr)
        return a->addr < b->addr ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

int tl_kernel_symbols_read(const char *path, struct tl_kernel_symbols **out, struct tl_error *error)
{
    FILE *file = fopen(path ? path : "/proc/kallsyms", "re");
    struct tl_kernel_symbols *symbols = calloc(1, sizeof *symbols);
    char *line = NULL;
    size_t size = 0;
    int result = symbols ? 0 : -ENOMEM;
    while (file && result != -ENOMEM && getline(&line, &size, file) > 0)
        result = add_line(symbols, line);
    free(line);
    if (file)
        fclose(file);
    if (result != -ENOMEM) {
        if (symbols->count)
            qsort(symbols->list, symbols->count, sizeof *symbols->list, by_address);
        result = !symbols->count ? -ENOENT : !symbols->list[symbols->count - 1].addr ? -EPERM : 0;
    }
    if (result) {
        tl_kernel_symbols_free(symbols);
        return tl_fail(error, result,
                       result == -ENOMEM ? "out of memory"
                       : result == -EPERM
                           ? "the kernel hides its addresses: run as root, with kernel.kptr_restrict 0 or 1"
                           : "the kernel lists no symbols");
    }
    *out = symbols;
    return 0;
}

void tl_kernel_symbols_free(struct tl_kernel_symbols *symbols)
{
    for (size_t i = 0; symbols && i < symbols->count; i++)
        free(symbols->list[i].name);
    if (symbols)
        free(symbols->list);
    free(symbols);
}

int tl_kernel_find(const struct tl_kernel_symbols *symbols, const char *name, uint64_t *addr, struct tl_error *error)
{
    struct nearest nearest = {.wanted = name};
    const struct kernel_symbol *found = NULL;
    for (size_t i = 0; i < symbols->count; i++) {
        const struct kernel_symbol *symbol = &symbols->list[i];
        if (strcmp(symbol->name, name)) {
            nearest_offer(&nearest, symbol->name);
            continue;
        }
        if (found && found->addr != symbol->addr)
            return tl_fail(error, -ENOTUNIQ,
                           "several symbols of the kernel are called %s, at 0x%" PRIx64 " and 0x%" PRIx64 " for two",
                           name, found->addr, symbol->addr);
        found = symbol;
    }
    if (found) {
        *addr = found->addr;
        return 0;
    }
    char near[200] = "";
    if (symbols->data < DATA_FEW)
        return tl_fail(error, -ENOENT,
                       "the kernel lists no %s, nor any of its variables (it was built without CONFIG_KALLSYMS_ALL): "
                       "mem:ADDRESS/LENGTH does without names",
                       name);
    nearest_say(&nearest, near, sizeof near);
    return tl_fail(error, -ENOENT, "the kernel lists no %s%s", name, near);
}

/* The last symbol at or below an address; of several of one address the first that was listed. */
static const struct kernel_symbol *symbol_at(const struct tl_kernel_symbols *symbols, uint64_t addr)
{
    size_t low = 0, high = symbols->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (symbols->list[middle].addr <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    while (low > 1 && symbols->list[low - 2].addr == symbols->list[low - 1].addr)
        low--;
    return low ? &symbols->list[low - 1] : NULL;
}

void tl_kernel_describe(const struct tl_kernel_symbols *symbols, uint64_t addr, char *text, size_t size)
{
    enum { FAR = 1 << 24 };
    const struct kernel_symbol *symbol = symbol_at(symbols, addr);
    if (!symbol || addr - symbol->addr > FAR)
        snprintf(text, size, "0x%" PRIx64, addr);
    else
        snprintf(text, size, symbol->module ? "%s+0x%" PRIx64 " %s" : "%s+0x%" PRIx64, symbol->name,
                 addr - symbol->addr, symbol->module);
}
