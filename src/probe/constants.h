/* SPDX-License-Identifier: MIT
 *
 * The numbers of system calls, as far as they follow from a function's code. For this room only.
 * Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_CONSTANTS_H
#define TRAPLINE_CONSTANTS_H

#include "insn/sweep.h"

struct tl_system_call {
    uint64_t addr;    /* of the instruction… */
    uint8_t prefixes; /* …and how many bytes it has in front of its opcode */
    uint32_t number;  /* eax there, whenever it is executed… */
    bool known;       /* …or anything */
    uint64_t entered; /* from here on, it is reached in a straight line into which nobody jumps */
};

/* All system calls of a function whose pieces are `ranges`, the entry's first, swept as `sweeps`; by address, to
 * free(). 0 or -ENOMEM. */
int tl_system_calls(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count,
                    struct tl_system_call **calls, size_t *call_count);

/* Fills the space in front of where somebody jumps to. Nobody jumps to it, and nobody is meant to. */
bool tl_is_padding(const struct tl_insn *insn);

/* Whether the bytes 0f 05 at `addr` are the opcode of an instruction. */
bool tl_is_system_call(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, uint64_t addr);

/* The system call whose instruction is at `addr`, as tl_system_calls would find it, if its number is known from what is
 * right in front; prefixes are not expected. `entered` may be too high, until tl_straight_beginning has looked at what
 * is further in front: then it is exact within 48 bytes. */
bool tl_straight_system_call(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, uint64_t addr,
                             struct tl_system_call *call);
void tl_straight_beginning(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count,
                           struct tl_system_call *call);

#endif
