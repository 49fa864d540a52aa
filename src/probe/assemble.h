/* SPDX-License-Identifier: MIT
 *
 * What each site does when it is hit: the runtime's tables (sites, actions, programs), their place in the hit area,
 * and the hook of each site. For one thread at a time, as symbol.h wants it; not for signal handlers.
 */
#ifndef TRAPLINE_ASSEMBLE_H
#define TRAPLINE_ASSEMBLE_H

#include "hit/abi.h"
#include "probe/select.h"

struct tl_assemble_options {
    bool count;           /* count hits; otherwise write an event for each */
    uint32_t flags;       /* TL_HIT_* for the runtime */
    uint32_t pid;         /* in the target's own pid name space */
    int32_t tid_offset;   /* INT32_MIN: unknown */
    bool fs_self;         /* see hook.h */
    uint32_t cpus;        /* processors a thread may run on: highest number + 1 */
    uint16_t stack_bytes; /* of the stack that each event takes with it, a multiple of 8; 0: none */
    uint32_t ring_bytes;  /* of each lane; a power of two, 4096 at least */
};

/* The head of the hit area as it has to be copied in (control block and tables); what follows up to layout->area_size
 * is zero at first. */
struct tl_assembly {
    uint8_t *image;
    size_t image_size;
    struct tl_hit_control *layout; /* the control block at the start of image */
};

/* Fills in the hooks of selection->sites (but for the gate) and builds the tables. A spec that cannot be compiled for
 * its place is an error
 * (-EINVAL, with the column in *error and the spec in *failed). -ENOMEM, -E2BIG. */
int tl_assemble(struct tl_selection *selection, const struct tl_modules *modules,
                const struct tl_assemble_options *options, struct tl_assembly *assembly, const struct tl_spec **failed,
                struct tl_error *error);

/* A watch as an event's source: the hit site with its index does it for one of its spots. */
struct tl_assemble_watch {
    uint32_t probe; /* of its events */
    uint64_t addr;  /* what is watched */
    const struct tl_operation *code;
    size_t length;
    const char *strings;
    size_t strings_size;
};
/* The same for watches, which have no places: site i is that of watches[i], and the table (src/hit/watch.h) has room at
 * layout->watches. -EINVAL: a program that does not pass tl_program_verify. -ENOMEM. */
int tl_assemble_watches(const struct tl_assemble_watch *watches, uint32_t count, uint32_t probe_count,
                        const struct tl_assemble_options *options, struct tl_assembly *assembly,
                        struct tl_error *error);
void tl_assembly_free(struct tl_assembly *assembly); /* a zeroed one is allowed */

/* After planning: carry refusals of sites over to places and probes. A return probe that lost one of its exits is
 * refused whole, since its count would be wrong. 0: the plan stands. 1: sites of the plan have to go with their probes;
 * they were dropped, and assembling and planning have to be done again. -ENOMEM. */
int tl_selection_settle(struct tl_selection *selection);

#endif
