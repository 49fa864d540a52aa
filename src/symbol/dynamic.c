/* SPDX-License-Identifier: MIT
 *
 * What the loader is told: the dynamic segment.
 *
 * A program runs without section headers, and some are stripped of them, too. What is needed of them is then made up
 * from here, so that the rest of the room has to know only one way.
 */
#include <string.h>

#include "symbol/object.h"

/* The dynamic section: the first value of a tag. */
static bool dynamic_value(struct tl_object *object, int64_t tag, uint64_t *value)
{
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        if (p->p_type != PT_DYNAMIC)
            continue;
        size_t count = p->p_filesz / sizeof(Elf64_Dyn);
        const uint8_t *bytes = object_bytes(object, p->p_offset, count * sizeof(Elf64_Dyn));
        for (size_t j = 0; bytes && j < count; j++) {
            Elf64_Dyn entry;
            memcpy(&entry, bytes + j * sizeof entry, sizeof entry);
            if (entry.d_tag == DT_NULL)
                break;
            if (entry.d_tag == tag) {
                *value = entry.d_un.d_val;
                return true;
            }
        }
    }
    return false;
}

const char *tl_object_soname(const struct tl_object *object)
{
    struct tl_object *cache = (struct tl_object *)object;
    uint64_t offset, strings, size;
    if (!cache->have.soname) {
        cache->have.soname = true;
        if (dynamic_value(cache, DT_SONAME, &offset) && dynamic_value(cache, DT_STRTAB, &strings) &&
            dynamic_value(cache, DT_STRSZ, &size) && offset < size) {
            const char *text = object_data(cache, strings, size);
            if (text && memchr(text + offset, 0, size - offset))
                cache->soname_text = text + offset;
        }
    }
    return object->soname_text;
}

/* How many symbols .dynsym has, which only the hash tables tell. */
static uint64_t count_by_hash(struct tl_object *object)
{
    uint64_t addr;
    if (!dynamic_value(object, DT_HASH, &addr))
        return 0;
    const uint32_t *header = object_data(object, addr, 2 * sizeof *header);
    return header ? header[1] : 0;
}

static uint64_t count_by_gnu_hash(struct tl_object *object)
{
    uint64_t addr;
    const struct segment *segment =
        dynamic_value(object, DT_GNU_HASH, &addr) ? object_segment(object, addr, false) : NULL;
    uint64_t words = segment ? (segment->size - (addr - segment->addr)) / 4 : 0;
    const uint32_t *table = words >= 4 ? object_data(object, addr, words * 4) : NULL;
    if (!table)
        return 0;
    /* Words: bucket count, first hashed symbol, size of the filter in pairs of words, shift; filter; buckets; chains.
     */
    uint64_t buckets = 4 + 2 * (uint64_t)table[2], chains = buckets + table[0], last = 0;
    for (uint64_t i = buckets; i < chains && i < words; i++)
        if (table[i] > last)
            last = table[i];
    if (last < table[1])
        return table[1];
    while (chains + last - table[1] < words && !(table[chains + last - table[1]] & 1))
        last++;
    return last + 1;
}

static bool make_section(struct tl_object *object, Elf64_Shdr *section, uint64_t addr, uint64_t size)
{
    const struct segment *segment = object_segment(object, addr, false);
    if (!segment || size == 0 || size > segment->size - (addr - segment->addr))
        return false;
    section->sh_flags = SHF_ALLOC;
    section->sh_addr = addr;
    section->sh_offset = segment->offset + (addr - segment->addr);
    section->sh_size = size;
    return true;
}

void object_make_sections(struct tl_object *object)
{
    enum { NONE, SYMBOLS, STRINGS, RELA, PLT_RELA };
    Elf64_Shdr *made = object->made_sections;
    uint64_t addr, size, count = count_by_gnu_hash(object);
    if (count == 0)
        count = count_by_hash(object);
    if (count > object->size / sizeof(Elf64_Sym) || !dynamic_value(object, DT_SYMTAB, &addr) ||
        !make_section(object, &made[SYMBOLS], addr, count * sizeof(Elf64_Sym)))
        return;
    if (!dynamic_value(object, DT_STRTAB, &addr) || !dynamic_value(object, DT_STRSZ, &size) ||
        !make_section(object, &made[STRINGS], addr, size))
        return;
    made[SYMBOLS].sh_type = SHT_DYNSYM;
    made[SYMBOLS].sh_link = STRINGS;
    made[SYMBOLS].sh_entsize = sizeof(Elf64_Sym);
    made[STRINGS].sh_type = SHT_STRTAB;
    static const int64_t relocations[][2] = {{DT_RELA, DT_RELASZ}, {DT_JMPREL, DT_PLTRELSZ}};
    for (int i = 0; i < 2; i++) {
        Elf64_Shdr *section = &made[RELA + i];
        if (dynamic_value(object, relocations[i][0], &addr) && dynamic_value(object, relocations[i][1], &size) &&
            make_section(object, section, addr, size)) {
            section->sh_type = SHT_RELA;
            section->sh_link = SYMBOLS;
            section->sh_entsize = sizeof(Elf64_Rela);
        }
    }
    object->sections = made;
    object->section_count = PLT_RELA + 1;
}
