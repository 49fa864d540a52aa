/* SPDX-License-Identifier: MIT
 *
 * The ways to lead from a site to its trampoline, one file each. For this room only.
 *
 * A tactic is asked for a site, the bytes as they stand from there on (neighbours' jumps included), and a `choice`: 0
 * is what it thinks best, the further ones up to TL_CHOICES are other ways of doing the same, for when the jump of a
 * neighbour below, which may run into these bytes, gets nowhere with the best. Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_TACTIC_H
#define TRAPLINE_TACTIC_H

#include "probe/landing.h"

enum { TL_JUMP_BYTES = 5, TL_TEXT_BYTES = 32, TL_CHOICES = 96 };

/* A site while it is being planned. */
struct tl_job {
    struct tl_site *site;
    struct tl_insn insn;
    uint8_t known; /* bytes of its text */
    uint8_t room;  /* how many bytes from its address on may change: all of the instruction, or up to the page's end */
    uint32_t tactics;    /* allowed for it */
    uint32_t unstable;   /* bit i set: the byte at its address + i may change any time: no jump may rely on it */
    bool steps;          /* its copy is to be stepped */
    bool traps;          /* nothing but int3 is left for it */
    bool fell_back;      /* int3 after all else was tried: for that, not_better is the reason */
    uint8_t not_better;  /* enum tl_why */
    bool yielded;        /* it may come down where areas asked to keep clear */
    bool placed;         /* it has a jump: */
    uint8_t tactic;      /* enum tl_tactic */
    uint8_t length;      /* of its new bytes */
    uint8_t jump_length; /* of the jump, with those that stay */
    bool guarded;        /* see struct tl_site */
    bool complete;       /* its trampoline is there */
    bool leaned_on;      /* the jump of a site below may run into its bytes: better alike from site to site */
    uint8_t choice;
    uint8_t bytes[TL_INSN_MAX];
    size_t mark; /* stubs that were there before its own */
};

/* Prefixes that a jump ignores on every processor, several of them, for their values as bytes of somebody's rel32. */
void tl_fill_prefixes(uint8_t *bytes, unsigned count, unsigned variety);

/* The jump fits into the instruction. */
bool tl_tactic_jump(struct tl_job *job, unsigned choice);
/* The upper bytes of the rel32 are those of whatever follows, of which `text` holds `known`. With `guard`,
 * also where a breakpoint replaces one of them or several. */
bool tl_tactic_punned(struct tl_landings *landings, struct tl_job *job, const uint8_t *text, bool guard,
                      unsigned choice);

/* One byte, and a trap. */
void tl_tactic_int3(struct tl_job *job);

/* Whether the site could be probed if it were the only one: no trampoline is made, no memory taken. `tactics` as in
 * struct tl_plan_options. */
enum tl_why tl_tactic_alone(const struct tl_space *space, const struct tl_site *site, uint32_t tactics);

/* A no-op that is long enough for a jump: made to be patched, as likely as not. */
bool tl_job_is_nop(const struct tl_job *job);
/* Decode, and see how much may change, and which of the tactics (as tl_tactics_allowed gives them) fit. The reason why
 * not, or TL_WHY_NONE. */
enum tl_why tl_job_begin(struct tl_job *job, struct tl_site *site, uint32_t tactics);
/* The tactics allowed: a mask without those that nobody knows, and 0 made all that jump. */
uint32_t tl_tactics_allowed(uint32_t tactics);

#endif
