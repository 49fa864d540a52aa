/* SPDX-License-Identifier: MIT
 *
 * Variables in debug information.
 *
 * There is no index that all compilers write, so the tree of entries is walked: namespaces, and classes for their
 * static members, always; functions only if asked for, since nearly all entries are in them. A variable may be declared
 * in one place, in its namespace or class, and defined in another that refers to the first: the place of the first says
 * what its full name is. Both are collected, and put together at the end.
 *
 * libdw reads the file through a descriptor, or from memory, as this room does; siblings are followed forwards only,
 * and nesting has a limit, so that whatever the file says the walk ends.
 */
#include <dwarf.h>
#include <elfutils/libdwelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/type_read.h"
#include "symbol/variables.h"

enum { DEPTH = 64, SCOPE_MAX = 1000 };

static bool has_debug_information(const struct tl_object *object)
{
    return object_section(object, 0, ".debug_info", NULL) || object_section(object, 0, ".zdebug_info", NULL);
}

static Dwarf *open_dwarf(struct tl_object *object, Elf **elf)
{
    elf_version(EV_CURRENT);
    *elf = object->memory ? elf_memory((char *)object->memory, object->size) : elf_begin(object->fd, ELF_C_READ, NULL);
    return *elf ? dwarf_begin_elf(*elf, DWARF_C_READ, NULL) : NULL;
}

Dwarf *object_need_dwarf(struct tl_object *object)
{
    if (object->have.dwarf)
        return object->dwarf;
    object->have.dwarf = true;
    struct tl_object *from = object;
    if (!has_debug_information(object)) {
        object_need_debug(object);
        from = object->debug;
    }
    if (from && has_debug_information(from))
        object->dwarf = open_dwarf(from, &object->dwarf_file);
    return object->dwarf;
}

void object_end_dwarf(struct tl_object *object)
{
    if (object->dwarf)
        dwarf_end(object->dwarf);
    if (object->dwarf_file)
        elf_end(object->dwarf_file);
}

/* A declaration of the wanted name: what refers to it has that full name. */
struct declaration {
    Dwarf_Off at;
    char *name;
};

struct walk {
    struct tl_object *object;
    const char *base; /* the last component; NULL: all */
    bool in_functions;
    struct nearest *nearest; /* all names go here, instead of: */
    struct candidates *candidates;
    struct declaration *declarations;
    size_t declaration_count, declaration_room;
    Dwarf_Off *specifications; /* of each candidate; 0: none */
    size_t first, specification_count, specification_room;
    const char *file;
    bool has_classes; /* the unit's language has */
    char scope[SCOPE_MAX];
    size_t scope_length;
};

static uint64_t operand(Dwarf_Attribute *location, const Dwarf_Op *operation)
{
    Dwarf_Attribute attribute;
    Dwarf_Addr addr;
    Dwarf_Word value;
    switch (operation->atom) {
    case DW_OP_addrx:
    case DW_OP_GNU_addr_index:
        return dwarf_getlocation_attr(location, operation, &attribute) == 0 && dwarf_formaddr(&attribute, &addr) == 0
                   ? addr
                   : 0;
    case DW_OP_constx:
    case DW_OP_GNU_const_index:
        return dwarf_getlocation_attr(location, operation, &attribute) == 0 && dwarf_formudata(&attribute, &value) == 0
                   ? value
                   : 0;
    default:
        return operation->number;
    }
}

/* What an expression says of the variable's place. */
static enum finding evaluate(Dwarf_Attribute *location, const Dwarf_Op *operations, size_t count, uint64_t *addr)
{
    bool known = false;
    for (size_t i = 0; i < count; i++) {
        unsigned atom = operations[i].atom;
        switch (atom) {
        case DW_OP_addr:
        case DW_OP_addrx:
        case DW_OP_GNU_addr_index:
        case DW_OP_const1u:
        case DW_OP_const2u:
        case DW_OP_const4u:
        case DW_OP_const8u:
        case DW_OP_constu:
        case DW_OP_constx:
        case DW_OP_GNU_const_index:
            *addr = operand(location, &operations[i]);
            known = true;
            break;
        case DW_OP_plus_uconst:
            *addr += operations[i].number;
            break;
        case DW_OP_form_tls_address:
        case DW_OP_GNU_push_tls_address:
            return known && i + 1 == count ? FOUND_THREAD : FOUND_COMPUTED;
        case DW_OP_fbreg:
        case DW_OP_call_frame_cfa:
            return FOUND_LOCAL;
        case DW_OP_piece:
        case DW_OP_bit_piece:
            return FOUND_PIECES;
        default:
            if ((atom >= DW_OP_reg0 && atom <= DW_OP_reg31) || atom == DW_OP_regx)
                return count > 1 ? FOUND_PIECES : FOUND_REGISTER;
            if ((atom >= DW_OP_breg0 && atom <= DW_OP_breg31) || atom == DW_OP_bregx)
                return FOUND_LOCAL;
            return FOUND_COMPUTED;
        }
    }
    return known ? FOUND_MEMORY : FOUND_NOWHERE;
}

/* A thread-local variable's offset in the block of its module. Some compilers write the address that it has in the
 * file's image of the block instead. */
static enum finding settle_thread_local(const struct tl_object *object, uint64_t *addr)
{
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        if (p->p_type != PT_TLS)
            continue;
        if (*addr >= p->p_memsz && *addr - p->p_vaddr < p->p_memsz)
            *addr -= p->p_vaddr;
        return *addr < p->p_memsz ? FOUND_THREAD : FOUND_NOWHERE;
    }
    return FOUND_NOWHERE;
}

/* Go writes blocks where DWARF 4 wants expressions, and libdw refuses them. As long as its length takes one byte, a
 * block is written just as an expression is. */
static void accept_block(Dwarf_Attribute *location)
{
    Dwarf_Block block;
    if (location->form == DW_FORM_block1 && dwarf_formblock(location, &block) == 0 && block.length < 0x80)
        location->form = DW_FORM_exprloc;
}

static enum finding locate(const struct walk *walk, Dwarf_Die *die, uint64_t *addr)
{
    Dwarf_Attribute location;
    Dwarf_Op *operations;
    size_t count;
    *addr = 0;
    if (!dwarf_attr_integrate(die, DW_AT_location, &location)) {
        if (dwarf_hasattr_integrate(die, DW_AT_const_value))
            return FOUND_CONSTANT;
        return dwarf_hasattr(die, DW_AT_declaration) ? FOUND_DECLARED : FOUND_NOWHERE;
    }
    accept_block(&location);
    if (dwarf_getlocation(&location, &operations, &count) != 0)
        return FOUND_COMPUTED; /* a list of places, by where the program is */
    enum finding finding = evaluate(&location, operations, count, addr);
    if (finding == FOUND_THREAD)
        return settle_thread_local(walk->object, addr);
    /* What the linker has thrown out is at address 0 or the like. */
    return finding == FOUND_MEMORY && !object_has_memory(walk->object, *addr) ? FOUND_NOWHERE : finding;
}

static char *full_name(const struct walk *walk, const char *name)
{
    char text[SCOPE_MAX + 300];
    snprintf(text, sizeof text, "%s%s%.250s", walk->scope, walk->scope_length ? "::" : "", name);
    return shown_name(text);
}

static void note_declaration(struct walk *walk, Dwarf_Die *die, const char *name)
{
    struct declaration *grown =
        tl_array_grown(walk->declarations, walk->declaration_count, &walk->declaration_room, sizeof *grown);
    if (!grown)
        return;
    walk->declarations = grown;
    grown[walk->declaration_count] = (struct declaration){dwarf_dieoffset(die), full_name(walk, name)};
    walk->declaration_count += grown[walk->declaration_count].name != NULL;
}

/* The source file: the unit's; after link-time optimisation that of the unit where the variable comes from. */
static const char *file_of(const struct walk *walk, Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    Dwarf_Die origin, unit;
    if (dwarf_attr(die, DW_AT_abstract_origin, &attribute) && dwarf_formref_die(&attribute, &origin) &&
        dwarf_diecu(&origin, &unit, NULL, NULL))
        return dwarf_diename(&unit);
    return walk->file;
}

static void note_candidate(struct walk *walk, Dwarf_Die *die, const char *name, bool in_function)
{
    Dwarf_Attribute attribute;
    Dwarf_Die specification;
    Dwarf_Off *grown =
        tl_array_grown(walk->specifications, walk->specification_count, &walk->specification_room, sizeof *grown);
    if (!grown)
        return;
    walk->specifications = grown;
    struct candidate candidate = {.has_type = true, .die = *die, .in_function = in_function};
    candidate.finding = (uint8_t)locate(walk, die, &candidate.addr);
    if (dwarf_tag(die) == DW_TAG_formal_parameter || (in_function && candidate.finding == FOUND_COMPUTED))
        candidate.finding = FOUND_LOCAL;
    candidate.global = dwarf_hasattr_integrate(die, DW_AT_external);
    candidate.name = full_name(walk, name);
    const char *file = file_of(walk, die);
    candidate.file = file ? shown_name(file) : NULL;
    size_t before = walk->candidates->count;
    candidates_add(walk->candidates, &candidate);
    if (walk->candidates->count == before)
        return;
    bool is_specified =
        dwarf_attr(die, DW_AT_specification, &attribute) && dwarf_formref_die(&attribute, &specification);
    grown[walk->specification_count++] = is_specified ? dwarf_dieoffset(&specification) : 0;
}

static void visit_variable(struct walk *walk, Dwarf_Die *die, bool in_function)
{
    const char *name = dwarf_diename(die);
    if (!name || !*name)
        return;
    if (walk->nearest) {
        char *full = full_name(walk, name);
        if (full)
            nearest_offer(walk->nearest, strstr(walk->nearest->wanted, "::") ? full : name_base(full));
        free(full);
        return;
    }
    if (strcmp(name, walk->base) != 0)
        return;
    if (dwarf_hasattr(die, DW_AT_declaration))
        note_declaration(walk, die, name);
    if (dwarf_tag(die) != DW_TAG_member)
        note_candidate(walk, die, name, in_function);
}

static void walk_children(struct walk *walk, Dwarf_Die *parent, unsigned depth, bool in_function);

static void walk_scope(struct walk *walk, Dwarf_Die *die, const char *name, unsigned depth, bool in_function)
{
    size_t before = walk->scope_length, length = name ? strnlen(name, 200) : 0;
    if (length && before + length + 3 < sizeof walk->scope)
        walk->scope_length +=
            (size_t)snprintf(walk->scope + before, sizeof walk->scope - before, "%s%.200s", before ? "::" : "", name);
    walk_children(walk, die, depth + 1, in_function);
    walk->scope_length = before;
    walk->scope[before] = '\0';
}

static void visit(struct walk *walk, Dwarf_Die *die, unsigned depth, bool in_function)
{
    const char *name;
    switch (dwarf_tag(die)) {
    case DW_TAG_variable:
    case DW_TAG_member: /* static members, as they were up to DWARF 4, are declarations */
        visit_variable(walk, die, in_function);
        break;
    case DW_TAG_formal_parameter:
        if (in_function)
            visit_variable(walk, die, true);
        break;
    case DW_TAG_namespace:
    case DW_TAG_module:
        name = dwarf_diename(die);
        walk_scope(walk, die, name ? name : "(anonymous namespace)", depth, in_function);
        break;
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
    case DW_TAG_union_type:
    case DW_TAG_interface_type:
        if (walk->has_classes)
            walk_scope(walk, die, dwarf_diename(die), depth, in_function);
        break;
    case DW_TAG_subprogram:
        if (walk->in_functions)
            walk_scope(walk, die, dwarf_diename(die), depth, true);
        break;
    case DW_TAG_lexical_block:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
        if (in_function)
            walk_children(walk, die, depth + 1, true);
        break;
    default:
        break;
    }
}

static void walk_children(struct walk *walk, Dwarf_Die *parent, unsigned depth, bool in_function)
{
    Dwarf_Die child;
    if (depth > DEPTH)
        return;
    for (bool more = die_child(parent, &child); more; more = die_next(&child))
        visit(walk, &child, depth, in_function);
}

static bool has_classes(Dwarf_Die *unit)
{
    switch (dwarf_srclang(unit)) {
    case DW_LANG_C:
    case DW_LANG_C89:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
        return false;
    default:
        return true;
    }
}

static void walk_units(struct walk *walk, Dwarf *dwarf)
{
    Dwarf_CU *unit = NULL;
    Dwarf_Die die, split;
    uint8_t type;
    while (dwarf_get_units(dwarf, unit, &unit, NULL, &type, &die, &split) == 0) {
        Dwarf_Die *top = type == DW_UT_skeleton && split.addr ? &split : &die;
        if (type == DW_UT_type)
            continue;
        walk->file = dwarf_diename(top);
        walk->has_classes = has_classes(top);
        walk_children(walk, top, 0, false);
    }
}

/* Definitions get the names of the declarations that they refer to. */
static void name_definitions(struct walk *walk)
{
    for (size_t i = 0; i < walk->specification_count; i++) {
        struct candidate *candidate = &walk->candidates->list[walk->first + i];
        for (size_t j = 0; walk->specifications[i] && j < walk->declaration_count; j++) {
            char *name =
                walk->declarations[j].at == walk->specifications[i] ? strdup(walk->declarations[j].name) : NULL;
            if (!name)
                continue;
            free(candidate->name);
            candidate->name = name;
            break;
        }
    }
}

void dwarf_find_variables(struct tl_object *object, const char *base, bool in_functions, struct candidates *candidates)
{
    Dwarf *dwarf = object_need_dwarf(object);
    struct walk walk = {.object = object,
                        .base = base,
                        .in_functions = in_functions,
                        .candidates = candidates,
                        .first = candidates->count};
    if (!dwarf)
        return;
    walk_units(&walk, dwarf);
    name_definitions(&walk);
    for (size_t i = 0; i < walk.declaration_count; i++)
        free(walk.declarations[i].name);
    free(walk.declarations);
    free(walk.specifications);
}

void dwarf_offer_variables(struct tl_object *object, struct nearest *nearest)
{
    Dwarf *dwarf = object_need_dwarf(object);
    struct walk walk = {.object = object, .nearest = nearest};
    if (dwarf)
        walk_units(&walk, dwarf);
}
