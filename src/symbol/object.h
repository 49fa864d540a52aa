/* SPDX-License-Identifier: MIT
 *
 * What the files of this room share of an object. Nothing outside the room includes this.
 *
 * An object is opened cheaply: the headers are read and checked, nothing else. Tables are read when a question first
 * needs them, into caches that then stay as they are until the object is closed, so that pointers into them stay good.
 * For threads and signals symbol.h holds here too.
 */
#ifndef TRAPLINE_SYMBOL_OBJECT_H
#define TRAPLINE_SYMBOL_OBJECT_H

#include <elf.h>

#include "base/array.h"
#include "symbol/symbol.h"

/* A piece of the file that was read, in one block with its bytes. */
struct chunk {
    struct chunk *next;
    uint64_t offset, size;
    _Alignas(16) uint8_t bytes[];
};

/* A PT_LOAD with content, checked: addr + size and offset + size do not wrap, and lie inside the file. */
struct segment {
    uint64_t addr, size, memory_size, offset;
    const uint8_t *bytes; /* once tl_object_text has read it */
    bool executable;
};

/* Names of one sort (functions, or variables), by address, then name; with an index by name. */
struct table {
    struct tl_function *entries;
    size_t count, capacity;
    uint64_t *reach;        /* reach[i]: the highest end of entries 0…i */
    uint32_t *heads, *next; /* chains of equal hashes, in order of address; UINT32_MAX ends one */
    uint32_t mask;
};

/* The range of one FDE. */
struct frame {
    uint64_t addr, size;
    bool entry;  /* the frame state at its start is that of a function that was just called */
    bool signal; /* it stands for what a signal has interrupted */
};

struct relocation {
    uint64_t slot;
    uint64_t addend;
    uint32_t type;
    const char *name; /* of the symbol, or NULL */
};

struct rseq_range {
    uint64_t start, end;
};

struct tl_object {
    char *path, *display, *root;
    int fd;
    uint8_t *memory; /* instead of a file */
    uint64_t size;
    dev_t device;
    ino_t inode;
    struct chunk *chunks;
    uint64_t bytes_read; /* by all chunks */
    Elf64_Ehdr header;
    const Elf64_Phdr *program_headers; /* in order of the file */
    size_t program_header_count;
    const Elf64_Shdr *sections;  /* the file's, or where it has none: */
    Elf64_Shdr made_sections[5]; /* what the dynamic segment tells */
    size_t section_count;
    const char *section_names;
    size_t section_names_size;
    struct segment *segments;
    size_t segment_count;
    char *interpreter;

    /* Caches, each behind a flag that says whether it was read. */
    struct {
        bool debug, tables, frames, unnamed, all, relocations, rseqs, soname, dwarf;
    } have;
    struct tl_object *debug; /* the separate debug file, or the one inside the file, or NULL */
    struct table functions, variables;
    char **copies; /* names that had to be cut */
    size_t copy_count;
    struct frame *frames; /* by address, disjoint */
    size_t frame_count, frame_room;
    struct table unnamed;
    struct tl_function *all;
    size_t all_count;
    struct relocation *relocations; /* by name (NULL first), then addend */
    size_t relocation_count, relocation_room;
    struct rseq_range *rseqs;
    size_t rseq_count;
    const char *soname_text;
    struct Elf *dwarf_file; /* of libelf and libdw: variable_dwarf.c */
    struct Dwarf *dwarf;
};

/* Where a file comes from. `root` is put before /usr/lib/debug and the like, for files of another mount namespace
 * ("/proc/7/root"), or NULL. */
struct object_source {
    const char *path, *display, *root;
    bool is_debug_file; /* has sections of symbols only, its segments are empty */
};
int object_open(const struct object_source *source, struct tl_object **object, struct tl_error *error);
/* A file that stands in memory; the bytes are copied. */
int object_open_bytes(const struct object_source *source, const void *bytes, size_t size, struct tl_object **object,
                      struct tl_error *error);
/* The debug file inside the file, or NULL. */
struct tl_object *object_open_embedded(struct tl_object *object);

/* `size` bytes of the file at `offset`, aligned for anything, owned by the object; NULL where they are not all there.
 */
const void *object_bytes(struct tl_object *object, uint64_t offset, uint64_t size);
/* The same into the caller's memory. */
bool object_read(const struct tl_object *object, uint64_t offset, void *bytes, uint64_t size);
/* The next section of a type (0: any) and name (NULL: any) after `from` (NULL: the first), or NULL. */
const Elf64_Shdr *object_section(const struct tl_object *object, uint32_t type, const char *name,
                                 const Elf64_Shdr *from);
const char *object_section_name(const struct tl_object *object, const Elf64_Shdr *section);
/* The segment, or the executable segment, whose content holds `addr`. */
const struct segment *object_segment(const struct tl_object *object, uint64_t addr, bool executable);
/* For a file without section headers. */
void object_make_sections(struct tl_object *object);
/* `size` bytes of the file at a virtual address of any segment. */
const void *object_data(struct tl_object *object, uint64_t addr, uint64_t size);
/* The end of the section that holds `addr` (or of its segment), and whether it is a section of PLT stubs. */
uint64_t object_section_end(const struct tl_object *object, uint64_t addr);
bool object_in_plt(const struct tl_object *object, uint64_t addr);

/* The caches: read on first use, nothing where the file has nothing (or nothing that can be read). */
void object_need_debug(struct tl_object *object);
void object_need_tables(struct tl_object *object);
void object_need_frames(struct tl_object *object);
void object_need_unnamed(struct tl_object *object);
void object_need_relocations(struct tl_object *object);
/* Closes what object_need_dwarf (variables.h) has opened. */
void object_end_dwarf(struct tl_object *object);

/* The entries of a file's symbol table of that type (there is at most one of each), as they stand there: those whose
 * names end within the table of names. */
typedef void object_entry_fn(void *context, const Elf64_Sym *symbol, const char *name, size_t length);
void object_each_entry(struct tl_object *from, uint32_t type, object_entry_fn *each, void *context);
/* All relocations with addend (SHT_RELA) that the loader applies; a non-zero return of each() stops. */
int object_each_relocation(struct tl_object *object,
                           int (*each)(void *context, const Elf64_Rela *entry, const Elf64_Shdr *section),
                           void *context);
/* The symbol that one of them refers to, and its name; NULL: none. */
const Elf64_Sym *object_relocation_symbol(struct tl_object *object, const Elf64_Rela *entry, const Elf64_Shdr *section,
                                          const char **name);
/* Those that bind the function `name`; for NULL the IRELATIVE ones whose resolver is at `addend`. */
const struct relocation *object_relocations(struct tl_object *object, const char *name, uint64_t addend, size_t *count);

/* The build-id; 0 where there is none. */
size_t object_build_id(struct tl_object *object, const uint8_t **id);
/* The frame that holds `addr`, or NULL. */
const struct frame *object_frame_at(struct tl_object *object, uint64_t addr);

/* Tables. */
bool table_add(struct table *table, const struct tl_function *entry);
void table_sort(struct table *table);  /* by address and name; doubles become one */
bool table_index(struct table *table); /* after the last change: reach and names */
const struct tl_function *table_at(const struct table *table, uint64_t addr);
/* The first entry named so, or the next one after `previous`. */
const struct tl_function *table_named(const struct table *table, const char *name, const struct tl_function *previous);
void table_free(struct table *table);

/* "f" for "f.cold", "f.cold.3": the length of the owner's name; 0 for other names. */
size_t cold_owner_length(const char *name);

#endif
