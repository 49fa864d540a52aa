/* SPDX-License-Identifier: MIT
 *
 * Who may have a hardware breakpoint: the accounting of debug-register slots. Pure policy: it touches no register,
 * knows no system and needs no C library. Whoever owns real registers asks here first.
 *
 * A machine has S slots of a type on each CPU (x86-64: four, shared by data and instruction breakpoints; Intel SDM vol.
 * 3B, 18.2). A request is for a task on any CPU, for a task on one CPU, or for one CPU whatever runs there. With
 *
 *   C(c)    the weight of what is pinned to CPU c without a task,
 *   T(t,c)  the weight of task t's requests for any CPU or for CPU c,
 *
 * a pinned request of weight w is admitted when
 *
 *   task t, any CPU:  max over c of (C(c) + T(t,c)) + w <= S
 *   task t, CPU n:    C(n) + T(t,n) + w <= S
 *   no task, CPU n:   C(n) + max over t of T(t,n) + w <= S
 *
 * Flexible requests take turns on what the pinned ones leave. As long as there is one within the CPUs that a pinned
 * request is about, the pinned request has to get by with S - 1; and a flexible request is admitted where the same rule
 * with w = 1 leaves it a slot.
 *
 * All functions may be called from several threads. Requests of different tasks for any CPU meet on no common lock;
 * those that name a CPU hold up all others for a moment. Not for signal handlers, but with `no_wait`: that never waits.
 */
#ifndef TRAPLINE_HWBP_SLOTS_H
#define TRAPLINE_HWBP_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TL_SLOTS_MAX = 16 }; /* most slots of a type */
enum tl_slot_type { TL_SLOT_DATA, TL_SLOT_INSTRUCTION, TL_SLOT_TYPES };
enum { TL_ANY_CPU = -1 };

/* What the accounting asks of its surroundings. */
struct tl_slots_host {
    void *context;
    void *(*allocate)(void *context, size_t bytes); /* NULL when there is none; need not be zeroed */
    void (*release)(void *context, void *memory, size_t bytes);
    void (*relax)(void *context); /* called again and again while another thread holds a lock; NULL: spin */
};

struct tl_slots_machine {
    unsigned cpus;                 /* 1 or more; CPUs have the numbers below */
    unsigned slots[TL_SLOT_TYPES]; /* 1 to TL_SLOTS_MAX; with `shared` the first counts for both */
    bool shared;                   /* data and instruction breakpoints use the same slots */
};

struct tl_slot_request {
    uint64_t task; /* any number but 0 that names a task; 0: whatever runs on `cpu` */
    int cpu;       /* or TL_ANY_CPU, with a task only */
    enum tl_slot_type type;
    unsigned weight; /* slots that it takes: 1 or more */
    bool flexible;   /* takes turns with other flexible ones */
    bool no_wait;    /* fail rather than wait for another thread */
};

struct tl_slots_state;
struct tl_slots {
    struct tl_slots_state *state; /* NULL: not initialised, or in vain */
};

/* 0; -EINVAL; -ENOMEM, with *slots such that every reservation gives -ENOMEM, as it does for a zeroed *slots. */
int tl_slots_init(struct tl_slots *slots, const struct tl_slots_machine *machine, const struct tl_slots_host *host);
/* Nobody may use it any more. What is reserved is forgotten. A zeroed one is allowed. */
void tl_slots_destroy(struct tl_slots *slots);

/* 0; -ENOSPC: no slot by the rules above; -EBUSY: `no_wait`, and the accounting was in use; -ENOMEM; -EINVAL: no task
 * and no CPU, a CPU or type that does not exist, weight 0. Nothing has changed then. */
int tl_slots_reserve(struct tl_slots *slots, const struct tl_slot_request *request);
/* Give back what was reserved by the same request. 0; -EBUSY as above; -EINVAL where there is no such reservation as
 * far as the accounting can tell. */
int tl_slots_release(struct tl_slots *slots, const struct tl_slot_request *request);
/* Exchange a reservation for another one, as one step: on any error the old one is still held. Errors as for both. */
int tl_slots_modify(struct tl_slots *slots, const struct tl_slot_request *from, const struct tl_slot_request *to);

/* How many slots a pinned request of weight 1 like this one could still be given, one after the other (0 to S). For
 * messages: another thread may be quicker. Its weight, flexible and no_wait are not looked at. */
unsigned tl_slots_left(struct tl_slots *slots, const struct tl_slot_request *request);

#endif
