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

/* hwbp_slots.c, under the lock: the debug registers that a breakpoint takes. 0, -ENOSPC, -ENOMEM. */
int hwbp_reserve(struct tl_hwbp *hwbp);
void hwbp_release(struct tl_hwbp *hwbp);
/* Another access. As hwbp_reserve; going back never fails. */
int hwbp_retype(struct tl_hwbp *hwbp, uint32_t access);

/* hwbp_hit.c, async-signal-safe. Whether the signal is ours; then `regs` (as the program sees them) are what to go on
 * with. */
bool hwbp_trap(const struct tl_notification *notification, struct tl_regs *regs);
bool hwbp_is_trap(const struct tl_notification *notification);
/* What is at the view's bytes now; whether it could be read. */
bool hwbp_look(const struct view *view, uint64_t *value);

/* Around fork: before it; in the child. */
void hwbp_forking(void);
void hwbp_forked(void);
void hwbp_hit_forked(void);

#endif
