/* SPDX-License-Identifier: MIT
 *
 * What the two files of the unwinder share. Nothing outside the room includes this. For threads and signals unwind.h
 * holds here too.
 */
#ifndef TRAPLINE_SYMBOL_UNWINDER_H
#define TRAPLINE_SYMBOL_UNWINDER_H

#include <elfutils/libdwfl.h>

#include "symbol/unwind.h"

struct tl_unwinder {
    pid_t pid;
    struct tl_modules modules;
    Dwfl *dwfl; /* over the same modules; NULL where libdwfl cannot do anything with them */
    uint64_t refreshed_ns;
    struct walk *walk;      /* the one under way */
    struct source *sources; /* debug information that is open */
};

/* Tells a new Dwfl where to get registers and memory from: from the walk under way. */
bool unwind_attach(Dwfl *dwfl, struct tl_unwinder *unwinder);

/* Debug information uses the files of the modules: to be closed before them. */
void unwinder_forget_sources(struct tl_unwinder *unwinder);

/* An address lies in no known module: look whether there are new ones by now. Whether there are. */
bool unwinder_refresh(struct tl_unwinder *unwinder);

#endif
