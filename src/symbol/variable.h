/* SPDX-License-Identifier: MIT
 *
 * Variables by name: where they are, how large, of what type. Built on the symbol tables and on DWARF (by elfutils'
 * libdw), of the file or of its separate debug file. For threads and signals symbol.h holds here too.
 */
#ifndef TRAPLINE_SYMBOL_VARIABLE_H
#define TRAPLINE_SYMBOL_VARIABLE_H

#include "symbol/symbol.h"
#include "symbol/type.h"

/* One step of a path into a variable. */
enum tl_step_kind { TL_STEP_MEMBER, TL_STEP_ELEMENT };
struct tl_step {
    uint8_t kind; /* enum tl_step_kind */
    char *name;   /* MEMBER */
    uint64_t index;
    size_t column; /* where it stands in the spec, for messages */
};

/* A variable as a person names it: [SCOPE:][FILE:]NAME[STEPS]. */
struct tl_variable_name {
    char *scope; /* a module, as tl_modules_find takes it, or where no module is called so, a source file; or NULL */
    char *file;  /* a source file ("a.c", "lib/a.c"); or NULL */
    char *name;  /* "counter", "ns::counter", "function::counter" */
    char *whole; /* name and steps as they were written, for messages; or NULL */
    struct tl_step *steps;
    size_t step_count;
    size_t scope_column, column; /* of the scope, of the name */
    bool or_function;            /* a function will do as well: only its address is wanted */
};

struct tl_variable {
    char *name;                     /* how to call it: as it was asked for, without the scope */
    const struct tl_module *module; /* the one whose memory it is */
    uint64_t file_addr;             /* in that module's file; thread-local: the offset in the module's block */
    uint64_t addr;                  /* live; 0 where it is thread-local */
    uint64_t size;                  /* bytes; 0 where nothing tells it */
    const struct tl_datatype *type; /* NULL: no debug information says */
    struct tl_datatype *whole;      /* what `type` is a part of */
    bool is_thread_local, is_function;
};

/* Find it in a process. The program's own comes before the libraries'; a library's variable that the program has a copy
 * of (a copy relocation) is that copy. On failure the text says what is the matter, and error->column (in the spec that
 * the columns of `name` mean) where:
 *   -ENOENT   no such variable (with the nearest names), member or element; no such module;
 *   -ENOTUNIQ several, all of them listed in words that name one each;
 *   -ENOTSUP  there is one, but it has no place in memory (optimised away, in a register, in pieces), it is a local
 *             variable of a function, a function, or the path leads through a pointer;
 *   -ENOMEM.
 * The caller frees with tl_variable_free. */
int tl_modules_variable(const struct tl_modules *modules, const struct tl_variable_name *name,
                        struct tl_variable *variable, struct tl_error *error);
void tl_variable_free(struct tl_variable *variable); /* what it holds, not itself */

/* Where a thread-local variable of a thread is, by the thread's fs base. `read` reads the process's memory, 0 or
 * -errno. -ENOENT: the thread has no such variable yet (its library's block is made on first use); -ENOTSUP: the C
 * library in use does not let us know; what `read` returns. */
int tl_modules_thread_local(const struct tl_modules *modules, const struct tl_variable *variable, uint64_t fs_base,
                            int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host,
                            uint64_t *addr, struct tl_error *error);

/* "name" or "name+0x12" of the function or variable at a live address; false where there is none. `modules` is a
 * struct tl_modules: this is a tl_value_names' describe(). */
bool tl_modules_name(void *modules, uint64_t addr, char *text, size_t size);

#endif
