/* SPDX-License-Identifier: MIT
 *
 * Probe specs: from the text that people paste to one structure, and on to a program for the runtime. Pure: it knows no
 * process and no file.
 *
 * Five grammars, recognised by their shape: uprobe_events (p: r:), bpftrace (uprobe: uretprobe: usdt:), dtrace
 * (pid$target:), frida-trace (MODULE!GLOB), and a bare function name or glob. After any of them come fetch arguments
 * in the words of uprobe_events, and a filter: `if EXPR`. Any thread may do so with texts and specs of its own; memory
 * is allocated, so signal handlers may not.
 */
#ifndef TRAPLINE_SPEC_H
#define TRAPLINE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hit/program.h"
#include "trapline/error.h"

enum tl_where {
    TL_WHERE_SYMBOL,        /* symbol + offset */
    TL_WHERE_FILE_OFFSET,   /* a byte of the file, as the kernel takes it */
    TL_WHERE_ADDRESS,       /* an address as the file's own symbol table gives it (bpftrace's PATH:ADDRESS) */
    TL_WHERE_MODULE_OFFSET, /* bytes from where the module begins in memory (frida-trace's MODULE!0xOFFSET); differs
                               from TL_WHERE_ADDRESS only where the file is linked to a fixed address */
};

/* How a fetched value is shown. */
enum tl_show {
    TL_SHOW_UNSIGNED,
    TL_SHOW_SIGNED, /* the slot holds it sign-extended to 64 bits */
    TL_SHOW_HEX,
    TL_SHOW_STRING,
    TL_SHOW_COMM,   /* nothing is stored in the slot: the reader puts in the name of the task */
    TL_SHOW_CHAR,   /* the lowest byte, as a character; sign-extended as C's char is */
    TL_SHOW_SYMBOL, /* an address, as symbol+offset where there is one, else as TL_SHOW_HEX */
    TL_SHOW_TEXT,   /* nothing is stored in the slot: the reader puts in tl_fetch_arg.text */
};

struct tl_fetch; /* an expression, internal to src/spec */

struct tl_fetch_arg {
    char *name;   /* "arg1"… where the spec gives none */
    uint8_t show; /* enum tl_show */
    uint8_t slot; /* of the event: the argument's position */
    struct tl_fetch *fetch;
    char *text; /* TL_SHOW_TEXT: the constant string; else NULL */
};

struct tl_spec {
    char *text;      /* the whole spec as given */
    char *group;     /* or NULL */
    char *event;     /* the name given, or NULL */
    char *module;    /* PATH, library name, glob, "EXE"; NULL: every module */
    char *symbol;    /* name or glob (WHERE_SYMBOL), else NULL */
    uint64_t offset; /* from the symbol, or as `where` says */
    uint8_t where;   /* enum tl_where */
    bool is_return;
    bool is_glob;            /* symbol holds * ? or [ */
    bool every_entry_offset; /* dtrace's OFFSET probes name an instruction: symbol + offset, exact */
    struct tl_fetch_arg *args;
    size_t arg_count;
    struct tl_filter *filter; /* or NULL */
    int pid;                  /* dtrace's pidNNN: only for this process; 0: whichever is traced */
};

/* Parse one spec. -EINVAL with error->column at what is wrong and error->text saying what was expected; -ENOTSUP (with
 * a column too) for usdt and other things that are understood but not done; -ENOMEM. */
int tl_spec_parse(const char *text, struct tl_spec **spec, struct tl_error *error);
void tl_spec_free(struct tl_spec *spec); /* NULL is allowed */

/* The spec, a line with a caret under error->column, and the message, each line ended by a newline: what a person sees
 * on stderr. Of a long spec only the part around the caret is shown. Writes at most `size` bytes, terminated. */
void tl_spec_complain(const char *text, const struct tl_error *error, char *out, size_t size);

/* What compiling needs to know of the target, for one place. */
struct tl_compile_target {
    bool is_return;    /* $retval allowed */
    bool retval_known; /* false at tail exits: $retval stores a fault */
    bool at_entry;     /* $argN means registers/stack as at a function's entry; elsewhere -EINVAL */
    bool filter_only;  /* fetch only what the filter needs: for a count, which shows no arguments */
    /* Address of @SYMBOL and @+OFFSET in the live target; 0 or -errno. May be NULL: then -EINVAL where one is named. */
    int (*variable)(void *context, const char *name, uint64_t *addr);
    int (*file_offset)(void *context, uint64_t offset, uint64_t *addr);
    void *context;
};

/* The fetches and the filter of a spec as a program for the runtime. *code and *strings are arrays to free() (*strings
 * is NULL where there are none). The result passes tl_program_verify. 0; -EINVAL, -E2BIG, or what the callbacks return,
 * with error->column at the place in spec->text; -ENOMEM. */
int tl_spec_compile(const struct tl_spec *spec, const struct tl_compile_target *target, struct tl_operation **code,
                    size_t *length, char **strings, size_t *strings_size, struct tl_error *error);

/* Whether the compiled program of this spec may read the target's memory (a LOAD or STRING), and so makes a syscall on
 * a hit. */
bool tl_spec_reads_memory(const struct tl_spec *spec);

#endif
