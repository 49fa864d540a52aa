/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: what the parts of `call` share.
 *
 * All of it runs on hits: general registers only, no calls out of the room, no system calls, no locks. Functions that a
 * hit may run are ON_HIT: they stand in a section of their own, which can then be kept free of probes.
 */
#ifndef TRAPLINE_CALL_STATE_H
#define TRAPLINE_CALL_STATE_H

#include "hit/call.h"
#include "hit/call_layout.h"
#include "hit/signal.h"

#define ON_HIT __attribute__((section("trapline_hit")))
#define HIDDEN __attribute__((visibility("hidden")))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

/* What a list runs: a handler with its probe, or dispatch with the list. Not 0: resume at regs->rip. */
typedef int tl_call_run(void *argument, struct tl_regs *regs);

struct tl_call_list {
    uint64_t address;
    void *argument;
    tl_call_run *enter; /* run, or what surrounds it */
    tl_call_run *run;
    uint32_t flags; /* LIST_… */
    uint32_t index;
    const struct tl_emulation *emulation;
    size_t count, posts;
    struct tl_call_action actions[];
};

/* On the program's stack; rsp while a hit is entered and left. */
struct tl_call_frame {
    uint64_t mark; /* the thread's record */
    struct tl_regs regs;
    uint64_t hook, index;
    uint8_t red_zone[RED_ZONE];
};

/* A thread's, at the top of its block; the stack for handlers lies below it. */
struct tl_call_record {
    struct tl_call_frame *frame;       /* of the hit that is under way, or NULL */
    const struct tl_call_list *list;   /* of that hit, or of an earlier one if there is none */
    uint64_t alternate, alternate_end; /* see call_alternate.c */
    uint32_t saved_errno, mxcsr;
    uint32_t in_use; /* state components that had to be saved */
    uint32_t mxcsr_now;
    uint8_t vectors[RECORD_X87 + 512 - RECORD_ZMM];
    const struct tl_call_action *action; /* whose handler runs, where the list runs dispatch */
    uint64_t *owner;                     /* its place in the pool */
    struct tl_sigstack given_up;         /* what the program has for an alternate stack, while it has none… */
    uint64_t has_given_up;               /* …which this says */
    uint64_t mask;                       /* what the program blocks, while all is blocked */
    uint64_t taken; /* the key of the call under way whose return probe's handler runs, or was left; see returns.c */
};

struct tl_call_pool {
    struct tl_call_pool *next;
    uint8_t *memory;
    size_t count;
    uint64_t owners[]; /* the thread's fs base and a number, or 0: free */
};

#define SAME(what, where) _Static_assert((what) == (where), "call_layout.h")
SAME(offsetof(struct tl_call_frame, regs), FRAME_REGS);
SAME(offsetof(struct tl_call_frame, regs.rbx), FRAME_RBX);
SAME(offsetof(struct tl_call_frame, regs.rsp), FRAME_RSP);
SAME(offsetof(struct tl_call_frame, regs.rdi), FRAME_RDI);
SAME(offsetof(struct tl_call_frame, regs.r15), FRAME_R15);
SAME(offsetof(struct tl_call_frame, regs.rip), FRAME_RIP);
SAME(offsetof(struct tl_call_frame, regs.rflags), FRAME_RFLAGS);
SAME(offsetof(struct tl_call_frame, hook), FRAME_RETURN);
SAME(offsetof(struct tl_call_frame, index), FRAME_INDEX);
SAME(sizeof(struct tl_call_frame), FRAME_PROGRAM);
SAME(offsetof(struct tl_call_list, address), LIST_ADDRESS);
SAME(offsetof(struct tl_call_list, enter), LIST_ENTER);
SAME(offsetof(struct tl_call_list, run), LIST_RUN);
SAME(offsetof(struct tl_call_list, argument), LIST_ARGUMENT);
SAME(offsetof(struct tl_call_list, flags), LIST_FLAGS);
SAME(offsetof(struct tl_call_record, frame), RECORD_FRAME);
SAME(offsetof(struct tl_call_record, list), RECORD_LIST);
SAME(offsetof(struct tl_call_record, alternate), RECORD_ALTERNATE);
SAME(offsetof(struct tl_call_record, alternate_end), RECORD_ALTERNATE_END);
SAME(offsetof(struct tl_call_record, saved_errno), RECORD_ERRNO);
SAME(offsetof(struct tl_call_record, mxcsr), RECORD_MXCSR);
SAME(offsetof(struct tl_call_record, in_use), RECORD_IN_USE);
SAME(offsetof(struct tl_call_record, mxcsr_now), RECORD_MXCSR_NOW);
SAME(offsetof(struct tl_call_record, vectors), RECORD_ZMM);
SAME(sizeof(struct tl_call_record), RECORD_BYTES);
#undef SAME

/* This thread's record, or tl_call_nobody, which is busy for ever. */
extern HIDDEN __thread struct tl_call_record *tl_call_self __attribute__((tls_model("initial-exec")));
extern HIDDEN struct tl_call_record tl_call_nobody;
extern HIDDEN struct tl_call_platform tl_call_platform;
extern HIDDEN const struct tl_call_list *tl_call_lists[TL_CALL_INDEX_MAX];
extern HIDDEN uint64_t tl_call_missed_hits[TL_CALL_INDEX_MAX];
extern HIDDEN struct tl_call_pool *tl_call_pools;

extern HIDDEN uint64_t tl_call_errno; /* platform.errno_offset; at offset 0 nothing is harmed */

/* For vector.S: which state components processor and kernel have; whether it can be asked which of them are in use;
 * whether AVX and 64-bit mask registers are there. */
extern HIDDEN uint32_t tl_vector_components, tl_vector_can_ask, tl_vector_has_avx, tl_vector_wide_masks;
HIDDEN void tl_vector_setup(void);

/* A hit has found its thread's record busy, or none: the one that it may use, which is not busy now; or NULL. */
HIDDEN struct tl_call_record *tl_call_claim(struct tl_call_record *record, const struct tl_call_frame *frame);
/* All records, whose ever they are; NULL: there are no more. */
HIDDEN struct tl_call_record *tl_call_record_at(size_t index);
/* A thread begins to use the record: what it has for an alternate stack is not known. */
HIDDEN void tl_call_alternate_forget(struct tl_call_record *record);
/* The steps by which a hit on the alternate stack has its handlers run, and comes back. See call_alternate.c. The last
 * two return `resume`. */
HIDDEN bool tl_call_alternate_block(struct tl_call_record *record, const struct tl_call_frame *frame);
HIDDEN void tl_call_alternate_give_up(struct tl_call_record *record);
HIDDEN int tl_call_alternate_take_back(struct tl_call_record *record, int resume);
HIDDEN int tl_call_alternate_unblock(struct tl_call_record *record, int resume);
/* Whether this thread was in a handler, or in what that has called, when it had these registers. A hit that is over,
 * but was left by a jump, ends here. */
HIDDEN bool tl_call_is_inside(uint64_t rsp, uint64_t rbp);
/* Ways to enter a list: with the vector state kept, and on the program's stack. In call.S. */
HIDDEN tl_call_run tl_call_run_vectors, tl_call_run_here;
/* Runs a list in its general form. */
HIDDEN int tl_call_dispatch(void *list, struct tl_regs *regs);

/* The actions of return probes, and lists of nothing else. */
HIDDEN void tl_call_enters(struct tl_call_return *calls, struct tl_regs *regs);
HIDDEN void tl_call_leaves(struct tl_call_return *calls, struct tl_regs *regs, bool by_jump);
HIDDEN tl_call_run tl_call_run_entry, tl_call_run_exit, tl_call_run_back;
/* BACK: what has returned to a stub, with regs->rsp behind that. Sets regs->rip. Without may_report, no handler runs.
 */
HIDDEN void tl_call_comes_back(struct tl_call_return *calls, struct tl_regs *regs, bool may_report);
/* A return to a stub at this index while no handler may run. */
HIDDEN void tl_call_unseen(uint32_t index, struct tl_regs *regs);
/* Call a handler with the program's argument registers and `bytes` of its stack (a multiple of 16) from above the
 * return address. The vector state must be saved in the record. */
HIDDEN void tl_call_jump(tl_jump_handler *handler, const struct tl_regs *regs, struct tl_call_record *record,
                         uint64_t bytes);

#endif
