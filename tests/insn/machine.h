/* SPDX-License-Identifier: MIT
 *
 * One instruction, run for real: from a given state of the processor and of some memory to the first signal.
 *
 * The memory lies at fixed addresses, in several places. A place holds the original instruction, in a page of int3
 * (every way out of the instruction that the test arranges ends on one); near it are data and a stack, with nothing
 * mapped around them. Copies stand at `near` and `far`.
 */
#ifndef TRAPLINE_TESTS_INSN_MACHINE_H
#define TRAPLINE_TESTS_INSN_MACHINE_H

#include <stddef.h>
#include <stdint.h>

enum { TEXT_SIZE = 0x2000, INSN_AT = 0x800, DATA_SIZE = 0x4000, STACK_SIZE = 0x2000, XSTATE_MAX = 0x3000 };

struct place {
    uint64_t text, data, stack; /* TEXT_SIZE, DATA_SIZE, STACK_SIZE */
    uint64_t near, far;         /* a page each */
};
enum { PLACE_HIGH, PLACE_LOW, PLACE_COUNT };
extern const struct place places[PLACE_COUNT];

/* Registers by their numbers in encodings: rax 0 … r15 15. xstate: as in a signal frame (FXSAVE, header, components).
 */
struct cpu {
    uint64_t gpr[16], rip, flags, fs_base, gs_base;
    uint8_t xstate[XSTATE_MAX];
};

struct outcome {
    int signal, code;
    uint64_t address; /* si_addr */
    uint64_t trap, error;
    struct cpu cpu;
};

/* Map everything, take over the signals. Ends the process with a message where it cannot. Not to be undone. */
void machine_start(void);

/* The xstate that programs begin with, and where its parts are; size 0: this processor has none. */
enum xpart { XPART_YMM = 2, XPART_MASKS = 5, XPART_ZMM_HIGH = 6, XPART_ZMM_MORE = 7, XPART_COUNT };
extern struct cpu machine_fresh;
extern size_t machine_xstate_size;
extern struct xpart_place {
    size_t at, size;
} machine_xparts[XPART_COUNT];
/* Which parts of an xstate hold something: its XSTATE_BV. */
uint64_t *machine_parts_used(struct cpu *cpu);

/* Run from *start until a signal comes. */
void machine_run(const struct cpu *start, struct outcome *outcome);

#endif
