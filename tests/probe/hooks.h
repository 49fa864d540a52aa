/* SPDX-License-Identifier: MIT
 *
 * Code to be probed, and routines that hooks call: hooks.S.
 */
#ifndef TESTS_PROBE_HOOKS_H
#define TESTS_PROBE_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HOOKS_RAX,
    HOOKS_RCX,
    HOOKS_RDX,
    HOOKS_RBX,
    HOOKS_RSP,
    HOOKS_RBP,
    HOOKS_RSI,
    HOOKS_RDI,
    HOOKS_R8,
    HOOKS_R9,
    HOOKS_R10,
    HOOKS_R11,
    HOOKS_R12,
    HOOKS_R13,
    HOOKS_R14,
    HOOKS_R15
};

struct hooks_state {
    uint64_t r[16], flags;
};

/* Set registers and flags (rsp excepted), fill the red zone, go to `code`, come back with what they are at its end. A
 * red zone that is not as it was ends the process. */
void hooks_run(struct hooks_state *state, const uint8_t *code);
/* The guarded clone; the child comes back behind it, on its stack, and exits with 42. */
long hooks_clone(long flags, void *stack);
extern uint64_t hooks_rsp; /* what rsp is while the code runs */

extern const uint8_t hooks_start[], hooks_end[];
extern const uint8_t hooks_lea[]; /* lea rax, [rax + 2 * rbx + 5]; then */
extern const uint8_t hooks_add[]; /* add eax, ecx; then the end */
extern const uint8_t hooks_jump[];
extern const uint8_t hooks_lead[]; /* mov eax, 39; mov r10d, 8; then */
extern const uint8_t hooks_syscall[];

/* What CALL hooks call. */
void hooks_called(void);
extern struct hooks_seen {
    uint64_t index;
    struct hooks_state state;
} hooks_seen[16];
extern size_t hooks_hits;

/* What guards call; its answer: whether it is done, and the result. */
void hooks_guard(void);
extern struct hooks_state hooks_guarded;
extern size_t hooks_asked;
extern bool hooks_answer;
extern uint64_t hooks_result;

#endif
