/* SPDX-License-Identifier: MIT
 *
 * Types out of debug information. Nothing outside the room includes this. For threads and signals symbol.h holds here
 * too.
 */
#ifndef TRAPLINE_SYMBOL_TYPE_READ_H
#define TRAPLINE_SYMBOL_TYPE_READ_H

#include <elfutils/libdw.h>

#include "symbol/type.h"

/* The type of a variable's entry. NULL: it has none that can be read, or there is no memory. */
struct tl_datatype *type_read(Dwarf_Die *variable);

/* The next entry of a list of siblings, or the first child: only ever further on in the file, whatever that says. */
bool die_next(Dwarf_Die *die);
bool die_child(const Dwarf_Die *parent, Dwarf_Die *child);

enum { NAME_MAX_LENGTH = 200 };
/* A copy of a name that is fit to be shown: without control characters, not too long. NULL without memory. */
char *shown_name(const char *name);
/* A whole number in an attribute, the entry's own or that of the one it completes; `otherwise` where there is none. */
uint64_t die_number(Dwarf_Die *die, unsigned name, uint64_t otherwise);
/* The entry that an attribute refers to. */
bool die_follow(Dwarf_Die *die, unsigned name, Dwarf_Die *to);

/* Typedefs and qualifiers off; the outermost typedef's name is kept, or NULL. False for void. */
bool type_peel(Dwarf_Die *die, const char **typedef_name);
/* Gives the type the name of the entry: "struct conf", "char *", "int []". False without memory. */
bool type_name(struct tl_datatype *type, Dwarf_Die *die);

#endif
