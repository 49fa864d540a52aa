/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <fnmatch.h>
#include <string.h>

struct value {
    uint64_t bits;
    bool faulted;
};

struct run {
    struct machine *machine;
    const struct tl_program *program;
    struct value stack[TL_PROGRAM_STACK];
    unsigned depth;
};

void machine_map(struct machine *machine, uint64_t addr, const void *bytes, size_t size)
{
    machine->regions[machine->region_count++] = (struct machine_region){addr, bytes, size};
}

static void broken(struct run *run, const char *why)
{
    if (!run->machine->broken)
        run->machine->broken = why;
}

static void push(struct run *run, uint64_t bits, bool faulted)
{
    if (run->depth == TL_PROGRAM_STACK)
        broken(run, "the stack overflows");
    else
        run->stack[run->depth++] = (struct value){bits, faulted};
}

static struct value pop(struct run *run)
{
    if (!run->depth) {
        broken(run, "the stack is empty");
        return (struct value){0, true};
    }
    return run->stack[--run->depth];
}

static bool read_byte(const struct machine *machine, uint64_t addr, uint8_t *byte)
{
    for (size_t i = 0; i < machine->region_count; i++) {
        const struct machine_region *region = &machine->regions[i];
        if (addr - region->addr < region->size) {
            *byte = ((const uint8_t *)region->bytes)[addr - region->addr];
            return true;
        }
    }
    return false;
}

static void load(struct run *run, struct value addr, unsigned size)
{
    uint64_t value = 0;
    bool ok = !addr.faulted;
    run->machine->loads += ok;
    for (unsigned i = 0; i < size && ok; i++) {
        uint8_t byte = 0;
        ok = read_byte(run->machine, addr.bits + i, &byte);
        value |= (uint64_t)byte << 8 * i;
    }
    push(run, ok ? value : 0, !ok);
}

static struct machine_slot *slot_at(struct run *run, unsigned index)
{
    static struct machine_slot none;
    if (index < TL_EVENT_ARGS)
        return &run->machine->slots[index];
    broken(run, "no such slot");
    return &none;
}

static void fetch_string(struct run *run, struct value addr, struct machine_slot *slot, int64_t most)
{
    memset(slot, 0, sizeof *slot);
    slot->is = SLOT_FAULT;
    run->machine->loads += !addr.faulted;
    if (most < 1 || most > TL_STRING_MAX)
        broken(run, "a string of no possible length");
    for (int64_t i = 0; !addr.faulted && !run->machine->broken; i++) {
        uint8_t byte = 0;
        if (i < most && !read_byte(run->machine, addr.bits + (uint64_t)i, &byte))
            return;
        slot->text[i] = (char)byte;
        if (byte)
            continue;
        slot->is = SLOT_STRING;
        return;
    }
}

static void match(struct run *run, const struct tl_operation *op)
{
    const struct machine_slot *slot = slot_at(run, op->a);
    if (slot->is == SLOT_EMPTY || slot->is == SLOT_NUMBER)
        broken(run, "a slot that holds no string");
    if (op->imm < 0 || (uint64_t)op->imm >= run->program->strings_size ||
        !memchr(run->program->strings + op->imm, 0, run->program->strings_size - (size_t)op->imm)) {
        broken(run, "no such constant");
        return;
    }
    const char *wanted = run->program->strings + op->imm;
    bool same = op->op == TL_OP_STREQ ? !strcmp(wanted, slot->text) : !fnmatch(wanted, slot->text, FNM_NOESCAPE);
    push(run, slot->is == SLOT_STRING && same, false);
}

static uint64_t low_bits(uint64_t value, unsigned bits)
{
    return bits >= 64 ? value : value & ((1ull << bits) - 1);
}

static void divide(struct run *run, uint8_t op, struct value a, struct value b)
{
    int64_t sa = (int64_t)a.bits, sb = (int64_t)b.bits;
    uint64_t result = 0;
    if (!b.bits)
        b.faulted = true;
    else if (op == TL_OP_UDIV || op == TL_OP_UMOD)
        result = op == TL_OP_UDIV ? a.bits / b.bits : a.bits % b.bits;
    else if (sb == -1)
        result = op == TL_OP_DIV ? -a.bits : 0;
    else
        result = (uint64_t)(op == TL_OP_DIV ? sa / sb : sa % sb);
    push(run, result, a.faulted || b.faulted);
}

static void binary(struct run *run, uint8_t op)
{
    struct value vb = pop(run), va = pop(run);
    uint64_t a = va.bits, b = vb.bits;
    int64_t sa = (int64_t)a, sb = (int64_t)b;
    bool faulted = va.faulted || vb.faulted;
    switch (op) {
#define ARITHMETIC(name, result)                                                                                       \
    case TL_OP_##name:                                                                                                 \
        push(run, (uint64_t)(result), faulted);                                                                        \
        return;
#define COMPARISON(name, result)                                                                                       \
    case TL_OP_##name:                                                                                                 \
        push(run, !faulted && (result), false);                                                                        \
        return;
        ARITHMETIC(ADD, a + b)
        ARITHMETIC(SUB, a - b)
        ARITHMETIC(MUL, a * b)
        ARITHMETIC(AND, a & b)
        ARITHMETIC(OR, a | b)
        ARITHMETIC(XOR, a ^ b)
        ARITHMETIC(SHL, a << (b % 64))
        ARITHMETIC(SHR, a >> (b % 64))
        ARITHMETIC(SAR, sa >> (b % 64))
        COMPARISON(EQ, a == b)
        COMPARISON(NE, a != b)
        COMPARISON(LT, sa < sb)
        COMPARISON(LE, sa <= sb)
        COMPARISON(GT, sa > sb)
        COMPARISON(GE, sa >= sb)
        COMPARISON(ULT, a < b)
        COMPARISON(ULE, a <= b)
        COMPARISON(UGT, a > b)
        COMPARISON(UGE, a >= b)
    default:
        divide(run, op, va, vb);
    }
}

static void unary(struct run *run, const struct tl_operation *op)
{
    struct value value = pop(run);
    unsigned unused = 64 - 8u * op->a;
    switch (op->op) {
    case TL_OP_SIGN:
        value.bits = unused >= 64 ? 0 : (uint64_t)((int64_t)(value.bits << unused) >> unused);
        break;
    case TL_OP_ZERO:
        value.bits = low_bits(value.bits, 8u * op->a);
        break;
    case TL_OP_BITS:
        value.bits = low_bits(value.bits >> op->b % 64, op->a);
        break;
    case TL_OP_NOT:
        value.bits = !value.bits;
        break;
    case TL_OP_NEG:
        value.bits = -value.bits;
        break;
    default:
        value.bits = ~value.bits;
    }
    push(run, value.bits, value.faulted);
}

static void store(struct run *run, unsigned index)
{
    struct value value = pop(run);
    *slot_at(run, index) = (struct machine_slot){.is = value.faulted ? SLOT_FAULT : SLOT_NUMBER, .value = value.bits};
}

static void push_slot(struct run *run, unsigned index)
{
    const struct machine_slot *slot = slot_at(run, index);
    if (slot->is == SLOT_EMPTY || slot->is == SLOT_STRING)
        broken(run, "a slot that holds no number");
    push(run, slot->value, slot->is == SLOT_FAULT);
}

/* Operations other than jumps and ends. */
static void execute(struct run *run, const struct tl_operation *op)
{
    struct machine *machine = run->machine;
    struct value value;
    switch ((enum tl_op)op->op) {
    case TL_OP_IMM:
        push(run, (uint64_t)op->imm, false);
        break;
    case TL_OP_REG:
        if (op->a >= TL_REG_COUNT)
            broken(run, "no such register");
        else
            push(run, machine->regs[op->a], false);
        break;
    case TL_OP_PID:
        push(run, machine->pid, false);
        break;
    case TL_OP_TID:
        push(run, machine->tid, false);
        break;
    case TL_OP_OLD:
        push(run, machine->old, !machine->is_watch);
        break;
    case TL_OP_NEW:
        push(run, machine->new, !machine->is_watch);
        break;
    case TL_OP_HOW:
        push(run, 0, false);
        break;
    case TL_OP_LOAD:
    case TL_OP_LOAD_DIRECT:
        if (op->a != 1 && op->a != 2 && op->a != 4 && op->a != 8)
            broken(run, "a load of no possible size");
        load(run, pop(run), op->a);
        break;
    case TL_OP_SIGN:
    case TL_OP_ZERO:
    case TL_OP_BITS:
    case TL_OP_NOT:
    case TL_OP_NEG:
    case TL_OP_COM:
        unary(run, op);
        break;
    case TL_OP_DUP:
        value = pop(run);
        push(run, value.bits, value.faulted);
        push(run, value.bits, value.faulted);
        break;
    case TL_OP_DROP:
        pop(run);
        break;
    case TL_OP_ARG:
        push_slot(run, op->a);
        break;
    case TL_OP_STORE:
        store(run, op->a);
        break;
    case TL_OP_STRING:
        fetch_string(run, pop(run), slot_at(run, op->a), op->imm);
        break;
    case TL_OP_STREQ:
    case TL_OP_GLOB:
        match(run, op);
        break;
    default:
        if (op->op >= TL_OP_ADD && op->op <= TL_OP_UGE)
            binary(run, op->op);
        else
            broken(run, "no such operation");
    }
}

enum machine_end machine_run(struct machine *machine, const struct tl_program *program)
{
    struct run run = {.machine = machine, .program = program};
    memset(machine->slots, 0, sizeof machine->slots);
    machine->loads = machine->steps = 0;
    machine->broken = NULL;
    for (size_t at = 0; at < program->length; at++) {
        const struct tl_operation *op = &program->code[at];
        size_t before = at;
        machine->steps++;
        if (op->op == TL_OP_END || op->op == TL_OP_REJECT)
            return op->op == TL_OP_END ? MACHINE_ACCEPT : MACHINE_REJECT;
        if (op->op == TL_OP_JZ || op->op == TL_OP_JNZ) {
            struct value value = pop(&run);
            bool is_true = !value.faulted && value.bits;
            if (is_true == (op->op == TL_OP_JNZ))
                at += (size_t)op->imm;
        } else if (op->op == TL_OP_JUMP) {
            at += (size_t)op->imm;
        } else {
            execute(&run, op);
        }
        if (at < before)
            broken(&run, "a jump backward");
        if (machine->broken)
            return MACHINE_BROKEN;
    }
    broken(&run, "the program runs off its end");
    return MACHINE_BROKEN;
}
