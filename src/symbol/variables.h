/* SPDX-License-Identifier: MIT
 *
 * What the files about variables share. Nothing outside the room includes this. For threads and signals symbol.h holds
 * here too.
 */
#ifndef TRAPLINE_SYMBOL_VARIABLES_H
#define TRAPLINE_SYMBOL_VARIABLES_H

#include <elfutils/libdw.h>

#include "symbol/object.h"
#include "symbol/variable.h"

/* One that a name may mean: found in a symbol table, in debug information, or in both. */
enum finding {
    FOUND_MEMORY,   /* it has an address */
    FOUND_THREAD,   /* thread-local: its address is an offset in the module's block */
    FOUND_FUNCTION, /* code */
    FOUND_DECLARED, /* it is elsewhere; its type is told */
    /* and what cannot be watched: */
    FOUND_LOCAL,    /* lives in a frame */
    FOUND_REGISTER, /* lives in a register */
    FOUND_PIECES,   /* in several places */
    FOUND_COMPUTED, /* its place is computed, or changes as the program goes on */
    FOUND_CONSTANT, /* the compiler knows its value, and keeps it nowhere */
    FOUND_NOWHERE   /* the compiler or the linker has left it out */
};

struct candidate {
    uint8_t finding; /* enum finding */
    uint8_t rank;    /* how well the name fits: see name_fits */
    bool has_type, global, in_function;
    char *name; /* in full: "ns::counter", "function::counter" */
    char *file; /* the source file, or NULL */
    uint64_t addr, size;
    Dwarf_Die die; /* has_type */
    const struct tl_module *module;
};

struct candidates {
    struct candidate *list;
    size_t count, room;
    bool no_memory;
};

/* Takes over the strings, also where there is no memory. */
void candidates_add(struct candidates *candidates, const struct candidate *candidate);
void candidates_free(struct candidates *candidates);

/* Whether it has a place in memory. */
static inline bool has_place(const struct candidate *candidate)
{
    return candidate->finding <= FOUND_FUNCTION;
}

/* One search for one name (variable.c), and what to say when it has failed (variable_refusal.c): each returns the
 * error, or 0 where it has nothing to say. */
struct search {
    const struct tl_modules *modules;
    const struct tl_variable_name *asked;
    const char *wanted, *base; /* the name in full; its last component */
    char dotted[512];          /* where `wanted` stands: the name, and */
    size_t steps;              /* as many steps of the path as belong to the name */
    const char *file;          /* the source file, or NULL */
    const struct tl_module *module;
    struct candidates found;
    size_t first; /* of the module under way */
    struct tl_error *error;
};
/* Whether the name is looked for in a module. */
bool search_includes(const struct search *search, size_t index, bool by_scope);
int search_fail_ambiguous(const struct search *search, const struct candidate *best);
int search_fail_placeless(const struct search *search);
int search_fail_unknown(const struct search *search, bool by_scope);

/* Names. */
enum { RANK_EXACT, RANK_INNER, RANK_NUMBERED, RANK_NONE };
/* How well a full name fits what was asked for: the same but for anonymous namespaces; the same behind some namespaces,
 * classes or functions; the same but for a number that the compiler has appended; not at all. */
unsigned name_fits(const char *full, const char *wanted);
/* The last component of a name. */
const char *name_base(const char *name);
/* The plain form of a mangled name of a variable (_ZN2ns7counterE is ns::counter), where it is one that this
 * understands: names within namespaces, classes and functions, but for templates. False: it is none. */
bool name_demangle(const char *mangled, char *text, size_t room);
/* Whether a source file is meant: the same path, or the end of it. */
bool file_fits(const char *path, const char *wanted);

/* The nearest few of many names to one that does not exist. */
struct nearest {
    const char *wanted;
    struct {
        char name[64];
        unsigned distance;
    } best[4];
    size_t count;
};
void nearest_offer(struct nearest *nearest, const char *name);
/* "; did you mean a or b?", or nothing. */
void nearest_say(const struct nearest *nearest, char *text, size_t room);

/* Symbol tables: a name without its version, each symbol that is defined, with the file that the table tells. */
struct symbol {
    const char *name;
    size_t length;
    uint64_t addr, size;
    uint8_t type; /* STT_… */
    bool global;
    const char *file; /* or NULL */
};
void object_each_symbol(struct tl_object *object, void (*each)(void *context, const struct symbol *symbol),
                        void *context);
/* Whether some segment has that address in memory. */
bool object_has_memory(const struct tl_object *object, uint64_t addr);

/* Debug information: the file's own or its debug file's; NULL where there is none. Owned by the object. */
Dwarf *object_need_dwarf(struct tl_object *object);
/* Variables of which the last component is `base`; those within functions only if asked for. */
void dwarf_find_variables(struct tl_object *object, const char *base, bool in_functions, struct candidates *candidates);
/* The names of all that are outside of functions. */
void dwarf_offer_variables(struct tl_object *object, struct nearest *nearest);

/* From the whole variable on along the steps behind its name: its address, size and type become those of the part. */
int variable_walk(struct tl_variable *variable, const struct search *search, struct tl_error *error);

/* Where the program keeps its copy of a library's variable: copy relocations of the program by the names that the
 * variable has in the library. */
bool object_copy_of(struct tl_object *program, struct tl_object *library, uint64_t addr, uint64_t *copy);

#endif
