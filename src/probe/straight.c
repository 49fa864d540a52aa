/* SPDX-License-Identifier: MIT
 *
 * System calls whose number is loaded a few instructions in front, in a straight line into which nobody jumps. Nearly
 * all are of this kind, most of them wrappers' that nobody wants to know of. What is found here is what following the
 * numbers through the whole function (constants.c) would find; but only bytes that look like a branch to this place are
 * decoded, and that is most of what placing a single probe takes.
 */
#include "probe/constants.h"

#include <string.h>

/* NEAR: how far a branch of a byte's distance reaches, its own length included. LOOK_BACK: bytes within which a number
 * is looked for, and the beginning of the straight line. */
enum { RAX = 0, OPCODE_BYTES = 2, NEAR = 130, LOOK_BACK = 48 };

struct code {
    const struct tl_range *ranges;
    const struct tl_sweep *sweeps;
    size_t count;
};

/* The instruction of the range that the byte at `offset` belongs to. */
static bool instruction_of(const struct code *code, size_t i, uint64_t offset, struct tl_insn *insn)
{
    const struct tl_range *range = &code->ranges[i];
    for (uint64_t back = 0; back < TL_INSN_MAX && back <= offset; back++) {
        uint64_t at = offset - back;
        if (tl_sweep_check(&code->sweeps[i], range->addr + at) == TL_WHY_NONE)
            return !tl_insn_decode(range->bytes + at, range->size - at, range->addr + at, insn) && insn->length > back;
    }
    return false;
}

static bool is_branch(const struct code *code, size_t i, uint64_t offset, uint64_t first, uint64_t last)
{
    struct tl_insn insn;
    return instruction_of(code, i, offset, &insn) && insn.target - first <= last - first &&
           (insn.flow == TL_FLOW_JUMP || insn.flow == TL_FLOW_BRANCH || insn.flow == TL_FLOW_CALL);
}

/* Whether a branch goes to somewhere in first … last. What could be the distance of one, of four bytes or of one, tells
 * where to look. */
static bool is_entered(const struct code *code, uint64_t first, uint64_t last)
{
    uint64_t width = last - first;
    for (size_t i = 0; i < code->count; i++) {
        const uint8_t *bytes = code->ranges[i].bytes;
        uint64_t size = code->ranges[i].size, to = first - code->ranges[i].addr;
        for (uint64_t at = 0; at + sizeof(int32_t) <= size; at++) {
            int32_t distance;
            memcpy(&distance, bytes + at, sizeof distance);
            if ((uint32_t)(at + sizeof distance + (uint32_t)distance - to) <= width &&
                is_branch(code, i, at, first, last))
                return true;
        }
        for (uint64_t at = to > NEAR && to - NEAR < size ? to - NEAR : 0; at < size && at < to + width + NEAR; at++)
            if ((uint8_t)(at + 1 + bytes[at] - to) <= width && is_branch(code, i, at, first, last))
                return true;
    }
    return false;
}

/* The instruction that ends at `addr`, and leads there. */
static bool instruction_before(const struct code *code, uint64_t addr, struct tl_insn *insn)
{
    size_t i = 0;
    while (i < code->count && addr - code->ranges[i].addr >= code->ranges[i].size)
        i++;
    if (i == code->count || addr == code->ranges[i].addr ||
        !instruction_of(code, i, addr - 1 - code->ranges[i].addr, insn))
        return false;
    bool passes = insn->flow == TL_FLOW_NEXT || insn->flow == TL_FLOW_BRANCH || insn->flow == TL_FLOW_CALL ||
                  insn->flow == TL_FLOW_CALL_INDIRECT;
    return passes && insn->addr + insn->length == addr;
}

bool tl_is_system_call(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, uint64_t addr)
{
    const struct code code = {ranges, sweeps, count};
    struct tl_insn insn;
    for (size_t i = 0; i < count; i++)
        if (addr - ranges[i].addr < ranges[i].size)
            return instruction_of(&code, i, addr - ranges[i].addr, &insn) && insn.is_syscall &&
                   insn.addr + insn.length == addr + OPCODE_BYTES;
    return false;
}

bool tl_straight_system_call(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, uint64_t addr,
                             struct tl_system_call *call)
{
    const struct code code = {ranges, sweeps, count};
    struct tl_insn insn;
    struct tl_effect effect = {0};
    uint64_t at = addr;
    for (size_t i = 0; i < count; i++)
        if (addr - ranges[i].addr < ranges[i].size && tl_sweep_check(&sweeps[i], addr) != TL_WHY_NONE)
            return false;
    for (; !(effect.written >> RAX & 1) && addr - at < LOOK_BACK; at = insn.addr) {
        if (!instruction_before(&code, at, &insn) || insn.is_syscall ||
            (insn.flow != TL_FLOW_NEXT && insn.flow != TL_FLOW_BRANCH))
            return false;
        tl_insn_effect(&insn, &effect);
    }
    *call = (struct tl_system_call){.addr = addr, .number = effect.number, .known = true, .entered = at};
    return effect.written >> RAX & 1 && effect.gives == RAX && effect.from == TL_NO_REG &&
           !is_entered(&code, insn.addr + insn.length, addr);
}

void tl_straight_beginning(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count,
                           struct tl_system_call *call)
{
    const struct code code = {ranges, sweeps, count};
    struct tl_insn insn[LOOK_BACK + 1];
    size_t n = 0;
    for (; call->addr - call->entered < LOOK_BACK; call->entered = insn[n++].addr) {
        if (is_entered(&code, call->entered, call->entered))
            return;
        if (!instruction_before(&code, call->entered, &insn[n]))
            break;
    }
    /* Behind what does not lead on, control comes from somewhere else: to what the padding is for. */
    while (n > 0 && call->addr - call->entered < LOOK_BACK && tl_is_padding(&insn[--n]))
        call->entered = insn[n].addr + insn[n].length;
}
