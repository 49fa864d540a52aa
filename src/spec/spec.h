/* SPDX-License-Identifier: MIT
 *
 * Probe specs: from the text that people paste to one structure. Pure: it knows no process and no file.
 * Three grammars, recognised by their shape: uprobe_events (p: r:), bpftrace (uprobe: uretprobe: usdt:), dtrace (pid$target:), frida-trace
 * (MODULE!GLOB), and a bare function name or glob.
 */
#ifndef TRAPLINE_SPEC_H
#define TRAPLINE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hit/program.h"
#include "trapline/error.h"

enum tl_where { TL_WHERE_SYMBOL, TL_WHERE_FILE_OFFSET };

/* How a fetched value is shown. */
enum tl_show { TL_SHOW_UNSIGNED, TL_SHOW_SIGNED, TL_SHOW_HEX, TL_SHOW_STRING, TL_SHOW_COMM };

struct tl_fetch; /* an expression, internal to src/spec */

struct tl_fetch_arg {
    char *name;        /* "arg1"… where the spec gives none */
    uint8_t show;      /* enum tl_show */
    uint8_t slot;      /* of the event */
    struct tl_fetch *fetch;
};

struct tl_spec {
    char *text;          /* the whole spec as given */
    char *group;         /* or NULL */
    char *event;         /* the name given, or NULL */
    char *module;        /* PATH, library name, glob, "EXE"; NULL: every module */
    char *symbol;        /* name or glob (WHERE_SYMBOL) */
    uint64_t offset;     /* from the symbol, or in the file */
    uint8_t where;       /* enum tl_where */
    bool is_return;
    bool is_glob;        /* symbol holds * ? or [ */
    bool every_entry_offset; /* dtrace's OFFSET probes name an instruction: symbol + offset, exact */
    struct tl_fetch_arg *args;
    size_t arg_count;
    struct tl_filter *filter; /* or NULL */
};

/* Parse one spec. -EINVAL with error->column at what is wrong and error->text saying what was expected; -ENOTSUP for usdt. */
int tl_spec_parse(const char *text, struct tl_spec **spec, struct tl_error *error);
void tl_spec_free(struct tl_spec *spec); /* NULL is allowed */

/* The spec, a line with a caret under error->column, and the message: what a person sees on stderr. Writes at most `size` bytes, terminated. */
void tl_spec_complain(const char *text, const struct tl_error *error, char *out, size_t size);

/* What compiling needs to know of the target, for one place. */
struct tl_compile_target {
    bool is_return;         /* $retval allowed */
    bool retval_known;      /* false at tail exits: $retval stores a fault */
    bool at_entry;          /* $argN means registers/stack as at a function's entry; elsewhere -EINVAL */
    /* Address of @SYMBOL and @+OFFSET in the live target; 0 or -errno. May be NULL. */
    int (*variable)(void *context, const char *name, uint64_t *addr);
    int (*file_offset)(void *context, uint64_t offset, uint64_t *addr);
    void *context;
};

/* The fetches and the filter of a spec as a program for the runtime. *code and *strings are arrays to free(). 0, -EINVAL, -E2BIG, -ENOMEM;
 * the result passes tl_program_verify. */
int tl_spec_compile(const struct tl_spec *spec, const struct tl_compile_target *target, struct tl_operation **code, size_t *length,
                    char **strings, size_t *strings_size, struct tl_error *error);

/* Whether the compiled program of this spec may read the target's memory (a LOAD or STRING), and so makes a syscall on a hit. */
bool tl_spec_reads_memory(const struct tl_spec *spec);

#endif
