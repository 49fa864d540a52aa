/* SPDX-License-Identifier: MIT
 *
 * The code of one trampoline, and its parts: made for an address, and made once more, for its marks, whenever somebody
 * asks what a thread there has done. For this room only.
 *
 *   BEFORE   hook, guard, copy (its last way out: hook behind, jump back)
 *   lead     hook, copies up to the system call, guard, its copy
 *   stepped  hook, int3, bare instruction
 *   TAKEN    copy for the way that is not taken, hook, jump to the branch's target
 *   beyond   hook, guard, copies (beyond.h)
 *
 * Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_TRAMPOLINE_H
#define TRAPLINE_TRAMPOLINE_H

#include "probe/beyond.h"

enum { TL_TRAMPOLINE_MAX = 2 * TL_HOOK_BYTES_MAX + TL_GUARD_BYTES_MAX + TL_PIECES_MAX * TL_COPY_MAX, TL_STEP_AT = 4 };

struct tl_trampoline {
    uint8_t code[TL_TRAMPOLINE_MAX];
    size_t length, copy_at;
    uint8_t step_at; /* as in struct tl_site */
};

/* `insn` stands at site->addr; `steps`: it is to be stepped. site->hook.gate is set. `guard` is for a site that is one
 * (its `routine` and `context`). TL_WHY_NONE, or why not. */
enum tl_why tl_trampoline_make(struct tl_trampoline *made, const struct tl_site *site, const struct tl_insn *insn,
                               bool steps, const struct tl_guard_hook *guard, uint64_t at);
/* The second one, for a site whose jump is known. Whether there is one. */
bool tl_trampoline_make_beyond(struct tl_trampoline *made, const struct tl_site *site,
                               const struct tl_guard_hook *guard, uint64_t at);

/* A stretch of a site's trampolines in which a thread's place in the program is known by marks. */
struct tl_stretch {
    uint64_t start, end;
    uint64_t addr; /* of the instruction that it stands for, `length` bytes */
    uint8_t length;
    bool is_syscall;
    bool behind; /* entered from another copy */
    uint8_t marks_used;
    struct tl_mark marks[TL_COPY_MARKS]; /* `at` counts from start */
};
/* hook, pieces, guard, copy, hook behind, way back; and hook, guard, pieces */
enum { TL_STRETCHES_MAX = 5 + 2 + 2 * TL_PIECES_MAX };
/* All stretches of a site that is in a plan, in no order. How many. */
unsigned tl_trampoline_stretches(const struct tl_site *site, struct tl_stretch stretches[TL_STRETCHES_MAX]);

#endif
