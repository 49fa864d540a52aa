/* SPDX-License-Identifier: MIT
 *
 * From functions and addresses to the instructions to patch, with what the planner wants to know of them: a narrow door
 * to src/probe/places.c, whose probes are not those of the public headers.
 */
#ifndef TRAPLINE_LIB_PLACES_H
#define TRAPLINE_LIB_PLACES_H

#include "where.h"
#include "probe/plan.h"

enum { PLACE_PARTS_MAX = 8 };

/* One question: an instruction, or all exits of the function that begins there. */
struct place_request {
    struct where where;
    bool exits;
    /* out */
    uint8_t why;        /* enum tl_why: no place at all */
    uint8_t part_count; /* exits: the pieces of the function, live */
    struct tl_part parts[PLACE_PARTS_MAX];
};

enum place_exit {
    PLACE_NO_EXIT,
    PLACE_EXIT_RET,
    PLACE_EXIT_TAIL, /* a jump to another function */
    PLACE_EXIT_MAYBE /* a jump that may stay inside */
};

struct place {
    uint64_t addr;
    uint32_t request, site; /* indices; site UINT32_MAX where refused */
    uint8_t exit;           /* enum place_exit */
    uint8_t why;            /* enum tl_why */
};

struct places {
    struct place *places; /* by address, then request */
    size_t count;
    struct tl_site *sites; /* by address; hooks to be filled in */
    size_t site_count;
};

/* `read` gives the text as the program's makers and others have it, without our own patches. 0 or -ENOMEM. Free with
 * places_free, also a zeroed one. */
int places_find(struct place_request *requests, size_t count, const struct modules *modules,
                int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host, struct places *places);
void places_free(struct places *places);

#endif
