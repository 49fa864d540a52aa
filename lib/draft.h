/* SPDX-License-Identifier: MIT
 *
 * A registration before anything is done: which sites it needs, which of them are there, and which are to be made.
 */
#ifndef TRAPLINE_LIB_DRAFT_H
#define TRAPLINE_LIB_DRAFT_H

#include "engine.h"
#include "places.h"

/* One entry's acting at one site. */
struct part_of_draft {
    struct site *site;
    uint32_t entry;
    enum role role;
};

struct draft {
    struct entry *const *entries;
    size_t count;
    struct place_request *requests;
    uint32_t *asked_by; /* which entry made a request */
    size_t request_count;
    struct places places;
    struct part_of_draft *parts; /* by entry, the entry's own address first; then by address */
    size_t part_count;
    struct site **fresh; /* to be planned; by address */
    size_t fresh_count;
    struct site **idle; /* there, but not in the text */
    size_t idle_count;
    struct site **live; /* in the text */
    size_t live_count;
    bool in_the_way; /* a dormant site is reached otherwise than is wanted now, and may take up the room for that */
    size_t failed;
    struct tl_error *error;
};

/* 0, or the errno, with draft->failed and *error. Sites that are there are not changed, but for room that they have. */
int draft_make(struct draft *draft, struct entry *const *entries, size_t count, struct tl_error *error);
/* Refuse for this entry. Returns the errno of `why`. */
int draft_refuse(struct draft *draft, uint32_t entry, uint64_t addr, enum tl_why why);
/* Fresh sites too, unless fresh_count was set to 0. */
void draft_free(struct draft *draft);

#endif
