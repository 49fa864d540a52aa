/* SPDX-License-Identifier: MIT
 *
 * Any bytes as an instruction, and as a function: decode, copy, sweep. What must hold is asserted.
 *
 * Input: a byte that chooses where the original and the copy stand, then the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "insn/emulation.h"
#include "insn/sweep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stays on in every build, unlike assert(). */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static const uint64_t originals[] = {0x555555554ff8, 0x400ffe, 0x7ffff7fffff9, 0x7ffffff0, 0xffffffff80000000};
static const uint64_t copies[] = {0x555545554000, 0x10000, 0x7fff80000000, 0x100000000, 0xfffffffff0000000};
enum { PLACES = 5 };

/* The way a copy's instruction goes on has to be known to its marks, or be one of the original's ways. */
static void check_way(const struct tl_insn *insn, const struct tl_copy *copy, uint64_t at, uint64_t target)
{
    if (target - at < copy->length)
        CHECK(tl_copy_mark(copy, target - at));
    else
        CHECK(target == insn->addr + insn->length || target == insn->target);
}

/* Where the instruction at `mark` ends: at the next mark or at the end, a constant behind a jump included. */
static size_t piece_end(const struct tl_copy *copy, size_t mark)
{
    return mark + 1 < copy->marks_used ? copy->marks[mark + 1].at : copy->length;
}

static bool is_original(const struct tl_insn *insn, const struct tl_insn *part)
{
    return part->length == insn->length &&
           memcmp(part->bytes, insn->bytes, insn->rip_relative ? insn->displacement_at : insn->length) == 0;
}

static void check_piece(const struct tl_insn *insn, const struct tl_copy *copy, uint64_t at, size_t mark,
                        bool falls_out)
{
    struct tl_insn part;
    size_t start = copy->marks[mark].at, end = piece_end(copy, mark);
    CHECK(start < end);
    if (mark == 0 && insn->is_syscall && insn->length > 2)
        return; /* its prefixes: the syscall has a mark of its own */
    CHECK(tl_insn_decode(copy->code + start, end - start, at + start, &part) == 0);
    bool constant = part.length == 6 && part.flow == TL_FLOW_JUMP_INDIRECT && part.memory == at + start + 6;
    CHECK(end - start == part.length + (constant ? 8u : 0u));
    CHECK(part.why == TL_WHY_NONE || part.why == insn->why);
    CHECK(part.flow != TL_FLOW_CALL && part.flow != TL_FLOW_CALL_INDIRECT); /* these would push the copy's address */
    if (constant) {
        uint64_t target;
        memcpy(&target, copy->code + start + 6, 8);
        check_way(insn, copy, at, target);
    }
    if (part.flow == TL_FLOW_JUMP)
        check_way(insn, copy, at, part.target);
    if (part.flow == TL_FLOW_BRANCH && part.target != at + copy->length)
        check_way(insn, copy, at, part.target);
    int64_t distance = (int64_t)(insn->memory - (at + end));
    if (distance == (int32_t)distance && is_original(insn, &part))
        CHECK(part.memory == insn->memory);
    bool leaves = part.flow == TL_FLOW_JUMP || part.flow == TL_FLOW_JUMP_INDIRECT || part.flow == TL_FLOW_RET;
    if (mark + 1 == copy->marks_used)
        CHECK(leaves || falls_out);
}

static void check_copy(const struct tl_insn *insn, const struct tl_copy *copy, uint64_t at, bool falls_out)
{
    CHECK(copy->why == TL_WHY_NONE);
    CHECK(copy->length > 0 && copy->length <= TL_COPY_MAX);
    CHECK(copy->marks_used > 0 && copy->marks_used <= TL_COPY_MARKS);
    CHECK(copy->marks[0].at == 0 && copy->marks[0].state == TL_MARK_BEFORE && copy->marks[0].addr == insn->addr);
    for (size_t i = 0; i < copy->marks_used; i++) {
        const struct tl_mark *mark = &copy->marks[i];
        CHECK(mark->state == TL_MARK_WITHIN || (mark->unwind == 0 && mark->borrowed == TL_NO_REG));
        CHECK(mark->addr - insn->addr <= insn->length || mark->addr == insn->target);
        check_piece(insn, copy, at, i, falls_out);
    }
}

/* What is stepped is the instruction, with whatever it says of its own address moved. */
static void check_step(const struct tl_insn *insn, uint64_t at)
{
    struct tl_copy copy;
    struct tl_insn part;
    int result = tl_insn_step(insn, at, &copy);
    CHECK(result == -tl_why_errno(copy.why));
    CHECK(result != 0 || insn->why == TL_WHY_FAR || insn->why == TL_WHY_PREFIX);
    if (result != 0)
        return;
    CHECK(copy.length == insn->length && copy.marks_used == 2 && copy.marks[1].at == insn->length);
    CHECK(tl_insn_decode(copy.code, copy.length, at, &part) == 0);
    CHECK(part.length == insn->length && part.flow == insn->flow && part.why == insn->why);
    CHECK(part.target == insn->target && part.memory == insn->memory);
}

static void check_emulation(const struct tl_insn *insn)
{
    struct tl_emulation emulation;
    int result = tl_insn_emulation(insn, &emulation);
    CHECK(result == 0 || result == -ENOTSUP);
    if (result != 0)
        return;
    CHECK(insn->why == TL_WHY_NONE && insn->flow != TL_FLOW_NEXT && insn->flow != TL_FLOW_STOP);
    CHECK(emulation.next == insn->addr + insn->length && emulation.target == insn->target);
    CHECK(emulation.base == TL_NO_REG || emulation.base < 16);
    CHECK(emulation.index == TL_NO_REG || (emulation.index < 16 && emulation.index != 4));
    CHECK(emulation.scale == 1 || emulation.scale == 2 || emulation.scale == 4 || emulation.scale == 8);
}

static void check_instruction(const uint8_t *bytes, size_t size, uint64_t addr, uint64_t at)
{
    struct tl_insn insn, again;
    struct tl_copy copy;
    struct tl_operand operand;
    int result = tl_insn_decode(bytes, size, addr, &insn);
    CHECK(result == 0 || result == -EILSEQ);
    if (result != 0)
        return;
    CHECK(insn.length > 0 && insn.length <= TL_INSN_MAX && insn.length <= size);
    CHECK(tl_insn_decode(bytes, insn.length, addr, &again) == 0 && memcmp(&insn, &again, sizeof insn) == 0);
    CHECK(tl_insn_decode(bytes, insn.length - 1u, addr, &again) == -EILSEQ);
    CHECK(!insn.rip_relative || insn.displacement_at + 4 <= insn.length);
    tl_insn_indirect_target(&insn, &operand);

    result = tl_insn_relocate(&insn, at, &copy);
    CHECK(result == -tl_why_errno(copy.why));
    enum tl_why why = insn.why == TL_WHY_TRAP_INSN ? TL_WHY_NONE : (enum tl_why)insn.why;
    CHECK(why == TL_WHY_NONE || copy.why == why);
    CHECK(copy.why == why || (copy.why == TL_WHY_NO_SCRATCH && insn.rip_relative));
    if (result == 0)
        check_copy(&insn, &copy, at, false);
    check_step(&insn, at);
    check_emulation(&insn);
    result = tl_insn_relocate_taken(&insn, at, &copy);
    CHECK((result == 0) == (insn.flow == TL_FLOW_BRANCH && insn.why == TL_WHY_NONE));
    if (result == 0)
        check_copy(&insn, &copy, at, true);
}

static bool is_exit(const struct tl_insn *insn, const struct tl_range *range)
{
    bool outside = insn->target - range->addr >= range->size;
    return insn->flow == TL_FLOW_RET || insn->flow == TL_FLOW_JUMP_INDIRECT ||
           ((insn->flow == TL_FLOW_JUMP || insn->flow == TL_FLOW_BRANCH) && outside);
}

static void check_sweep(const struct tl_range *range)
{
    struct tl_sweep sweep;
    struct tl_exit *exits;
    struct tl_insn insn;
    size_t count = 0, leaving = 0, exit_count;
    uint64_t end = range->addr;
    const uint64_t entries[] = {range->addr + 1, range->addr + range->size, 0, range->addr + range->size / 2};
    if (tl_sweep_range(range, entries, sizeof entries / sizeof *entries, &sweep) != 0)
        return;
    for (uint64_t at = 0; at < range->size; at++) {
        enum tl_why why = tl_sweep_check(&sweep, range->addr + at);
        CHECK(why == TL_WHY_NONE || why == TL_WHY_NOT_BOUNDARY || why == TL_WHY_NOT_CODE);
        if (why != TL_WHY_NONE)
            continue;
        CHECK(tl_insn_decode(range->bytes + at, range->size - at, range->addr + at, &insn) == 0);
        CHECK(insn.addr >= end);
        CHECK(!insn.implausible);
        end = insn.addr + insn.length;
        count++;
        leaving += is_exit(&insn, range);
    }
    CHECK(count == sweep.instructions);
    CHECK(tl_sweep_exits(range, &sweep, 1, &exits, &exit_count) == 0);
    CHECK(exit_count == leaving);
    for (size_t i = 0; i < exit_count; i++) {
        CHECK(tl_sweep_check(&sweep, exits[i].addr) == TL_WHY_NONE);
        CHECK(i == 0 || exits[i].addr > exits[i - 1].addr);
    }
    free(exits);
    tl_sweep_free(&sweep);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint64_t addr = originals[data[0] % PLACES], at = copies[data[0] / PLACES % PLACES];
    check_instruction(data + 1, size - 1, addr, at);
    check_sweep(&(struct tl_range){.addr = addr, .size = size - 1, .bytes = data + 1});
    return 0;
}
