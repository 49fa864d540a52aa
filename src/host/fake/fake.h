/* SPDX-License-Identifier: MIT
 *
 * A scripted host for tests: an address space in our own memory that follows the contract of port.h to the letter,
 * asserts that its callers do (text is patched only while stopped, code is mapped before it is jumped to), and fails
 * at the call that the test asks for. For one thread; not for signal handlers.
 */
#ifndef TRAPLINE_FAKE_H
#define TRAPLINE_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trapline/port.h"

enum { TL_FAKE_AREAS = 4096 };

struct tl_fake_area {
    uint64_t addr, size;
    uint8_t *bytes; /* owned */
    bool ours;      /* mapped through the port */
};

struct tl_fake {
    struct tl_port port;
    struct tl_fake_area areas[TL_FAKE_AREAS];
    size_t area_count;
    uint8_t *pool;
    size_t pool_size;
    int stops;          /* how deep it is stopped */
    size_t calls;       /* calls of fallible port functions so far */
    size_t fail_at;     /* the call (counted from 1) that fails; 0: none */
    int fail_with;      /* negative errno */
    size_t busy_rounds; /* how often evacuate still answers -EAGAIN */
    size_t evacuations;
    const char *broken; /* what rule a caller broke, or NULL */
};

/* An empty address space. 0 or -ENOMEM. */
int tl_fake_open(struct tl_fake *fake, size_t pool_size);
void tl_fake_close(struct tl_fake *fake);

/* Put `size` bytes of the program at `addr`. 0, -EEXIST, -ENOMEM. */
int tl_fake_load(struct tl_fake *fake, uint64_t addr, const void *bytes, size_t size);
/* The bytes at `addr`, or NULL where `size` of them are not mapped. */
uint8_t *tl_fake_at(struct tl_fake *fake, uint64_t addr, size_t size);

#endif
