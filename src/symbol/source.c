/* SPDX-License-Identifier: MIT
 *
 * Lines by libdw. A file's debug information is opened when it is first asked for, by the descriptor of the room's
 * object, which has to outlive it.
 */
#include "symbol/source.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <libelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn/sweep.h"
#include "insn/touch.h"
#include "symbol/object.h"
#include "symbol/unwinder.h"

struct source {
    struct source *next;
    const struct tl_object *object; /* of the module */
    Elf *elf;
    Dwarf *dwarf; /* NULL: there is none */
};

void unwinder_forget_sources(struct tl_unwinder *unwinder)
{
    while (unwinder->sources) {
        struct source *source = unwinder->sources;
        unwinder->sources = source->next;
        dwarf_end(source->dwarf);
        elf_end(source->elf);
        free(source);
    }
}

/* The file that has the lines: the object itself, or its debug file. */
static const struct tl_object *with_lines(struct tl_object *object)
{
    if (object_section(object, 0, ".debug_info", NULL) || object_section(object, 0, ".zdebug_info", NULL))
        return object;
    object_need_debug(object);
    return object->debug;
}

static Dwarf *dwarf_of(struct tl_unwinder *unwinder, struct tl_object *object)
{
    struct source *source = unwinder->sources;
    while (source && source->object != object)
        source = source->next;
    if (source)
        return source->dwarf;
    source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    *source = (struct source){.next = unwinder->sources, .object = object};
    unwinder->sources = source;
    const struct tl_object *file = with_lines(object);
    if (file)
        source->elf =
            file->memory ? elf_memory((char *)file->memory, file->size) : elf_begin(file->fd, ELF_C_READ, NULL);
    if (source->elf)
        source->dwarf = dwarf_begin_elf(source->elf, DWARF_C_READ, NULL);
    return source->dwarf;
}

/* The index of addresses is not complete where compilers leave it out. */
static bool find_unit(Dwarf *dwarf, uint64_t addr, Dwarf_Die *unit)
{
    if (dwarf_addrdie(dwarf, addr, unit) && dwarf_haspc(unit, addr) == 1)
        return true;
    Dwarf_CU *at = NULL;
    while (dwarf_get_units(dwarf, at, &at, NULL, NULL, unit, NULL) == 0)
        if (dwarf_haspc(unit, addr) == 1)
            return true;
    return false;
}

static void set_file(struct tl_source_line *line, const char *path, int number)
{
    if (path && number > 0) {
        snprintf(line->file, sizeof line->file, "%s", tl_base_name(path));
        line->line = (unsigned)number;
        line->is_system = !strncmp(path, "/usr/include/", 13) || !strncmp(path, "/usr/lib/", 9);
    }
}

static unsigned number_of(Dwarf_Die *die, unsigned attribute)
{
    Dwarf_Attribute found;
    Dwarf_Word value;
    return dwarf_formudata(dwarf_attr(die, attribute, &found), &value) || value > INT32_MAX ? 0 : (unsigned)value;
}

/* Where the function that was put in here was called: a line of the one that holds it. */
static void set_call(struct tl_source_line *line, Dwarf_Die *unit, Dwarf_Die *inlined)
{
    Dwarf_Files *files;
    size_t count;
    Dwarf_Half version = 0;
    unsigned file = number_of(inlined, DW_AT_call_file);
    /* The file with number 0 is the unit's own since DWARF 5, and none before. */
    bool is_file = file || (!dwarf_cu_info(unit->cu, &version, NULL, NULL, NULL, NULL, NULL, NULL) && version >= 5);
    if (is_file && !dwarf_getsrcfiles(unit, &files, &count) && file < count)
        set_file(line, dwarf_filesrc(files, file, NULL, NULL), (int)number_of(inlined, DW_AT_call_line));
}

/* Functions that were put into others here, the innermost first. Every one names its line's function; the next line is
 * where it was called. */
static size_t add_inlined(Dwarf_Die *unit, uint64_t addr, struct tl_source_line *lines, size_t most)
{
    Dwarf_Die *scopes = NULL, *parents = NULL;
    size_t count = 0;
    int found = dwarf_getscopes(unit, addr, &scopes);
    /* Behind the first inlined one, those scopes are of its definition; what holds it are its own parents. */
    int depth = found > 0 ? dwarf_getscopes_die(&scopes[0], &parents) : 0;
    for (int i = 0; i < depth && count + 1 < most; i++) {
        int tag = dwarf_tag(&parents[i]);
        if (tag == DW_TAG_subprogram)
            break;
        if (tag != DW_TAG_inlined_subroutine)
            continue;
        const char *name = dwarf_diename(&parents[i]);
        snprintf(lines[count].function, sizeof lines[count].function, "%s", name ? name : "?");
        lines[++count] = (struct tl_source_line){.line = 0};
        set_call(&lines[count], unit, &parents[i]);
    }
    free(parents);
    free(scopes);
    return count;
}

size_t tl_unwinder_lines(struct tl_unwinder *unwinder, const struct tl_frame *frame, struct tl_source_line *lines,
                         size_t most)
{
    uint64_t inside = frame->addr - frame->is_return;
    const struct tl_module *module = tl_modules_at(&unwinder->modules, inside);
    if (!module && unwinder_refresh(unwinder))
        module = tl_modules_at(&unwinder->modules, inside);
    Dwarf *dwarf = module && module->object ? dwarf_of(unwinder, module->object) : NULL;
    Dwarf_Die unit;
    if (!most || !dwarf || !find_unit(dwarf, inside - module->bias, &unit))
        return 0;
    int number;
    Dwarf_Line *at = dwarf_getsrc_die(&unit, inside - module->bias);
    lines[0] = (struct tl_source_line){.line = 0};
    if (at && !dwarf_lineno(at, &number))
        set_file(&lines[0], dwarf_linesrc(at, NULL, NULL), number);
    return add_inlined(&unit, inside - module->bias, lines, most) + 1;
}

/* The function's piece that holds a live address, as the file has it. */
static bool piece_at(const struct tl_modules *modules, uint64_t addr, struct tl_range *range)
{
    const struct tl_module *module = tl_modules_at(modules, addr);
    const struct tl_function *function =
        module && module->object ? tl_object_function_at(module->object, addr - module->bias) : NULL;
    size_t available;
    const uint8_t *bytes = function ? tl_object_text(module->object, function->addr, &available) : NULL;
    if (!bytes)
        return false;
    *range = (struct tl_range){.addr = function->addr + module->bias,
                               .size = function->size < available ? function->size : available,
                               .bytes = bytes};
    return addr - range->addr < range->size;
}

static bool decode_at(const struct tl_modules *modules, uint64_t addr, struct tl_insn *insn)
{
    const struct tl_module *module = tl_modules_at(modules, addr);
    size_t available;
    const uint8_t *bytes =
        module && module->object ? tl_object_text(module->object, addr - module->bias, &available) : NULL;
    return bytes && !tl_insn_decode(bytes, available, addr, insn);
}

static bool is_it(const struct tl_insn *insn, const struct tl_access *access)
{
    if (!(tl_insn_access(insn) & access->kinds))
        return false;
    /* Where it names what it accesses, that tells; it may be up to 64 bytes. */
    return !insn->rip_relative || insn->memory - access->addr < access->length || access->addr - insn->memory < 64;
}

static uint64_t before(const struct tl_modules *modules, uint64_t addr)
{
    struct tl_range range;
    struct tl_sweep sweep;
    if (!piece_at(modules, addr - 1, &range) || tl_sweep_range(&range, NULL, 0, &sweep))
        return 0;
    uint64_t found = tl_sweep_before(&range, &sweep, addr);
    tl_sweep_free(&sweep);
    return found;
}

static bool is_call(const struct tl_insn *insn, uint64_t to)
{
    return insn->flow == TL_FLOW_CALL_INDIRECT || (insn->flow == TL_FLOW_CALL && insn->target == to);
}

uint64_t tl_unwinder_accessor(struct tl_unwinder *unwinder, uint64_t rip, const struct tl_access *access)
{
    const struct tl_modules *modules = &unwinder->modules;
    struct tl_insn insn;
    if (!tl_modules_at(modules, rip - 1))
        unwinder_refresh(unwinder);
    uint64_t addr = before(modules, rip);
    bool goes_on = addr && decode_at(modules, addr, &insn) && insn.flow == TL_FLOW_NEXT;
    if (goes_on && is_it(&insn, access))
        return addr;
    if (decode_at(modules, rip, &insn) && tl_insn_access(&insn) & TL_INSN_REPEATS && is_it(&insn, access))
        return rip;
    uint64_t call = access->has_value && access->length == sizeof call ? before(modules, access->value) : 0;
    if (call && decode_at(modules, call, &insn) && is_call(&insn, rip))
        return call;
    return goes_on ? addr : rip;
}

unsigned tl_unwinder_access(struct tl_unwinder *unwinder, uint64_t addr)
{
    struct tl_insn insn;
    return decode_at(&unwinder->modules, addr, &insn) ? tl_insn_access(&insn) : 0;
}

bool tl_unwinder_may_touch(struct tl_unwinder *unwinder, uint64_t addr, const uint64_t registers[16], uint64_t from,
                           uint64_t length)
{
    struct tl_touch touches[TL_TOUCHES_MAX];
    struct tl_insn insn;
    if (!decode_at(&unwinder->modules, addr, &insn))
        return true;
    unsigned count = tl_insn_touches(&insn, registers, 0, touches);
    for (unsigned i = 0; i < count; i++)
        if (touches[i].addr < from + length && from < touches[i].addr + touches[i].size)
            return true;
    return count == 0;
}
