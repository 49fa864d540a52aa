/* SPDX-License-Identifier: MIT */
#include "insn/emit.h"

#include <assert.h>
#include <string.h>

bool tl_reaches(uint64_t from, uint64_t to)
{
    int64_t distance = (int64_t)(to - from);
    return distance >= INT32_MIN && distance <= INT32_MAX;
}

int tl_emit_jump(uint8_t out[5], uint64_t at, uint64_t target)
{
    if (!tl_reaches(at + 5, target))
        return -ERANGE;
    uint32_t rel = (uint32_t)(target - (at + 5));
    out[0] = 0xe9;
    memcpy(out + 1, &rel, 4);
    return 0;
}

void tl_emit_within(struct tl_emitter *out, uint64_t addr, uint8_t unwind, uint8_t borrowed)
{
    struct tl_copy *copy = out->copy;
    assert(copy->marks_used < TL_COPY_MARKS);
    copy->marks[copy->marks_used++] = (struct tl_mark){
        .at = copy->length, .state = TL_MARK_WITHIN, .borrowed = borrowed, .unwind = unwind, .addr = addr};
}

void tl_emit_mark(struct tl_emitter *out, enum tl_mark_state state, uint64_t addr)
{
    tl_emit_within(out, addr, 0, TL_NO_REG);
    out->copy->marks[out->copy->marks_used - 1].state = (uint8_t)state;
}

void tl_emit_bytes(struct tl_emitter *out, const void *bytes, size_t length)
{
    struct tl_copy *copy = out->copy;
    assert(copy->length + length <= TL_COPY_MAX);
    memcpy(copy->code + copy->length, bytes, length);
    copy->length = (uint8_t)(copy->length + length);
}

void tl_emit_u8(struct tl_emitter *out, uint8_t value)
{
    tl_emit_bytes(out, &value, 1);
}

void tl_emit_u32(struct tl_emitter *out, uint32_t value)
{
    tl_emit_bytes(out, &value, 4);
}

void tl_emit_u64(struct tl_emitter *out, uint64_t value)
{
    tl_emit_bytes(out, &value, 8);
}

uint64_t tl_emit_here(const struct tl_emitter *out)
{
    return out->at + out->copy->length;
}

size_t tl_emit_jump_length(const struct tl_emitter *out, size_t ahead, uint64_t target)
{
    return tl_reaches(tl_emit_here(out) + ahead + 5, target) ? 5 : 14;
}

void tl_emit_jump_to(struct tl_emitter *out, uint64_t target)
{
    uint8_t near_jump[5];
    if (tl_emit_jump(near_jump, tl_emit_here(out), target) == 0) {
        tl_emit_bytes(out, near_jump, sizeof near_jump);
        return;
    }
    TL_EMIT(out, 0xff, 0x25, 0, 0, 0, 0); /* jmp [rip + 0], and what it reads */
    tl_emit_u64(out, target);
}
