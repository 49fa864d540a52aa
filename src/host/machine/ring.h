/* SPDX-License-Identifier: MIT
 *
 * The kernel's ring buffer of one processor's events. For this room only.
 */
#ifndef TRAPLINE_MACHINE_RING_H
#define TRAPLINE_MACHINE_RING_H

#include <stddef.h>
#include <stdint.h>

struct tl_ring {
    void *memory; /* a control page, then `size` bytes */
    uint64_t size;
};

/* Of an open event. 0 or -errno. */
int tl_ring_map(int fd, struct tl_ring *ring);
void tl_ring_unmap(struct tl_ring *ring);

/* One record, its header included, made whole; valid until the callback returns. Non-zero stops: it is read again. */
typedef int tl_ring_fn(void *context, uint32_t type, const uint8_t *bytes, size_t size);
/* All that is there. What the last callback returned that was not 0, or 0. */
int tl_ring_read(struct tl_ring *ring, tl_ring_fn *fn, void *context);

#endif
