/* SPDX-License-Identifier: MIT
 *
 * From what a user writes (an address, or a symbol and an offset) to a live address of this process and what is known
 * about it.
 */
#ifndef TRAPLINE_LIB_WHERE_H
#define TRAPLINE_LIB_WHERE_H

#include <stdbool.h>
#include <stdint.h>

#include "symbol/symbol.h"

/* What is loaded, kept as long as nothing is loaded or unloaded. One user at a time. */
struct modules {
    struct tl_modules loaded;
    unsigned long long adds, subs; /* of the dynamic linker, when `loaded` was read */
    bool known;
};

struct wanted {
    uint64_t address;
    const char *symbol, *module;
    uint64_t offset;
};
struct where {
    uint64_t addr;
    const struct tl_module *module;     /* as is the next: until the modules are next asked for */
    const struct tl_function *function; /* that holds addr */
};

/* See that modules->loaded is true now. 0, -ENOMEM, -EMFILE. */
int modules_refresh(struct modules *modules, struct tl_error *error);
/* Forget what is known, so that the next refresh reads it anew. */
void modules_forget(struct modules *modules);

/* `read` is for memory of this process. -EINVAL, -ENOENT, -EFAULT, -EACCES, -EILSEQ as in trapline/probe.h. */
int where_find(const struct modules *modules, const struct wanted *wanted,
               int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host, struct where *where,
               struct tl_error *error);

#endif
