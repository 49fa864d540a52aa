/* SPDX-License-Identifier: MIT
 *
 * Function ranges come from .eh_frame, through the search table of .eh_frame_hdr, which every linker writes in one form
 * (addresses relative to the table, FDEs relative to themselves), and from function symbols where no FDE is.
 */
#include "subject.h"

#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <gelf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const tl_subjects[] = {"libc.so.6", "libcrypto.so.3", "libsqlite3.so.0", "bash", "python3.11", NULL};

static void find_library(const char *name, char *path, size_t size)
{
    void *handle = dlopen(name, RTLD_LAZY);
    struct link_map *map;
    if (!handle || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
        errx(1, "%s", dlerror());
    snprintf(path, size, "%s", map->l_name);
}

static void find_program(const char *name, char *path, size_t size)
{
    const char *directories[] = {"/bin", "/usr/bin", "/usr/local/bin"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, size, "%s/%s", directories[i], name);
        if (access(path, R_OK) == 0)
            return;
    }
    errx(1, "%s is not installed", name);
}

static void *grow(void *list, size_t used, size_t element)
{
    if (used & (used - 1)) /* room is the next power of two */
        return list;
    void *bigger = reallocarray(list, used ? used * 2 : 1, element);
    if (!bigger)
        err(1, NULL);
    return bigger;
}

static void add_entry(struct tl_subject *subject, uint64_t addr)
{
    subject->entries = grow(subject->entries, subject->entry_count, sizeof *subject->entries);
    subject->entries[subject->entry_count++] = addr;
}

static const struct tl_section *section_of(const struct tl_subject *subject, uint64_t addr)
{
    for (size_t i = 0; i < subject->section_count; i++)
        if (addr - subject->sections[i].addr < subject->sections[i].size)
            return &subject->sections[i];
    return NULL;
}

/* A range as far as it lies in one executable section; one that begins outside of all is not code. */
static void add_range(struct tl_subject *subject, uint64_t addr, uint64_t size)
{
    const struct tl_section *section = section_of(subject, addr);
    if (!section || !size)
        return;
    uint64_t at = addr - section->addr;
    if (size > section->size - at)
        size = section->size - at;
    subject->ranges = grow(subject->ranges, subject->range_count, sizeof *subject->ranges);
    subject->ranges[subject->range_count++] = (struct tl_range){addr, size, section->bytes + at};
    add_entry(subject, addr);
}

static int by_range(const void *left, const void *right)
{
    const struct tl_range *a = left, *b = right;
    return a->addr != b->addr ? (a->addr > b->addr) - (a->addr < b->addr) : (a->size < b->size) - (a->size > b->size);
}

static int by_value(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* The longest range wins where several begin at one address; one that reaches into the next is cut there. */
static void tidy(struct tl_subject *subject)
{
    qsort(subject->ranges, subject->range_count, sizeof *subject->ranges, by_range);
    qsort(subject->entries, subject->entry_count, sizeof *subject->entries, by_value);
    size_t kept = 0;
    for (size_t i = 0; i < subject->range_count; i++) {
        struct tl_range *range = &subject->ranges[i];
        struct tl_range *last = kept ? &subject->ranges[kept - 1] : NULL;
        if (last && range->addr < last->addr + last->size)
            continue;
        subject->ranges[kept++] = *range;
    }
    subject->range_count = kept;
}

static int32_t read_int(const uint8_t *bytes)
{
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* Whether the FDE at this offset is a signal frame's (an S among its CIE's letters): such begin one byte before their
 * code. */
static bool is_signal_frame(const struct tl_section *frames, uint64_t fde)
{
    uint64_t cie = fde + 4 - (uint32_t)read_int(frames->bytes + fde + 4);
    return cie < frames->size && frames->size - cie > 16 && memchr(frames->bytes + cie + 9, 'S', 4);
}

static void add_unwind_ranges(struct tl_subject *subject, const struct tl_section *header,
                              const struct tl_section *frames)
{
    if (header->size < 12 || memcmp(header->bytes, "\1\x1b\x03\x3b", 4) != 0)
        errx(1, "%s: unusual .eh_frame_hdr", subject->path);
    uint64_t count = (uint32_t)read_int(header->bytes + 8);
    for (uint64_t i = 0; i < count && 12 + i * 8 + 8 <= header->size; i++) {
        const uint8_t *row = header->bytes + 12 + i * 8;
        uint64_t addr = header->addr + (uint64_t)(int64_t)read_int(row);
        uint64_t fde = header->addr + (uint64_t)(int64_t)read_int(row + 4) - frames->addr;
        if (fde >= frames->size || frames->size - fde < 16)
            continue;
        bool before = is_signal_frame(frames, fde);
        add_range(subject, addr + before, (uint32_t)read_int(frames->bytes + fde + 12) - before);
    }
}

static void add_symbols(struct tl_subject *subject, Elf_Scn *scn, const GElf_Shdr *header)
{
    Elf_Data *data = elf_getdata(scn, NULL);
    GElf_Sym symbol;
    for (int i = 0; data && header->sh_entsize && gelf_getsym(data, i, &symbol); i++) {
        int type = GELF_ST_TYPE(symbol.st_info);
        if ((type == STT_FUNC || type == STT_GNU_IFUNC) && symbol.st_shndx != SHN_UNDEF)
            add_range(subject, symbol.st_value, symbol.st_size);
    }
}

static void read_sections(struct tl_subject *subject, struct tl_section *unwind_header, struct tl_section *unwind)
{
    size_t names;
    if (elf_getshdrstrndx(subject->elf, &names) != 0)
        errx(1, "%s: %s", subject->path, elf_errmsg(-1));
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(subject->elf, scn));) {
        GElf_Shdr header;
        Elf_Data *data = elf_rawdata(scn, NULL);
        if (!gelf_getshdr(scn, &header) || !data || !data->d_buf || header.sh_type == SHT_NOBITS)
            continue;
        struct tl_section section = {header.sh_addr, data->d_size, data->d_buf};
        const char *name = elf_strptr(subject->elf, names, header.sh_name);
        if (name && strcmp(name, ".eh_frame_hdr") == 0)
            *unwind_header = section;
        if (name && strcmp(name, ".eh_frame") == 0)
            *unwind = section;
        if (!(header.sh_flags & SHF_EXECINSTR))
            continue;
        subject->sections = grow(subject->sections, subject->section_count, sizeof *subject->sections);
        subject->sections[subject->section_count++] = section;
    }
}

void tl_subject_open(const char *name, struct tl_subject *subject)
{
    struct tl_section unwind_header = {0}, unwind = {0};
    *subject = (struct tl_subject){0};
    (strstr(name, ".so") ? find_library : find_program)(name, subject->path, sizeof subject->path);
    elf_version(EV_CURRENT);
    subject->file = open(subject->path, O_RDONLY | O_CLOEXEC);
    subject->elf = subject->file < 0 ? NULL : elf_begin(subject->file, ELF_C_READ_MMAP, NULL);
    if (!subject->elf)
        errx(1, "%s cannot be read", subject->path);
    read_sections(subject, &unwind_header, &unwind);
    add_unwind_ranges(subject, &unwind_header, &unwind);
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(subject->elf, scn));) {
        GElf_Shdr header;
        if (gelf_getshdr(scn, &header) && (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM))
            add_symbols(subject, scn, &header);
    }
    tidy(subject);
}

void tl_subject_close(struct tl_subject *subject)
{
    elf_end(subject->elf);
    close(subject->file);
    free(subject->sections);
    free(subject->ranges);
    free(subject->entries);
}

void tl_subject_sweep(const struct tl_subject *subject, const struct tl_range *range, struct tl_sweep *sweep)
{
    size_t first = 0, end = subject->entry_count;
    while (first < end) { /* the first entry at or after the range */
        size_t middle = first + (end - first) / 2;
        if (subject->entries[middle] < range->addr)
            first = middle + 1;
        else
            end = middle;
    }
    size_t last = first;
    while (last < subject->entry_count && subject->entries[last] - range->addr < range->size)
        last++;
    if (tl_sweep_range(range, subject->entries + first, last - first, sweep) != 0)
        errx(1, "out of memory");
}
