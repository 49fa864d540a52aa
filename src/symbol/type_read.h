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

/* A copy of a name that is fit to be shown: without control characters, not too long. NULL without memory. */
char *shown_name(const char *name);

#endif
