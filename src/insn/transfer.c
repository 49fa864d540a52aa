/* SPDX-License-Identifier: MIT
 *
 * Copies of control transfers.
 *
 * A call must push the address behind the original, not behind the copy: unwinders, position-independent code that pops
 * it, and functions that look at their caller all see it. So a call becomes pushes and a jump, none of which touches a
 * flag or a register.
 *
 * A call through memory reads its operand before it pushes, with rsp still the program's, and may fault there. Pushing
 * the operand itself does exactly that; the slot is then needed for the return address, so its content moves one down,
 * into the callee's red zone, where no signal handler can reach it before the jump has read it:
 *
 *     push [operand]
 *     push [rsp]
 *     lea rsp, [rsp + 8]
 *     mov [rsp], return address
 *     jmp [rsp - 8]
 *
 * With the operand out of reach, its address is in a borrowed register as in operand.c, and `ret n` takes the target
 * from below the red zone and moves rsp up in the same step.
 *
 * A bnd prefix (F2) is dropped where the transfer is rebuilt: without it, and where nobody has bounds registers,
 * nothing is checked.
 */
#include "insn/relocate.h"

enum { RAX = 0, RSP = 4, SLOT = 8, SHORT_JUMP = 2, NOTRACK = 0x3e };

void tl_relocate_jump(struct tl_relocation *relocation)
{
    tl_emit_mark(&relocation->out, TL_MARK_BEFORE, relocation->insn->addr);
    tl_emit_jump_to(&relocation->out, relocation->insn->target);
}

/* loop, loope, loopne and jrcxz have no near form, and their counter's width is the address-size prefix's business. */
static bool is_counting(const struct tl_relocation *relocation)
{
    return relocation->zydis.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (relocation->zydis.opcode & 0xfc) == 0xe0;
}

static void emit_counting(struct tl_relocation *relocation, size_t skip)
{
    if (relocation->zydis.address_width == 32)
        tl_emit_u8(&relocation->out, 0x67);
    TL_EMIT(&relocation->out, relocation->zydis.opcode, (uint8_t)skip);
}

/* jcc (condition as in the encoding) to anywhere; touches nothing. `state` and `addr` are the mark for a jump that is
 * needed on the way. */
static void emit_jcc_to(struct tl_emitter *out, uint8_t condition, uint64_t target)
{
    if (tl_reaches(tl_emit_here(out) + 6, target)) {
        TL_EMIT(out, 0x0f, 0x80 | condition);
        tl_emit_u32(out, (uint32_t)(target - (tl_emit_here(out) + 4)));
        return;
    }
    size_t skip = tl_emit_jump_length(out, SHORT_JUMP, target);
    TL_EMIT(out, 0x70 | (condition ^ 1), (uint8_t)skip); /* the opposite, past the jump */
    tl_emit_mark(out, TL_MARK_AFTER, target);
    tl_emit_jump_to(out, target);
}

void tl_relocate_branch_taken(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    tl_emit_mark(out, TL_MARK_BEFORE, relocation->insn->addr);
    if (!is_counting(relocation)) {
        emit_jcc_to(out, (relocation->zydis.opcode & 15) ^ 1, relocation->next);
        return;
    }
    size_t prefix = relocation->zydis.address_width == 32;
    emit_counting(relocation, tl_emit_jump_length(out, prefix + SHORT_JUMP, relocation->next));
    tl_emit_mark(out, TL_MARK_AFTER, relocation->next);
    tl_emit_jump_to(out, relocation->next);
}

void tl_relocate_branch(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    const struct tl_insn *insn = relocation->insn;
    if (is_counting(relocation)) {
        tl_relocate_branch_taken(relocation);
        tl_emit_mark(out, TL_MARK_AFTER, insn->target);
        tl_emit_jump_to(out, insn->target);
        return;
    }
    tl_emit_mark(out, TL_MARK_BEFORE, insn->addr);
    emit_jcc_to(out, relocation->zydis.opcode & 15, insn->target);
    tl_emit_mark(out, TL_MARK_AFTER, relocation->next);
    tl_emit_jump_to(out, relocation->next);
}

/* xbegin to `target`, by a displacement of 32 bits whatever the original has. */
static void emit_xbegin(struct tl_relocation *relocation, uint64_t target)
{
    tl_emit_mark(&relocation->out, TL_MARK_BEFORE, relocation->insn->addr);
    TL_EMIT(&relocation->out, 0xc7, 0xf8);
    tl_emit_u32(&relocation->out, (uint32_t)(target - (tl_emit_here(&relocation->out) + 4)));
}

/* Begin a transaction, and leave the copy for where it aborts to only then. */
void tl_relocate_xbegin_taken(struct tl_relocation *relocation)
{
    enum { XBEGIN_BYTES = 6 };
    struct tl_emitter *out = &relocation->out;
    size_t jump = tl_emit_jump_length(out, XBEGIN_BYTES, relocation->next);
    emit_xbegin(relocation, tl_emit_here(out) + XBEGIN_BYTES + jump);
    tl_emit_mark(out, TL_MARK_AFTER, relocation->next);
    tl_emit_jump_to(out, relocation->next);
}

void tl_relocate_xbegin(struct tl_relocation *relocation)
{
    tl_relocate_xbegin_taken(relocation);
    tl_emit_mark(&relocation->out, TL_MARK_AFTER, relocation->insn->target);
    tl_emit_jump_to(&relocation->out, relocation->insn->target);
}

static bool fits_sign_extended(uint64_t value)
{
    return (int64_t)value == (int32_t)value;
}

/* mov dword [rsp + offset], imm32 */
static void emit_store_half(struct tl_relocation *relocation, uint8_t offset, uint64_t value)
{
    tl_emit_within(&relocation->out, relocation->insn->addr, SLOT, TL_NO_REG);
    TL_EMIT(&relocation->out, 0xc7, 0x44, 0x24, offset);
    tl_emit_u32(&relocation->out, (uint32_t)value);
}

static void emit_push_next(struct tl_relocation *relocation)
{
    tl_emit_mark(&relocation->out, TL_MARK_BEFORE, relocation->insn->addr);
    tl_emit_u8(&relocation->out, 0x68); /* push imm32, sign-extended */
    tl_emit_u32(&relocation->out, (uint32_t)relocation->next);
    if (!fits_sign_extended(relocation->next))
        emit_store_half(relocation, 4, relocation->next >> 32);
}

void tl_relocate_call(struct tl_relocation *relocation)
{
    emit_push_next(relocation);
    tl_emit_mark(&relocation->out, TL_MARK_AFTER, relocation->insn->target);
    tl_emit_jump_to(&relocation->out, relocation->insn->target);
}

static void emit_notrack(struct tl_relocation *relocation)
{
    if (relocation->zydis.attributes & ZYDIS_ATTRIB_HAS_NOTRACK)
        tl_emit_u8(&relocation->out, NOTRACK);
}

/* Which of an operand's prefixes mean something to push: segment, address size, and REX where it is effective. Those of
 * branches go, and with them a REX in front of them, which must not come to life. */
static bool belongs_to_operand(const ZydisDecodedInstructionRaw *raw, size_t at, uint8_t byte)
{
    return byte == 0x64 || byte == 0x65 || byte == 0x67 || ((byte & 0xf0) == 0x40 && at + 1 == raw->prefix_count);
}

/* The instruction's own operand, pushed: group FF /6 in place of /2. false where the operand is out of reach. */
static bool emit_push_operand(struct tl_relocation *relocation)
{
    const struct tl_insn *insn = relocation->insn;
    const ZydisDecodedInstructionRaw *raw = &relocation->zydis.raw;
    uint8_t bytes[TL_INSN_MAX];
    size_t length = 0;
    for (size_t i = 0; i < insn->length; i++)
        if (i >= raw->prefix_count || belongs_to_operand(raw, i, insn->bytes[i]))
            bytes[length++] = insn->bytes[i];
    size_t dropped = insn->length - length;
    uint8_t *modrm = &bytes[raw->modrm.offset - dropped];
    *modrm = (uint8_t)((*modrm & 0xc7) | 6 << 3);
    return tl_emit_adjusted(relocation, bytes, length, insn->displacement_at - dropped);
}

/* rax holds the operand's address: push what is there. What the segment register adds is in the prefixes. */
static void emit_push_borrowed(struct tl_relocation *relocation)
{
    tl_emit_within(&relocation->out, relocation->insn->addr, TL_RED_ZONE + SLOT, RAX);
    if (relocation->operands[0].mem.segment == ZYDIS_REGISTER_FS)
        tl_emit_u8(&relocation->out, 0x64);
    if (relocation->operands[0].mem.segment == ZYDIS_REGISTER_GS)
        tl_emit_u8(&relocation->out, 0x65);
    TL_EMIT(&relocation->out, 0xff, 0x30); /* push [rax] */
}

/* The stack: the target, then rax as it was, then the red zone. Go there, rsp raised by `raise` beyond the target's
 * slot. */
static void emit_leave_borrowed(struct tl_relocation *relocation, uint8_t raise)
{
    struct tl_emitter *out = &relocation->out;
    tl_emit_mark(out, TL_MARK_WITHIN, relocation->insn->addr);
    TL_EMIT(out, 0x48, 0x8b, 0x44, 0x24, SLOT); /* mov rax, [rsp + 8] */
    tl_emit_within(out, relocation->insn->addr, TL_RED_ZONE + 2 * SLOT, TL_NO_REG);
    TL_EMIT(out, 0xc2, raise, 0); /* ret raise */
}

static void call_far_operand(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    tl_emit_borrow(relocation, RAX);
    emit_push_borrowed(relocation);
    tl_emit_mark(out, TL_MARK_WITHIN, relocation->insn->addr);
    TL_EMIT(out, 0x48, 0xb8); /* mov rax, return address */
    tl_emit_u64(out, relocation->next);
    tl_emit_mark(out, TL_MARK_WITHIN, relocation->insn->addr);
    TL_EMIT(out, 0x48, 0x89, 0x84, 0x24, TL_RED_ZONE + SLOT, 0, 0, 0); /* mov [rsp + 136], rax */
    emit_leave_borrowed(relocation, TL_RED_ZONE);
}

static void call_operand(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    uint64_t addr = relocation->insn->addr;
    tl_emit_mark(out, TL_MARK_BEFORE, addr);
    if (!emit_push_operand(relocation)) {
        out->copy->marks_used = 0;
        call_far_operand(relocation);
        return;
    }
    tl_emit_within(out, addr, SLOT, TL_NO_REG);
    TL_EMIT(out, 0xff, 0x34, 0x24); /* push [rsp] */
    tl_emit_within(out, addr, 2 * SLOT, TL_NO_REG);
    TL_EMIT(out, 0x48, 0x8d, 0x64, 0x24, SLOT); /* lea rsp, [rsp + 8] */
    if (fits_sign_extended(relocation->next)) {
        tl_emit_within(out, addr, SLOT, TL_NO_REG);
        TL_EMIT(out, 0x48, 0xc7, 0x04, 0x24); /* mov qword [rsp], imm32, sign-extended */
        tl_emit_u32(out, (uint32_t)relocation->next);
    } else {
        emit_store_half(relocation, 0, relocation->next);
        emit_store_half(relocation, 4, relocation->next >> 32);
    }
    tl_emit_within(out, addr, SLOT, TL_NO_REG);
    emit_notrack(relocation);
    TL_EMIT(out, 0xff, 0x64, 0x24, (uint8_t)-SLOT); /* jmp [rsp - 8] */
}

void tl_relocate_call_indirect(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    const ZydisDecodedOperand *operand = &relocation->operands[0];
    uint8_t reg = operand->type == ZYDIS_OPERAND_TYPE_REGISTER ? tl_register_number(operand->reg.value) : TL_NO_REG;
    if (reg == TL_NO_REG || reg == RSP) { /* call rsp: goes to rsp as it was before the push */
        call_operand(relocation);
        return;
    }
    emit_push_next(relocation);
    tl_emit_within(out, relocation->insn->addr, SLOT, TL_NO_REG);
    emit_notrack(relocation);
    if (reg >= 8)
        tl_emit_u8(out, 0x41);
    TL_EMIT(out, 0xff, 0xe0 | (reg & 7)); /* jmp reg */
}

void tl_relocate_jump_indirect(struct tl_relocation *relocation)
{
    const struct tl_insn *insn = relocation->insn;
    struct tl_emitter *out = &relocation->out;
    tl_emit_mark(out, TL_MARK_BEFORE, insn->addr);
    if (tl_emit_adjusted(relocation, insn->bytes, insn->length, insn->displacement_at))
        return;
    out->copy->marks_used = 0;
    tl_emit_borrow(relocation, RAX);
    emit_push_borrowed(relocation);
    emit_leave_borrowed(relocation, TL_RED_ZONE + SLOT);
}
