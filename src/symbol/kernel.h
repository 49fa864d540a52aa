/* SPDX-License-Identifier: MIT
 *
 * Names and addresses of the running kernel, as it lists them itself (/proc/kallsyms). For one thread at a time; not
 * for signal handlers.
 */
#ifndef TRAPLINE_SYMBOL_KERNEL_H
#define TRAPLINE_SYMBOL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trapline/error.h"

struct tl_kernel_symbols;

/* Read the list at `path` (NULL: /proc/kallsyms). -EPERM: it hides its addresses from us (kernel.kptr_restrict);
 * -ENOENT: it has none; -ENOMEM. */
int tl_kernel_symbols_read(const char *path, struct tl_kernel_symbols **out, struct tl_error *error);
void tl_kernel_symbols_free(struct tl_kernel_symbols *symbols); /* NULL is allowed */

/* The address of a symbol. -ENOENT: there is none, and the text says which are near, or that no variables are listed;
 * -ENOTUNIQ: there are several. */
int tl_kernel_find(const struct tl_kernel_symbols *symbols, const char *name, uint64_t *addr, struct tl_error *error);
/* "name+0x12", with " [module]" behind it, or "0x…" where nothing is known. */
void tl_kernel_describe(const struct tl_kernel_symbols *symbols, uint64_t addr, char *text, size_t size);

#endif
