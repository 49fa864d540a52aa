/* SPDX-License-Identifier: MIT
 *
 * Writing the code of a copy: bytes and marks side by side. For this room only. As safe as insn.h.
 */
#ifndef TRAPLINE_INSN_EMIT_H
#define TRAPLINE_INSN_EMIT_H

#include "insn/insn.h"

struct tl_emitter {
    struct tl_copy *copy;
    uint64_t at; /* where code[0] will stand */
};

/* Begin an instruction that finds the program in this state. TL_MARK_WITHIN cannot be undone here: see tl_emit_within.
 */
void tl_emit_mark(struct tl_emitter *out, enum tl_mark_state state, uint64_t addr);
/* Begin an instruction that is WITHIN, and from which a thread gets to `addr` by loading `borrowed` and adding
 * `unwind`. */
void tl_emit_within(struct tl_emitter *out, uint64_t addr, uint8_t unwind, uint8_t borrowed);

void tl_emit_bytes(struct tl_emitter *out, const void *bytes, size_t length);
void tl_emit_u8(struct tl_emitter *out, uint8_t value);
void tl_emit_u32(struct tl_emitter *out, uint32_t value);
void tl_emit_u64(struct tl_emitter *out, uint64_t value);
#define TL_EMIT(out, ...) tl_emit_bytes(out, (const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})

/* The address of the next byte. */
uint64_t tl_emit_here(const struct tl_emitter *out);

/* Whether a 4-byte displacement counted from `from` gets to `to`. */
bool tl_reaches(uint64_t from, uint64_t to);

/* A jump to anywhere: 5 bytes where rel32 reaches, else 14. Touches no register and no flag. */
void tl_emit_jump_to(struct tl_emitter *out, uint64_t target);
/* How long that jump gets when it begins `ahead` bytes behind the next byte. */
size_t tl_emit_jump_length(const struct tl_emitter *out, size_t ahead, uint64_t target);

#endif
