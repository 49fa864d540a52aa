/* SPDX-License-Identifier: MIT */
#include "base/array.h"

#include <stdlib.h>

enum { FIRST_ROOM = 16 };

void *tl_array_grown(void *items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return items;
    size_t more = *room ? *room * 2 : FIRST_ROOM;
    void *grown = more > *room ? reallocarray(items, more, size) : NULL;
    if (grown)
        *room = more;
    return grown;
}
