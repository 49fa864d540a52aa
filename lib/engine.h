/* SPDX-License-Identifier: MIT
 *
 * The state of the library, and what its parts ask of each other. All of it is used under one lock.
 *
 *   entry   what a user has registered: a probe, a return probe or a jump probe
 *   site    an instruction that is patched, or was; several entries may act there
 *   user    one entry's acting at one site, in one role
 *
 * A site has its *lists* (src/hit/call.h) in front of the instruction and, where it has a hook behind the copy, behind
 * it. A site at which nobody acts any more is *dormant*: out of the text, but its trampoline stays, for threads that
 * are on their way through it, and for whoever probes the same place again. When many are dormant, the threads are
 * looked at, and what nobody can be inside of is used again (reclaim.c).
 */
#ifndef TRAPLINE_LIB_ENGINE_H
#define TRAPLINE_LIB_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hit/call.h"
#include "host/self/self.h"
#include "insn/emulation.h"
#include "probe/plan.h"
#include "probe/traps.h"
#include "keys.h"
#include "where.h"

enum entry_kind { ENTRY_PROBE, ENTRY_RETURN, ENTRY_JUMP };

enum role {
    ROLE_PROBE, /* pre and post */
    ROLE_ENTRY, /* of a return probe */
    ROLE_EXIT,
    ROLE_TAIL,
    ROLE_TAIL_IF, /* an exit only when the jump leaves the function */
    ROLE_JUMP
};

struct entry;
struct site;

struct user {
    struct entry *entry;
    enum role role;
};

/* Where an exit may be none: this PRE action executes the jump itself where it stays inside. */
struct stay {
    struct tl_probe probe; /* what the action is given; context is this struct */
    struct tl_emulation emulation;
    uint8_t part_count;
    struct tl_part parts[8];
};

/* The list in force at an index, and memory for the next one, so that taking an action out needs no allocation. */
struct lists {
    uint32_t index;
    struct tl_call_list *current; /* NULL: none in force */
    void *memory[2];              /* of which current is one; one block */
    size_t room;                  /* actions that each can hold */
    void *larger[2];              /* to take their place at the next update, or NULL */
    size_t larger_room;
    void *left;                     /* what they have taken the place of… */
    const struct tl_call_list *old; /* …and what was in force before; both until it is quiet */
};

struct site {
    struct tl_site plan; /* as planned; plan.text is the program's own */
    struct tl_traps_part *part;
    struct lists before, behind; /* behind: only if has_after */
    struct user *users;          /* in order of registration */
    size_t user_count, user_room;
    struct tl_emulation emulation;
    struct stay *stay;
    uint64_t next;            /* the address behind the instruction */
    uint32_t tactics;         /* allowed: bits 1 << TL_TACTIC_… */
    bool lacks_traps;         /* a trap would be allowed, but the broker is not armed */
    bool planned;             /* plan and bytes are filled in */
    uint64_t landing;         /* where its jump leads, or 0 */
    bool leaves;              /* being forgotten */
    uint32_t more;            /* of users, while that is being found out */
    uint64_t missed_at_start; /* of its index */
    bool is_replaced;         /* by one that is being put in its place */
    bool transfers;           /* emulation says what the instruction does */
    bool has_after;           /* there is a hook behind the copy */
    struct site *replaces;    /* while it is being put in the place of an earlier one, which is in the text */
    /* An older one of the same address, which threads may still be on their way through: it has no users of its own,
     * its lists say what the newest one's users do. */
    struct site *older, *newer;
    uint64_t left_beyond;       /* as plan.beyond, of a jump that has become an int3 since */
    bool patched;               /* its bytes are in the text */
    bool wanted;                /* they should be */
    uint8_t bytes[TL_INSN_MAX]; /* plan.own_length of them, when patched */
};

/* Where a rewritten return address leads. Kept for the next one when it is over. */
struct stub {
    uint64_t addr;
    uint32_t index;
    void *list;
    bool taken;
    struct stub *next;
};

struct entry {
    const void *key; /* the user's struct */
    enum entry_kind kind;
    bool enabled;
    union {
        struct tl_probe probe;
        struct tl_return_probe returns;
        struct tl_jump_probe jump;
    };
    struct site **sites; /* at which it acts: that of its address first */
    size_t site_count;
    struct tl_call_return *calls; /* ENTRY_RETURN */
    struct stub *stub;            /* … that rewrites return addresses */
    uint64_t missed;              /* up to the last time it was switched off */
    bool leaves;                  /* being taken out */
    struct entry *next;           /* of those that are taken out, but not free yet */
    uint64_t missed_base;         /* the index's count when it was last switched on */
};

/* The address space as it was when we looked last, and what we have mapped since. */
struct seen {
    struct tl_area *areas; /* NULL: not known */
    size_t count, mappings_left;
    unsigned turns; /* it is to be believed so many times more */
};

struct engine {
    struct tl_self *self;
    struct seen seen;
    struct modules modules;
    const struct tl_site **guards; /* the host's own sites, by address */
    size_t guard_count;
    struct keys entries; /* by key */
    struct site **sites; /* by address; dormant ones too */
    size_t site_count, site_room;
    struct site **replaced; /* whose trampolines nobody leads to any more */
    size_t replaced_count, replaced_room;
    struct tl_plan_room *rooms;
    size_t room_count;
    struct mapped {                /* what is mapped for plans */
        uint64_t addr, size, gate; /* gate: 0, or of the arena that this is */
        bool used;
    } * memory;
    size_t memory_count, memory_room;
    size_t dormant;     /* sites that have become so, or were replaced, since the last look at them */
    struct stub *stubs; /* all of them */
    uint32_t *free_indices;
    size_t free_index_count, free_index_room;
    uint32_t next_index;
    bool traps;            /* the broker is armed */
    unsigned arm_failures; /* how often that was impossible */
};
extern struct engine engine;

/* ---- engine.c ---- */

/* Take the lock; opens and arms what is needed. Not held where it fails. -EDEADLK from a handler. */
int engine_begin(struct tl_error *error);
/* The same without arming: no signal is taken over. */
int engine_open(struct tl_error *error);
/* The same where nothing is to be opened. */
int engine_enter(void);
void engine_end(void);
/* Text as it is without our patches, for places_find. */
int engine_read(void *unused, uint64_t addr, void *bytes, size_t size);
/* Tell the broker of the traps of all sites of the engine, and of no others. */
int engine_publish(struct tl_error *error);
/* Tell it of these, which are new or have changed; two of one address are not among them. */
int engine_tell(struct site *const *sites, size_t count, struct tl_error *error);

/* ---- onhit.c: what runs on hits, built for general registers only ---- */

int stay_inside(struct tl_probe *probe, struct tl_regs *regs); /* of struct stay */
int onhit_emulate(const struct tl_emulation *emulation, struct tl_regs *regs);
bool onhit_peek(uint64_t addr, uint64_t *word);
bool onhit_read(uint64_t addr, uint64_t *word); /* by the kernel */
/* A system call, unless the program has confined itself and does not allow it: -EPERM. */
int64_t onhit_kernel(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
void onhit_watch_alternate(uint64_t *end);
uint64_t onhit_fs_base(void);

/* ---- sites.c ---- */

/* Index of the first site at or behind addr. */
size_t sites_at(uint64_t addr);
struct site *sites_find(uint64_t addr); /* or NULL */
int sites_reserve(size_t more);         /* in engine.sites, engine.replaced and for indices. 0 or -ENOMEM */
void sites_insert(struct site *const *sites, size_t count); /* by address, new; room is reserved */
void sites_remove(const struct site *site);
void site_free(struct site *site);   /* NULL is allowed. Its index is free again */
int site_indices(struct site *site); /* give it indices. 0 or -ENOSPC */

/* ---- lists.c ---- */

/* Both lists of a site, and of those that it has replaced. See that they can be made with `users` users, and that so
 * many users have room. 0 or -ENOMEM. */
int lists_reserve(struct site *site, size_t users);
/* Put into force what the users say that are enabled now, at each of these sites, and wait until no thread is in a list
 * that was in force before. Never fails. */
void lists_update(struct site *const *sites, size_t count);
/* Until no thread is in this list, which is out of force, and every thread has passed a barrier since. */
void lists_wait(const struct tl_call_list *old);
bool site_is_used(const struct site *site); /* some user of it is enabled */
/* How many hits came to nothing there, since the process began. */
uint64_t site_missed(const struct site *site);

/* ---- text.c ---- */

/* Bring the text to what sites[i]->wanted says, in one go, and tell the broker of it. 0, or as tl_self_patch; *failed
 * the index of the site. */
int text_update(struct site *const *sites, size_t count, size_t *failed, struct tl_error *error);

/* ---- faults.c ---- */

int faults_reserve(size_t more);                             /* room for so many more fault handlers. 0 or -ENOMEM */
void faults_update(struct site *const *fresh, size_t count); /* who is switched on at all sites, and at these */

/* ---- reclaim.c ---- */

/* Use again what dormant and replaced sites take up, if there is enough of it. */
void reclaim(bool all);

/* ---- forbidden.c ---- */

/* Set by the linker: the bounds of the library's code (one_object.ld, src/hit/call_state.h). */
extern const char __start_trapline_text[], __stop_trapline_text[];
extern const char __start_trapline_hit[], __stop_trapline_hit[];

/* Whether this is an address in the library's own code. */
bool is_own(uint64_t addr);
/* TL_WHY_NONE, or why nothing may be probed there. */
enum tl_why forbidden(const struct where *where);

#endif
