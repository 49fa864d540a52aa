/* SPDX-License-Identifier: MIT
 *
 * Registers and memory are random; then what the instruction uses is bent until it has a chance: bases and indices so
 * that their sum is a good address, the target of an indirect transfer a page of int3, counters small. What the
 * instruction says of itself (rip-relative displacements, relative targets) is written anew, because around it there is
 * other memory than in its program.
 */
#include "trial.h"

#include <err.h>
#include <string.h>
#include <sys/syscall.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

static uint64_t next_random(struct trial *trial)
{
    trial->random ^= trial->random << 13;
    trial->random ^= trial->random >> 7;
    trial->random ^= trial->random << 17;
    return trial->random * 0x2545f4914f6cdd1dull;
}

static uint64_t below(struct trial *trial, uint64_t limit)
{
    return (next_random(trial) >> 32) % limit;
}

static uint64_t random_value(struct trial *trial)
{
    static const uint64_t special[] = {0,
                                       0x3ff0000000000000, /* 1.0 */
                                       0x7ff0000000000000, /* infinity */
                                       0x7ff4000000000000, /* signalling NaN */
                                       0xfff8000000000000, /* NaN */
                                       0x0000000000000001, /* denormal */
                                       0x7fefffffffffffff, /* largest */
                                       0x7f8000007fa00000,
                                       0x0000000180000000,
                                       0x3f8000004f000000};
    if (trial->variant == VARIANT_SMALL)
        return below(trial, 128);
    if (trial->variant == VARIANT_UNMASKED)
        return special[below(trial, sizeof special / sizeof *special)];
    return next_random(trial);
}

static void fill(struct trial *trial, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t value = random_value(trial);
        memcpy(bytes + i, &value, 8);
    }
}

static void poke(struct trial *trial, uint64_t addr, uint64_t value)
{
    if (addr - trial->place->data <= DATA_SIZE - sizeof value)
        memcpy(trial->data + (addr - trial->place->data), &value, sizeof value);
    if (addr - trial->place->stack <= STACK_SIZE - sizeof value)
        memcpy(trial->stack + (addr - trial->place->stack), &value, sizeof value);
}

/* Across cache lines these stop the whole machine, and the kernel complains. */
static bool is_atomic(const struct trial *trial)
{
    return trial->zydis.attributes & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_ACCEPTS_LOCK) ||
           trial->zydis.mnemonic == ZYDIS_MNEMONIC_XCHG;
}

/* Where an operand of `bits` bits is to be. Below it there is room for strings that run backwards, above it for an
 * XSAVE area. */
static uint64_t pick_address(struct trial *trial, unsigned bits)
{
    uint64_t data = trial->place->data, size = bits / 8;
    bool atomic = is_atomic(trial);
    switch (trial->variant) {
    case VARIANT_MISALIGNED:
        return data + 0x400 + (atomic ? 16 * below(trial, 32) : below(trial, 0x400));
    case VARIANT_EDGE:
        return data + DATA_SIZE - (atomic ? 0 : below(trial, size + 8));
    case VARIANT_WILD:
        return next_random(trial);
    default:
        return data + 0x400 + 64 * below(trial, 16);
    }
}

static uint64_t landing(struct trial *trial)
{
    if (trial->variant == VARIANT_WILD)
        return next_random(trial);
    return trial->place->text + 0x1000 + below(trial, 0xf00);
}

/* Absolute addresses, and those that lead beyond the end of the stack. */
static void place_displacement(struct trial *trial, uint8_t *bytes)
{
    for (size_t i = 0; i < trial->zydis.operand_count_visible; i++) {
        const ZydisDecodedOperand *operand = &trial->operands[i];
        const ZydisDecodedInstructionRaw *raw = &trial->zydis.raw;
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || raw->disp.size < 32 || trial->variant == VARIANT_WILD ||
            operand->mem.segment == ZYDIS_REGISTER_FS || operand->mem.segment == ZYDIS_REGISTER_GS)
            continue;
        bool absolute = operand->mem.base == ZYDIS_REGISTER_NONE && operand->mem.index == ZYDIS_REGISTER_NONE;
        uint64_t address = absolute ? pick_address(trial, operand->size) : 64 * below(trial, 8);
        if (absolute || operand->mem.base == ZYDIS_REGISTER_RSP)
            memcpy(bytes + raw->disp.offset, &address, raw->disp.size / 8);
    }
}

/* Targets and displacements that lead to something mapped. */
static void place_instruction(const struct form *form, struct trial *trial)
{
    uint8_t bytes[TL_INSN_MAX];
    uint64_t addr = trial->place->text + INSN_AT;
    const ZydisDecodedInstructionRaw *raw = &trial->zydis.raw;
    memcpy(bytes, form->bytes, form->length);
    if (raw->imm[0].is_relative && raw->imm[0].size == 32) {
        uint32_t relative = (uint32_t)(below(trial, 2) ? 0x100 + below(trial, 0x1000) : -0x100 - below(trial, 0x600));
        memcpy(bytes + raw->imm[0].offset, &relative, 4);
    }
    if (raw->imm[0].is_relative && raw->imm[0].size == 8 && raw->imm[0].value.s < 0 &&
        raw->imm[0].value.s >= -form->length)
        bytes[raw->imm[0].offset] = 0x20; /* not into itself */
    if (form->key.rip_relative) {
        uint64_t operand = pick_address(trial, 512);
        if (trial->variant == VARIANT_WILD) /* as far as it gets */
            operand = addr + (uint64_t)((int64_t)(int32_t)next_random(trial) / 2);
        uint32_t displacement = (uint32_t)(operand - (addr + form->length));
        memcpy(bytes + raw->disp.offset, &displacement, 4);
    }
    place_displacement(trial, bytes);
    if (tl_insn_decode(bytes, form->length, addr, &trial->insn) != 0)
        errx(1, "a form does not decode any more");
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderDecodeFull(&decoder, bytes, form->length, &trial->zydis, trial->operands);
}

static void fill_registers(struct trial *trial)
{
    struct cpu *cpu = &trial->cpu;
    memcpy(cpu->xstate, machine_fresh.xstate, machine_xstate_size);
    for (int i = 0; i < 16; i++)
        cpu->gpr[i] = random_value(trial);
    cpu->gpr[RSP] = trial->place->stack + 0x1000 + (trial->variant == VARIANT_ALIGNED ? 64 : 8) * below(trial, 16);
    if (trial->variant == VARIANT_MISALIGNED && !is_atomic(trial))
        cpu->gpr[RSP] += below(trial, 8);
    cpu->rip = trial->insn.addr;
    cpu->flags = 0x202 | (next_random(trial) & 0xcd5);
    cpu->fs_base = trial->place->data + 0x800;
    cpu->gs_base = 0;
}

static void fill_vectors(struct trial *trial)
{
    uint8_t *xstate = trial->cpu.xstate;
    bool unmasked = trial->variant == VARIANT_UNMASKED;
    uint16_t control = (uint16_t)((unmasked ? 0x300 | below(trial, 64) : 0x37f) | below(trial, 4) << 10);
    uint16_t status = (uint16_t)(below(trial, 8) << 11);
    uint32_t mxcsr = (uint32_t)((unmasked ? below(trial, 64) << 7 : 0x1f80) | below(trial, 4) << 13);
    memcpy(xstate, &control, 2);
    memcpy(xstate + 2, &status, 2);
    xstate[4] = (uint8_t)next_random(trial); /* which x87 registers hold something */
    memcpy(xstate + 24, &mxcsr, 4);
    for (size_t i = 0; i < 8; i++)
        fill(trial, xstate + 32 + i * 16, 8), memcpy(xstate + 40 + i * 16, &trial->random, 2);
    fill(trial, xstate + 160, 256);
    if (machine_xstate_size < 576)
        return;
    *machine_parts_used(&trial->cpu) |= 3;
    for (int i = XPART_YMM; i < XPART_COUNT; i++)
        if (machine_xparts[i].size) {
            fill(trial, xstate + machine_xparts[i].at, machine_xparts[i].size);
            *machine_parts_used(&trial->cpu) |= 1ull << i;
        }
}

static uint64_t *general(struct trial *trial, ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
        return NULL;
    return &trial->cpu.gpr[ZydisRegisterGetId(whole)];
}

/* Let base + index * scale + displacement (+ segment) be a good address. Returns it. */
static uint64_t aim(struct trial *trial, const ZydisDecodedOperand *operand)
{
    uint64_t address = pick_address(trial, operand->size), offset = (uint64_t)operand->mem.disp.value;
    bool segment = operand->mem.segment == ZYDIS_REGISTER_FS || operand->mem.segment == ZYDIS_REGISTER_GS;
    uint64_t *segment_base = operand->mem.segment == ZYDIS_REGISTER_FS ? &trial->cpu.fs_base : &trial->cpu.gs_base;
    uint64_t *base = general(trial, operand->mem.base), *index = general(trial, operand->mem.index);
    uint64_t high = trial->zydis.address_width == 32 ? next_random(trial) << 32 : 0;
    uint64_t few = below(trial, 8) * (trial->variant == VARIANT_ALIGNED ? 64 : 1);
    if (operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP) {
        if (segment)
            *segment_base = 8 * below(trial, 8);
        return trial->insn.memory + (segment ? *segment_base : 0);
    }
    if (base == &trial->cpu.gpr[RSP])
        return *base + offset + (index ? (*index = few) * operand->mem.scale : 0);
    if (segment) {
        uint64_t sum = offset;
        if (base)
            sum += *base = below(trial, 64);
        if (index && index != base)
            sum += (*index = below(trial, 8)) * operand->mem.scale;
        if (trial->variant != VARIANT_WILD)
            *segment_base = address - (index && index == base ? sum + *base * operand->mem.scale : sum);
        return address;
    }
    if (base && index == base) {
        *base = (address - offset) / (1u + operand->mem.scale);
        return *base * (1u + operand->mem.scale) + offset;
    }
    if (!base && index) {
        *index = (address - offset) / operand->mem.scale;
        return *index * operand->mem.scale + offset;
    }
    if (index)
        offset += (*index = few) * operand->mem.scale;
    if (base)
        *base = high | (address - offset);
    return base ? address : offset;
}

static void aim_operands(struct trial *trial)
{
    bool transfer = trial->insn.flow == TL_FLOW_CALL_INDIRECT || trial->insn.flow == TL_FLOW_JUMP_INDIRECT;
    for (size_t i = 0; i < trial->zydis.operand_count; i++) {
        const ZydisDecodedOperand *operand = &trial->operands[i];
        bool hidden_stack =
            operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && operand->mem.base == ZYDIS_REGISTER_RSP;
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || hidden_stack)
            continue;
        uint64_t address = trial->variant == VARIANT_WILD ? 0 : aim(trial, operand);
        if (transfer && address)
            poke(trial, address, landing(trial));
        if (trial->zydis.mnemonic == ZYDIS_MNEMONIC_FXRSTOR || trial->zydis.mnemonic == ZYDIS_MNEMONIC_FXRSTOR64 ||
            trial->zydis.mnemonic == ZYDIS_MNEMONIC_XRSTOR || trial->zydis.mnemonic == ZYDIS_MNEMONIC_XRSTOR64)
            for (size_t at = 0; at + 8 <= machine_xstate_size; at += 8) {
                uint64_t value;
                memcpy(&value, machine_fresh.xstate + at, 8);
                poke(trial, address + at, at >= 464 && at < 512 ? 0 : value);
            }
    }
    if (!transfer || trial->operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
        return;
    uint64_t *target = general(trial, trial->operands[0].reg.value);
    if (target == &trial->cpu.gpr[RSP])
        poke(trial, *target, 0xcccccccccccccccc);
    else
        *target = landing(trial);
}

static void aim_instruction(struct trial *trial)
{
    uint64_t *gpr = trial->cpu.gpr, rsp = gpr[RSP];
    if (trial->zydis.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
        gpr[RCX] = below(trial, 6);
    switch (trial->zydis.mnemonic) {
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
        gpr[RCX] = below(trial, 3) | (below(trial, 2) ? 1ull << 32 : 0);
        break;
    case ZYDIS_MNEMONIC_RET:
        poke(trial, rsp, landing(trial));
        break;
    case ZYDIS_MNEMONIC_IRETQ: /* rip, cs, flags, rsp, ss */
        poke(trial, rsp, landing(trial));
        poke(trial, rsp + 8, 0x33);
        poke(trial, rsp + 16, 0x202 | (next_random(trial) & 0xcd5));
        poke(trial, rsp + 24, rsp + 8 * below(trial, 8));
        poke(trial, rsp + 32, 0x2b);
        break;
    case ZYDIS_MNEMONIC_POPF: /* no single step, no alignment check: those are for the whole test */
    case ZYDIS_MNEMONIC_POPFQ:
        poke(trial, rsp, 0x202 | (next_random(trial) & 0xcd5));
        break;
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_ENTER:
        gpr[RBP] = rsp + 8 * below(trial, 32);
        break;
    case ZYDIS_MNEMONIC_SYSCALL:
        gpr[RAX] = SYS_getppid;
        break;
    case ZYDIS_MNEMONIC_INT:
        gpr[RAX] = 64; /* the same for 32 bits */
        break;
    case ZYDIS_MNEMONIC_WRPKRU: /* others than 0 would lock us out */
        gpr[RAX] = gpr[RCX] = gpr[RDX] = 0;
        break;
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_RDPKRU:
        gpr[RCX] = 0;
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (trial->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER && trial->operands[0].reg.value == ZYDIS_REGISTER_SS)
            gpr[RAX] = 0x2b; /* what is there already */
        break;
    default:
        break;
    }
}

void trial_make(const struct form *form, const struct place *place, enum variant variant, uint64_t seed,
                struct trial *trial)
{
    ZydisDecoder decoder;
    trial->place = place;
    trial->variant = variant;
    trial->random = seed | 1;
    for (int i = 0; i < 8; i++)
        next_random(trial);
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderDecodeFull(&decoder, form->bytes, form->length, &trial->zydis, trial->operands);
    place_instruction(form, trial);
    fill(trial, trial->data, DATA_SIZE);
    fill(trial, trial->stack, STACK_SIZE);
    fill_registers(trial);
    fill_vectors(trial);
    aim_operands(trial);
    aim_instruction(trial);
}
