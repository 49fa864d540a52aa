/* SPDX-License-Identifier: MIT
 *
 * Hardware breakpoints, inside the library.
 *
 * An event of the kernel's carries a *tag* into each of its signals: ours, which place on the *board*, which
 * generation. A breakpoint that is modified has a *view* for each of two generations, since some threads still hit as
 * the old one while others hit as the new one; then only the new one's. Signals with a tag that no view has are stale:
 * swallowed.
 */
#ifndef TRAPLINE_LIB_HWBP_H
#define TRAPLINE_LIB_HWBP_H

#include <stdbool.h>

#include "host/self/perf.h"
#include "hwbp/slots.h"
#include "trapline/hwbp.h"

struct tl_notification;

#define HWBP_MAGIC 0x74a9c3ull /* in the upper 24 bits; then 24 of the generation and 16 of the index */
enum { HWBP_MAGIC_AT = 40, HWBP_GENERATION_AT = 16, HWBP_INDEX_MASK = 0xffff, HWBP_GENERATION_MASK = 0xffffff };

#define HWBP_OPEN (1ull << 63)

struct view {
    uint64_t tag; /* 0: not in force */
    uint64_t address;
    uint32_t length, access;
    uint64_t shadow; /* data: what the last hit has seen there */
};

struct tl_hwbp {
    struct tl_hwbp_options options; /* as they are now; tid is known */
    struct tl_perf_spec spec;       /* the same for the kernel */
    struct tl_perf perf;            /* while added */
    struct view views[2];
    unsigned current; /* of the views; the other is not in force, but in modify */
    uint32_t index;   /* on the board */
    uint64_t born;    /* its first tag */
    uint64_t task;    /* for the accounting, of TL_HWBP_THREAD */
    bool added, enabled;
    uint32_t stopped;
    bool inherited; /* in a fork child: the events are the parent's */
    uint64_t hits;  /* of events that are closed; and HWBP_OPEN: those that are open are to be added */
    uint64_t handled, late, missed;
};

/* Immutable but for the places: what signals find their breakpoint by. */
struct board {
    size_t room;
    struct tl_hwbp **places;
};
extern struct board *hwbp_board; /* NULL: there never was one */
/* Views in force, or about to be: that watch for reads; that are reported. */
extern uint32_t hwbp_readers, hwbp_reporters;

/* ---- hwbp_options.c ---- */

/* The user's struct, checked but for address, length and access. 0, -EINVAL, -E2BIG. */
int hwbp_copy_options(const struct tl_hwbp_options *theirs, struct tl_hwbp_options *ours, struct tl_error *error);
/* Who it is about: sets options.tid and task. 0, -EOPNOTSUPP, -ESRCH, -ENODEV. */
int hwbp_find_target(struct tl_hwbp *hwbp, struct tl_error *error);
/* Address, length and access. 0, or the errors of tl_hwbp_check. */
int hwbp_check_attr(const struct tl_hwbp_options *options, struct tl_error *error);
struct tl_perf_spec hwbp_spec(const struct tl_hwbp_options *options, uint64_t tag);
bool hwbp_is_same_but_for_place(const struct tl_hwbp_options *a, const struct tl_hwbp_options *b);

/* ---- hwbp_board.c, under the lock ---- */

int hwbp_find_place(uint32_t *index); /* a free one. 0 or -ENOMEM */
/* NULL: and nobody sees any more what was there. */
void hwbp_put(uint32_t index, struct tl_hwbp *hwbp);
uint64_t hwbp_next_tag(uint32_t index);
/* Views into force and out of it. */
void hwbp_show(struct view *view, const struct tl_perf_spec *spec);
void hwbp_hide(struct view *view);

/* ---- hwbp_slots.c, under the lock: the debug registers that a breakpoint takes ---- */

int hwbp_reserve(struct tl_hwbp *hwbp); /* 0, -ENOSPC, -ENOMEM */
void hwbp_release(struct tl_hwbp *hwbp);
/* Another access. As hwbp_reserve; going back never fails. */
int hwbp_retype(struct tl_hwbp *hwbp, uint32_t access);

/* ---- hwbp_hit.c, async-signal-safe ---- */

bool hwbp_is_trap(const struct tl_notification *notification); /* the signal is ours */
/* Then: `regs` (as the program sees them) are what to go on with. */
void hwbp_trap(const struct tl_notification *notification, struct tl_regs *regs);
/* What is at the view's bytes now; whether it could be read. */
bool hwbp_look(const struct view *view, uint64_t *value);

/* ---- around fork: before it; in the child ---- */

void hwbp_forking(void);
void hwbp_forked(void);
void hwbp_hit_forked(void);

#endif
