/* SPDX-License-Identifier: MIT */
#include "hit/emulate.h"

#include "hit/brokering.h"

enum { CARRY = 1, PARITY = 4, ZERO = 0x40, SIGN = 0x80, OVERFLOW = 0x800, NOT = 1, NO_REGISTER = 0xff };

/* The sixteen conditions, as they are encoded: eight of them, and each with its opposite. */
static bool holds(unsigned condition, uint64_t flags)
{
    bool is_less = !(flags & SIGN) != !(flags & OVERFLOW), result;
    switch (condition >> 1) {
    case 0:
        result = flags & OVERFLOW;
        break;
    case 1:
        result = flags & CARRY;
        break;
    case 2:
        result = flags & ZERO;
        break;
    case 3:
        result = flags & (CARRY | ZERO);
        break;
    case 4:
        result = flags & SIGN;
        break;
    case 5:
        result = flags & PARITY;
        break;
    case 6:
        result = is_less;
        break;
    default:
        result = is_less || flags & ZERO;
        break;
    }
    return result != (condition & NOT);
}

static bool load(uint8_t segment, uint64_t addr, uint64_t *value)
{
    switch (segment) {
    case TL_SEGMENT_FS:
        return tl_fault_load_fs(addr, value);
    case TL_SEGMENT_GS:
        return tl_fault_load_gs(addr, value);
    default:
        return tl_fault_load(addr, value);
    }
}

/* Where an indirect transfer goes. */
static bool operand(const struct tl_emulation *emulation, const struct tl_hit_regs *regs, uint64_t *target)
{
    uint64_t addr = (uint64_t)emulation->displacement;
    if (!emulation->memory) {
        *target = regs->r[emulation->base];
        return true;
    }
    if (emulation->base != NO_REGISTER)
        addr += regs->r[emulation->base];
    if (emulation->index != NO_REGISTER)
        addr += regs->r[emulation->index] * emulation->scale;
    if (emulation->address_32)
        addr = (uint32_t)addr;
    return load(emulation->segment, addr, target);
}

/* What no processor would take for an address. */
static bool is_canonical(uint64_t addr)
{
    return (uint64_t)((int64_t)(addr << 7) >> 7) == addr;
}

static bool push(struct tl_hit_regs *regs, uint64_t value)
{
    if (!tl_fault_store(regs->r[TL_RSP] - 8, &value, sizeof value))
        return false;
    regs->r[TL_RSP] -= 8;
    return true;
}

/* One less in the counter; what is left. */
static uint64_t count_down(const struct tl_emulation *emulation, struct tl_hit_regs *regs)
{
    uint64_t *counter = &regs->r[TL_RCX];
    *counter = emulation->narrow ? (uint32_t)(*counter - 1) : *counter - 1;
    return *counter;
}

int tl_emulate(const struct tl_emulation *emulation, struct tl_hit_regs *regs)
{
    uint64_t flags = regs->r[TL_RFLAGS], target = emulation->target, counter;
    bool is_taken = true;
    switch (emulation->op) {
    case TL_EMULATE_JUMP:
        break;
    case TL_EMULATE_BRANCH:
        is_taken = holds(emulation->condition, flags);
        break;
    case TL_EMULATE_LOOP:
        is_taken = count_down(emulation, regs) != 0 &&
                   (emulation->condition == TL_CONDITION_NONE || holds(emulation->condition, flags));
        break;
    case TL_EMULATE_JUMP_ZERO:
        counter = regs->r[TL_RCX];
        is_taken = (emulation->narrow ? (uint32_t)counter : counter) == 0;
        break;
    case TL_EMULATE_CALL:
        if (!push(regs, emulation->next))
            return -TL_EFAULT;
        break;
    case TL_EMULATE_JUMP_INDIRECT:
        if (!operand(emulation, regs, &target) || !is_canonical(target))
            return -TL_EFAULT;
        break;
    case TL_EMULATE_CALL_INDIRECT:
        if (!operand(emulation, regs, &target) || !is_canonical(target) || !push(regs, emulation->next))
            return -TL_EFAULT;
        break;
    case TL_EMULATE_RET:
        if (!load(TL_SEGMENT_NONE, regs->r[TL_RSP], &target) || !is_canonical(target))
            return -TL_EFAULT;
        regs->r[TL_RSP] += 8u + emulation->release;
        break;
    default: /* TL_EMULATE_ABORT */
        regs->r[TL_RAX] = 0;
        break;
    }
    regs->r[TL_RIP] = is_taken ? target : emulation->next;
    return 0;
}
