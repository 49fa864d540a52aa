/* SPDX-License-Identifier: MIT
 *
 * What runs on a hit in one's own process: handlers in C, on any instruction.
 *
 * A hook of kind CALL (src/probe/hook.h) has skipped the red zone, pushed its index and called tl_call_enter through
 * its gate. There is a *list* of actions for each index: immutable, put into force and taken out by one store. Entry
 * code (call.S) saves the registers, runs the list, and returns into the hook, which goes on with the copy of the
 * instruction; or it resumes the program elsewhere, with the registers that handlers have left.
 *
 *   place                                        index                     list
 *   an instruction                               of its hook               PRE actions of its probes, in order
 *   … with post handlers, control goes straight  of the hook behind the    POST actions; address and next: where
 * control copy ("after")            goes on … with post handlers, control is transferred of its hook               PRE
 * and POST actions, and the emulation a function's entry                           of its hook               ENTRY,
 * JUMP, PRE in order of registration a function's exit                            of its hook               EXIT, PRE …
 * likewise
 *
 * Threads. Each thread that hits has a *record*: a stack for handlers, room for vector registers, and which list it is
 * in. Records are taken at a thread's first hit; where none is left, its hits are missed.
 *
 * Taking lists out of use. A hit publishes its list in its record by a plain store, and looks again whether it is still
 * in force. So whoever has taken a list out of force, and has then had every running thread pass a full barrier
 * (membarrier PRIVATE_EXPEDITED), knows from the records who can still be in it: tl_call_quiet. No hit pays for that.
 *
 * Missed. A hit while a handler runs on the same thread does nothing but count, at its index. So what a probe has
 * missed is what its index has missed while its list was in force: the difference of two readings. Of hooks behind
 * copies, and of exits, the counter means nothing: that hit was missed before.
 *
 * A handler that is left by longjmp (out of a signal handler, say) is noticed at the thread's next hit, and by whoever
 * waits for it: its frame, named by the record, is overwritten, or nothing on the stack leads back to it. See record.c.
 *
 * The frame of a hit lies on the program's stack, below the red zone, and takes less than 300 bytes; with a record that
 * is busy or not there yet about as much again. Handlers must not write below the red zone of the stack that they were
 * hit on, 128 bytes below regs->rsp. Where the program goes on with another rsp, the 136 bytes below that are written
 * to. Where the stack ends before, the hit is missed: call_room.c.
 *
 * What a hit costs: little more than saving all registers by hand does. Keeping the vector state makes it about four
 * times that; in a thread that has ever used its x87 unit, about eleven times. On an alternate signal stack a hit
 * makes six system calls; a thread's first hit, and the one after it has set such a stack, make one, to know where it
 * is (call_alternate.c).
 *
 * Limits. Tasks made by a raw clone with the C library's thread pointer unset must not hit; two tasks that run at once
 * with the same thread pointer count as one thread. AMX tiles are not kept. A handler on the program's stack
 * (TL_PROBE_OWN_STACK) that was left by longjmp may count as running as long as the thread stays below where it was
 * without overwriting it. Coroutines that are switched from within handlers need stacks with a gap between them.
 */
#ifndef TRAPLINE_CALL_H
#define TRAPLINE_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trapline/jump.h"
#include "trapline/probe.h"
#include "trapline/return.h"

struct tl_context;   /* src/hit/signal.h */
struct tl_emulation; /* src/insn/emulation.h */
struct tl_call_return;

enum { TL_CALL_INDEX_MAX = 1 << 19 }; /* indices are below this */

/* Where gate.call leads. Not to be called from C. */
void tl_call_enter(void);
/* Where stubs lead (tl_call_return_stub). Not to be called from C. */
void tl_call_returned(void);

/* Once, before the first hit. Not safe against hits. The functions are called on hits, perhaps with the program's
 * vector registers still in place: they are built for general registers only, and async-signal-safe. */
struct tl_call_platform {
    /* Read a word that may not be there; whether it was. NULL: simply read. */
    bool (*peek)(uint64_t addr, uint64_t *word);
    /* The same for instructions that transfer control, see src/hit/emulate.h; 0 or -EFAULT. NULL: post handlers of such
     * instructions do not run. */
    int (*emulate)(const struct tl_emulation *emulation, struct tl_regs *regs);
    /* A system call; below 0: it has failed. NULL: the program has no alternate signal stacks. */
    int64_t (*kernel)(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
    /* From now on *end is to become ~0 when this thread sets another alternate signal stack. NULL: not seen. */
    void (*watch_alternate)(uint64_t *end);
    int64_t
        errno_offset; /* from a thread's fs base to its errno, which handlers may change; 0: nothing is done for it */
};
void tl_call_setup(const struct tl_call_platform *platform);

/* ---- lists ---- */

enum tl_call_kind {
    TL_CALL_PRE,   /* pre (may be NULL, for the sake of the fault handler) */
    TL_CALL_POST,  /* post */
    TL_CALL_ENTRY, /* calls: a call begins */
    TL_CALL_EXIT,  /* calls: a call ends, by a ret */
    TL_CALL_TAIL,  /* calls: a call ends, by a jump to another function */
    TL_CALL_BACK,  /* calls: a call has returned to a stub; the only action of its list */
    TL_CALL_JUMP   /* jump */
};

struct tl_call_action {
    enum tl_call_kind kind;
    uint32_t flags;         /* of TL_PROBE_GENERAL, TL_PROBE_OWN_STACK */
    struct tl_probe *probe; /* what PRE and POST handlers, fault and break_handler are given */
    union {
        tl_pre_handler *pre;
        tl_post_handler *post;
        struct tl_call_return *calls;
        tl_jump_handler *jump;
    };
    tl_fault_handler *fault;         /* or NULL */
    tl_break_handler *break_handler; /* or NULL */
    uint32_t stack_bytes;            /* JUMP: of stack arguments */
};

/* A list is `tl_call_list_size(count)` bytes, aligned to 16. Handlers run on the program's stack only if all actions of
 * the list have OWN_STACK; vector registers are left alone only if all have GENERAL. */
struct tl_call_list;
struct tl_call_place {
    uint32_t index;
    uint64_t address;                     /* regs->rip for handlers; behind a copy: that of the next instruction */
    const struct tl_emulation *emulation; /* of a control transfer that has POST actions, else NULL */
};
size_t tl_call_list_size(size_t count);
void tl_call_list_init(struct tl_call_list *list, const struct tl_call_place *place,
                       const struct tl_call_action *actions, size_t count);

/* From now on hits at the list's index run it (NULL: nothing). The list that was in force is returned: it may be in use
 * until tl_call_quiet says otherwise. */
const struct tl_call_list *tl_call_swap(uint32_t index, const struct tl_call_list *list);
/* Whether no thread is in this list. It must be out of force, and every thread must have passed a barrier since. Does
 * not wait: ask again. Never becomes true while a handler does not come back; one left by longjmp counts as running
 * until its thread's stack shows that it is not. */
bool tl_call_quiet(const struct tl_call_list *list);
/* Hits at the index that came to nothing, since the process began. */
uint64_t tl_call_missed(uint32_t index);
/* Whether this thread is in a handler. */
bool tl_call_inside(void);
/* The action whose handler, or what that has called, was interrupted on this thread when it had these registers; or
 * NULL. */
const struct tl_call_action *tl_call_current(uint64_t rsp, uint64_t rbp);
/* Likewise, where on the program's stack the hit is; or NULL. */
const void *tl_call_hit_at(uint64_t rsp, uint64_t rbp);
/* For who waits long for a list to become quiet: calls `look` for each thread in it, with the thread pointer, the
 * bounds of the thread's stack for handlers, and where it is said from which frame on the program's stack the handler
 * was entered. If the thread has left the handler for good, that is to be made 0 while the thread stands still. */
typedef void tl_call_look_fn(uint64_t fs_base, const void *stack, const void *end, uint64_t *frame);
void tl_call_look(const struct tl_call_list *list, tl_call_look_fn *look);

/* Call a function as a handler, on this thread's stack for handlers: hits meanwhile are missed. For who has all
 * registers saved already: in a signal handler. False, and it is not called: a handler runs on this thread, or there is
 * no record left. */
bool tl_call_aside(void (*function)(void *argument), void *argument);

/* A thread has faulted, with these registers; `is_in_hook`: in our code in front of a copy, or in the copy. Whether that
 * was for want of stack on the way into a hit: then this is missed, and the thread goes on with the registers as they
 * are now. */
bool tl_call_has_no_room(struct tl_context *context, bool is_in_hook);

/* ---- threads ---- */

/* Room for the records of `count` threads: `pool`, tl_call_pool_size(count) bytes, and `memory`, count blocks of
 * TL_CALL_THREAD_BYTES, page-aligned; both zero. The first page of each block should be one that cannot be accessed.
 * Both stay for good. Any number of pools may be added, while threads hit; one call at a time. */
enum { TL_CALL_THREAD_BYTES = 65536 };
struct tl_call_pool;
size_t tl_call_pool_size(size_t count);
void tl_call_pool_add(struct tl_call_pool *pool, void *memory, size_t count);
/* How many records are free. (Threads also take over records of threads that have ended without tl_call_thread_leave:
 * if the thread pointer is the same, or when none is free and the thread block has gone.) */
size_t tl_call_records_free(void);
/* This thread ends: its record is given back. From a destructor of thread-specific data, say; hits afterwards take one
 * again. */
void tl_call_thread_leave(void);
/* In a child of fork: all records but this thread's are free. */
void tl_call_forked(void);
/* Give back the records of threads for which `alive` says no; it is given the thread pointer (fs base). */
void tl_call_reclaim(bool (*alive)(uint64_t fs_base));

/* ---- return probes ---- */

/* What is kept of a return probe: `tl_call_return_size()` bytes, aligned to 16, zero. `max_active` calls are followed
 * at one time. */
struct tl_call_return_shape {
    struct tl_return_probe *probe;
    tl_return_entry *entry; /* or NULL */
    tl_return_handler *handler;
    uint64_t stub; /* address of a stub, for rewriting return addresses; or 0 */
    uint32_t data_size, max_active;
};
size_t tl_call_return_size(const struct tl_call_return_shape *shape);
void tl_call_return_init(struct tl_call_return *calls, const struct tl_call_return_shape *shape);
/* Entries for which there was no room, and returns to a stub while a handler ran; beside what the entry's index has
 * missed. (What the indices of exits and stubs have missed means nothing.) */
uint64_t tl_call_return_missed(const struct tl_call_return *calls);
/* Give up the calls under way: they end unseen. All lists with this return probe's ENTRY, EXIT and TAIL actions are
 * quiet; a stub's list is not. */
void tl_call_return_give_up(struct tl_call_return *calls);

/* For rewriting there are no exits, but a stub, executable code at any address, with an index of its own and the
 * bytes that follow from that. The stub's list, whose one action is BACK, is in force from before the first entry until
 * tl_call_return_rewritten says 0, with the entry's list out of force and quiet; then it can be taken out, and once it
 * is quiet, stub and memory can be reused. */
enum { TL_CALL_STUB_BYTES = 26 };
void tl_call_return_stub(uint32_t index, uint8_t out[TL_CALL_STUB_BYTES]);
/* Calls under way whose return address is rewritten. */
size_t tl_call_return_rewritten(const struct tl_call_return *calls);

#endif
