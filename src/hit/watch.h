/* SPDX-License-Identifier: MIT
 *
 * Watches: what runs when a hardware breakpoint of ours has been hit, and what it shares with the tool.
 *
 * A *spot* is what one debug register watches: 1, 2, 4 or 8 aligned bytes, or an instruction. The tool sets the
 * registers (src/host/remote/watch.h); each hit is a SIGTRAP, which comes to the broker, whose notifier
 * tl_watch_notify is. It compares the memory with the spot's *shadow*, what it held when somebody last looked, and
 * writes an event like that of a probe: at the hit site `site` of the hit area, with old and new for its program.
 *
 * One instruction may hit several spots, and two threads one spot at the same time; yet there is one signal for an
 * instruction, and memory is looked at when the signal comes. So what is said of a hit is what was found then:
 *   - The shadow changes by compare and exchange, with the memory read in between: the values of a spot's reports, put
 *     in the order of these exchanges, are a chain without gaps, each of them a value that the memory did hold.
 *   - A write that somebody's look has already seen is unchanged when its own signal comes. How many accesses there
 *     were is known exactly to whoever has set the registers; `hits` says how many signals were told of.
 *   - A spot near the one that the signal is about is looked at as well, since the same instruction may have written
 *     both: such a report is marked TL_WATCHED_BESIDE. It may have been another thread's instruction after all: then
 *     that thread's signal comes, finds nothing changed any more, and the same change is told again, as a
 *     TL_WATCHED_CLAIM. Whoever reads can tell from the instruction and its registers which of the two is right.
 *
 * The table lies in the hit area (tl_hit_control.watches). It can be written by the program: the tool believes nothing
 * that it reads there.
 */
#ifndef TRAPLINE_HIT_WATCH_H
#define TRAPLINE_HIT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "hit/broker.h"

enum { TL_WATCH_SPOTS = 64 };

/* How the registers were set, which is how their signals look. */
enum tl_watch_means {
    TL_WATCH_BY_EVENTS,   /* perf events with sigtrap: the signal carries the spot's tag */
    TL_WATCH_BY_REGISTERS /* ptrace: the signal says nothing, the memory has to */
};

enum { TL_SPOT_READS = 1, TL_SPOT_WRITES = 2, TL_SPOT_EXECUTES = 4 }; /* as TL_ACCESS_… of src/hwbp/attr.h */

/* What an event's program may ask by TL_OP_HOW. */
enum {
    TL_WATCHED_BESIDE = 1, /* seen on the occasion of another spot's signal */
    TL_WATCHED_GUESS = 8,  /* nothing has changed: it may have been this spot, or another one */
    /* The change that a look beside has told of already: it may have been this one's. Where the look is still under
     * way, old and new are both what it found. */
    TL_WATCHED_CLAIM = 4,
    TL_WATCHED_LATE = 2 /* the signal came later than the access: the registers are those of then */
};

struct tl_watch_spot {
    uint64_t tag; /* what its signals carry; 0: not armed now, and its signals are swallowed */
    uint64_t addr;
    uint8_t length, access; /* bytes; TL_SPOT_… */
    uint8_t changes_only;   /* no report of an access that leaves the value as it was */
    uint8_t known;          /* the shadow holds what the memory held; else there is no old value */
    uint32_t site;          /* in the hit area */
    uint64_t shadow;        /* zero-extended */
    uint64_t hits;          /* signals that were about this spot */
    uint64_t own;           /* of these: by the runtime itself, not by the program */
    uint64_t reports;       /* events written, or rejected by their program */
    uint64_t late;          /* of hits: TL_WATCHED_LATE */
    uint64_t taken;         /* not 0: what the last look beside has found, for a claim */
    uint64_t taken_old, taken_new;
    uint64_t taking; /* looks beside that are under way */
    uint64_t pad[2];
};

/* Tags: magic, then the number of the turn, then the spot. A signal of an earlier turn is stale: swallowed, counted. */
#define TL_WATCH_TAG_MAGIC 0x7457415054ULL
static inline uint64_t tl_watch_tag(uint64_t turn, uint32_t spot)
{
    return TL_WATCH_TAG_MAGIC << 24 | (turn & 0xffff) << 8 | (spot & 0xff);
}

struct tl_watch_table {
    uint64_t offset; /* of this table in the hit area */
    uint32_t means;  /* enum tl_watch_means */
    uint32_t count;  /* spots in use: those below */
    uint64_t stale;  /* signals of earlier turns */
    uint64_t vague;  /* BY_REGISTERS: signals that may have been about several spots */
    uint32_t reads;  /* some spot is watched for reads */
    uint32_t pad[7];
    struct tl_watch_spot spots[TL_WATCH_SPOTS];
};

/* The broker's notifier; `context` is the table's address. In the blob: tl_blob_watch() gives its offset. Claims what
 * is ours, and nothing changes for the program. */
bool tl_watch_notify(void *context, const struct tl_notification *notification);

#endif
