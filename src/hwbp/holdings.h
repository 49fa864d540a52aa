/* SPDX-License-Identifier: MIT
 *
 * What each task holds: a hash table from tasks to weights. For this room only. It has no lock of its own.
 */
#ifndef TRAPLINE_HWBP_HOLDINGS_H
#define TRAPLINE_HWBP_HOLDINGS_H

#include "hwbp/slots.h"

/* A task's weights by type: of its requests for any CPU, and where it has others, for each CPU. */
struct tl_holding {
    uint64_t task; /* 0: an empty place of the table */
    uint16_t anywhere[TL_SLOT_TYPES];
    uint32_t bound;   /* weight of all requests that name a CPU */
    uint16_t *on_cpu; /* [type * cpus + cpu]; NULL: none of its requests names a CPU */
};

struct tl_holdings {
    struct tl_holding *places; /* a power of two of them, at most half of them in use: no task is far from its home */
    size_t room, used;
};

/* The holding of a task, or NULL. */
struct tl_holding *tl_holdings_find(const struct tl_holdings *tasks, uint64_t task);
/* The same, made (empty) where there is none; NULL: out of memory. Holdings found before may have moved. */
struct tl_holding *tl_holdings_add(struct tl_holdings *tasks, uint64_t task, const struct tl_slots_host *host);
/* Forget an empty holding. Others may have moved. */
void tl_holdings_drop(struct tl_holdings *tasks, struct tl_holding *holding);
void tl_holdings_free(struct tl_holdings *tasks, unsigned cpus, const struct tl_slots_host *host);

/* Every place of the table is at `places`, in use or not; the hash of a task, of which tables use the lower bits. */
uint64_t tl_holdings_hash(uint64_t task);

#endif
