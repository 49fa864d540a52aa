/* SPDX-License-Identifier: MIT
 *
 * What one instruction is. Zydis finds its length and its parts; here it is sorted by where control goes afterwards and
 * by whether a copy at another address can do the same.
 *
 * Processors disagree in one place that matters: a near branch with an operand-size prefix (66) and no REX.W is 16 bits
 * wide at AMD (its displacement is two bytes: even the length differs) and 64 bits wide at Intel. Nobody writes it on
 * purpose, so it is decoded Intel's way and refused. With REX.W (66 66 48 e8, how __tls_get_addr is called) all agree.
 */
#include "insn/decode.h"

#include <string.h>

void tl_decoder_init(ZydisDecoder *decoder)
{
    ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
}

static void set(struct tl_insn *insn, enum tl_flow flow, enum tl_why why)
{
    insn->flow = (uint8_t)flow;
    insn->why = (uint8_t)why;
}

/* Control transfers, and the few others that a copy cannot do. */
static void classify(const ZydisDecodedInstruction *zydis, struct tl_insn *insn)
{
    bool far_branch = zydis->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    enum tl_why why = far_branch ? TL_WHY_FAR : TL_WHY_NONE;
    bool wide = zydis->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && zydis->raw.rex.W;
    if (!far_branch && (zydis->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) && !wide)
        why = TL_WHY_PREFIX;
    bool relative = zydis->raw.imm[0].is_relative;

    set(insn, TL_FLOW_NEXT, TL_WHY_NONE);
    switch (zydis->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        set(insn, relative ? TL_FLOW_JUMP : TL_FLOW_JUMP_INDIRECT, why);
        break;
    case ZYDIS_MNEMONIC_CALL:
        set(insn, relative ? TL_FLOW_CALL : TL_FLOW_CALL_INDIRECT, why);
        break;
    case ZYDIS_MNEMONIC_XBEGIN:
        set(insn, TL_FLOW_BRANCH, TL_WHY_NONE); /* to where it aborts */
        break;
    case ZYDIS_MNEMONIC_RET: /* takes its width from the copied prefix, as the original does */
        set(insn, TL_FLOW_RET, far_branch ? TL_WHY_FAR : TL_WHY_NONE);
        break;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_UIRET:
        set(insn, TL_FLOW_RET, TL_WHY_NONE);
        break;
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_RSM:
        set(insn, TL_FLOW_RET, TL_WHY_FAR);
        break;
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_ENCLU: /* leaves its own address for the way back */
        set(insn, TL_FLOW_NEXT, TL_WHY_FAR);
        break;
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INT1:
        set(insn, TL_FLOW_STOP, TL_WHY_TRAP_INSN);
        break;
    case ZYDIS_MNEMONIC_INT:
        if (zydis->raw.imm[0].value.u == 3)
            set(insn, TL_FLOW_STOP, TL_WHY_TRAP_INSN);
        break;
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
        set(insn, TL_FLOW_STOP, TL_WHY_NONE);
        break;
    case ZYDIS_MNEMONIC_SYSCALL:
        insn->is_syscall = true;
        break;
    default:
        if (zydis->meta.category == ZYDIS_CATEGORY_COND_BR && relative) /* Zydis counts xend among these */
            set(insn, TL_FLOW_BRANCH, why);
    }
}

static bool is_implausible(const ZydisDecodedInstruction *zydis, const struct tl_insn *insn)
{
    switch (zydis->mnemonic) {
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSD:
    case ZYDIS_MNEMONIC_OUTSW:
        return true;
    default: /* 00 00 is add [rax], al */
        return insn->why == TL_WHY_FAR || (zydis->length == 2 && insn->bytes[0] == 0 && insn->bytes[1] == 0);
    }
}

int tl_decode_with(const ZydisDecoder *decoder, const uint8_t *text, size_t available, uint64_t addr,
                   struct tl_insn *insn)
{
    ZydisDecodedInstruction zydis;
    ZydisDecoderContext context;
    memset(insn, 0, sizeof *insn);
    insn->addr = addr;
    if (available == 0 || ZYAN_FAILED(ZydisDecoderDecodeInstruction(decoder, &context, text, available, &zydis)))
        return -EILSEQ;
    insn->length = zydis.length;
    memcpy(insn->bytes, text, zydis.length);
    classify(&zydis, insn);
    insn->implausible = is_implausible(&zydis, insn);

    uint64_t next = addr + zydis.length;
    if (zydis.raw.imm[0].is_relative)
        insn->target = next + zydis.raw.imm[0].value.u;
    if ((zydis.attributes & ZYDIS_ATTRIB_HAS_MODRM) && zydis.raw.modrm.mod == 0 && zydis.raw.modrm.rm == 5 &&
        zydis.raw.disp.size == 32) {
        insn->rip_relative = true;
        insn->displacement_at = zydis.raw.disp.offset;
        insn->memory = next + (uint64_t)zydis.raw.disp.value;
        if (zydis.address_width == 32)
            insn->memory = (uint32_t)insn->memory;
    }
    return 0;
}

int tl_insn_decode(const uint8_t *text, size_t available, uint64_t addr, struct tl_insn *insn)
{
    ZydisDecoder decoder;
    tl_decoder_init(&decoder);
    return tl_decode_with(&decoder, text, available, addr, insn);
}

bool tl_decode_full(const struct tl_insn *insn, ZydisDecodedInstruction *full,
                    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT])
{
    ZydisDecoder decoder;
    tl_decoder_init(&decoder);
    if (insn->length == 0 || insn->length > TL_INSN_MAX)
        return false;
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, insn->bytes, insn->length, full, operands)) &&
           full->length == insn->length;
}

uint8_t tl_register_number(ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
        return TL_NO_REG;
    return (uint8_t)ZydisRegisterGetId(whole);
}

int tl_insn_indirect_target(const struct tl_insn *insn, struct tl_operand *operand)
{
    ZydisDecodedInstruction full;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if ((insn->flow != TL_FLOW_JUMP_INDIRECT && insn->flow != TL_FLOW_CALL_INDIRECT) || insn->why != TL_WHY_NONE)
        return -ENOTSUP;
    if (!tl_decode_full(insn, &full, operands) || full.address_width != 64)
        return -ENOTSUP;

    *operand = (struct tl_operand){.base = TL_NO_REG, .index = TL_NO_REG, .scale = 1};
    if (operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
        operand->base = tl_register_number(operands[0].reg.value);
        return operand->base == TL_NO_REG ? -ENOTSUP : 0;
    }
    if (operands[0].type != ZYDIS_OPERAND_TYPE_MEMORY || operands[0].mem.segment == ZYDIS_REGISTER_FS ||
        operands[0].mem.segment == ZYDIS_REGISTER_GS)
        return -ENOTSUP;
    operand->memory = true;
    if (insn->rip_relative) {
        operand->displacement = (int64_t)insn->memory;
        return 0;
    }
    operand->base = tl_register_number(operands[0].mem.base);
    operand->index = tl_register_number(operands[0].mem.index);
    if (operand->index != TL_NO_REG)
        operand->scale = operands[0].mem.scale;
    operand->displacement = operands[0].mem.disp.value;
    return 0;
}
