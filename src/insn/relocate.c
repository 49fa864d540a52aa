/* SPDX-License-Identifier: MIT
 *
 * A copy of one instruction that does at another address what the original does at its own. Most instructions do not
 * know where they stand: their bytes are copied, and a jump leads back behind the original. Those that do know are
 * rebuilt, in operand.c and transfer.c.
 */
#include "insn/relocate.h"

#include <string.h>

/* SYSCALL leaves the address behind itself in rcx. The kernel restarts an interrupted call by stepping back two bytes,
 * which is not the beginning of the copy if (redundant) prefixes stand before it. */
static void relocate_syscall(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    const struct tl_insn *insn = relocation->insn;
    size_t prefixes = insn->length - 2u;
    tl_emit_mark(out, TL_MARK_BEFORE, insn->addr);
    tl_emit_bytes(out, insn->bytes, prefixes);
    if (prefixes)
        tl_emit_mark(out, TL_MARK_BEFORE, insn->addr + prefixes);
    tl_emit_bytes(out, insn->bytes + prefixes, 2);
    tl_emit_mark(out, TL_MARK_AFTER, relocation->next);
    if (tl_reaches(tl_emit_here(out) + 7, relocation->next)) {
        TL_EMIT(out, 0x48, 0x8d, 0x0d); /* lea rcx, [rip + displacement] */
        tl_emit_u32(out, (uint32_t)(relocation->next - (tl_emit_here(out) + 4)));
    } else {
        TL_EMIT(out, 0x48, 0xb9); /* mov rcx, imm64 */
        tl_emit_u64(out, relocation->next);
    }
}

static void emit_back(struct tl_relocation *relocation)
{
    tl_emit_mark(&relocation->out, TL_MARK_AFTER, relocation->next);
    tl_emit_jump_to(&relocation->out, relocation->next);
}

static enum tl_why relocate(struct tl_relocation *relocation)
{
    enum tl_why why = TL_WHY_NONE;
    switch (relocation->insn->flow) {
    case TL_FLOW_JUMP:
        tl_relocate_jump(relocation);
        return why;
    case TL_FLOW_BRANCH:
        if (relocation->zydis.mnemonic == ZYDIS_MNEMONIC_XBEGIN)
            tl_relocate_xbegin(relocation);
        else
            tl_relocate_branch(relocation);
        return why;
    case TL_FLOW_CALL:
        tl_relocate_call(relocation);
        return why;
    case TL_FLOW_CALL_INDIRECT:
        tl_relocate_call_indirect(relocation);
        return why;
    case TL_FLOW_JUMP_INDIRECT:
        tl_relocate_jump_indirect(relocation);
        return why;
    case TL_FLOW_RET:
        return tl_relocate_operand(relocation);
    default:
        if (relocation->insn->is_syscall)
            relocate_syscall(relocation);
        else
            why = tl_relocate_operand(relocation);
        if (why == TL_WHY_NONE)
            emit_back(relocation);
        return why;
    }
}

static enum tl_why begin(struct tl_relocation *relocation, const struct tl_insn *insn, uint64_t at,
                         struct tl_copy *copy)
{
    *relocation = (struct tl_relocation){.out = {copy, at}, .insn = insn, .next = insn->addr + insn->length};
    memset(copy, 0, sizeof *copy);
    return tl_decode_full(insn, &relocation->zydis, relocation->operands) ? TL_WHY_NONE : TL_WHY_UNDECODABLE;
}

static int end(struct tl_copy *copy, enum tl_why why)
{
    if (why != TL_WHY_NONE)
        memset(copy, 0, sizeof *copy);
    copy->why = why;
    return -tl_why_errno(why);
}

/* A copy that does by itself what the original does, or whose trap is turned back. */
static enum tl_why can_copy(const struct tl_insn *insn)
{
    return insn->why == TL_WHY_TRAP_INSN ? TL_WHY_NONE : (enum tl_why)insn->why;
}

int tl_insn_relocate(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy)
{
    struct tl_relocation relocation;
    enum tl_why why = begin(&relocation, insn, at, copy);
    if (why == TL_WHY_NONE)
        why = can_copy(insn);
    if (why == TL_WHY_NONE)
        why = relocate(&relocation);
    return end(copy, why);
}

int tl_insn_relocate_taken(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy)
{
    struct tl_relocation relocation;
    enum tl_why why = begin(&relocation, insn, at, copy);
    if (why == TL_WHY_NONE)
        why = (enum tl_why)insn->why;
    if (why == TL_WHY_NONE && insn->flow != TL_FLOW_BRANCH)
        why = TL_WHY_TACTIC;
    if (why == TL_WHY_NONE && relocation.zydis.mnemonic == ZYDIS_MNEMONIC_XBEGIN)
        tl_relocate_xbegin_taken(&relocation);
    else if (why == TL_WHY_NONE)
        tl_relocate_branch_taken(&relocation);
    return end(copy, why);
}

/* The displacement of a relative transfer, moved. Read as 16 bits, as processors do that obey the prefix, it is right
 * as well: the sum is cut to 16 bits then. */
static bool emit_moved(struct tl_relocation *relocation)
{
    const struct tl_insn *insn = relocation->insn;
    uint8_t bytes[TL_INSN_MAX];
    uint64_t here = tl_emit_here(&relocation->out);
    size_t at = relocation->zydis.raw.imm[0].offset;
    if (relocation->zydis.raw.imm[0].size != 32 || !tl_reaches(here + insn->length, insn->target))
        return false;
    uint32_t displacement = (uint32_t)(insn->target - (here + insn->length));
    memcpy(bytes, insn->bytes, sizeof bytes);
    memcpy(bytes + at, &displacement, sizeof displacement);
    tl_emit_bytes(&relocation->out, bytes, insn->length);
    return true;
}

/* Into the kernel and back to places of its own choice: nothing that can be stepped over. */
static bool leaves_for_good(const struct tl_relocation *relocation)
{
    return relocation->zydis.mnemonic == ZYDIS_MNEMONIC_SYSENTER || relocation->zydis.mnemonic == ZYDIS_MNEMONIC_ENCLU;
}

int tl_insn_step(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy)
{
    struct tl_relocation relocation;
    enum tl_why why = begin(&relocation, insn, at, copy);
    if (why == TL_WHY_NONE && insn->why != TL_WHY_FAR && insn->why != TL_WHY_PREFIX)
        why = TL_WHY_TACTIC;
    if (why == TL_WHY_NONE && leaves_for_good(&relocation))
        why = TL_WHY_FAR;
    if (why == TL_WHY_NONE) {
        tl_emit_mark(&relocation.out, TL_MARK_BEFORE, insn->addr);
        bool done = relocation.zydis.raw.imm[0].is_relative
                        ? emit_moved(&relocation)
                        : tl_emit_adjusted(&relocation, insn->bytes, insn->length, insn->displacement_at);
        if (done)
            tl_emit_mark(&relocation.out, TL_MARK_AFTER, relocation.next);
        else
            why = (enum tl_why)insn->why;
    }
    return end(copy, why);
}

const struct tl_mark *tl_copy_mark(const struct tl_copy *copy, size_t at)
{
    for (size_t i = 0; i < copy->marks_used; i++)
        if (copy->marks[i].at == at)
            return &copy->marks[i];
    return NULL;
}
