/* SPDX-License-Identifier: MIT
 *
 * Probes into the target: selecting, planning, applying, and taking out again.
 */
#ifndef TRAPLINE_PLACE_H
#define TRAPLINE_PLACE_H

#include "arming.h"
#include "options.h"

#include "host/remote/watch.h"
#include "probe/apply.h"
#include "probe/assemble.h"

/* Everything that is in the target. Zeroed at first. */
struct placed {
    struct tl_remote *remote;
    struct tl_modules modules;
    struct tl_selection selection;
    struct tl_assembly assembly;
    struct arming arming;
    struct tl_plan plan;
    struct tl_remote_region region;
    struct tl_applied applied;
    uint8_t *blob;
    struct place_watch *watches; /* NULL: probes */
    struct tl_watching *watching;
    uint64_t placing_ns;   /* how long it took */
    char trouble[512];     /* why it could not be done */
    bool in_place;         /* applied and not yet removed */
    bool stuck;            /* could not be removed: what is shared has to stay too */
    struct placed *lender; /* a fork child's: modules to plan are those of its parent, and only lent */
    size_t borrowers;      /* the other way round: place_free only when none is left */
};

/* Select and place the probes of `specs`. On failure the exit status is returned, and the reason stands in
 * placed->trouble unless it has been said; nothing is left in the target. Refused probes stay in placed->selection with
 * their reasons. */
int place_probes(struct placed *placed, const struct options *options, const struct tl_spec *const *specs,
                 size_t spec_count, bool count);

/* What became of a spec where programs are followed. */
struct spec_fate {
    bool matched;  /* it named something somewhere */
    char why[200]; /* it was there, and could not be had for this reason; or "" */
};
void spec_fate_refused(struct spec_fate *fate, const struct tl_error *error);

/* The same for a program that a followed process came to run: specs that name nothing in it are no failure, and a
 * notice only with -v. placed->in_place says whether anything is in place. fates[i] is of specs[i]. */
int place_probes_followed(struct placed *placed, const struct options *options, const struct tl_spec *const *specs,
                          size_t spec_count, bool count, struct spec_fate *fates);
/* For a fork child, whose memory is a copy of that of `parent`: the same probes by the same plan. 0 or -errno; nothing
 * is left in the target then, and other ways may be tried. */
int place_copy(struct placed *placed, struct placed *parent);

/* A watch, resolved: what to watch in this process. */
struct watch_wish {
    uint64_t addr, length;
    unsigned access; /* TL_SPOT_… */
    bool changes_only;
    const struct tl_operation *code; /* the filter, as tl_watch_compile gives it, or NULL */
    size_t code_length;
    const char *strings;
    size_t strings_size;
};

/* What is to be watched. `resolve` is called when placed->modules have been read, and again should they have to be read
 * again: it sets `wishes`, which stay its own and are read until place_watches returns. 0, or an exit status with the
 * reason said. */
struct place_watch {
    int (*resolve)(struct place_watch *watch, struct placed *placed);
    void *context;
    struct watch_wish *wishes;
    size_t wish_count;
    bool multiplex;
    uint64_t period_ns; /* of a turn; 0: as we like it */
    /* From here on set by place_watches. */
    struct watch_spot {
        uint32_t wish; /* the event's probe is the wish, its site the spot */
        uint64_t addr;
        uint8_t length;
    } spots[TL_WATCH_SPOTS];
    uint32_t spot_count;
    struct tl_watching_room room; /* of a failure for want of registers: room.needed is not 0 then */
};

/* The slots of a watch's event. */
enum {
    WATCH_SLOT_OLD,
    WATCH_SLOT_NEW,
    WATCH_SLOT_IP,
    WATCH_SLOT_HOW,
    WATCH_SLOT_REGISTERS /* rax 0 … r15 15, where WATCH_SLOT_HOW is not 0 */
};

/* Arm the broker and set the watches: as place_probes, with watches in place of probes. Undone by place_remove.
 * `watch` has to live as long. */
int place_watches(struct placed *placed, const struct options *options, struct place_watch *watch);
/* For a fork child of `parent`, as place_copy, the same watches in the same places. */
int place_watches_copy(struct placed *placed, struct placed *parent, struct place_watch *watch);
/* Now and then while watches are set: see tl_watching_turn. */
uint64_t place_watches_turn(struct placed *placed);
/* Counts of a wish: those of all its spots. Exact after place_remove, until place_free. */
void place_watches_count(const struct placed *placed, size_t wish, struct tl_watching_count *count);

/* Take the probes out: text, trampolines, runtime. 0 or -errno, said on stderr. */
int place_remove(struct placed *placed);
/* The same under a stop, and all our memory with them, without waiting for threads that are inside a probe (-EAGAIN);
 * silent. */
int place_withdraw(struct placed *placed);
/* And the memory that is shared with the target: from here on the hit area cannot be read. */
void place_leave(struct placed *placed);

void place_free(struct placed *placed);

#endif
