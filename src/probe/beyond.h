/* SPDX-License-Identifier: MIT
 *
 * Trampolines that come back behind a punned jump instead of into it: beyond.c. For this room only. Threads and
 * signals: as plan.h.
 */
#ifndef TRAPLINE_BEYOND_H
#define TRAPLINE_BEYOND_H

#include "probe/landing.h"
#include "probe/tactic.h"

/* The displaced instruction, and those that begin among the four bytes of a rel32 at most. */
enum { TL_PIECES_MAX = 5 };

/* One instruction's share of the code. */
struct tl_piece {
    uint64_t addr;  /* of its copy */
    uint8_t length; /* of the copy here: all of it at the end, before that without its jump back */
    struct tl_insn insn;
    struct tl_copy copy;
};

/* What stands at `at` to do the same as the program's instructions from the site on, until control is at or beyond the
 * end of the site's jump (site->jump_length). How many pieces; 0 where it cannot be done, or need not be. */
unsigned tl_beyond_pieces(const struct tl_site *site, uint64_t at, struct tl_piece pieces[TL_PIECES_MAX]);

/* Likewise, for a guard in front of its system call (site->guard_at): the instructions up to there. */
unsigned tl_lead_pieces(const struct tl_site *site, uint64_t at, struct tl_piece pieces[TL_PIECES_MAX]);

/* Where the jump comes down while nobody's breakpoints stand behind the site. */
uint64_t tl_beyond_landing(const struct tl_site *site, const uint8_t *jump, unsigned own);

#endif
