/* SPDX-License-Identifier: MIT
 *
 * The same state is given to the original and to its copy; what comes out has to be the same, once the copy's own
 * address has been turned back with its marks. While the copy runs, the original's bytes are int3. The differences that
 * are allowed:
 *
 * - memory below the red zone, and in front of what a call pushes (see transfer.c), which no program may count on;
 * - x87 instructions note their own address and ModRM byte, which nothing but fnstenv and its like ever reads;
 * - what time, chance or the processor's number decides (rdtsc, rdrand).
 *
 * Then the copy is stopped before each of its instructions (int3 there), the thread is moved as the mark says, and goes
 * on in the original: that must end the same, too.
 */
#include "compare.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "insn/emulation.h"

enum { RCX = 1, RSP = 4, INT3 = 0xcc };
#define STATUS_FLAGS 0x244dd5ull /* ID, AC, NT, OF, DF, TF, SF, ZF, AF, PF, CF */

static uint8_t bare_data[DATA_SIZE], bare_stack[STACK_SIZE];

static void *at(uint64_t addr)
{
    return (void *)addr;
}

static void fail(struct verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct verdict *verdict, const char *format, ...)
{
    va_list args;
    if (verdict->failed)
        return;
    verdict->failed = true;
    va_start(args, format);
    vsnprintf(verdict->difference, sizeof verdict->difference, format, args);
    va_end(args);
}

static void load(const struct trial *trial, bool with_original)
{
    const struct place *place = trial->place;
    memset(at(place->text), INT3, TEXT_SIZE);
    if (with_original)
        memcpy(at(trial->insn.addr), trial->insn.bytes, trial->insn.length);
    memcpy(at(place->data), trial->data, DATA_SIZE);
    memcpy(at(place->stack), trial->stack, STACK_SIZE);
}

/* Bit n: register n is not to be compared; bit 16: neither are the flags. */
static uint32_t left_to_chance(const struct trial *trial)
{
    uint32_t mask = 0;
    switch (trial->zydis.mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_UMWAIT:
    case ZYDIS_MNEMONIC_TPAUSE:
        break;
    default:
        return 0;
    }
    for (size_t i = 0; i < trial->zydis.operand_count; i++) {
        const ZydisDecodedOperand *operand = &trial->operands[i];
        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER || !(operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operand->reg.value);
        if (whole >= ZYDIS_REGISTER_RAX && whole <= ZYDIS_REGISTER_R15)
            mask |= 1u << ZydisRegisterGetId(whole);
        else
            mask |= 1u << 16;
    }
    return mask;
}

/* A part that is not in use counts as its initial state, whatever bytes lie there. */
static void settle(const struct trial *trial, struct cpu *cpu)
{
    static const uint8_t x87_start[24] = {0x7f, 0x03};
    memset(cpu->xstate + 464, 0, 48); /* the kernel's own notes */
    if (machine_xstate_size >= 576) {
        uint64_t used = *machine_parts_used(cpu);
        if (!(used & 1)) {
            memcpy(cpu->xstate, x87_start, sizeof x87_start);
            memset(cpu->xstate + 32, 0, 128);
        }
        if (!(used & 2))
            memset(cpu->xstate + 160, 0, 256);
        for (int i = XPART_YMM; i < XPART_COUNT; i++)
            if (!(used >> i & 1))
                memset(cpu->xstate + machine_xparts[i].at, 0, machine_xparts[i].size);
        memset(cpu->xstate + 512, 0, 64);
    }
    if (trial->zydis.meta.isa_ext == ZYDIS_ISA_EXT_X87)
        memset(cpu->xstate + 6, 0, 10); /* opcode and address */
}

static void compare_registers(const struct trial *trial, const struct outcome *bare, struct outcome *copy,
                              struct verdict *verdict)
{
    uint32_t chance = left_to_chance(trial);
    if (copy->signal != bare->signal || copy->code != bare->code || copy->address != bare->address)
        fail(verdict, "signal %d (code %d, address %#lx), bare %d (%d, %#lx)", copy->signal, copy->code, copy->address,
             bare->signal, bare->code, bare->address);
    if (copy->trap != bare->trap || copy->error != bare->error)
        fail(verdict, "exception %lu error %#lx, bare %lu %#lx", copy->trap, copy->error, bare->trap, bare->error);
    if (copy->cpu.rip != bare->cpu.rip)
        fail(verdict, "rip %#lx, bare %#lx", copy->cpu.rip, bare->cpu.rip);
    for (int i = 0; i < 16; i++)
        if (copy->cpu.gpr[i] != bare->cpu.gpr[i] && !(chance >> i & 1))
            fail(verdict, "register %d is %#lx, bare %#lx", i, copy->cpu.gpr[i], bare->cpu.gpr[i]);
    if ((copy->cpu.flags ^ bare->cpu.flags) & STATUS_FLAGS && !(chance >> 16 & 1))
        fail(verdict, "flags %#lx, bare %#lx", copy->cpu.flags, bare->cpu.flags);
    if (copy->cpu.fs_base != bare->cpu.fs_base || copy->cpu.gs_base != bare->cpu.gs_base)
        fail(verdict, "segment bases %#lx %#lx, bare %#lx %#lx", copy->cpu.fs_base, copy->cpu.gs_base,
             bare->cpu.fs_base, bare->cpu.gs_base);
    settle(trial, &copy->cpu);
    for (size_t i = 0; i < machine_xstate_size; i++)
        if (copy->cpu.xstate[i] != bare->cpu.xstate[i])
            fail(verdict, "xstate[%zu] is %#x, bare %#x", i, copy->cpu.xstate[i], bare->cpu.xstate[i]);
}

/* How many bytes below the original's stack pointer, and how many of these not, a copy may have changed. */
static bool may_differ(const struct trial *trial, const struct outcome *bare, const struct tl_copy *copy, uint64_t addr)
{
    uint64_t below = trial->cpu.gpr[RSP] - addr; /* 1: the byte right below */
    bool call = trial->insn.flow == TL_FLOW_CALL || trial->insn.flow == TL_FLOW_CALL_INDIRECT;
    bool landed = bare->signal == SIGTRAP;
    for (size_t i = 0; i < copy->marks_used; i++)
        if (copy->marks[i].unwind > 128 && below > 128 && below <= 144)
            return true;
    if (trial->insn.flow == TL_FLOW_CALL_INDIRECT && below > 8 && below <= 16)
        return true;
    return call && !landed && below > 0 && below <= 8; /* the call has not happened, but was pushed for */
}

static void compare_memory(const struct trial *trial, const struct outcome *bare, const struct tl_copy *copy,
                           struct verdict *verdict)
{
    const struct place *place = trial->place;
    const uint8_t *data = at(place->data), *stack = at(place->stack);
    for (size_t i = 0; memcmp(data, bare_data, DATA_SIZE) != 0 && i < DATA_SIZE; i++)
        if (data[i] != bare_data[i])
            fail(verdict, "data[%#zx] is %#x, bare %#x", i, data[i], bare_data[i]);
    for (size_t i = 0; memcmp(stack, bare_stack, STACK_SIZE) != 0 && i < STACK_SIZE; i++)
        if (stack[i] != bare_stack[i] && !may_differ(trial, bare, copy, place->stack + i))
            fail(verdict, "stack[rsp%+ld] is %#x, bare %#x", (long)(place->stack + i - trial->cpu.gpr[RSP]), stack[i],
                 bare_stack[i]);
}

static bool is_inside(const struct tl_copy *copy, uint64_t where, uint64_t addr)
{
    return addr - where < copy->length;
}

/* What a broker of signals would do with a thread found in the copy at `where`. false: the marks do not allow it. */
static bool move_out(const struct tl_insn *insn, const struct tl_copy *copy, uint64_t where, struct outcome *outcome)
{
    struct cpu *cpu = &outcome->cpu;
    if (!is_inside(copy, where, cpu->rip))
        return true;
    const struct tl_mark *mark = tl_copy_mark(copy, cpu->rip - where);
    if (!mark || (mark->state == TL_MARK_WITHIN && mark->unwind == 0))
        return false;
    if (mark->state == TL_MARK_WITHIN) {
        if (mark->borrowed != TL_NO_REG)
            memcpy(&cpu->gpr[mark->borrowed], at(cpu->gpr[RSP]), 8);
        cpu->gpr[RSP] += mark->unwind;
    }
    if (mark->state == TL_MARK_AFTER && insn->is_syscall)
        cpu->gpr[RCX] = mark->addr;
    if (outcome->address == cpu->rip) /* SIGILL and SIGFPE tell where */
        outcome->address = mark->addr;
    cpu->rip = mark->addr;
    return true;
}

static void run_copy(const struct trial *trial, const struct tl_copy *copy, uint64_t where, size_t stop,
                     struct outcome *outcome)
{
    struct cpu cpu = trial->cpu;
    load(trial, false);
    memset(at(where & ~0xfffull), INT3, 0x1000);
    memcpy(at(where), copy->code, copy->length);
    if (stop < copy->length)
        *(uint8_t *)at(where + stop) = INT3;
    cpu.rip = where;
    machine_run(&cpu, outcome);
}

static void check_copy(const struct trial *trial, const struct tl_copy *copy, uint64_t where,
                       const struct outcome *bare, struct verdict *verdict)
{
    struct outcome outcome;
    run_copy(trial, copy, where, SIZE_MAX, &outcome);
    verdict->runs++;
    if (!move_out(&trial->insn, copy, where, &outcome))
        fail(verdict, "signal %d at +%#lx, where the marks know no way back", outcome.signal, outcome.cpu.rip - where);
    compare_registers(trial, bare, &outcome, verdict);
    compare_memory(trial, bare, copy, verdict);
}

static void check_mark(const struct trial *trial, const struct tl_copy *copy, uint64_t where,
                       const struct tl_mark *mark, const struct outcome *bare, struct verdict *verdict)
{
    struct outcome outcome, end;
    run_copy(trial, copy, where, mark->at, &outcome);
    verdict->runs++;
    if (outcome.signal != SIGTRAP || outcome.cpu.rip != where + mark->at + 1)
        return; /* this way does not come here */
    outcome.cpu.rip--;
    if (!move_out(&trial->insn, copy, where, &outcome))
        return;
    verdict->marks++;
    memcpy(at(trial->insn.addr), trial->insn.bytes, trial->insn.length);
    machine_run(&outcome.cpu, &end);
    verdict->runs++;
    compare_registers(trial, bare, &end, verdict);
    compare_memory(trial, bare, copy, verdict);
}

/* The variant for conditional exits: what follows its end is where a taken branch comes to. */
static void check_taken(const struct trial *trial, uint64_t where, const struct outcome *bare, struct verdict *verdict)
{
    struct tl_copy copy;
    struct outcome outcome;
    if (tl_insn_relocate_taken(&trial->insn, where, &copy) != 0) {
        fail(verdict, "no copy for the taken way");
        return;
    }
    run_copy(trial, &copy, where, SIZE_MAX, &outcome);
    verdict->runs++;
    if (outcome.cpu.rip == where + copy.length + 1)
        outcome.cpu.rip = trial->insn.target + 1;
    compare_registers(trial, bare, &outcome, verdict);
    compare_memory(trial, bare, &copy, verdict);
}

/* Whether the operand of a call is the very slot that the call pushes to: a thread cannot be moved back to before that.
 */
static bool overwrites_operand(const struct trial *trial)
{
    const ZydisDecodedOperand *operand = &trial->operands[0];
    return trial->insn.flow == TL_FLOW_CALL_INDIRECT && operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
           operand->mem.base == ZYDIS_REGISTER_RSP && operand->mem.disp.value > -16 && operand->mem.disp.value < 0;
}

/* What tl_insn_indirect_target says, worked out with the registers at the start, is where the processor went. */
static void check_target(const struct trial *trial, const struct outcome *bare, struct verdict *verdict)
{
    struct tl_operand operand;
    if (bare->signal != SIGTRAP || tl_insn_indirect_target(&trial->insn, &operand) != 0)
        return;
    uint64_t target = (uint64_t)operand.displacement;
    if (operand.base != TL_NO_REG)
        target += trial->cpu.gpr[operand.base];
    if (operand.index != TL_NO_REG)
        target += trial->cpu.gpr[operand.index] * operand.scale;
    if (operand.memory && target - trial->place->data <= DATA_SIZE - 8)
        memcpy(&target, trial->data + (target - trial->place->data), 8);
    else if (operand.memory && target - trial->place->stack <= STACK_SIZE - 8)
        memcpy(&target, trial->stack + (target - trial->place->stack), 8);
    if (target + 1 != bare->cpu.rip)
        fail(verdict, "target worked out as %#lx, bare %#lx", target, bare->cpu.rip - 1);
}

/* 8 bytes of the trial's memory, as they were at the start. */
static bool memory_at(const struct trial *trial, uint64_t addr, uint64_t *value)
{
    if (addr - trial->place->data <= DATA_SIZE - 8)
        memcpy(value, trial->data + (addr - trial->place->data), 8);
    else if (addr - trial->place->stack <= STACK_SIZE - 8)
        memcpy(value, trial->stack + (addr - trial->place->stack), 8);
    else
        return false;
    return true;
}

static bool condition_holds(uint8_t condition, uint64_t flags)
{
    bool carry = flags & 1, parity = flags & 4, zero = flags & 0x40, sign = flags & 0x80, overflow = flags & 0x800;
    const bool positive[] = {
        overflow, carry, zero, carry || zero, sign, parity, sign != overflow, zero || sign != overflow};
    return condition == TL_CONDITION_NONE || positive[condition >> 1 & 7] != (condition & 1);
}

/* The operand of an indirect transfer; false where it is not in the trial's memory. */
static bool operand_of(const struct trial *trial, const struct tl_emulation *emulation, uint64_t *value)
{
    const struct cpu *cpu = &trial->cpu;
    uint64_t sum = (uint64_t)emulation->displacement;
    if (emulation->base != TL_NO_REG)
        sum += cpu->gpr[emulation->base];
    if (emulation->index != TL_NO_REG)
        sum += cpu->gpr[emulation->index] * emulation->scale;
    *value = sum;
    if (!emulation->memory)
        return true;
    if (emulation->address_32)
        sum = (uint32_t)sum;
    if (emulation->segment)
        sum += emulation->segment == TL_SEGMENT_FS ? cpu->fs_base : cpu->gs_base;
    return memory_at(trial, sum, value);
}

/* The counter of a loop, one less; or of jrcxz, as it is. */
static uint64_t counted(const struct trial *trial, const struct tl_emulation *emulation)
{
    uint64_t count = trial->cpu.gpr[RCX];
    if (emulation->op == TL_EMULATE_LOOP)
        count = emulation->narrow ? (uint32_t)(count - 1) : count - 1;
    return count;
}

/* What tl_insn_emulation says, carried out on the state at the start, is what the processor has done. */
static void check_emulation(const struct trial *trial, const struct outcome *bare, struct verdict *verdict)
{
    struct tl_emulation emulation;
    uint64_t rsp = trial->cpu.gpr[RSP], rip, value, pushed;
    if (tl_insn_emulation(&trial->insn, &emulation) != 0 || bare->signal != SIGTRAP)
        return;
    uint64_t count = counted(trial, &emulation);
    bool holds = condition_holds(emulation.condition, trial->cpu.flags);
    bool zero = emulation.narrow ? !(uint32_t)count : !count;
    switch (emulation.op) {
    case TL_EMULATE_BRANCH:
        rip = holds ? emulation.target : emulation.next;
        break;
    case TL_EMULATE_LOOP:
        rip = !zero && holds ? emulation.target : emulation.next;
        break;
    case TL_EMULATE_JUMP_ZERO:
        rip = zero ? emulation.target : emulation.next;
        break;
    case TL_EMULATE_RET:
        if (!memory_at(trial, rsp, &rip))
            return;
        rsp += 8u + emulation.release;
        break;
    case TL_EMULATE_JUMP_INDIRECT:
    case TL_EMULATE_CALL_INDIRECT:
        if (!operand_of(trial, &emulation, &value))
            return;
        rip = value;
        break;
    default:
        rip = emulation.target;
    }
    if (emulation.op == TL_EMULATE_CALL || emulation.op == TL_EMULATE_CALL_INDIRECT) {
        rsp -= 8;
        memcpy(&pushed, bare_stack + (rsp - trial->place->stack), sizeof pushed);
        if (pushed != emulation.next)
            fail(verdict, "emulated, %#lx is pushed, bare %#lx", emulation.next, pushed);
    }
    verdict->emulated = true;
    if (rip + 1 != bare->cpu.rip || rsp != bare->cpu.gpr[RSP] || count != bare->cpu.gpr[RCX])
        fail(verdict, "emulated: rip %#lx rsp %#lx rcx %#lx, bare %#lx %#lx %#lx", rip, rsp, count, bare->cpu.rip - 1,
             bare->cpu.gpr[RSP], bare->cpu.gpr[RCX]);
}

static void check_room(const struct trial *trial, int room, const struct outcome *bare, struct verdict *verdict)
{
    struct tl_copy copy;
    uint64_t where = (room == ROOM_NEAR ? trial->place->near : trial->place->far) + 0x100;
    tl_insn_relocate(&trial->insn, where, &copy);
    verdict->why[room] = copy.why;
    if (copy.why != TL_WHY_NONE)
        return;
    check_copy(trial, &copy, where, bare, verdict);
    if ((trial->variant == VARIANT_ALIGNED || trial->variant == VARIANT_SMALL) && !overwrites_operand(trial))
        for (size_t i = 1; i < copy.marks_used; i++)
            check_mark(trial, &copy, where, &copy.marks[i], bare, verdict);
    if (trial->insn.flow == TL_FLOW_BRANCH)
        check_taken(trial, where, bare, verdict);
}

void trial_run(struct trial *trial, struct verdict *verdict)
{
    static struct outcome bare;
    *verdict = (struct verdict){0};
    if (trial->insn.why != TL_WHY_NONE && trial->insn.why != TL_WHY_TRAP_INSN) {
        verdict->why[ROOM_NEAR] = verdict->why[ROOM_FAR] = trial->insn.why;
        return;
    }
    load(trial, true);
    machine_run(&trial->cpu, &bare);
    verdict->runs++;
    verdict->signal = bare.signal;
    settle(trial, &bare.cpu);
    check_target(trial, &bare, verdict);
    memcpy(bare_data, at(trial->place->data), DATA_SIZE);
    memcpy(bare_stack, at(trial->place->stack), STACK_SIZE);
    check_emulation(trial, &bare, verdict);
    for (int room = 0; room < ROOM_COUNT; room++)
        check_room(trial, room, &bare, verdict);
}
