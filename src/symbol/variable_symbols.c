/* SPDX-License-Identifier: MIT
 *
 * Variables in symbol tables: names of linkers, with an address and a size, and which of them the program has a copy
 * of.
 */
#include <string.h>

#include "symbol/variables.h"

struct walk {
    void (*each)(void *context, const struct symbol *symbol);
    void *context;
    const char *file; /* whose local symbols these are */
};

static void tell_symbol(void *context, const Elf64_Sym *s, const char *name, size_t length)
{
    struct walk *walk = context;
    unsigned kind = ELF64_ST_TYPE(s->st_info);
    bool global = ELF64_ST_BIND(s->st_info) != STB_LOCAL;
    const char *version;
    if (kind == STT_FILE)
        walk->file = length ? name : NULL;
    if (s->st_shndx == SHN_UNDEF || kind == STT_FILE || kind == STT_SECTION || length == 0)
        return;
    if ((version = memchr(name, '@', length)) && version > name)
        length = (size_t)(version - name);
    struct symbol symbol = {.name = name,
                            .length = length,
                            .addr = s->st_value,
                            .size = s->st_size,
                            .type = (uint8_t)kind,
                            .global = global,
                            .file = global ? NULL : walk->file};
    walk->each(walk->context, &symbol);
}

static void walk_table(struct tl_object *from, uint32_t type, const struct walk *walk)
{
    struct walk own = *walk;
    object_each_entry(from, type, tell_symbol, &own);
}

void object_each_symbol(struct tl_object *object, void (*each)(void *context, const struct symbol *symbol),
                        void *context)
{
    const struct walk walk = {.each = each, .context = context};
    walk_table(object, SHT_SYMTAB, &walk);
    walk_table(object, SHT_DYNSYM, &walk);
    if (object_section(object, SHT_SYMTAB, NULL, NULL))
        return;
    object_need_debug(object);
    if (object->debug)
        walk_table(object->debug, SHT_SYMTAB, &walk);
}

bool object_has_memory(const struct tl_object *object, uint64_t addr)
{
    for (size_t i = 0; i < object->segment_count; i++)
        if (addr >= object->segments[i].addr && addr - object->segments[i].addr < object->segments[i].memory_size)
            return true;
    return false;
}

struct copying {
    struct tl_object *program, *library;
    uint64_t addr, copy;
    bool found;
    const char *name; /* of the copy under way */
};

static void compare_alias(void *context, const struct symbol *symbol)
{
    struct copying *copying = context;
    if (symbol->addr == copying->addr && symbol->type == STT_OBJECT && symbol->global &&
        strlen(copying->name) == symbol->length && !memcmp(copying->name, symbol->name, symbol->length))
        copying->found = true;
}

static int each_relocation(void *context, const Elf64_Rela *entry, const Elf64_Shdr *section)
{
    struct copying *copying = context;
    if (ELF64_R_TYPE(entry->r_info) != R_X86_64_COPY ||
        !object_relocation_symbol(copying->program, entry, section, &copying->name))
        return 0;
    object_each_symbol(copying->library, compare_alias, copying);
    copying->copy = entry->r_offset;
    return copying->found;
}

bool object_copy_of(struct tl_object *program, struct tl_object *library, uint64_t addr, uint64_t *copy)
{
    struct copying copying = {.program = program, .library = library, .addr = addr};
    object_each_relocation(program, each_relocation, &copying);
    *copy = copying.copy;
    return copying.found;
}
