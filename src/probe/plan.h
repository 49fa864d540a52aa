/* SPDX-License-Identifier: MIT
 *
 * From places to a plan: which bytes to write where, what to map, and how it is undone. Pure: bytes and an
 * address-space map in, a plan out; src/probe/apply.c carries it out on a host. Any thread may plan, with arguments of
 * its own; memory is allocated, so signal handlers may not.
 */
#ifndef TRAPLINE_PLAN_H
#define TRAPLINE_PLAN_H

#include <stdbool.h>

#include "insn/insn.h"
#include "probe/hook.h"

/* The ways to get from a site to its trampoline, fastest first. */
#define TL_TACTICS(X)                                                                                                  \
    X(NOP, "nop")                                                                                                      \
    X(JUMP, "jump")                                                                                                    \
    X(PUNNED, "jump-punned")                                                                                           \
    X(WINDOW, "jump-window")                                                                                           \
    X(INT3, "int3")
#define TL_TACTIC_ENUM(name, text) TL_TACTIC_##name,
enum tl_tactic { TL_TACTICS(TL_TACTIC_ENUM) TL_TACTIC_COUNT };
#undef TL_TACTIC_ENUM
const char *tl_tactic_name(enum tl_tactic tactic);

/* How the site leaves to its trampoline's hook. */
enum tl_site_mode {
    TL_SITE_BEFORE, /* hook, then the instruction */
    TL_SITE_TAKEN   /* a branch: the hook runs only on the taken edge (a conditional tail exit) */
};

/* The instruction is a system call that is to be guarded (guards.h): tl_plan_options.guard says by whom. */
enum tl_site_guard {
    TL_GUARD_NONE,
    TL_GUARD_ASK,   /* its number is not known beforehand */
    TL_GUARD_KNOWN, /* it is known, and of interest */
    TL_GUARD_RETURN /* it is rt_sigreturn: the guard may be missing */
};

/* One place to probe, in; and what became of it, out. */
struct tl_site {
    uint64_t addr;
    uint8_t text[32];     /* in: the live bytes from addr on (zero-padded at the end of the mapping) */
    uint8_t text_length;  /* in: how many of them are valid */
    uint8_t mode;         /* in: enum tl_site_mode */
    struct tl_hook hook;  /* in: kind and index (and its shifts, flags); the planner fills in gate */
    uint32_t boundaries;  /* in: bit i set: an instruction begins at addr + i (bit 0 always) */
    uint32_t foreign;     /* in: bit i set: text[i] is somebody else's breakpoint (not at i = 0)… */
    uint8_t original[32]; /* in: … and original[i] is what the program has there */
    uint32_t pinned;      /* in: bit i set: the instruction with text[i] has to run where it is */
    struct tl_hook after; /* in: a hook behind the copy, or kind TL_HOOK_NONE. Only where control simply goes on
                           * (TL_FLOW_NEXT), and mode is BEFORE; else the site is refused (TACTIC) */
    uint8_t guard;        /* in: enum tl_site_guard */
    uint8_t guard_at;     /* in: 0, or the guarded system call comes so far behind, in a straight line (guards.h) */
    /* out */
    uint8_t why;         /* enum tl_why; TL_WHY_NONE: it is in the plan */
    uint8_t tactic;      /* enum tl_tactic */
    uint8_t not_better;  /* enum tl_why: why not a faster tactic */
    uint8_t guarded;     /* a breakpoint that somebody sets on a neighbouring instruction leaves its jump right */
    uint64_t trampoline; /* where its hook begins */
    uint32_t trampoline_size;
    uint32_t copy_at;    /* offset in the trampoline of the displaced copy; of the int3 that starts a step, if… */
    uint8_t step_at;     /* …not 0: so far behind it lies the bare instruction that the broker steps */
    uint8_t own_length;  /* bytes of the text that are changed, from addr on */
    uint8_t jump_length; /* PUNNED: of the jump, with the bytes behind the site that are part of it; with guard_at,
                          * what is passed over; else 0 */
    uint64_t beyond; /* 0, or a second trampoline, which comes back behind the jump; the jump leads there as long as */
    uint32_t beyond_size; /* nobody's breakpoint stands on an instruction that it copies. copy_at is the same */
};

/* An occupied piece of the address space. `keep_below`, `keep_above`: bytes beside it to keep clear, for it to grow.
 * A site that finds no other place may come down there, but not in the nearest part (the whole divided by
 * TL_KEEP_YIELD). */
enum { TL_KEEP_YIELD = 64 };
struct tl_area {
    uint64_t start, end;
    uint64_t keep_below, keep_above;
};

/* Room for trampolines that is mapped already, behind a gate page. What a retired trampoline took may be handed back as
 * one. */
struct tl_plan_room {
    uint64_t gate, addr, size;
};

/* A site of an earlier plan, whose bytes are in force now and may be taken back at any time. */
struct tl_plan_in_force {
    uint64_t addr;
    uint8_t own_length, jump_length; /* as in struct tl_site */
    /* It may be made an int3 where a new site needs bytes that its jump runs into: see tl_plan.demoted. */
    bool may_demote;
    bool guarded; /* as in struct tl_site: an int3 on a byte that its jump runs into does no harm */
};

struct tl_plan_options {
    /* bit (1 << TL_TACTIC_X) allowed; 0: all that jump. INT3 allows, besides int3 on the site itself, what needs the
     * signal broker: copies of the program's own breakpoints, and steps. */
    uint32_t tactics;
    size_t max_mappings; /* how many more mappings the target may have */
    uint64_t lowest,
        highest; /* usable addresses: vm.mmap_min_addr, and the end of user space (0x7ffffffff000); 0: these */
    /* The bytes behind a punned jump are part of it. When a debugger puts a breakpoint on an instruction there, the
     * jump leads elsewhere: be there too. Costs pages and mappings; best effort, see tl_site.guarded. */
    bool guard_breakpoints;
    /* Sites will be taken back one by one: no jump may run into the bytes of another site. */
    bool independent;
    struct { /* what guards call: struct tl_guard_hook */
        uint64_t routine, context;
    } guard;
    const struct tl_plan_room *rooms; /* to be used first, in this order */
    size_t room_count;
    uint64_t arena_bytes; /* map at least so much of each new arena, for later plans; 0: what is needed */
    const struct tl_plan_in_force *in_force; /* in order of address */
    size_t in_force_count;
};

/* Map `size` bytes at `addr`, read and execute, private, from offset `pool` of the plan's pool. Several mappings may
 * share pool pages. size, addr and pool are multiples of 4096. */
struct tl_plan_map {
    uint64_t addr, size, pool;
};
/* A gate page to map at `addr`, read and write, private, wiped on fork. */
struct tl_plan_gate {
    uint64_t addr;
};
/* A change of the program's text: `length` bytes, never across a page. */
struct tl_plan_write {
    uint64_t addr;
    uint8_t length;
    uint8_t old_bytes[TL_INSN_MAX], new_bytes[TL_INSN_MAX];
};
/* Bytes to be put into memory that is mapped already (a room), before the text changes: `length` of them, at
 * `offset` of the plan's fill_bytes. */
struct tl_plan_fill {
    uint64_t addr;
    uint32_t offset, length;
};
/* A trampoline (a site may have two), and the index of its site. */
struct tl_plan_trampoline {
    uint64_t addr;
    uint32_t site;
};

struct tl_plan {
    struct tl_plan_map *maps; /* in order of address */
    size_t map_count;
    struct tl_plan_gate *gates;
    size_t gate_count;
    struct tl_plan_write *writes; /* to be done in this order (the highest address first) and undone in reverse: a jump
                                   * may have bytes of the one before it as its own */
    size_t write_count;
    uint8_t *pool;
    size_t pool_size;
    size_t planned, refused;
    size_t guarded;                         /* of those planned */
    struct tl_plan_trampoline *trampolines; /* of the sites planned, in order of address */
    size_t trampoline_count;
    struct tl_plan_fill *fills;
    size_t fill_count;
    uint8_t *fill_bytes;
    /* What is left of the rooms given, in their order (some with size 0), then of the new arenas. */
    struct tl_plan_room *rooms;
    size_t room_count;
    /* Indices into options->in_force: these sites have to become int3 (the first byte, then the others as in the
     * program) before the writes are done. */
    uint32_t *demoted;
    size_t demoted_count;
};

/* Plan all sites (any order, no duplicates; sorted by address on return). Sites that cannot be probed are refused one
 * by one in site->why and never fail the plan. Where an earlier plan is in force, its sites are told in
 * options->in_force; each new site then stays right whether they are taken back or not. 0, -ENOMEM, -EINVAL. */
int tl_plan_build(struct tl_site *sites, size_t count, const struct tl_area *areas, size_t area_count,
                  const struct tl_plan_options *options, struct tl_plan *plan);
void tl_plan_free(struct tl_plan *plan);

/* Where a thread found at `pc` inside the plan's memory may be moved to, with its registers as they are. 0 and
 * *original; -EAGAIN: inside the plan's memory, but it has to run on; -ENOENT: not in the plan's memory. *fix_rcx is
 * set where rcx has to become *original (behind a displaced syscall). */
int tl_plan_locate(const struct tl_site *sites, size_t count, const struct tl_plan *plan, uint64_t pc,
                   uint64_t *original, int *fix_rcx);

#endif
