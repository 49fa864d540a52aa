/* SPDX-License-Identifier: MIT
 *
 * From a type as DWARF describes it to a tree of our own.
 *
 * Debug information is input like any other: entries may refer to each other in circles, a structure may hold itself,
 * members may lie outside of it. So chains of modifiers have a length, nesting a depth, and the whole tree a budget of
 * nodes, beyond which a type is so many bytes of which nothing is known; a member that does not fit is left out.
 */
#include "symbol/type_read.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

enum { NODES = 20000, DEPTH = 32, DIMENSIONS = 8, ENUMERATORS = 4096 };

struct reader {
    unsigned left; /* nodes */
};

static struct tl_datatype *read_type(struct reader *reader, Dwarf_Die *die, unsigned depth);

static bool is_scalar_size(uint64_t size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

static void read_base(struct tl_datatype *type, Dwarf_Die *die)
{
    uint64_t encoding = die_number(die, DW_AT_encoding, 0), size = type->size;
    bool whole = is_scalar_size(size);
    switch (encoding) {
    case DW_ATE_boolean:
        type->kind = whole ? TL_DATA_BOOL : TL_DATA_BYTES;
        break;
    case DW_ATE_signed:
    case DW_ATE_unsigned:
    case DW_ATE_signed_char:
    case DW_ATE_unsigned_char:
    case DW_ATE_UTF:
    case DW_ATE_ASCII:
        type->is_signed = encoding == DW_ATE_signed || encoding == DW_ATE_signed_char;
        if (size == 1 && encoding != DW_ATE_signed && encoding != DW_ATE_unsigned)
            type->kind = TL_DATA_CHAR;
        else if (whole || size == 16)
            type->kind = TL_DATA_INTEGER;
        break;
    case DW_ATE_float:
        type->kind = size == 4 || size == 8 || size == 16 ? TL_DATA_FLOAT : TL_DATA_BYTES;
        break;
    case DW_ATE_address:
        type->kind = whole ? TL_DATA_POINTER : TL_DATA_BYTES;
        break;
    default:
        break;
    }
}

static bool read_enum(struct tl_datatype *type, Dwarf_Die *die)
{
    Dwarf_Die child, base;
    size_t room = 0;
    const char *ignored;
    bool has_base = die_follow(die, DW_AT_type, &base) && type_peel(&base, &ignored), negative = false;
    if (!type->size && has_base)
        type->size = die_number(&base, DW_AT_byte_size, 0);
    if (!is_scalar_size(type->size))
        return true;
    type->kind = TL_DATA_ENUM;
    for (bool more = die_child(die, &child); more && type->count < ENUMERATORS; more = die_next(&child)) {
        Dwarf_Attribute attribute;
        const char *name = dwarf_diename(&child);
        if (dwarf_tag(&child) != DW_TAG_enumerator || !name || !dwarf_attr(&child, DW_AT_const_value, &attribute))
            continue;
        struct tl_enumerator *grown = tl_array_grown(type->enumerators, type->count, &room, sizeof *grown);
        if (!grown)
            return false;
        type->enumerators = grown;
        bool is_sdata =
            dwarf_whatform(&attribute) == DW_FORM_sdata || dwarf_whatform(&attribute) == DW_FORM_implicit_const;
        grown[type->count] = (struct tl_enumerator){.name = shown_name(name),
                                                    .value = (int64_t)die_number(&child, DW_AT_const_value, 0)};
        if (!grown[type->count].name)
            return false;
        negative |= is_sdata && grown[type->count].value < 0;
        type->count++;
    }
    uint64_t encoding = has_base ? die_number(&base, DW_AT_encoding, 0) : 0;
    type->is_signed = encoding ? encoding == DW_ATE_signed || encoding == DW_ATE_signed_char : negative;
    return true;
}

/* How many elements, in each dimension; 0 where that is not a constant. */
static unsigned read_dimensions(Dwarf_Die *die, uint64_t *counts)
{
    Dwarf_Die child;
    unsigned dimensions = 0;
    for (bool more = die_child(die, &child); more && dimensions < DIMENSIONS; more = die_next(&child)) {
        int tag = dwarf_tag(&child);
        if (tag != DW_TAG_subrange_type && tag != DW_TAG_enumeration_type)
            continue;
        uint64_t lower = die_number(&child, DW_AT_lower_bound, 0);
        uint64_t count = die_number(&child, DW_AT_upper_bound, lower - 1) - lower + 1;
        count = die_number(&child, DW_AT_count, count);
        counts[dimensions++] = count > INT64_MAX ? 0 : count;
    }
    if (!dimensions)
        counts[dimensions++] = 0;
    return dimensions;
}

/* "int [3][2]", where it was not named otherwise. */
static bool name_array(struct tl_datatype *type, const struct tl_datatype *element, const uint64_t *counts,
                       unsigned dimensions)
{
    char text[NAME_MAX_LENGTH + 200];
    size_t length = strlen(type->name);
    int used = snprintf(text, sizeof text, "%s ", element->name);
    for (unsigned i = 0; i < dimensions; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "[%llu]", (unsigned long long)counts[i]);
    if (*type->name && (length < 2 || strcmp(type->name + length - 2, "[]") != 0))
        return true;
    free(type->name);
    type->name = shown_name(text);
    return type->name != NULL;
}

static bool read_array(struct reader *reader, struct tl_datatype *type, Dwarf_Die *die, unsigned depth)
{
    uint64_t counts[DIMENSIONS];
    unsigned dimensions = read_dimensions(die, counts);
    Dwarf_Die to;
    type->size = 0;
    if (!die_follow(die, DW_AT_type, &to))
        return true;
    struct tl_datatype *innermost = read_type(reader, &to, depth + 1), *element = innermost;
    for (unsigned i = dimensions; element && i-- > 0;) {
        struct tl_datatype *array = i ? tl_datatype_of_bytes(0) : type;
        uint64_t size;
        bool fits = !__builtin_mul_overflow(counts[i], element->size, &size) && size <= INT64_MAX;
        if (!array || !fits || !name_array(array, innermost, counts + i, dimensions - i)) {
            if (i)
                tl_datatype_free(array);
            tl_datatype_free(element);
            return array && !fits;
        }
        array->kind = TL_DATA_ARRAY;
        array->size = size;
        array->count = counts[i];
        array->element = element;
        element = array;
    }
    return element != NULL;
}

/* Where a member begins: a number, or an expression that adds one. */
static bool member_offset(Dwarf_Die *die, uint64_t *offset)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    Dwarf_Op *operations;
    size_t count;
    *offset = 0;
    if (!dwarf_attr_integrate(die, DW_AT_data_member_location, &attribute))
        return true; /* of a union */
    if (dwarf_formudata(&attribute, &value) == 0)
        *offset = value;
    else if (dwarf_getlocation(&attribute, &operations, &count) == 0 && count == 1 &&
             operations[0].atom == DW_OP_plus_uconst)
        *offset = operations[0].number;
    else
        return false;
    return true;
}

/* A bit field becomes those bits of the smallest aligned number that holds them. */
static bool place_bits(Dwarf_Die *die, uint64_t outer_size, struct tl_member *member)
{
    uint64_t bits = die_number(die, DW_AT_bit_size, 0), first = die_number(die, DW_AT_data_bit_offset, UINT64_MAX);
    if (first == UINT64_MAX) { /* as DWARF 2 counts: from the highest bit of a number of that size */
        uint64_t storage = die_number(die, DW_AT_byte_size, member->type->size);
        uint64_t from_top = die_number(die, DW_AT_bit_offset, 0);
        if (storage > 16 || from_top + bits > storage * 8)
            return false;
        first = member->offset * 8 + storage * 8 - from_top - bits;
    }
    if (bits == 0 || bits > 64 || first / 8 > outer_size)
        return false;
    for (uint64_t size = 1; size <= 8; size *= 2) {
        uint64_t offset = first / 8 / size * size, at = first - offset * 8;
        if (at + bits > size * 8 || offset > outer_size || size > outer_size - offset)
            continue;
        member->offset = offset;
        member->type->size = size;
        member->type->bits = (uint8_t)bits;
        member->type->bit_offset = (uint8_t)at;
        return true;
    }
    return false;
}

static bool is_member(Dwarf_Die *die)
{
    int tag = dwarf_tag(die);
    if (tag == DW_TAG_inheritance)
        return true;
    return tag == DW_TAG_member && !dwarf_hasattr(die, DW_AT_declaration) && !dwarf_hasattr(die, DW_AT_external);
}

/* Whether it was read; *fits: and lies inside the outer type. */
static bool read_member(struct reader *reader, Dwarf_Die *die, uint64_t outer_size, unsigned depth,
                        struct tl_member *member, bool *fits)
{
    Dwarf_Die to;
    *fits = member_offset(die, &member->offset) && die_follow(die, DW_AT_type, &to);
    if (!*fits)
        return true;
    member->type = read_type(reader, &to, depth + 1);
    if (!member->type)
        return false;
    member->is_base = dwarf_tag(die) == DW_TAG_inheritance;
    const char *name = member->is_base ? member->type->name : dwarf_diename(die);
    if (name && *name && !(member->name = shown_name(name)))
        return false;
    if (dwarf_hasattr(die, DW_AT_bit_size))
        *fits = member->type->kind < TL_DATA_FLOAT && place_bits(die, outer_size, member);
    else
        *fits = member->offset <= outer_size && member->type->size <= outer_size - member->offset;
    return true;
}

static bool read_members(struct reader *reader, struct tl_datatype *type, Dwarf_Die *die, unsigned depth)
{
    Dwarf_Die child;
    size_t room = 0;
    for (bool more = die_child(die, &child); more && reader->left; more = die_next(&child)) {
        if (!is_member(&child))
            continue;
        struct tl_member *grown = tl_array_grown(type->members, type->count, &room, sizeof *grown);
        if (!grown)
            return false;
        type->members = grown;
        struct tl_member member = {0};
        bool fits, read = read_member(reader, &child, type->size, depth, &member, &fits);
        if (read && fits) {
            grown[type->count++] = member;
            continue;
        }
        free(member.name);
        tl_datatype_free(member.type);
        if (!read)
            return false;
    }
    return true;
}

static bool fill(struct reader *reader, struct tl_datatype *type, Dwarf_Die *die, unsigned depth)
{
    Dwarf_Die to;
    int tag = dwarf_tag(die);
    type->size = die_number(die, DW_AT_byte_size, 0);
    if (type->size > INT64_MAX)
        type->size = 0;
    if (!reader->left || depth > DEPTH)
        return true;
    reader->left--;
    switch (tag) {
    case DW_TAG_base_type:
        read_base(type, die);
        return true;
    case DW_TAG_pointer_type:
    case DW_TAG_reference_type:
    case DW_TAG_rvalue_reference_type:
        type->size = type->size ? type->size : 8;
        type->kind = is_scalar_size(type->size) ? TL_DATA_POINTER : TL_DATA_BYTES;
        return true;
    case DW_TAG_ptr_to_member_type: /* of a method it has the adjustment of `this`, too */
        if (!type->size && die_follow(die, DW_AT_type, &to))
            type->size = dwarf_tag(&to) == DW_TAG_subroutine_type ? 16 : 8;
        return true;
    case DW_TAG_enumeration_type:
        return read_enum(type, die);
    case DW_TAG_array_type:
        return read_array(reader, type, die, depth);
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
    case DW_TAG_union_type:
        if (dwarf_hasattr(die, DW_AT_declaration))
            return true;
        type->kind = tag == DW_TAG_union_type ? TL_DATA_UNION : TL_DATA_STRUCT;
        return read_members(reader, type, die, depth);
    case DW_TAG_subrange_type: /* of Ada and Pascal */
        if (die_follow(die, DW_AT_type, &to) && dwarf_tag(&to) == DW_TAG_base_type) {
            type->size = type->size ? type->size : die_number(&to, DW_AT_byte_size, 0);
            read_base(type, &to);
        }
        return true;
    default:
        return true;
    }
}

static struct tl_datatype *read_type(struct reader *reader, Dwarf_Die *die, unsigned depth)
{
    const char *ignored;
    Dwarf_Die peeled = *die;
    struct tl_datatype *type = tl_datatype_of_bytes(0);
    if (!type)
        return NULL;
    if (!type_name(type, die) || (type_peel(&peeled, &ignored) && !fill(reader, type, &peeled, depth))) {
        tl_datatype_free(type);
        return NULL;
    }
    return type;
}

struct tl_datatype *type_read(Dwarf_Die *variable)
{
    struct reader reader = {.left = NODES};
    Dwarf_Die type;
    return die_follow(variable, DW_AT_type, &type) ? read_type(&reader, &type, 0) : NULL;
}
