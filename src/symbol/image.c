/* SPDX-License-Identifier: MIT
 *
 * An object's sections and segments: what lies where, and the bytes of it.
 */
#include <string.h>

#include "symbol/object.h"

const char *tl_object_path(const struct tl_object *object)
{
    return object->display;
}

bool tl_object_is_pie(const struct tl_object *object)
{
    return object->header.e_type == ET_DYN;
}

uint64_t tl_object_entry(const struct tl_object *object)
{
    return object->header.e_entry;
}

const char *tl_object_interpreter(const struct tl_object *object)
{
    return object->interpreter;
}

const char *object_section_name(const struct tl_object *object, const Elf64_Shdr *section)
{
    if (!object->section_names || section->sh_name >= object->section_names_size)
        return "";
    const char *name = object->section_names + section->sh_name;
    return memchr(name, 0, object->section_names_size - section->sh_name) ? name : "";
}

const Elf64_Shdr *object_section(const struct tl_object *object, uint32_t type, const char *name,
                                 const Elf64_Shdr *from)
{
    for (size_t i = from ? (size_t)(from - object->sections) + 1 : 1; i < object->section_count; i++) {
        const Elf64_Shdr *section = &object->sections[i];
        if (type && section->sh_type != type)
            continue;
        if (name && strcmp(object_section_name(object, section), name) != 0)
            continue;
        return section;
    }
    return NULL;
}

/* The allocated code section around `addr`. */
static const Elf64_Shdr *section_around(const struct tl_object *object, uint64_t addr)
{
    for (size_t i = 1; i < object->section_count; i++) {
        const Elf64_Shdr *section = &object->sections[i];
        if ((section->sh_flags & SHF_ALLOC) && (section->sh_flags & SHF_EXECINSTR) && addr >= section->sh_addr &&
            addr - section->sh_addr < section->sh_size)
            return section;
    }
    return NULL;
}

uint64_t object_section_end(const struct tl_object *object, uint64_t addr)
{
    const struct segment *segment = object_segment(object, addr, true);
    if (!segment)
        return addr;
    uint64_t end = segment->addr + segment->size;
    const Elf64_Shdr *section = section_around(object, addr);
    if (section && section->sh_size < end - section->sh_addr)
        return section->sh_addr + section->sh_size;
    return end;
}

bool object_in_plt(const struct tl_object *object, uint64_t addr)
{
    const Elf64_Shdr *section = section_around(object, addr);
    if (!section)
        return false;
    const char *name = object_section_name(object, section);
    return strncmp(name, ".plt", 4) == 0 || strncmp(name, ".iplt", 5) == 0;
}

const struct segment *object_segment(const struct tl_object *object, uint64_t addr, bool executable)
{
    for (size_t i = 0; i < object->segment_count; i++) {
        const struct segment *segment = &object->segments[i];
        if ((segment->executable || !executable) && addr >= segment->addr && addr - segment->addr < segment->size)
            return segment;
    }
    return NULL;
}

const void *object_data(struct tl_object *object, uint64_t addr, uint64_t size)
{
    const struct segment *segment = object_segment(object, addr, false);
    if (!segment || size > segment->size - (addr - segment->addr))
        return NULL;
    return object_bytes(object, segment->offset + (addr - segment->addr), size);
}

const uint8_t *tl_object_text(const struct tl_object *object, uint64_t addr, size_t *available)
{
    struct segment *segment = (struct segment *)object_segment(object, addr, true);
    /* The whole segment is read once, so that all pieces of text are pieces of one buffer. */
    if (segment && !segment->bytes)
        segment->bytes = object_bytes((struct tl_object *)object, segment->offset, segment->size);
    if (!segment || !segment->bytes) {
        *available = 0;
        return NULL;
    }
    *available = segment->size - (addr - segment->addr);
    return segment->bytes + (addr - segment->addr);
}

int tl_object_offset_to_addr(const struct tl_object *object, uint64_t offset, bool executable, uint64_t *addr)
{
    for (size_t i = 0; i < object->segment_count; i++) {
        const struct segment *segment = &object->segments[i];
        if ((segment->executable || !executable) && offset >= segment->offset &&
            offset - segment->offset < segment->size) {
            *addr = segment->addr + (offset - segment->offset);
            return 0;
        }
    }
    return -ENOENT;
}

int tl_object_addr_to_offset(const struct tl_object *object, uint64_t addr, uint64_t *offset)
{
    const struct segment *segment = object_segment(object, addr, true);
    if (!segment)
        return -ENOENT;
    *offset = segment->offset + (addr - segment->addr);
    return 0;
}
