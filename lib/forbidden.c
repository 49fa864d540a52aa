/* SPDX-License-Identifier: MIT
 *
 * What cannot be probed: the library's own code, which is what handlers stand on, and what would break by its nature.
 * The list is short because nothing that runs on a hit, in the broker or while text is patched lies outside of the
 * library. Restartable sequences, the signal restorer (known by its bytes) and code that runs without a stack are
 * refused by src/probe/places.c.
 */
#include <string.h>

#include "engine.h"

static const struct {
    const char *name;
    enum tl_why why;
} names[] = {
    {"__restore_rt", TL_WHY_RESTORER}, /* signal returns: unwinders know them by their bytes */
    {"__restore", TL_WHY_RESTORER},
    {"__unmapself", TL_WHY_NO_STACK}, /* a thread's end in musl */
};

bool is_own(uint64_t addr)
{
    return (addr >= (uintptr_t)__start_trapline_text && addr < (uintptr_t)__stop_trapline_text) ||
           (addr >= (uintptr_t)__start_trapline_hit && addr < (uintptr_t)__stop_trapline_hit);
}

enum tl_why forbidden(const struct where *where)
{
    if (is_own(where->addr))
        return TL_WHY_FORBIDDEN;
    for (size_t i = 0; i < engine.guard_count; i++)
        if (engine.guards[i]->addr == where->addr)
            return TL_WHY_FORBIDDEN; /* a system call by which the program changes its signals */
    if (where->module->is_vdso)
        return TL_WHY_FORBIDDEN; /* the kernel's, and in no file */
    const char *name = where->function ? where->function->name : NULL;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i].name))
            return names[i].why;
    return TL_WHY_NONE;
}
