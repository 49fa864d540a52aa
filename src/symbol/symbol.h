/* SPDX-License-Identifier: MIT
 *
 * Names and addresses of one ELF file, and of the files mapped into a process. Built on elfutils; hostile files give an
 * error, never a crash. Addresses of a file are its own virtual addresses; a module adds the load bias.
 *
 * Opening reads and checks headers only; tables are read when a question first needs them and are then kept, so what
 * is returned stays good until the object is closed. An object is for one thread at a time, also through const
 * pointers, and nothing here is for signal handlers. Sizes are in bytes; `error` may be NULL.
 */
#ifndef TRAPLINE_SYMBOL_H
#define TRAPLINE_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "trapline/error.h"

enum tl_function_kind {
    TL_FUNCTION,         /* an ordinary function */
    TL_FUNCTION_IFUNC,   /* the symbol is a resolver; what runs is decided at load */
    TL_FUNCTION_UNNAMED, /* known only from .eh_frame; name is NULL */
    TL_FUNCTION_PART     /* no function of its own: a piece that the compiler put elsewhere (`f.cold`; name NULL in a
                            stripped file) */
};

struct tl_function {
    const char *name;    /* without version suffix; owned by the object */
    uint64_t addr, size; /* size as far as known (symbol size, else the FDE's, else up to the next function) */
    uint8_t kind;        /* enum tl_function_kind */
    bool global;
};

struct tl_part {
    uint64_t addr, size;
};

struct tl_object;

/* Open the ELF file at `path`: x86-64 executables and shared objects only. Names come from its .symtab and .dynsym, and
 * where it was stripped, from the separate debug file by build-id or debug link (below /usr/lib/debug, or beside it),
 * or from the table inside it (.gnu_debugdata); what has no name, from .eh_frame. -ENOENT, -EACCES, -ENOEXEC (no ELF,
 * or another machine: the text says which), -EINVAL (truncated, hostile: the text names the header), -ENOMEM, -EMFILE
 * (fewer than sixteen descriptors would be left). `display` is the name to show, or NULL for `path`. */
int tl_object_open(const char *path, const char *display, struct tl_object **object, struct tl_error *error);
/* The same for a file's image in memory, which is copied. */
int tl_object_open_memory(const void *bytes, size_t size, const char *display, struct tl_object **object,
                          struct tl_error *error);
void tl_object_close(struct tl_object *object); /* NULL is allowed */

const char *tl_object_path(const struct tl_object *object);
bool tl_object_is_pie(const struct tl_object *object); /* ET_DYN */
uint64_t tl_object_entry(const struct tl_object *object);
const char *tl_object_interpreter(const struct tl_object *object); /* NULL: static */
const char *tl_object_soname(const struct tl_object *object);      /* or NULL */

/* All functions and parts, by address, then name; several names of one address are several entries. */
const struct tl_function *tl_object_functions(const struct tl_object *object, size_t *count);
/* Functions named exactly so, or, where there is none, those that the glob (with * ? [ ]) matches, parts left out.
 * Calls each(), in order of address; a non-zero return stops and is returned. -ENOENT is never returned: nothing found
 * is 0. */
int tl_object_match(const struct tl_object *object, const char *glob,
                    int (*each)(void *context, const struct tl_function *function), void *context);
/* The function that holds `addr`, or NULL. */
const struct tl_function *tl_object_function_at(const struct tl_object *object, uint64_t addr);
/* All pieces of a function: its own and its `.cold` (or unnamed) parts, the entry's first. Returns how many, at most
 * `most`. */
size_t tl_object_parts(const struct tl_object *object, const struct tl_function *function, struct tl_part *parts,
                       size_t most);

/* Bytes of the file at a virtual address inside an executable segment; *available is how many follow. NULL: not there.
 */
const uint8_t *tl_object_text(const struct tl_object *object, uint64_t addr, size_t *available);
/* File offset <-> virtual address, by the program headers: the executable ones, or all. -ENOENT. */
int tl_object_offset_to_addr(const struct tl_object *object, uint64_t offset, bool executable, uint64_t *addr);
int tl_object_addr_to_offset(const struct tl_object *object, uint64_t addr, uint64_t *offset);
/* A data object (variable) by name, for @SYMBOL fetches: address and size. -ENOENT. */
int tl_object_variable(const struct tl_object *object, const char *name, uint64_t *addr, uint64_t *size);
/* Whether unwinders know by the file's unwind tables that a handler which returns to `addr` was called by a signal. */
bool tl_object_is_signal_frame(const struct tl_object *object, uint64_t addr);
/* Whether addr lies in a restartable sequence, or in the 4 bytes before an abort handler (__rseq_cs). */
bool tl_object_in_rseq(const struct tl_object *object, uint64_t addr);

/* One file mapped into a process. */
struct tl_module {
    char *path; /* as in /proc/PID/maps */
    struct tl_object
        *object;   /* opened through /proc/PID/map_files or /proc/PID/root, NULL where that failed (why in `refused`) */
    uint64_t bias; /* live address = file address + bias */
    uint64_t start, end; /* lowest and highest live address mapped */
    bool is_exe, is_interpreter, is_vdso;
    struct tl_error refused;
};

struct tl_modules {
    struct tl_module *modules; /* the program first, then by address */
    size_t count;
    pid_t pid;
};

/* All executable file mappings of a process. -ESRCH, -EACCES, -ENOMEM; -EMFILE: fewer than sixteen descriptors would be
 * left, which others need. */
int tl_modules_read(pid_t pid, struct tl_modules *modules, struct tl_error *error);
void tl_modules_free(struct tl_modules *modules);

/* What stands behind the last slash of a path, inside it. Pure. */
const char *tl_base_name(const char *path);
/* The modules that PATH of a spec means: a full path (same file: device and inode, so symlinks work), a name as loaded
 * ("libc.so.6", "libc"), "EXE" for the program, a glob over paths and base names; NULL: all. Returns the first index >=
 * from that matches, or -ENOENT. */
int tl_modules_find(const struct tl_modules *modules, const char *path, size_t from);
/* The module that holds a live address, or NULL. */
const struct tl_module *tl_modules_at(const struct tl_modules *modules, uint64_t addr);
/* "name+0x12" for a live address, "[libc.so.6]+0x…" where no function is known, "0x…" outside. */
void tl_modules_describe(const struct tl_modules *modules, uint64_t addr, char *text, size_t size);
/* The same by the function that holds `within`: a return address belongs to the function of the call before it. */
void tl_modules_describe_within(const struct tl_modules *modules, uint64_t addr, uint64_t within, char *text,
                                size_t size);

/* What an ifunc was resolved to in a live process, found in the relocated slots of its modules (IRELATIVE, JUMP_SLOT,
 * GLOB_DAT). `read` reads the target's memory, 0 or -errno. Result: a live address. -ENOENT when nothing has bound it
 * yet. */
int tl_modules_resolve_ifunc(const struct tl_modules *modules, const struct tl_module *module,
                             const struct tl_function *function,
                             int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host,
                             uint64_t *addr);

#endif
