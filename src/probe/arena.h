/* SPDX-License-Identifier: MIT
 *
 * Arenas: stretches of memory near a group of sites that hold their trampolines, one after the other, behind one gate
 * page. And rooms: what earlier plans have left of theirs. For this room only. Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_ARENA_H
#define TRAPLINE_ARENA_H

#include "probe/space.h"
#include "probe/tactic.h"

struct tl_arena {
    uint64_t gate; /* its address; the trampolines begin a page behind */
    uint64_t size; /* of the address space taken for trampolines */
    uint8_t *code; /* `used` bytes of `room` */
    uint64_t used, room;
};

/* A trampoline that goes into a room. */
struct tl_room_fill {
    uint64_t addr;
    uint32_t offset, length; /* of the bytes */
    uint32_t job;            /* for which it was made */
};

struct tl_arenas {
    struct tl_space *space, *also; /* where to look for room, and where to take it too */
    struct tl_arena *arenas;
    size_t count, most;  /* how many there are, and may be */
    unsigned site_bytes; /* what a site may need, on average */
    uint64_t least;      /* bytes of a new arena */
    uint64_t guard_routine, guard_context;
    struct tl_plan_room *rooms;     /* as they are now */
    size_t room_count, rooms_spent; /* so many at the front are used up */
    struct tl_room_fill *fills;
    size_t fill_count, fills_most;
    uint8_t *bytes;
    size_t byte_count, bytes_most;
};

void tl_arenas_free(struct tl_arenas *arenas);

/* Make the trampoline of job `number`: hook, copy, way back. `expected` is how many more may come near. TL_WHY_NONE, or
 * why not; -ENOMEM in *error. */
enum tl_why tl_arena_emit(struct tl_arenas *arenas, struct tl_job *job, size_t number, size_t expected, int *error);
/* Make a job's second trampoline (beyond.h) behind the same gate. Whether it could be done; -ENOMEM in *error. */
bool tl_arena_emit_beyond(struct tl_arenas *arenas, const struct tl_job *job, size_t number, int *error);

#endif
