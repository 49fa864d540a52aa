/* SPDX-License-Identifier: MIT
 *
 * The functions (and variables) of an object: one table out of .symtab, .dynsym, and the .symtab of a separate debug
 * file where the object itself was stripped. What only .eh_frame knows is kept apart, and found when somebody asks for
 * it: names are looked up for every probe, unnamed functions seldom.
 */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/object.h"

size_t cold_owner_length(const char *name)
{
    static const char cold[] = ".cold";
    const char *found = NULL;
    for (const char *at = strstr(name, cold); at; at = strstr(at + 1, cold))
        found = at;
    if (!found || found == name)
        return 0;
    const char *rest = found + sizeof cold - 1;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    return *rest == '\0' ? (size_t)(found - name) : 0;
}

/* A name without its version ("memcpy@@GLIBC_2.14" in .symtab). */
static const char *plain_name(struct tl_object *object, const char *name, size_t length)
{
    const char *at = memchr(name, '@', length);
    if (!at || at == name)
        return name;
    if ((object->copy_count & (object->copy_count + 1)) == 0) { /* full: room for 2^n - 1 */
        char **grown = realloc(object->copies, (object->copy_count * 2 + 1) * sizeof *grown);
        if (!grown)
            return NULL;
        object->copies = grown;
    }
    char *copy = strndup(name, (size_t)(at - name));
    if (copy)
        object->copies[object->copy_count++] = copy;
    return copy;
}

static void add_symbol(void *context, const Elf64_Sym *symbol, const char *name, size_t length)
{
    struct tl_object *object = context;
    unsigned type = ELF64_ST_TYPE(symbol->st_info);
    bool function = type == STT_FUNC || type == STT_GNU_IFUNC;
    if (symbol->st_shndx == SHN_UNDEF || length == 0)
        return;
    if (!function && type != STT_OBJECT && !(type == STT_NOTYPE && ELF64_ST_BIND(symbol->st_info) != STB_LOCAL))
        return;
    struct tl_function entry = {.addr = symbol->st_value,
                                .size = symbol->st_size,
                                .kind = type == STT_GNU_IFUNC ? TL_FUNCTION_IFUNC : TL_FUNCTION,
                                .global = ELF64_ST_BIND(symbol->st_info) != STB_LOCAL};
    if (function && !object_segment(object, entry.addr, true))
        return;
    entry.name = plain_name(object, name, length);
    if (!entry.name)
        return;
    if (function && cold_owner_length(entry.name))
        entry.kind = TL_FUNCTION_PART;
    table_add(function ? &object->functions : &object->variables, &entry);
}

void object_each_entry(struct tl_object *from, uint32_t type, object_entry_fn *each, void *context)
{
    const Elf64_Shdr *section = object_section(from, type, NULL, NULL);
    if (!section)
        return;
    size_t count = section->sh_size / sizeof(Elf64_Sym);
    const Elf64_Shdr *strings = &from->sections[section->sh_link];
    const Elf64_Sym *symbols = object_bytes(from, section->sh_offset, count * sizeof(Elf64_Sym));
    const char *names = object_bytes(from, strings->sh_offset, strings->sh_size);
    for (size_t i = 0; symbols && names && i < count; i++) {
        if (symbols[i].st_name >= strings->sh_size)
            continue;
        const char *name = names + symbols[i].st_name;
        size_t most = strings->sh_size - symbols[i].st_name;
        size_t length = strnlen(name, most);
        if (length < most)
            each(context, &symbols[i], name, length);
    }
}

/* Where the symbol tells no size, as assembly often does: the FDE's, else up to whatever comes next. */
static uint64_t size_by_neighbours(struct tl_object *object, const struct tl_function *entry, uint64_t next)
{
    uint64_t end = object_section_end(object, entry->addr);
    object_need_frames(object);
    const struct frame *frame = object_frame_at(object, entry->addr);
    if (frame) {
        if (frame->addr + frame->size < end)
            end = frame->addr + frame->size;
        if (frame->addr == entry->addr)
            return end - entry->addr;
    }
    if (next < end)
        end = next;
    return end - entry->addr;
}

static void settle_sizes(struct tl_object *object)
{
    struct table *table = &object->functions;
    uint64_t next = UINT64_MAX;
    for (size_t i = table->count; i-- > 0;) {
        struct tl_function *entry = &table->entries[i];
        if (i + 1 < table->count && table->entries[i + 1].addr > entry->addr)
            next = table->entries[i + 1].addr;
        const struct segment *segment = object_segment(object, entry->addr, true);
        if (entry->size == 0)
            entry->size = size_by_neighbours(object, entry, next);
        else if (entry->size > segment->size - (entry->addr - segment->addr))
            entry->size = segment->size - (entry->addr - segment->addr);
    }
}

void object_need_tables(struct tl_object *object)
{
    if (object->have.tables)
        return;
    object->have.tables = true;
    object_each_entry(object, SHT_SYMTAB, add_symbol, object);
    object_each_entry(object, SHT_DYNSYM, add_symbol, object);
    if (!object_section(object, SHT_SYMTAB, NULL, NULL)) {
        object_need_debug(object);
        if (object->debug)
            object_each_entry(object->debug, SHT_SYMTAB, add_symbol, object);
    }
    table_sort(&object->functions);
    settle_sizes(object);
    if (!table_index(&object->functions))
        table_free(&object->functions);
    table_sort(&object->variables);
    if (!table_index(&object->variables))
        table_free(&object->variables);
}

/* What the frames cover and no symbol does. */
void object_need_unnamed(struct tl_object *object)
{
    if (object->have.unnamed)
        return;
    object->have.unnamed = true;
    object_need_tables(object);
    object_need_frames(object);
    size_t named = 0;
    for (size_t i = 0; i < object->frame_count; i++) {
        const struct frame *frame = &object->frames[i];
        if (table_at(&object->functions, frame->addr) || object_in_plt(object, frame->addr))
            continue;
        while (named < object->functions.count && object->functions.entries[named].addr < frame->addr)
            named++;
        struct tl_function entry = {
            .addr = frame->addr, .size = frame->size, .kind = frame->entry ? TL_FUNCTION_UNNAMED : TL_FUNCTION_PART};
        if (named < object->functions.count && object->functions.entries[named].addr - frame->addr < entry.size)
            entry.size = object->functions.entries[named].addr - frame->addr;
        table_add(&object->unnamed, &entry);
    }
    if (!table_index(&object->unnamed))
        table_free(&object->unnamed);
}

const struct tl_function *tl_object_functions(const struct tl_object *object, size_t *count)
{
    struct tl_object *cache = (struct tl_object *)object;
    object_need_unnamed(cache);
    if (!cache->have.all) {
        const struct table *named = &object->functions, *unnamed = &object->unnamed;
        size_t total = named->count + unnamed->count, n = 0, u = 0;
        cache->all = malloc((total + 1) * sizeof *cache->all);
        for (; cache->all && cache->all_count < total; cache->all_count++) {
            bool take_named =
                u == unnamed->count || (n < named->count && named->entries[n].addr <= unnamed->entries[u].addr);
            cache->all[cache->all_count] = take_named ? named->entries[n++] : unnamed->entries[u++];
        }
        cache->have.all = cache->all != NULL;
    }
    *count = object->all_count;
    return object->all;
}

int tl_object_match(const struct tl_object *object, const char *glob,
                    int (*each)(void *context, const struct tl_function *function), void *context)
{
    object_need_tables((struct tl_object *)object);
    const struct table *table = &object->functions;
    bool found = false;
    /* Names may themselves hold brackets and stars ("main.(*T).String"), so a name that exists comes before a glob. */
    for (const struct tl_function *f = table_named(table, glob, NULL); f; f = table_named(table, glob, f)) {
        int result = each(context, f);
        if (result)
            return result;
        found = true;
    }
    if (found || !strpbrk(glob, "*?["))
        return 0;
    bool wants_parts = strstr(glob, ".cold") != NULL;
    for (size_t i = 0; i < table->count; i++) {
        const struct tl_function *f = &table->entries[i];
        if ((f->kind == TL_FUNCTION_PART && !wants_parts) || fnmatch(glob, f->name, 0) != 0)
            continue;
        int result = each(context, f);
        if (result)
            return result;
    }
    return 0;
}

const struct tl_function *tl_object_function_at(const struct tl_object *object, uint64_t addr)
{
    struct tl_object *cache = (struct tl_object *)object;
    object_need_tables(cache);
    const struct tl_function *function = table_at(&object->functions, addr);
    if (function)
        return function;
    object_need_unnamed(cache);
    return table_at(&object->unnamed, addr);
}

int tl_object_variable(const struct tl_object *object, const char *name, uint64_t *addr, uint64_t *size)
{
    object_need_tables((struct tl_object *)object);
    const struct tl_function *best = NULL;
    for (const struct tl_function *v = table_named(&object->variables, name, NULL); v;
         v = table_named(&object->variables, name, v))
        if (!best || (v->global && !best->global))
            best = v;
    if (!best)
        return -ENOENT;
    *addr = best->addr;
    *size = best->size;
    return 0;
}
