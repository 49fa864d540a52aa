/* SPDX-License-Identifier: MIT
 *
 * Writing byte code: a buffer that only ever complains once, and jumps that are patched when their target is known.
 * Internal to the tool. For threads and signals spec.h holds here too.
 */
#ifndef TRAPLINE_SPEC_CODE_H
#define TRAPLINE_SPEC_CODE_H

#include <stdbool.h>

#include "hit/program.h"
#include "spec/filter.h"

struct tl_code {
    struct tl_operation ops[TL_PROGRAM_MAX];
    size_t length;
    char *strings; /* constants, each terminated */
    size_t strings_size;
    int error; /* the first one: -E2BIG, -ENOMEM */
};

/* Jumps that wait for their target, chained through their imm; TL_NO_JUMPS for none. */
enum { TL_NO_JUMPS = -1 };

void tl_code_op(struct tl_code *code, enum tl_op op, unsigned a, unsigned b, int64_t imm);
void tl_code_jump(struct tl_code *code, enum tl_op op, int64_t *jumps);
/* All of these go to the next operation that is written. */
void tl_code_land(struct tl_code *code, int64_t jumps);

/* Code that jumps if the expression's truth is `sense`, else goes on behind it. The slots it reads have been stored. */
void tl_code_branch(struct tl_code *code, const struct tl_expr *expr, bool sense, int64_t *jumps);
/* Code that pushes the expression's value. */
void tl_code_value(struct tl_code *code, const struct tl_expr *expr);
/* Code that pushes what TL_OP_OLD or TL_OP_NEW gives, as the number that the field holds. */
void tl_code_watched(struct tl_code *code, enum tl_op op, const struct tl_field *field);

#endif
