/* SPDX-License-Identifier: MIT
 *
 * Entries of debug information one at a time: the next one, the type that one refers to, and what that is called.
 */
#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "symbol/type_read.h"

enum { MODIFIERS = 32, NESTING = 8 };

bool die_next(Dwarf_Die *die)
{
    Dwarf_Off before = dwarf_dieoffset(die);
    Dwarf_Die next;
    if (dwarf_siblingof(die, &next) != 0 || dwarf_dieoffset(&next) <= before)
        return false;
    *die = next;
    return true;
}

bool die_child(const Dwarf_Die *parent, Dwarf_Die *child)
{
    Dwarf_Die copy = *parent;
    return dwarf_child(&copy, child) == 0 && dwarf_dieoffset(child) > dwarf_dieoffset(&copy);
}

char *shown_name(const char *name)
{
    char text[NAME_MAX_LENGTH + 1];
    size_t used = 0;
    for (size_t left = strnlen(name, NAME_MAX_LENGTH), bytes; left; name += bytes, left -= bytes) {
        const unsigned char *s = (const unsigned char *)name;
        bytes = tl_utf8_length(s, left);
        if (bytes && *s >= ' ' && *s != 0x7f && !(*s == 0xc2 && s[1] < 0xa0)) {
            memcpy(text + used, s, bytes);
            used += bytes;
        } else {
            text[used++] = '?';
            bytes = bytes ? bytes : 1;
        }
    }
    text[used] = '\0';
    return strdup(text);
}

/* A whole number in an attribute; `otherwise` where there is none. */
uint64_t die_number(Dwarf_Die *die, unsigned name, uint64_t otherwise)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    Dwarf_Sword negative;
    if (!dwarf_attr_integrate(die, name, &attribute))
        return otherwise;
    if (dwarf_whatform(&attribute) == DW_FORM_sdata)
        return dwarf_formsdata(&attribute, &negative) == 0 ? (uint64_t)negative : otherwise;
    return dwarf_formudata(&attribute, &value) == 0 ? value : otherwise;
}

bool die_follow(Dwarf_Die *die, unsigned name, Dwarf_Die *to)
{
    Dwarf_Attribute attribute;
    return dwarf_attr_integrate(die, name, &attribute) && dwarf_formref_die(&attribute, to);
}

/* Typedefs and qualifiers off; the outermost typedef's name is kept. False for void. */
bool type_peel(Dwarf_Die *die, const char **typedef_name)
{
    *typedef_name = NULL;
    for (unsigned i = 0; i < MODIFIERS; i++) {
        unsigned via = DW_AT_type;
        switch (dwarf_tag(die)) {
        case DW_TAG_typedef:
            if (!*typedef_name)
                *typedef_name = dwarf_diename(die);
            break;
        case DW_TAG_const_type:
        case DW_TAG_volatile_type:
        case DW_TAG_restrict_type:
        case DW_TAG_atomic_type:
        case DW_TAG_immutable_type:
        case DW_TAG_shared_type:
        case DW_TAG_packed_type:
            break;
        default:
            if (!dwarf_hasattr(die, DW_AT_signature))
                return true;
            via = DW_AT_signature; /* it stands in a unit of its own */
        }
        Dwarf_Die to;
        if (!die_follow(die, via, &to))
            return via == DW_AT_signature;
        *die = to;
    }
    return false;
}

static bool is_c(Dwarf_Die *die)
{
    Dwarf_Die unit;
    int language = dwarf_diecu(die, &unit, NULL, NULL) ? dwarf_srclang(&unit) : -1;
    return language == DW_LANG_C || language == DW_LANG_C89 || language == DW_LANG_C99 || language == DW_LANG_C11;
}

/* "struct conf", "char *", "int [8]" */
static void describe(Dwarf_Die *die, char *text, size_t room, unsigned depth)
{
    const char *name, *keyword = "";
    Dwarf_Die to;
    bool some = type_peel(die, &name);
    int tag = some ? dwarf_tag(die) : 0;
    if (!name && some)
        name = dwarf_diename(die);
    else if (some)
        tag = 0;
    bool is_pointer = tag == DW_TAG_pointer_type, is_reference = tag == DW_TAG_reference_type;
    if (is_pointer || is_reference || tag == DW_TAG_rvalue_reference_type || tag == DW_TAG_array_type) {
        char inner[NAME_MAX_LENGTH] = "void";
        if (depth < NESTING && die_follow(die, DW_AT_type, &to))
            describe(&to, inner, sizeof inner, depth + 1);
        const char *mark = is_pointer ? "*" : is_reference ? "&" : tag == DW_TAG_array_type ? "[]" : "&&";
        snprintf(text, room, "%.190s%s%s", inner, inner[0] && inner[strlen(inner) - 1] == '*' ? "" : " ", mark);
        return;
    }
    if (tag && is_c(die))
        keyword = tag == DW_TAG_structure_type     ? "struct "
                  : tag == DW_TAG_union_type       ? "union "
                  : tag == DW_TAG_enumeration_type ? "enum "
                                                   : "";
    if (!name)
        name = !some                            ? "void"
               : tag == DW_TAG_subroutine_type  ? "function"
               : tag == DW_TAG_structure_type   ? "{...}"
               : tag == DW_TAG_union_type       ? "{...}"
               : tag == DW_TAG_enumeration_type ? "{...}"
                                                : "";
    snprintf(text, room, "%s%.190s", keyword, name);
}

bool type_name(struct tl_datatype *type, Dwarf_Die *die)
{
    char text[NAME_MAX_LENGTH + 8] = "";
    Dwarf_Die copy = *die;
    describe(&copy, text, sizeof text, 0);
    char *name = shown_name(text);
    if (!name)
        return false;
    free(type->name);
    type->name = name;
    return true;
}
