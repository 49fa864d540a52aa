/* SPDX-License-Identifier: MIT
 *
 * Guards: the system calls through which a program changes what its signals do. The signal broker has to see them, so
 * that a breakpoint of ours can never meet a blocked or ignored SIGTRAP. A guard is a site on the `syscall` instruction
 * itself, reached by a jump: a breakpoint there could be the very one that is met.
 *
 * A program that is not position independent has no room below it, and many of its short instructions cannot be made
 * jumps. There, the site is an instruction of five bytes or more in front (most often the one that loads the number),
 * from which control goes on to the system call in a straight line: the trampoline executes all of them. (A thread that
 * was in the system call already, and begins it again, is not seen then.) Nothing in between can be probed. So it is
 * done elsewhere too, where the few pages that the jump on a system call may come down on are all taken: see
 * tl_guards_retreat.
 *
 * One guard may be missing: rt_sigreturn's. The broker knows by its tables who returns past one, and what it then has
 * to do without (src/hit/broker.h).
 *
 * Looked at are the executable segments of files. Code that a program makes itself (a JIT's) is not. For one thread at
 * a time, as symbol.h wants it; not for signal handlers.
 */
#ifndef TRAPLINE_GUARDS_H
#define TRAPLINE_GUARDS_H

#include "probe/plan.h"
#include "symbol/symbol.h"

/* The numbers of interest: bit n % 64 of word n / 64. */
enum { TL_GUARDED_END = 448 };
extern const uint64_t tl_guarded_numbers[TL_GUARDED_END / 64];

struct tl_guards {
    struct tl_site *sites; /* by address within a module; ready for tl_plan_build, `guard` set */
    size_t count, room;
    struct tl_site *leads; /* likewise: for some of the sites the instruction in front, if it has to be that */
    size_t lead_count, lead_room;
    bool stacks;           /* before it is asked: sigaltstack as well; of use to handlers in C only */
    size_t seen;           /* system calls looked at; those that are known to be of no interest have no guard */
    uint64_t refused_addr; /* the first that needs a guard and cannot have one… */
    uint8_t refused;       /* …enum tl_why; TL_WHY_NONE: none */
};

/* Append the guards of one module, or of all (the vdso left out). `read` reads the live text. A module whose file could
 * not be opened is refused (NOT_CODE, at its start). 0 or -ENOMEM. */
int tl_guards_of_module(const struct tl_module *module,
                        int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host,
                        struct tl_guards *guards);
int tl_guards_find(const struct tl_modules *modules, int (*read)(void *host, uint64_t addr, void *bytes, size_t size),
                   void *host, struct tl_guards *guards);
void tl_guards_free(struct tl_guards *guards); /* a zeroed one is allowed */

/* After tl_plan_build with tactics that jump only: whether every guard among the sites is in place that has to be.
 * TL_WHY_NONE, or why one is not, and its address. Without all of these no int3 may be armed. */
enum tl_why tl_guards_missing(const struct tl_site *sites, size_t count, uint64_t *addr);

/* Likewise: those that are not in place go to the instruction in front, where there is one. Whether any did; then the
 * plan has to be made again, with the guards as they are now (merged again, or `sites` is theirs). Comes to an end. */
bool tl_guards_retreat(struct tl_guards *guards, const struct tl_site *sites, size_t count);

/* Guards and probes of one plan: where a probe's site is a guarded system call too, it becomes the guard, and the other
 * goes. The guards that are left are appended to *sites (malloced, `count` of them; sorted by tl_plan_build). 0 or
 * -ENOMEM. */
int tl_guards_merge(const struct tl_guards *guards, struct tl_site **sites, size_t *count);

#endif
