/* SPDX-License-Identifier: MIT
 *
 * What an instruction that was just executed has done to memory. Async-signal-safe.
 */
#ifndef TRAPLINE_LIB_HWBP_DEED_H
#define TRAPLINE_LIB_HWBP_DEED_H

#include "insn/touch.h"

struct tl_context;
struct view;

struct deed {
    unsigned count;
    struct tl_touch touches[TL_TOUCHES_MAX];
};

/* The deed by which the view was hit; `context` as the thread stands behind it. False: it cannot be found. */
bool hwbp_find_deed(const struct tl_context *context, const struct view *view, struct deed *deed);
/* Whether it hits this view. */
bool hwbp_concerns(const struct view *view, const struct deed *deed);

#endif
