/* SPDX-License-Identifier: MIT
 *
 * In which order the bytes of a batch of changes are written while other threads execute them. Pure: it calls two
 * functions that write and wait, and knows no process.
 */
#ifndef TRAPLINE_SELF_PROTOCOL_H
#define TRAPLINE_SELF_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trapline/port.h"

/* A change and what the order needs to know of it. The caller sets `patch` and `index` (for itself). */
struct tl_change {
    const struct tl_patch *patch;
    size_t index;
    /* Its rank as of the bytes before, the bytes after, and of both at once: the instruction that stands there has
     * bytes of places of lower rank in it. */
    uint32_t before, after, either;
    bool trapped; /* a breakpoint stands there while it changes */
};

/* Both return 0 or -errno. A write of one byte is atomic, one of several is not: any part of it may be seen first. */
struct tl_change_port {
    int (*write)(void *context, uint64_t addr, const uint8_t *bytes, size_t length);
    int (*barrier)(void *context); /* on return every thread executes what was written before the call */
};

/* Sort by address and rank. -EINVAL: a length is impossible, a change crosses a page, or two overlap. */
int tl_protocol_prepare(struct tl_change *changes, size_t count);

/* Carry all out, prepared before. When the port fails everything is taken back and its error returned. */
int tl_protocol_run(const struct tl_change *changes, size_t count, const struct tl_change_port *port, void *context);

/* The same where nobody executes anything meanwhile: one write a change, no breakpoints, no barriers. */
int tl_protocol_run_stopped(const struct tl_change *changes, size_t count, const struct tl_change_port *port,
                            void *context);

#endif
