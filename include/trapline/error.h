/* SPDX-License-Identifier: MIT
 *
 * Every way in which trapline says no.
 *
 * Functions return 0 or a negative errno value: that is the only channel that decides anything. Where a person wants
 * to know more than an errno says, the function also fills a `struct tl_error`, and where a single place of a program
 * is refused, an `enum tl_why` says for which reason. Each reason is written once, in TL_WHYS. All of it is safe in
 * any thread, and but for tl_fail, which formats, in signal handlers.
 */
#ifndef TRAPLINE_ERROR_H
#define TRAPLINE_ERROR_H

#include <errno.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* X(NAME, errno, text): why a place cannot be probed, or not by a better tactic. */
#define TL_WHYS(X)                                                                                                     \
    X(NONE, 0, "nothing is wrong")                                                                                     \
    X(NOT_BOUNDARY, EILSEQ, "not an instruction boundary")                                                             \
    X(NOT_CODE, EILSEQ, "data, or not inside a known function")                                                        \
    X(UNDECODABLE, EILSEQ, "the bytes are not a valid instruction")                                                    \
    X(CHANGED, EBUSY, "the bytes differ from the file: somebody else's breakpoint or jump")                            \
    X(TRAP_INSN, ENOTSUP, "the instruction is itself a breakpoint")                                                    \
    X(FAR, ENOTSUP, "far or privileged control transfer")                                                              \
    X(PREFIX, ENOTSUP, "a prefix that processors disagree on")                                                         \
    X(NO_SCRATCH, ENOTSUP, "no register is free to reach the operand from a copy")                                     \
    X(RSEQ, ENOTSUP, "inside a restartable sequence")                                                                  \
    X(NO_ROOM, ENOSPC, "no jump reaches free memory from here")                                                        \
    X(CONFLICT, ENOSPC, "the bytes are taken by the jump of a neighbouring probe")                                     \
    X(PAGE_CROSSING, ENOTSUP, "the patch would cross a page")                                                          \
    X(MAPPINGS, ENOMEM, "too many mappings: raise vm.max_map_count")                                                   \
    X(FORBIDDEN, EPERM, "part of trapline itself")                                                                     \
    X(RESTORER, EPERM, "the return from a signal handler, which unwinders recognise by its bytes")                     \
    X(NO_STACK, EPERM, "runs without a stack")                                                                         \
    X(TACTIC, ENOTSUP, "no tactic that was allowed fits this instruction")                                             \
    X(SIGNALS, ENOTSUP, "it takes a breakpoint, and the program's signals cannot be taken over for that")              \
    X(IFUNC, ENOENT, "an indirect function that nothing has resolved yet")                                             \
    X(NO_EXIT, ENOTSUP, "the exits of this function are not known")

#define TL_WHY_ENUM(name, error, text) TL_WHY_##name,
enum tl_why { TL_WHYS(TL_WHY_ENUM) TL_WHY_COUNT };
#undef TL_WHY_ENUM

/* The errno value (positive; 0 for TL_WHY_NONE) and the sentence of a reason. Pure; never NULL. */
int tl_why_errno(enum tl_why why);
const char *tl_why_text(enum tl_why why);
/* "EILSEQ" for EILSEQ and so on, for the errnos that trapline uses; "errno N" is never returned: unknown gives "EIO".
 */
const char *tl_errno_name(int error);

/* What a person reads when a whole operation fails: one line without a newline, naming the setting that would change it
 * where there is one. `column` counts bytes from 0 in a text that was parsed, or is -1. */
struct tl_error {
    int code; /* negative errno, the same that the function returned */
    int column;
    char text[400];
};

/* Fills *error (NULL is allowed) and returns `code`, so that callers write `return tl_fail(error, -ENOENT, "…", …)`. */
int tl_fail(struct tl_error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
