/* SPDX-License-Identifier: MIT
 *
 * The other end of src/hit/abi.h: takes events out of the lanes in order of time, and adds up counts.
 *
 * The area belongs to the probed program as much as to us, and the program may write anything into it at any time. The
 * reader believes its own copy of the layout and nothing else: whatever it finds in the area, it neither crashes, nor
 * loops without end, nor touches memory outside of the area. (The area must not shrink: seal the memfd against it.)
 *
 * One reader an area, used by one thread at a time and by no signal handler. Nothing here sleeps or waits for the
 * target.
 */
#ifndef TRAPLINE_READER_H
#define TRAPLINE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hit/abi.h"

struct tl_reader;

struct tl_reader_options {
    uint64_t patience_ns; /* how long a hit that does not end may hold back younger events of other lanes */
    uint64_t store_bytes; /* how much may be held back altogether (beyond a ring's worth a lane); 0: the default */
};
enum { TL_READER_PATIENCE_NS = 100000000, TL_READER_STORE_BYTES = 1 << 26 };

/* One event, checked and copied out of the area; valid until the callback that was given it returns. */
struct tl_record {
    uint32_t probe;           /* < probe_count */
    uint32_t site;            /* < site_count */
    uint32_t tid;             /* in the target's pid name space; 0: unknown, see fs_base */
    uint32_t stored, faulted; /* a bit a slot; never both */
    bool has_stack;           /* see tl_record_stack */
    uint32_t size;            /* of bytes[] */
    uint64_t fs_base;
    uint64_t tsc;
    uint64_t time_ns;               /* CLOCK_MONOTONIC */
    uint64_t values[TL_EVENT_ARGS]; /* of the slots in `stored`; the others are indeterminate */
    const uint8_t *bytes;           /* the whole event, for strings */
};

/* The string in `slot`, not terminated, inside the record. 0; -ENOENT: not stored; -EFAULT: could not be read by the
 * target, or what stands there is no string of this event. */
int tl_record_string(const struct tl_record *record, unsigned slot, const char **text, size_t *length);

/* The registers (but for rflags), and the stack from TL_RED_ZONE bytes below rsp on, inside the record: as much as
 * could be read. 0; -ENOENT: the action asked for none; -EFAULT: what stands there makes no sense. */
int tl_record_stack(const struct tl_record *record, struct tl_hit_regs *regs, const uint8_t **stack, size_t *size);

/* Return 0 to go on, anything else to end the poll behind this event. */
typedef int tl_record_fn(void *context, const struct tl_record *record);

struct tl_reader_totals {
    uint64_t seen;        /* events given to callbacks */
    uint64_t lost;        /* events for which a ring had no room… */
    uint64_t lost_before; /* …before the event behind which a callback has ended a poll; if none has: all */
    uint64_t missed;      /* actions of hits that came to nothing: no lane was free, or the hit was left half-way */
    uint64_t late;        /* of those seen: given out behind a younger one, its hit having been waited for too long */
    uint64_t damaged;     /* times that a lane's content made no sense and was thrown away */
    uint64_t
        unfinished; /* hits that were under way in the target when it was drained for the last time: it died in them */
};

/* Read the area mapped at `area` (`size` bytes, aligned to 64, readable and writable). `layout` is the control block as
 * the tool wrote it, from the tool's own memory; it is copied. options may be NULL. 0; -EINVAL: the layout contradicts
 * itself or the size; -ENOMEM. */
int tl_reader_open(void *area, size_t size, const struct tl_hit_control *layout,
                   const struct tl_reader_options *options, struct tl_reader **reader);
void tl_reader_close(struct tl_reader *reader); /* NULL is allowed */

/* Give out, in order of time, the events of which it is certain that no older one will still appear. Returns how many.
 * Also tells the runtime that its reader lives (heartbeat). */
size_t tl_reader_poll(struct tl_reader *reader, tl_record_fn *fn, void *context);
/* Once no thread can be in a hit any more (all probes removed, or the target gone): everything that is left. */
size_t tl_reader_drain(struct tl_reader *reader, tl_record_fn *fn, void *context);

/* Totals as of now. */
void tl_reader_totals(const struct tl_reader *reader, struct tl_reader_totals *totals);
/* Add each probe's count (count blocks, overflow block, lanes) to counts[0 … probe_count - 1]. */
void tl_reader_counts(const struct tl_reader *reader, uint64_t *counts);
/* Add each probe's share of `missed` likewise. */
void tl_reader_missed(const struct tl_reader *reader, uint64_t *counts);
/* A tsc value of this machine as CLOCK_MONOTONIC. */
uint64_t tl_reader_time(struct tl_reader *reader, uint64_t tsc);

#endif
