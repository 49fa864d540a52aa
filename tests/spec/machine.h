/* SPDX-License-Identifier: MIT
 *
 * The byte code's table (src/hit/program.h) as a slow and suspicious interpreter, over registers and memory made of
 * paper. It trusts nothing: what a verified program must not do ends the run as MACHINE_BROKEN.
 */
#ifndef TRAPLINE_TEST_MACHINE_H
#define TRAPLINE_TEST_MACHINE_H

#include <stdbool.h>

#include "hit/program.h"

enum machine_end { MACHINE_REJECT, MACHINE_ACCEPT, MACHINE_BROKEN };

struct machine_region {
    uint64_t addr;
    const void *bytes;
    size_t size;
};

struct machine_slot {
    enum { SLOT_EMPTY, SLOT_NUMBER, SLOT_STRING, SLOT_FAULT } is;
    uint64_t value;
    char text[TL_STRING_MAX + 1];
};

struct machine {
    /* the world, for the test to fill */
    uint64_t regs[TL_REG_COUNT];
    struct machine_region regions[8];
    size_t region_count;
    uint32_t pid, tid;
    bool is_watch; /* else old and new are faults */
    uint64_t old, new;
    /* what a run leaves */
    struct machine_slot slots[TL_EVENT_ARGS];
    unsigned loads; /* LOAD and STRING that were carried out or tried */
    unsigned steps;
    const char *broken; /* what was wrong, where it was */
};

enum machine_end machine_run(struct machine *machine, const struct tl_program *program);
void machine_map(struct machine *machine, uint64_t addr, const void *bytes, size_t size);

#endif
