/* SPDX-License-Identifier: MIT
 *
 * What the runtime on a hit and the reader outside share: one area of memory, mapped by both.
 *
 * All of it lies at fixed offsets from the start of the area, so that either side may map it anywhere. The probed program
 * can write to it: the reader believes nothing that it reads here (every offset and length is checked against its own
 * copy of the layout).
 *
 *   tl_hit_control | sites | actions | operations | strings | count blocks | lanes
 *
 * Counting in line (hook kind COUNT) uses one *count block* a thread, found by the thread's fs base, so that no lock prefix
 * is needed: on current Intel a locked increment alone costs more than a whole count should. A thread that
 * cannot get a block of its own (fs base 0, table full) uses the overflow block with locked increments: exact as well.
 *
 * Events use *lanes*: a lane is claimed with one atomic exchange for the time of a hit, by preference the one
 * of the processor that the thread runs on. So there is no state per thread to set up or to leak, a signal handler
 * that interrupts a hit simply gets another lane, and a lane has one writer at a time. An event becomes
 * visible by one store to `head`.
 */
#ifndef TRAPLINE_ABI_H
#define TRAPLINE_ABI_H

#include <stdint.h>

#include "hit/program.h"

#define TL_HIT_MAGIC 0x31304549504c5254ULL
enum { TL_LANES_MAX = 1024, TL_COUNT_BLOCK_HEAD = 64 };

/* The registers that the runtime saves, indexed by enum tl_reg. */
struct tl_hit_regs {
    uint64_t r[TL_REG_COUNT];
};

enum {
    TL_HIT_BLOCK = 1u << 0,     /* wait (bounded) for room rather than lose an event (--block) */
    TL_HIT_NO_MEMORY = 1u << 1, /* no syscall may be made: every LOAD faults */
    TL_HIT_NO_CLOCK = 1u << 2,  /* rdtsc is forbidden: events carry time 0 */
    TL_HIT_FSGSBASE = 1u << 3,  /* rdfsbase works */
    TL_HIT_RDPID = 1u << 4      /* rdpid works */
};

struct tl_hit_control {
    uint64_t magic;
    uint32_t flags;
    uint32_t pid;           /* of the target in its own pid namespace, for process_vm_readv on itself */
    int32_t tid_offset;     /* where the C library keeps a thread's tid, from the fs base; INT32_MIN: unknown */
    uint32_t lane_count, lane_mask_unused;
    uint32_t site_count, action_count, operation_count, strings_size;
    uint32_t block_shift, table_shift; /* count blocks: see hook.h */
    uint32_t probe_count;
    uint64_t sites, actions, operations, strings, blocks, lanes; /* offsets from the start of the area */
    uint64_t lane_stride, lane_bytes;                            /* bytes from lane to lane; ring bytes in each (power of two) */
    uint64_t area_size;
    uint64_t heartbeat;     /* tsc of the reader's last look: with TL_HIT_BLOCK nobody waits for a dead reader */
    uint64_t heartbeat_max; /* tsc ticks after which a reader counts as dead */
    uint64_t missed __attribute__((aligned(64))); /* hits that found no free lane (locked increments) */
};

struct tl_hit_site {
    uint64_t addr; /* of the probed instruction: the rip that programs see */
    uint32_t first_action, action_count;
};

enum { TL_ACTION_EVENT = 1, TL_ACTION_COUNT = 2 };
struct tl_hit_action {
    uint32_t probe;
    uint16_t kind;  /* TL_ACTION_EVENT or TL_ACTION_COUNT */
    uint16_t unused;
    uint32_t first_operation, operations;
};

/* One thread's counters. `owner` is its fs base; counts[i] belongs to probe i. */
struct tl_count_block {
    uint64_t owner;
    uint64_t pad[7];
    uint64_t counts[];
};

/* A lane: the writer's line, the reader's line, what the runtime saves on a hit, counters of filtered probes, ring. */
struct tl_lane {
    uint32_t busy; /* 1 while a hit owns it */
    uint32_t pad0;
    uint64_t head; /* bytes ever written; the event is there once head has passed it */
    uint64_t lost; /* events for which the ring had no room */
    uint64_t pad1[5];
    uint64_t tail; /* bytes ever read; written by the reader only */
    uint64_t pad2[7];
    struct tl_hit_regs regs;
    uint64_t slots[TL_EVENT_ARGS];
    uint8_t scratch[TL_EVENT_STRINGS];
    uint64_t counts_and_ring[]; /* probe_count counters rounded up to 64 bytes, then the ring */
};

/* An event as it stands in a ring, 8-byte aligned, possibly wrapping at the ring's end. `size` covers all of it. */
struct tl_event {
    uint32_t size;
    uint32_t probe;
    uint64_t tsc;
    uint32_t tid;       /* 0: unknown, see fs_base */
    uint32_t site;
    uint64_t fs_base;
    uint32_t stored;    /* bit n: slot n was stored */
    uint32_t faulted;   /* bit n: slot n could not be read */
    /* then 8 bytes for each bit of `stored`, lowest first: the value, or for a string (length | offset << 32), offset from
     * the start of the event; then the strings, not terminated */
};

#endif
