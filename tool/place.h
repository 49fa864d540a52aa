/* SPDX-License-Identifier: MIT
 *
 * Probes into the target: selecting, planning, applying, and taking out again.
 */
#ifndef TRAPLINE_PLACE_H
#define TRAPLINE_PLACE_H

#include "arming.h"
#include "options.h"

#include "host/remote/remote.h"
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

/* The same for a program that a followed process came to run: specs that name nothing in it are no failure, and a
 * notice only with -v. placed->in_place says whether anything is in place. matched[i] is set for each spec that
 * named something. */
int place_probes_followed(struct placed *placed, const struct options *options, const struct tl_spec *const *specs,
                          size_t spec_count, bool count, bool *matched);
/* For a fork child, whose memory is a copy of that of `parent`: the same probes by the same plan. 0 or -errno; nothing
 * is left in the target then, and other ways may be tried. */
int place_copy(struct placed *placed, struct placed *parent);

/* Take the probes out: text, trampolines, runtime. 0 or -errno, said on stderr. */
int place_remove(struct placed *placed);
/* The same under a stop, and all our memory with them, without waiting for threads that are inside a probe (-EAGAIN);
 * silent. */
int place_withdraw(struct placed *placed);
/* And the memory that is shared with the target: from here on the hit area cannot be read. */
void place_leave(struct placed *placed);

void place_free(struct placed *placed);

#endif
