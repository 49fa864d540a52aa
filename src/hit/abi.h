/* SPDX-License-Identifier: MIT
 *
 * What the runtime on a hit and the reader outside share: one area of memory, mapped by both.
 *
 * All of it lies at fixed offsets from the start of the area, so that either side may map it anywhere. The probed
 * program can write to it: the reader believes nothing that it reads here (every offset and length is checked against
 * its own copy of the layout).
 *
 *   tl_hit_control | sites | actions | operations | strings | missed | count blocks | lanes
 *
 * Everything behind the strings is zero at first.
 *
 * Counting in line (hook kind COUNT) uses one *count block* a thread, found by a hash of the thread's fs base, so that
 * no lock prefix is needed: on current Intel a locked increment alone costs more than a whole count should. There are
 * (1 << table_shift) blocks and behind them the overflow block. A thread that cannot get a block of its own (fs base 0,
 * table full) counts in the overflow block with locked increments: exact as well.
 *
 * Events use *lanes*: a ring, and what a hit needs while it runs. A lane has an owner, a thread named by its fs base,
 * and one writer at a time, and an event becomes visible by one store to `head`. The first (1 << lane_shift) lanes are
 * found like count blocks and owned for good from a thread's first hit on; using one takes no atomic operation, only
 * the mark `busy` against a signal handler that interrupts a hit and hits again. The other lanes are owned for the time
 * of one hit, by a compare and exchange of the owner; by preference the one of the processor that the thread runs on.
 * They serve the handler that found its thread's lane busy, threads whose fs base is 0, and threads for which no lane
 * was left. When all of them are taken as well, each of the hit's actions is counted in its probe's `missed`, unseen by
 * any filter.
 *
 * A signal handler may leave the hit that it interrupted by longjmp: nobody will clear that hit's mark. So the mark
 * says where the hit is: it is the address of a word in the hit's stack frame, which names the lane as long as the hit
 * lives. When a thread finds a lane of its own busy, it looks there. A hit that was interrupted still has its frame,
 * whichever stack its handler runs on, or whichever coroutine has been switched to meanwhile. Where the word is no
 * longer that, or lies in the stack that the looking hit itself uses, the earlier hit is dead: the lane is taken over,
 * and what the dead one had still to do (`site`, `progress`) is counted as missed. (That it lies below the looker would
 * not be proof enough: signal stacks and coroutines lie anywhere.) A dead frame is overwritten by the next calls or
 * signals that reach as deep; until then, and where the word cannot be read, the thread goes on with other lanes. A hit
 * that is cut off in the few instructions in which it takes a lane, or gives it back, may go uncounted; none is counted
 * twice.
 *
 * The fs base is had by rdfsbase wherever that works. What else would be read, fs:0, holds it in the threads of the C
 * libraries, but faults in one made by a raw clone whose fs base is 0 or leads nowhere. So fs:0 is for processors and
 * kernels without rdfsbase, where there is no other way. For the same reason a thread's block is asked for its tid only
 * once the kernel has read it for us and found the block's address in it: `known`.
 *
 * Limits. Two threads that run at the same time with the same fs base other than 0 (clone with CLONE_VM, but without
 * CLONE_SETTLS or CLONE_VFORK; no thread library does that) are one thread to this scheme: their counts are inexact and
 * their events may be garbled, their registers and memory stay as they were. A tool that sees tasks share an fs base
 * can forbid its use: hooks with neither fs_self nor has_fsgsbase, and control flags with neither TL_HIT_FS_SELF nor
 * TL_HIT_FSGSBASE. A thread's block and lane stay its own when it ends; the next thread with the same fs base takes
 * them over. A signal handler that interrupts a hit and forks: the child finishes that hit, so that it may be counted
 * or written twice.
 *
 * Order. A hit sets `busy`, then reads the clock, then writes, then stores `head`, then clears `busy`. `busy` of a
 * thread's lane is a plain store: a reader on another processor may see it late, by as long as a store can wait in a
 * processor's store buffer. Whoever looks at a lane, finds it idle and concludes that every event up to time T is
 * there, must take T at least TL_HIT_SETTLE ticks before the look.
 */
#ifndef TRAPLINE_ABI_H
#define TRAPLINE_ABI_H

#include <stdint.h>

#include "hit/program.h"

#define TL_HIT_MAGIC 0x31304549504c5254ULL
enum { TL_LANES_MAX = 1024, TL_COUNT_BLOCK_HEAD = 64, TL_HIT_SETTLE = 1 << 16 };

/* From a thread's key (its fs base or what stands for it) to a place in a table of 1 << shift entries: the upper
 * `shift` bits of the lower half of the product. */
#define TL_HASH_FACTOR 0x9e3779b1u

/* The registers that the runtime saves, indexed by enum tl_reg. */
struct tl_hit_regs {
    uint64_t r[TL_REG_COUNT];
};

enum {
    TL_HIT_BLOCK = 1u << 0,     /* wait (bounded) for room rather than lose an event (--block) */
    TL_HIT_NO_MEMORY = 1u << 1, /* no syscall may be made: every LOAD faults, but for `broker` */
    TL_HIT_NO_CLOCK = 1u << 2,  /* rdtsc is forbidden: events carry time 0 */
    TL_HIT_FSGSBASE = 1u << 3,  /* rdfsbase works */
    TL_HIT_RDPID = 1u << 4,     /* rdpid works */
    TL_HIT_FS_SELF = 1u << 5 /* without TL_HIT_FSGSBASE: fs:0 holds the fs base in every thread, and is read for it */
};

/* Where C libraries keep a thread's tid, from the fs base. */
enum { TL_TID_GLIBC = 0x2d0, TL_TID_MUSL = 0x30 };

struct tl_hit_control {
    uint64_t magic;
    uint32_t flags;
    uint32_t pid;        /* of the target in its own pid namespace, for process_vm_readv on itself */
    int32_t tid_offset;  /* where the C library keeps a thread's tid, from the fs base; INT32_MIN: unknown yet */
    uint32_t lane_count; /* all lanes */
    uint32_t lane_shift; /* 1 << lane_shift of them, less than lane_count, belong to threads */
    uint32_t site_count, action_count, operation_count, strings_size;
    uint32_t block_shift, table_shift; /* count blocks: see hook.h */
    uint32_t probe_count;
    uint64_t sites, actions, operations, strings, blocks, lanes; /* offsets from the start of the area */
    uint64_t missed; /* offset: a counter a probe, of its actions in hits that came to nothing (locked increments) */
    uint64_t lane_stride, lane_bytes; /* bytes from lane to lane; ring bytes in each (power of two) */
    uint64_t area_size;
    uint64_t heartbeat;     /* tsc of the reader's last look: with TL_HIT_BLOCK nobody waits for a dead reader */
    uint64_t heartbeat_max; /* tsc ticks after which a reader counts as dead */
    /* Address of the signal broker (broker.h) in the target, or 0; it is set at the latest when the program confines
     * itself, as long as the broker is armed. Where there is one, what it says is forbidden is not done, and memory
     * is read directly, in threads that do not block SIGSEGV or SIGBUS; with TL_HIT_NO_MEMORY, in those of which that
     * is known. */
    uint64_t broker;
    uint64_t watches; /* offset of struct tl_watch_table (watch.h), or 0: no watches */
    /* Not 0: the program is about to forbid itself the return from signals (seccomp), and waits a moment for all that
     * is ours to be taken out. */
    uint64_t leave;
};

struct tl_hit_site {
    uint64_t addr; /* of the probed instruction: the rip that programs see */
    uint32_t first_action, action_count;
};

enum { TL_ACTION_EVENT = 1, TL_ACTION_COUNT = 2, TL_STACK_BYTES_MAX = 16384, TL_RED_ZONE = 128 };
struct tl_hit_action {
    uint32_t probe;
    uint16_t kind; /* TL_ACTION_EVENT or TL_ACTION_COUNT */
    /* Of an event, a multiple of 8: the registers and so many bytes of the stack go with it. 0: neither. */
    uint16_t stack_bytes;
    uint32_t first_operation, operations;
};

/* One thread's counters: counts[i] belongs to probe i. `owner` is 0 for a free block, otherwise the thread's key: its
 * fs base where hooks read fs:0, the complement of it where they use rdfsbase. */
struct tl_count_block {
    uint64_t owner;
    uint64_t pad[7];
    uint64_t counts[];
};

/* A lane: a line that only the writer uses, the line that it publishes, the reader's line, what a hit needs while it
 * runs, counters of filtered probes, ring. */
struct tl_lane {
    uint64_t busy;      /* not 0 while a hit uses it: where this hit's frame names the lane */
    uint64_t owner;     /* the fs base of the thread whose it is (all ones: of one that has none), or 0: it is free */
    uint64_t position;  /* where head stands */
    uint64_t tail_seen; /* what was last read from tail */
    uint64_t known;     /* the fs base of a thread block that holds a tid; the complement of one that does not */
    uint64_t progress;  /* of the hit: see src/hit/ring.h */
    uint32_t site;      /* of the hit */
    uint16_t borrowed;  /* the hit gives the lane back to all threads */
    uint16_t looks;     /* how often the frame of a hit was to be looked at */
    uint64_t pad1;
    uint64_t head; /* bytes ever written; the event is there once head has passed it */
    uint64_t lost; /* events for which the ring had no room */
    uint64_t pad2[6];
    uint64_t tail; /* bytes ever read; written by the reader only */
    uint64_t pad3[7];
    uint64_t slots[TL_EVENT_ARGS];
    uint64_t stack[TL_PROGRAM_STACK];
    uint8_t scratch[TL_EVENT_STRINGS];
    uint64_t counts_and_ring[]; /* probe_count counters rounded up to 64 bytes, then the ring */
};

/* An event as it stands in a ring, 8-byte aligned, possibly wrapping at the ring's end. `size` covers all of it. */
struct tl_event {
    uint32_t size;
    uint32_t probe; /* with TL_EVENT_STACK, where the event has a stack */
    uint64_t tsc;
    uint32_t tid; /* as the C library has noted it (in a vfork child: its parent's); 0: unknown, see fs_base */
    uint32_t site;
    uint64_t fs_base;
    uint32_t stored;  /* bit n: slot n was stored */
    uint32_t faulted; /* bit n: slot n could not be read, and is not in `stored` */
    /* then 8 bytes for each bit of `stored`, lowest first: the value, or for a string (length | offset << 32), offset
     * from the start of the event; then the strings, not terminated; then with TL_EVENT_STACK, at the end, struct
     * tl_hit_regs (rflags as the runtime keeps them, good for nothing), a piece of the stack from TL_RED_ZONE bytes
     * below its rsp up, filled up to 8 bytes, and 8 bytes that say how many bytes of the stack these are */
};
#define TL_EVENT_STACK (1u << 31) /* in tl_event.probe */

#endif
