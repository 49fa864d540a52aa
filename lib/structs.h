/* SPDX-License-Identifier: MIT
 *
 * Structs that users fill in, of this version of the library, an older one or a newer one: they begin with their size.
 */
#ifndef TRAPLINE_LIB_STRUCTS_H
#define TRAPLINE_LIB_STRUCTS_H

#include <stddef.h>

#include "trapline/error.h"

/* Copy `theirs`, which begins with a size_t that says how large it is, to `ours` of `size` bytes. What theirs does not
 * have is zero. `least` is the size of the first version. -EINVAL: NULL, or smaller than that. -E2BIG: larger than
 * ours, and not all zero behind it. `name` is for the text. */
int structs_copy(const void *theirs, void *ours, size_t size, size_t least, const char *name, struct tl_error *error);

#endif
