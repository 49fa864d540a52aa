/* SPDX-License-Identifier: MIT
 *
 * Opening an ELF file, and its bytes.
 *
 * The file is not trusted: it may be cut off, made to hurt, or be rewritten while we look at it. So nothing is mapped
 * (a mapping of a file that is truncated faults); pieces of it are read into memory of our own, and only through
 * object_bytes(), which holds every offset and size against the size that the file had when it was opened. The headers
 * are read here and not by libelf, which is lenient where we have to be strict. A header that does not fit fails the
 * opening with a text that names it; what stands inside a table is checked by whoever reads the table, and left out
 * where it makes no sense.
 */
#include "base/texts.h"
#include "symbol/object.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors that files of ours leave to whoever has to get probes out of a program again. */
enum { DESCRIPTORS_LEFT = 16 };
/* More sections than any linker makes of a program; bounds the work that a hostile file can ask for. */
enum { SECTIONS_MAX = 8192 };

bool object_read(const struct tl_object *object, uint64_t offset, void *bytes, uint64_t size)
{
    if (offset > object->size || size > object->size - offset)
        return false;
    if (object->memory) {
        memcpy(bytes, object->memory + offset, size);
        return true;
    }
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(object->fd, (char *)bytes + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

const void *object_bytes(struct tl_object *object, uint64_t offset, uint64_t size)
{
    if (size == 0 || offset > object->size || size > object->size - offset)
        return NULL;
    for (struct chunk *chunk = object->chunks; chunk; chunk = chunk->next)
        if (chunk->offset == offset && chunk->size == size)
            return chunk->bytes;
    /* An honest file has each byte in a table or two, and in a segment. One that has more is out to eat memory. */
    if (object->bytes_read > 4 * object->size)
        return NULL;
    struct chunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk || !object_read(object, offset, chunk->bytes, size)) {
        free(chunk);
        return NULL;
    }
    chunk->offset = offset;
    chunk->size = size;
    chunk->next = object->chunks;
    object->chunks = chunk;
    object->bytes_read += size;
    return chunk->bytes;
}

static const char *machine_name(unsigned machine)
{
    static const struct {
        uint16_t machine;
        const char *name;
    } names[] = {{EM_386, "i386"},        {EM_ARM, "arm"},   {EM_AARCH64, "aarch64"}, {EM_RISCV, "riscv"},
                 {EM_PPC64, "ppc64"},     {EM_S390, "s390"}, {EM_MIPS, "mips"},       {EM_PPC, "ppc"},
                 {EM_SPARCV9, "sparc64"}, {EM_BPF, "bpf"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].machine == machine)
            return names[i].name;
    return NULL;
}

static int check_identity(struct tl_object *object, bool is_debug_file, struct tl_error *error)
{
    const char *name = object->display;
    const unsigned char *ident = object_bytes(object, 0, EI_NIDENT);
    if (!ident || memcmp(ident, ELFMAG, SELFMAG) != 0)
        return tl_fail(error, -ENOEXEC, "%s: not an ELF file", name);
    if (ident[EI_DATA] != ELFDATA2LSB)
        return tl_fail(error, -ENOEXEC, "%s: not for x86-64: a big-endian file", name);
    const Elf64_Ehdr *header = object_bytes(object, 0, sizeof *header);
    if (ident[EI_CLASS] != ELFCLASS64) {
        uint16_t machine = EM_NONE; /* stands at the same place in both classes */
        object_read(object, offsetof(Elf64_Ehdr, e_machine), &machine, sizeof machine);
        if (machine == EM_X86_64)
            return tl_fail(error, -ENOEXEC, "%s: an x32 program; only 64-bit x86-64 is supported", name);
        const char *known = machine_name(machine);
        return tl_fail(error, -ENOEXEC, "%s: a 32-bit file (%s); only x86-64 is supported", name,
                       known ? known : "unknown machine");
    }
    if (!header)
        return tl_fail(error, -EINVAL, "%s: truncated: shorter than an ELF header", name);
    memcpy(&object->header, header, sizeof *header);
    if (header->e_machine != EM_X86_64) {
        const char *known = machine_name(header->e_machine);
        if (known)
            return tl_fail(error, -ENOEXEC, "%s: for another machine (%s); only x86-64 is supported", name, known);
        return tl_fail(error, -ENOEXEC, "%s: for another machine (number %u); only x86-64 is supported", name,
                       header->e_machine);
    }
    if (header->e_type == ET_REL)
        return tl_fail(error, -ENOEXEC, "%s: a relocatable object file, not a program or library", name);
    if (header->e_type == ET_CORE)
        return tl_fail(error, -ENOEXEC, "%s: a core dump, not a program or library", name);
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return tl_fail(error, -EINVAL, "%s: ELF type %u is neither a program nor a library", name, header->e_type);
    if (header->e_phnum == 0 && !is_debug_file)
        return tl_fail(error, -EINVAL, "%s: has no program headers", name);
    return 0;
}

static int read_segments(struct tl_object *object, struct tl_error *error)
{
    const Elf64_Ehdr *header = &object->header;
    const char *name = object->display;
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == PN_XNUM)
        return tl_fail(error, -EINVAL, "%s: program headers of %u bytes, %u of them: not valid", name,
                       header->e_phentsize, header->e_phnum);
    size_t count = header->e_phnum;
    object->program_headers = object_bytes(object, header->e_phoff, count * sizeof(Elf64_Phdr));
    if (!object->program_headers)
        return tl_fail(error, -EINVAL, "%s: truncated: the program headers lie outside the file", name);
    object->segments = calloc(count, sizeof *object->segments);
    if (!object->segments)
        return tl_fail(error, -ENOMEM, "%s: out of memory", name);
    object->program_header_count = count;

    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        if (p->p_type == PT_INTERP || p->p_type == PT_DYNAMIC || p->p_type == PT_NOTE) {
            if (p->p_filesz > object->size || p->p_offset > object->size - p->p_filesz)
                return tl_fail(error, -EINVAL, "%s: truncated: program header %zu reaches outside the file", name, i);
        }
        if (p->p_type != PT_LOAD)
            continue;
        if (p->p_filesz > object->size || p->p_offset > object->size - p->p_filesz)
            return tl_fail(error, -EINVAL, "%s: truncated: segment %zu reaches outside the file", name, i);
        if (p->p_filesz > p->p_memsz || p->p_vaddr + p->p_memsz < p->p_vaddr)
            return tl_fail(error, -EINVAL, "%s: segment %zu has sizes that make no sense", name, i);
        if (((p->p_vaddr ^ p->p_offset) & 4095) != 0)
            return tl_fail(error, -EINVAL, "%s: segment %zu cannot be mapped: address and offset differ within a page",
                           name, i);
        if (p->p_vaddr < end)
            return tl_fail(error, -EINVAL, "%s: segment %zu overlaps an earlier one, or is out of order", name, i);
        end = p->p_vaddr + p->p_memsz;
        object->segments[object->segment_count++] = (struct segment){.addr = p->p_vaddr,
                                                                     .size = p->p_filesz,
                                                                     .memory_size = p->p_memsz,
                                                                     .offset = p->p_offset,
                                                                     .executable = p->p_flags & PF_X};
    }
    if (object->segment_count == 0)
        return tl_fail(error, -EINVAL, "%s: has no segments to load", name);
    return 0;
}

static int read_interpreter(struct tl_object *object, struct tl_error *error)
{
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        if (p->p_type != PT_INTERP)
            continue;
        const char *text = p->p_filesz <= 4096 ? object_bytes(object, p->p_offset, p->p_filesz) : NULL;
        if (!text || text[p->p_filesz - 1] != '\0')
            return tl_fail(error, -EINVAL, "%s: the name of its interpreter is not valid", object->display);
        object->interpreter = strdup(text);
        return object->interpreter ? 0 : tl_fail(error, -ENOMEM, "%s: out of memory", object->display);
    }
    return 0;
}

static int check_section(const struct tl_object *object, size_t index, struct tl_error *error)
{
    const Elf64_Shdr *s = &object->sections[index];
    const char *name = object->display;
    if (s->sh_type == SHT_NULL || s->sh_type == SHT_NOBITS)
        return 0;
    if (s->sh_size > object->size || s->sh_offset > object->size - s->sh_size)
        return tl_fail(error, -EINVAL, "%s: truncated: section %zu reaches outside the file", name, index);
    if (s->sh_type == SHT_SYMTAB || s->sh_type == SHT_DYNSYM) {
        if (s->sh_entsize != sizeof(Elf64_Sym))
            return tl_fail(error, -EINVAL, "%s: symbol table %zu has entries of a wrong size", name, index);
        if (s->sh_link >= object->section_count || object->sections[s->sh_link].sh_type != SHT_STRTAB)
            return tl_fail(error, -EINVAL, "%s: symbol table %zu has no string table", name, index);
    }
    return 0;
}

static int read_sections(struct tl_object *object, struct tl_error *error)
{
    const Elf64_Ehdr *header = &object->header;
    const char *name = object->display;
    if (header->e_shoff == 0)
        return 0;
    if (header->e_shentsize != sizeof(Elf64_Shdr))
        return tl_fail(error, -EINVAL, "%s: section headers of %u bytes: not valid", name, header->e_shentsize);
    /* Where there are too many for the header, the first section header tells how many, and which holds the names. */
    const Elf64_Shdr *zero = object_bytes(object, header->e_shoff, sizeof *zero);
    if (!zero)
        return tl_fail(error, -EINVAL, "%s: truncated: the section headers lie outside the file", name);
    uint64_t count = header->e_shnum ? header->e_shnum : zero->sh_size;
    uint32_t names = header->e_shstrndx == SHN_XINDEX ? zero->sh_link : header->e_shstrndx;
    if (count == 0)
        return 0;
    if (count > SECTIONS_MAX)
        return tl_fail(error, -EINVAL, "%s: claims to have %llu sections", name, (unsigned long long)count);
    object->sections = object_bytes(object, header->e_shoff, count * sizeof(Elf64_Shdr));
    if (!object->sections)
        return tl_fail(error, -EINVAL, "%s: truncated: the section headers lie outside the file", name);
    object->section_count = count;
    for (size_t i = 1; i < count; i++) {
        int result = check_section(object, i, error);
        if (result < 0)
            return result;
    }
    if (names != SHN_UNDEF && names < count && object->sections[names].sh_type == SHT_STRTAB) {
        object->section_names_size = object->sections[names].sh_size;
        object->section_names = object_bytes(object, object->sections[names].sh_offset, object->section_names_size);
    }
    return 0;
}

static int read_headers(struct tl_object *object, bool is_debug_file, struct tl_error *error)
{
    int result = check_identity(object, is_debug_file, error);
    if (result == 0 && !is_debug_file)
        result = read_segments(object, error);
    if (result == 0 && !is_debug_file)
        result = read_interpreter(object, error);
    if (result == 0)
        result = read_sections(object, error);
    if (result == 0 && object->section_count == 0)
        object_make_sections(object);
    return result;
}

static struct tl_object *object_new(const struct object_source *source)
{
    struct tl_object *object = calloc(1, sizeof *object);
    if (!object)
        return NULL;
    object->fd = -1;
    object->path = strdup(source->path);
    object->display = strdup(source->display ? source->display : source->path);
    object->root = source->root ? strdup(source->root) : NULL;
    if (!object->path || !object->display || (source->root && !object->root)) {
        tl_object_close(object);
        return NULL;
    }
    return object;
}

/* As open(2), but -EMFILE as soon as few descriptors are left: the lowest free one is what each gets. */
static int open_sparingly(const char *path)
{
    struct rlimit limit;
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd + DESCRIPTORS_LEFT >= limit.rlim_cur) {
        close(fd);
        return -EMFILE;
    }
    return fd;
}

int object_open(const struct object_source *source, struct tl_object **out, struct tl_error *error)
{
    struct tl_object *object = object_new(source);
    if (!object)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result = 0;
    struct stat status;
    int fd = open_sparingly(source->path);
    object->fd = fd < 0 ? -1 : fd;
    if (fd == -EMFILE)
        result = tl_fail(error, fd, "%s: " TL_NO_DESCRIPTORS, object->display);
    else if (fd < 0)
        result = tl_fail(error, fd, "%s: %s", object->display, strerror(-fd));
    else if (fstat(fd, &status) < 0)
        result = tl_fail(error, -errno, "%s: %s", object->display, strerror(errno));
    else if (!S_ISREG(status.st_mode))
        result = tl_fail(error, -ENOEXEC, "%s: not a regular file", object->display);
    else {
        object->size = (uint64_t)status.st_size;
        object->device = status.st_dev;
        object->inode = status.st_ino;
        result = read_headers(object, source->is_debug_file, error);
    }
    if (result < 0) {
        tl_object_close(object);
        return result;
    }
    *out = object;
    return 0;
}

int tl_object_open(const char *path, const char *display, struct tl_object **object, struct tl_error *error)
{
    return object_open(&(struct object_source){.path = path, .display = display}, object, error);
}

int object_open_bytes(const struct object_source *source, const void *bytes, size_t size, struct tl_object **out,
                      struct tl_error *error)
{
    struct tl_object *object = object_new(source);
    if (!object)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result;
    object->memory = malloc(size ? size : 1);
    if (!object->memory) {
        result = tl_fail(error, -ENOMEM, "out of memory");
    } else {
        memcpy(object->memory, bytes, size);
        object->size = size;
        result = read_headers(object, source->is_debug_file, error);
    }
    if (result < 0) {
        tl_object_close(object);
        return result;
    }
    *out = object;
    return 0;
}

int tl_object_open_memory(const void *bytes, size_t size, const char *display, struct tl_object **object,
                          struct tl_error *error)
{
    return object_open_bytes(&(struct object_source){.path = display}, bytes, size, object, error);
}

void tl_object_close(struct tl_object *object)
{
    if (!object)
        return;
    object_end_dwarf(object);
    tl_object_close(object->debug);
    table_free(&object->functions);
    table_free(&object->variables);
    table_free(&object->unnamed);
    for (size_t i = 0; i < object->copy_count; i++)
        free(object->copies[i]);
    free(object->copies);
    free(object->frames);
    free(object->all);
    free(object->relocations);
    free(object->rseqs);
    free(object->segments);
    free(object->interpreter);
    while (object->chunks) {
        struct chunk *next = object->chunks->next;
        free(object->chunks);
        object->chunks = next;
    }
    if (object->fd >= 0)
        close(object->fd);
    free(object->memory);
    free(object->path);
    free(object->display);
    free(object->root);
    free(object);
}
