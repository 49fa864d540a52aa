/* SPDX-License-Identifier: MIT */
#include "structs.h"

#include <stdint.h>
#include <string.h>

#include "trapline/probe.h"

int structs_copy(const void *theirs, void *ours, size_t size, size_t least, const char *name, struct tl_error *error)
{
    if (!theirs)
        return tl_fail(error, -EINVAL, "no struct %s: NULL", name);
    size_t their_size;
    memcpy(&their_size, theirs, sizeof their_size);
    if (their_size < least || their_size > TL_STRUCT_MAX)
        return tl_fail(error, their_size < least ? -EINVAL : -E2BIG,
                       "struct %s has the size %zu: set it to sizeof(struct %s)", name, their_size, name);
    const uint8_t *bytes = theirs;
    for (size_t i = size; i < their_size; i++)
        if (bytes[i])
            return tl_fail(error, -E2BIG, "struct %s is of a newer version, and something new in it is used", name);
    memset(ours, 0, size);
    memcpy(ours, theirs, their_size < size ? their_size : size);
    return 0;
}
