/* SPDX-License-Identifier: MIT
 *
 * Run a trial bare and through copies, and tell the differences.
 */
#ifndef TRAPLINE_TESTS_INSN_COMPARE_H
#define TRAPLINE_TESTS_INSN_COMPARE_H

#include "trial.h"

enum { ROOM_NEAR, ROOM_FAR, ROOM_COUNT };

struct verdict {
    int signal;                  /* how the bare run ended; SIGTRAP: on one of its ways out */
    enum tl_why why[ROOM_COUNT]; /* why there is no copy */
    size_t runs;                 /* of the processor, in all */
    size_t marks;                /* stops at a mark, moved to the original and gone on from there */
    bool emulated;               /* what it does was also worked out from its description */
    bool failed;
    char difference[200]; /* the first one */
};

void trial_run(struct trial *trial, struct verdict *verdict);

#endif
