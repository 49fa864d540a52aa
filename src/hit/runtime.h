/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: the parts of the runtime.
 *
 * These sources are compiled twice: hosted, as a library for tests, and freestanding into the blob that is mapped into
 * targets. They call nothing, allocate nothing, hold no lock, use general registers only and no string instructions
 * (so the direction flag may be anything), and make one system call, process_vm_readv on the process itself (and where
 * there is a signal broker, the two by which it asks once a thread whether it may do without); none that a program
 * which confines itself does not allow (confine.h). All of them are safe in signal handlers and on a stack that has a
 * few hundred bytes left.
 */
#ifndef TRAPLINE_RUNTIME_H
#define TRAPLINE_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hit/abi.h"

/* What a watched place of memory held before an access and after it, zero-extended. */
struct tl_watched {
    uint64_t old, new;
    bool no_old, no_new; /* could not be read, or is not known */
    uint32_t how;        /* TL_WATCHED_… (watch.h) */
};

/* What a hit knows, and what its program has fetched so far. Whole words: values that are stored by halves and read as
 * one word, as compilers like to, would have to wait for each other. */
struct tl_hit {
    struct tl_hit_control *area;
    struct tl_lane *lane;
    const struct tl_hit_regs *regs;
    uint64_t fs_base; /* 0: none or unknown */
    uint64_t tsc;
    uint64_t tid_site; /* as in the event: tid (0: unknown) | site << 32 */
    uint64_t slots;    /* as in the event: a bit for each slot that is stored | that is faulted << 32 */
    uint64_t strings;  /* a bit for each slot that holds length | offset in scratch << 32 */
    uint64_t scratch_used;
    uint64_t stack_bytes;             /* how much of the program's stack the event takes with it */
    const struct tl_watched *watched; /* NULL: the hit is a probe's */
};

/* A hit at `site`, the program's registers in *regs but for rip; rflags as lahf and seto al left them in rax. */
void tl_hit(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t site);
/* The same for a watch: rip in *regs is where the program is. */
void tl_hit_watched(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t site,
                    const struct tl_watched *watched);

/* The block in which the thread with this key counts (src/probe/hook.c): found, claimed, or, after counting at
 * `displacement` of the overflow block, one in which an increment at `displacement` harms nobody. */
struct tl_count_block *tl_hit_claim(struct tl_hit_control *area, uint64_t key, uint32_t displacement);

/* Run a verified program, or the rest of one from where its stack is empty. Whether the hit counts; what it fetched is
 * in the lane's slots. */
bool tl_fetch_run(struct tl_hit *hit, const struct tl_operation *code);

/* A slot holds a value now, a string's place in the scratch, or a fault. */
static inline void tl_slot_store(struct tl_hit *hit, unsigned slot, uint64_t value)
{
    uint64_t bit = (uint64_t)1 << slot;
    hit->lane->slots[slot] = value;
    hit->slots = (hit->slots | bit) & ~(bit << 32);
    hit->strings &= ~bit;
}

static inline void tl_slot_store_string(struct tl_hit *hit, unsigned slot, uint64_t place)
{
    tl_slot_store(hit, slot, place);
    hit->strings |= (uint64_t)1 << slot;
}

static inline void tl_slot_fault(struct tl_hit *hit, unsigned slot)
{
    uint64_t bit = (uint64_t)1 << slot;
    hit->slots = (hit->slots & ~bit) | bit << 32;
    hit->strings &= ~bit;
}

/* Copy up to `size` bytes (at most a page) from the program's memory; how many could be read, from the first on.
 * `fs_base`: of the thread, 0: none or unknown. */
size_t tl_memory_read(const struct tl_hit_control *area, uint64_t fs_base, uint64_t addr, void *to, size_t size);
size_t tl_memory_read_by_kernel(const struct tl_hit_control *area, uint64_t addr, void *to, size_t size);
/* Whether the memory may be read directly, by what src/hit/broker.h has for it. */
bool tl_memory_is_direct(const struct tl_hit_control *area, uint64_t fs_base);
/* The same for up to TL_STACK_BYTES_MAX bytes, into the ring of the hit's lane from word `at` on, across its end. */
size_t tl_memory_read_to_ring(const struct tl_hit *hit, uint64_t addr, uint64_t at, size_t size);

/* Whether `text` matches `pattern` (NUL-terminated; * ? [a-z] [!a-z]), all of it. */
bool tl_glob_match(const char *pattern, const uint8_t *text, size_t length);

static inline uint64_t tl_clock_ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (uint64_t)high << 32;
}

static inline const struct tl_hit_site *tl_site_at(const struct tl_hit_control *area, uint32_t index)
{
    return (const struct tl_hit_site *)((const char *)area + area->sites) + index;
}

static inline const struct tl_hit_action *tl_first_action(const struct tl_hit_control *area,
                                                          const struct tl_hit_site *site)
{
    return (const struct tl_hit_action *)((const char *)area + area->actions) + site->first_action;
}

static inline uint64_t *tl_lane_ring(const struct tl_hit_control *area, struct tl_lane *lane)
{
    return lane->counts_and_ring + (((uint64_t)area->probe_count + 7) & ~(uint64_t)7);
}

#endif
