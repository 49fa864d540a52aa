/* SPDX-License-Identifier: MIT
 *
 * What trapline puts into another process, laid out so that a later run understands it without the run that made it.
 *
 * All of it is memory files named "trapline", so that /proc/PID/maps shows "/memfd:trapline (deleted)" on every line of
 * ours; gates alone are anonymous (they must vanish from fork children), and are recorded in the log. The *core* is the
 * first to come and the last to go:
 *
 *   code page | tl_core_page | frame | calls | first log
 *
 * Everything here can be written by the target: whoever reads it checks every number.
 */
#ifndef TRAPLINE_REMOTE_LAYOUT_H
#define TRAPLINE_REMOTE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define TL_CORE_NAME "trapline"
#define TL_CORE_MAPS_NAME "/memfd:trapline (deleted)"
#define TL_CORE_MAGIC 0x45524f434c505254ULL
#define TL_LOG_MAGIC 0x30474f4c4c505254ULL
enum { TL_CORE_VERSION = 1, TL_SEGMENTS = 40, TL_BATCH_MAX = 1024 };

/* One system call of a batch, and what it gave. */
struct tl_slot {
    int64_t number;
    uint64_t arguments[6];
    int64_t result;
};

/* What the runner works from. Offsets are known to its code. */
struct tl_runner {
    uint64_t next, count; /* slots done, slots to do */
    uint32_t stop_on_error;
    uint32_t done;  /* 1: all that will be done is done; the task waits, bounded, for `leave` */
    uint32_t leave; /* 1: go back by the frame now */
    uint32_t turns; /* of a bounded wait, a millisecond each */
    struct {
        uint64_t seconds, nanoseconds;
    } nap;
    uint32_t holder; /* the tool's thread, a robust futex: bit 30 is set by the kernel when it dies */
};

/* The entry gate: where a launched program waits for us before its first own instruction. */
struct tl_entry {
    uint32_t reached, go; /* reached: set by the program; go: by us */
    uint64_t turns;
    uint64_t entry;     /* the program's own */
    uint64_t saved[17]; /* rax rcx rdx rbx rsp rbp rsi rdi r8…r15 rflags */
    struct {
        uint64_t seconds, nanoseconds;
    } nap;
    uint64_t
        word; /* where on its stack the program's AT_ENTRY stands, changed until the gate is reached; 0: nothing is */
};

struct tl_core_page {
    struct tl_runner runner;
    uint8_t pad[64 - sizeof(struct tl_runner)];
    struct tl_entry entry; /* at 64 */
    /* for the next run: */
    uint64_t magic;
    uint32_t version, size; /* of the whole core */
    uint64_t addr;          /* of its code page in the target; 0: not mapped yet */
    struct {
        uint64_t pid, start_time, pid_namespace;
    } owner;         /* the tool, in its own name space */
    uint64_t target; /* pid in its own name space */
    uint32_t segment_count, unused;
    struct {
        uint64_t addr, size;
    } segments[TL_SEGMENTS]; /* logs; the first one lies in the core */
};

/* PATCH: text; LATE: text that is restored last, when nobody is inside. GATE: a mapping. BROKER: where struct tl_broker
 * stands (src/hit/broker.h); where a thread stands that a guard has sent to sleep is in old_bytes. MASK: a signal mask
 * that a handler's frame on some stack has saved. REGISTERS: debug registers are set, to spots of the struct
 * tl_watch_table (src/hit/watch.h) that stands there. */
enum { TL_RECORD_PATCH = 1, TL_RECORD_GATE, TL_RECORD_BROKER, TL_RECORD_MASK, TL_RECORD_LATE, TL_RECORD_REGISTERS };
struct tl_record {
    uint32_t live; /* written last, cleared first */
    uint32_t kind;
    uint64_t addr, size;
    uint8_t old_bytes[16], new_bytes[16]; /* PATCH, LATE, MASK: `size` of them */
};

struct tl_log {
    uint64_t magic, capacity, used, unused;
    struct tl_record records[];
};

enum {
    TL_CORE_DATA = 4096,                                     /* tl_core_page */
    TL_CORE_STACK = 65536,                                   /* for a signal that comes while the tool dies */
    TL_CORE_FRAME = 8192 + TL_CORE_STACK,                    /* one signal frame; a batch's stack pointer is here */
    TL_CORE_CALLS = TL_CORE_FRAME + 16384,                   /* TL_BATCH_MAX slots */
    TL_CORE_SCRATCH = TL_CORE_CALLS + TL_BATCH_MAX / 2 * 64, /* where no more than half of the slots are used */
    TL_CORE_LOG = TL_CORE_CALLS + TL_BATCH_MAX * 64,         /* the first log */
    TL_CORE_SIZE = TL_CORE_LOG + 65536
};

#endif
