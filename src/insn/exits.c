/* SPDX-License-Identifier: MIT
 *
 * The ways out of a function: its returns, and the jumps that leave all of its pieces. Only trustworthy instructions
 * count. A jump within the pieces is no way out, whichever piece it goes to; a jump back to the entry is a loop.
 */
#include <stdlib.h>

#include "insn/decode.h"
#include "base/array.h"
#include "insn/sweep.h"

struct exits {
    struct tl_exit *list;
    size_t used, room;
};

static int add(struct exits *exits, uint64_t addr, enum tl_exit_kind kind)
{
    struct tl_exit *list = tl_array_grown(exits->list, exits->used, &exits->room, sizeof *list);
    if (!list)
        return -ENOMEM;
    exits->list = list;
    exits->list[exits->used++] = (struct tl_exit){.addr = addr, .kind = kind};
    return 0;
}

static bool is_inside(const struct tl_range *ranges, size_t count, uint64_t addr)
{
    for (size_t i = 0; i < count; i++)
        if (addr - ranges[i].addr < ranges[i].size)
            return true;
    return false;
}

static bool is_prefix(uint8_t byte)
{
    return byte == 0xf2 || byte == 0xf3 || byte == 0x66 || byte == 0x67 || (byte & 0xe7) == 0x26 ||
           (byte & 0xfe) == 0x64 || (byte & 0xf0) == 0x40;
}

/* Whether the instruction there may transfer control other than by a call: a look at its opcode, which saves decoding
 * nine out of ten once more. */
static bool may_leave(const uint8_t *bytes, uint64_t size)
{
    uint64_t at = 0;
    while (at + 1 < size && is_prefix(bytes[at]))
        at++;
    uint8_t opcode = bytes[at], second = at + 1 < size ? bytes[at + 1] : 0;
    if (opcode == 0x0f)
        return (second & 0xf0) == 0x80 || second == 0x01 || second == 0x07 || second == 0x35 || second == 0xaa;
    return (opcode & 0xf0) == 0x70 || (opcode & 0xf0) == 0xe0 || (opcode & 0xf0) == 0xc0 || opcode == 0xff;
}

/* false: the instruction is no exit. */
static bool exit_kind(const struct tl_insn *insn, const struct tl_range *ranges, size_t count, enum tl_exit_kind *kind)
{
    switch (insn->flow) {
    case TL_FLOW_RET:
        *kind = TL_EXIT_RET;
        return true;
    case TL_FLOW_JUMP:
        *kind = TL_EXIT_TAIL;
        return !is_inside(ranges, count, insn->target);
    case TL_FLOW_BRANCH:
        *kind = TL_EXIT_BRANCH;
        return !is_inside(ranges, count, insn->target);
    case TL_FLOW_JUMP_INDIRECT:
        *kind = TL_EXIT_INDIRECT;
        return true;
    default:
        return false;
    }
}

static int by_address(const void *left, const void *right)
{
    const struct tl_exit *a = left, *b = right;
    return (a->addr > b->addr) - (a->addr < b->addr);
}

static int add_exits_of(const struct tl_range *ranges, size_t count, const struct tl_range *range,
                        const struct tl_sweep *sweep, struct exits *exits)
{
    ZydisDecoder decoder;
    struct tl_insn insn;
    enum tl_exit_kind kind;
    int result = 0;
    tl_decoder_init(&decoder);
    for (uint64_t addr = tl_sweep_next(sweep, sweep->addr); addr && !result; addr = tl_sweep_next(sweep, addr + 1)) {
        uint64_t at = addr - range->addr;
        if (may_leave(range->bytes + at, range->size - at) &&
            tl_decode_with(&decoder, range->bytes + at, range->size - at, addr, &insn) == 0 &&
            exit_kind(&insn, ranges, count, &kind))
            result = add(exits, addr, kind);
    }
    return result;
}

int tl_sweep_exits(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, struct tl_exit **exits,
                   size_t *exit_count)
{
    struct exits found = {0};
    for (size_t i = 0; i < count; i++)
        if (add_exits_of(ranges, count, &ranges[i], &sweeps[i], &found) != 0) {
            free(found.list);
            return -ENOMEM;
        }
    if (found.used > 1)
        qsort(found.list, found.used, sizeof *found.list, by_address);
    *exits = found.list;
    *exit_count = found.used;
    return 0;
}
