/* SPDX-License-Identifier: MIT
 *
 * Addresses of a program's code in words for a person: who accessed memory, where that stands in the source, frames of
 * call stacks with the functions inside others. What was found is kept, since hits repeat.
 */
#ifndef TRAPLINE_CODE_H
#define TRAPLINE_CODE_H

#include "symbol/source.h"

/* A frame. Texts are good until the next code_begin. */
struct code_frame {
    const char *symbol;   /* "bump+0x9" */
    const char *source;   /* "bump.c:12": the innermost line there that is not of a system header, or NULL */
    const char *function; /* "bump": the one of that line, which may be inside another, whose symbol it is */
    /* What a stack shows of it: functions that are inside, and itself. With sources, and without. */
    const char *const *texts, *const *names;
    size_t line_count;
};

struct code;

/* NULL: out of memory. The unwinder has to live as long. */
struct code *code_open(struct tl_unwinder *unwinder);
void code_close(struct code *code); /* NULL is allowed */

/* Another event: what was told of earlier ones may be forgotten now. */
void code_begin(struct code *code);
/* NULL: out of memory. */
const struct code_frame *code_frame(struct code *code, const struct tl_frame *frame);
/* The lines of a whole stack, at most CODE_STACK_MAX; good until the next call. */
enum { CODE_STACK_MAX = 512 };
const char *const *code_stack(struct code *code, const struct tl_frame *frames, size_t count, bool with_sources,
                              size_t *line_count);
/* As tl_unwinder_accessor. */
uint64_t code_accessor(struct code *code, uint64_t rip, const struct tl_access *access);

#endif
