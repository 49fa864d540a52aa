/* SPDX-License-Identifier: MIT
 *
 * The dynamic relocations of an object, as far as somebody here wants them: those that bind functions (to find what an
 * ifunc became), and the plain ones that carry a pointer which the file itself may hold as zero.
 */
#include <stdlib.h>
#include <string.h>

#include "symbol/object.h"

int object_each_relocation(struct tl_object *object,
                           int (*each)(void *context, const Elf64_Rela *entry, const Elf64_Shdr *section),
                           void *context)
{
    const Elf64_Shdr *section = NULL;
    size_t most = object->size / sizeof(Elf64_Rela); /* sections that lie over each other are not read for ever */
    while ((section = object_section(object, SHT_RELA, NULL, section))) {
        size_t count = section->sh_size / sizeof(Elf64_Rela);
        if (count > most)
            break;
        most -= count;
        const Elf64_Rela *entries = NULL;
        if ((section->sh_flags & SHF_ALLOC) && section->sh_entsize == sizeof(Elf64_Rela))
            entries = object_bytes(object, section->sh_offset, count * sizeof(Elf64_Rela));
        for (size_t i = 0; entries && i < count; i++) {
            int result = each(context, &entries[i], section);
            if (result)
                return result;
        }
    }
    return 0;
}

const Elf64_Sym *object_relocation_symbol(struct tl_object *object, const Elf64_Rela *entry, const Elf64_Shdr *section,
                                          const char **name)
{
    uint64_t index = ELF64_R_SYM(entry->r_info);
    if (index == 0 || section->sh_link >= object->section_count)
        return NULL;
    const Elf64_Shdr *table = &object->sections[section->sh_link];
    if ((table->sh_type != SHT_DYNSYM && table->sh_type != SHT_SYMTAB) || index >= table->sh_size / sizeof(Elf64_Sym))
        return NULL;
    const Elf64_Shdr *strings = &object->sections[table->sh_link];
    const Elf64_Sym *symbols =
        object_bytes(object, table->sh_offset, table->sh_size / sizeof(Elf64_Sym) * sizeof(Elf64_Sym));
    const char *names = object_bytes(object, strings->sh_offset, strings->sh_size);
    if (!symbols || !names || symbols[index].st_name >= strings->sh_size)
        return NULL;
    *name = names + symbols[index].st_name;
    return memchr(*name, 0, strings->sh_size - symbols[index].st_name) ? &symbols[index] : NULL;
}

/* The name of the symbol that an entry refers to, or NULL. */
static const char *symbol_name(struct tl_object *object, const Elf64_Rela *entry, const Elf64_Shdr *section)
{
    const char *name;
    return object_relocation_symbol(object, entry, section, &name) ? name : NULL;
}

static int keep(void *context, const Elf64_Rela *entry, const Elf64_Shdr *section)
{
    struct tl_object *object = context;
    uint32_t type = ELF64_R_TYPE(entry->r_info);
    struct relocation relocation = {.slot = entry->r_offset, .addend = (uint64_t)entry->r_addend, .type = type};
    if (type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64)
        relocation.name = symbol_name(object, entry, section);
    if (type != R_X86_64_IRELATIVE && !relocation.name)
        return 0;
    struct relocation *grown =
        tl_array_grown(object->relocations, object->relocation_count, &object->relocation_room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    object->relocations = grown;
    object->relocations[object->relocation_count++] = relocation;
    return 0;
}

static int by_name(const void *left, const void *right)
{
    const struct relocation *a = left, *b = right;
    if (!a->name || !b->name)
        return a->name ? 1 : b->name ? -1 : a->addend < b->addend ? -1 : a->addend > b->addend;
    return strcmp(a->name, b->name);
}

void object_need_relocations(struct tl_object *object)
{
    if (object->have.relocations)
        return;
    object->have.relocations = true;
    object_each_relocation(object, keep, object);
    if (object->relocation_count)
        qsort(object->relocations, object->relocation_count, sizeof *object->relocations, by_name);
}

const struct relocation *object_relocations(struct tl_object *object, const char *name, uint64_t addend, size_t *count)
{
    struct relocation key = {.name = name, .addend = addend};
    object_need_relocations(object);
    size_t low = 0, high = object->relocation_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_name(&object->relocations[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *count = 0;
    while (low + *count < object->relocation_count && by_name(&object->relocations[low + *count], &key) == 0)
        ++*count;
    return *count ? &object->relocations[low] : NULL;
}
