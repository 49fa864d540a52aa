/* SPDX-License-Identifier: MIT
 *
 * The lines of /proc/PID/maps. Any thread; not for signal handlers.
 */
#ifndef TRAPLINE_SYMBOL_MAPS_H
#define TRAPLINE_SYMBOL_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "trapline/error.h"

struct mapping {
    uint64_t start, end, offset, inode;
    unsigned device_major, device_minor;
    bool executable, shared;
    const char *path; /* "" where there is none */
};

struct maps {
    struct mapping *mappings;
    size_t count;
    char *text; /* what the paths point into */
};

/* -ESRCH, -EACCES, -EMFILE, -ENOMEM. */
int maps_read(pid_t pid, struct maps *maps, struct tl_error *error);
void maps_free(struct maps *maps);

#endif
