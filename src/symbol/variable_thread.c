/* SPDX-License-Identifier: MIT
 *
 * Where a thread-local variable of one thread is.
 *
 * The program's own block ends at the thread pointer, by the rules of the processor's ABI. Where the block of a library
 * is, only the dynamic linker knows; what tells it are the slots of the library that it has filled: one with the offset
 * of a variable from the thread pointer says where the block is in all threads (R_X86_64_TPOFF64), one with the number
 * of the module (R_X86_64_DTPMOD64) leads to it through the thread's table, whose layout differs between C libraries.
 */
#include <elf.h>
#include <string.h>

#include "symbol/variables.h"

struct slots {
    const struct tl_modules *modules;
    struct tl_object *object;
    bool has_offset, has_number;
    uint64_t offset_slot, offset_in_block, number_slot;
};

struct definition {
    const char *name;
    bool found;
};

static void note_definition(void *context, const struct symbol *symbol)
{
    struct definition *definition = context;
    definition->found |= symbol->type == STT_TLS && symbol->global && symbol->length == strlen(definition->name) &&
                         !memcmp(symbol->name, definition->name, symbol->length);
}

/* Whether a slot for this symbol is about the object's own block: it is not where another module has one of that name,
 * which may have been taken instead. */
static bool is_own(const struct slots *slots, const Elf64_Sym *symbol, const char *name)
{
    struct definition definition = {.name = name};
    if (symbol->st_shndx == SHN_UNDEF)
        return false;
    if (ELF64_ST_BIND(symbol->st_info) == STB_LOCAL || ELF64_ST_VISIBILITY(symbol->st_other) != STV_DEFAULT)
        return true;
    for (size_t i = 0; i < slots->modules->count; i++) {
        struct tl_object *other = slots->modules->modules[i].object;
        if (other && other != slots->object)
            object_each_symbol(other, note_definition, &definition);
    }
    return !definition.found;
}

static int note_slot(void *context, const Elf64_Rela *entry, const Elf64_Shdr *section)
{
    struct slots *slots = context;
    const char *name;
    uint32_t type = ELF64_R_TYPE(entry->r_info);
    if (type != R_X86_64_TPOFF64 && type != R_X86_64_DTPMOD64)
        return 0;
    const Elf64_Sym *symbol = object_relocation_symbol(slots->object, entry, section, &name);
    if (symbol ? !is_own(slots, symbol, name) : ELF64_R_SYM(entry->r_info) != 0)
        return 0;
    if (type == R_X86_64_TPOFF64) {
        slots->has_offset = true;
        slots->offset_slot = entry->r_offset;
        slots->offset_in_block = (symbol ? symbol->st_value : 0) + (uint64_t)entry->r_addend;
    } else {
        slots->has_number = true;
        slots->number_slot = entry->r_offset;
    }
    return 0;
}

/* The program's block: as far below the thread pointer as its size, rounded to its alignment. */
static bool offset_of_program(const struct tl_object *object, uint64_t *offset)
{
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        uint64_t align = p->p_align ? p->p_align : 1;
        if (p->p_type != PT_TLS || align & (align - 1) || align > 1u << 20)
            continue;
        uint64_t below = p->p_memsz + ((0 - p->p_memsz - p->p_vaddr) & (align - 1));
        *offset = 0 - below;
        return true;
    }
    return false;
}

static bool is_musl(const struct tl_modules *modules)
{
    for (size_t i = 0; i < modules->count; i++)
        if (modules->modules[i].is_interpreter)
            return strstr(tl_base_name(modules->modules[i].path), "musl") != NULL;
    return false;
}

struct host {
    int (*read)(void *host, uint64_t addr, void *bytes, size_t size);
    void *host;
};

static int read_word(const struct host *host, uint64_t addr, uint64_t *word)
{
    return host->read(host->host, addr, word, sizeof *word);
}

/* The block of module `number` by the thread's table: at fs:8, with entries of two words in glibc, of one in musl. */
static int find_block(const struct host *host, bool musl, uint64_t fs_base, uint64_t number, uint64_t *block,
                      struct tl_error *error)
{
    uint64_t table, most;
    int result = read_word(host, fs_base + 8, &table);
    if (!result)
        result = read_word(host, musl ? table : table - 16, &most);
    if (!result && (number == 0 || number > most))
        return tl_fail(error, -ENOENT, "the thread has no block of that library yet");
    if (!result)
        result = read_word(host, table + number * (musl ? 8 : 16), block);
    if (!result && (*block == 0 || *block == UINT64_MAX))
        return tl_fail(error, -ENOENT, "the thread has no block of that library yet");
    return result ? tl_fail(error, result, "the thread's table of thread-local blocks cannot be read") : 0;
}

int tl_modules_thread_local(const struct tl_modules *modules, const struct tl_variable *variable, uint64_t fs_base,
                            int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *context,
                            uint64_t *addr, struct tl_error *error)
{
    const struct tl_module *module = variable->module;
    struct host host = {read, context};
    struct slots slots = {.modules = modules, .object = module->object};
    uint64_t offset, number, block;
    if (module->is_exe && offset_of_program(module->object, &offset)) {
        *addr = fs_base + offset + variable->file_addr;
        return 0;
    }
    object_each_relocation(module->object, note_slot, &slots);
    int result = -ENOTSUP;
    if (slots.has_offset && !(result = read_word(&host, module->bias + slots.offset_slot, &offset))) {
        *addr = fs_base + offset - slots.offset_in_block + variable->file_addr;
        return 0;
    }
    if (slots.has_number && !(result = read_word(&host, module->bias + slots.number_slot, &number))) {
        result = find_block(&host, is_musl(modules), fs_base, number, &block, error);
        *addr = block + variable->file_addr;
        return result;
    }
    if (result != -ENOTSUP)
        return tl_fail(error, result, "the memory of %s cannot be read", tl_base_name(module->path));
    return tl_fail(error, -ENOTSUP, "nothing in %s tells where its thread-local variables are",
                   tl_base_name(module->path));
}
