/* SPDX-License-Identifier: MIT
 *
 * Most system calls have their number right in front of them, but not all:
 *
 *        mov  r8d, 202
 *     l: …
 *        mov  eax, r8d
 *        syscall
 *        …
 *        jmp  l
 *
 * So it is followed which registers hold which numbers, along all ways through the function that can be seen, until
 * nothing changes any more: a register has a number where it has the same one on every way there. (And 0 where it was
 * found to be that, by test and je.) Nothing is known
 * where control comes from out of sight: at the entry, behind a jump to which nobody jumps (a jump table does, or an
 * exception), and, if a function has a jump table at all, wherever somebody jumps to in it. (Where functions have no
 * names, one begins where it is called.)
 */
#include "probe/constants.h"

#include <errno.h>
#include <stdlib.h>

enum { REGISTERS = 16, RAX = 0, PASSES = 32, NONE = UINT32_MAX };
/* What a call may change: rax, rcx, rdx, rsi, rdi, r8 to r11; and rbx, in which Go returns values. */
enum { CALL_CHANGES = 0x0fcf };

/* Which registers hold numbers. */
struct state {
    bool reached;
    uint16_t known;
    uint32_t numbers[REGISTERS];
};

struct step {
    struct tl_insn insn;
    struct tl_effect effect;
    uint32_t target;    /* the step that it may jump to, or NONE */
    uint32_t state;     /* where control may come from elsewhere: which state; else NONE */
    bool follows, free; /* the one before leads here; control may come from out of sight */
    bool called;        /* a function begins here */
    uint32_t region;    /* which function this is, as far as can be seen */
};

struct flow {
    struct step *steps;
    struct state *states;
    size_t count, state_count;
    bool changed;
};

static int by_address(const void *left, const void *right)
{
    const struct step *a = left, *b = right;
    return a->insn.addr < b->insn.addr ? -1 : a->insn.addr > b->insn.addr;
}

static bool passes(const struct tl_insn *insn)
{
    return insn->flow == TL_FLOW_NEXT || insn->flow == TL_FLOW_BRANCH || insn->flow == TL_FLOW_CALL ||
           insn->flow == TL_FLOW_CALL_INDIRECT;
}

static int read_steps(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, struct flow *flow)
{
    size_t most = 0;
    for (size_t i = 0; i < count; i++)
        most += sweeps[i].instructions;
    flow->steps = calloc(most + 1, sizeof *flow->steps);
    if (!flow->steps)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct tl_range *range = &ranges[i];
        for (uint64_t at = tl_sweep_next(&sweeps[i], range->addr); at && flow->count < most;
             at = tl_sweep_next(&sweeps[i], at + 1)) {
            struct step *step = &flow->steps[flow->count];
            uint64_t offset = at - range->addr;
            if (tl_insn_decode(range->bytes + offset, range->size - offset, at, &step->insn))
                continue;
            tl_insn_effect(&step->insn, &step->effect);
            step->free = at == ranges[0].addr;
            flow->count++;
        }
    }
    qsort(flow->steps, flow->count, sizeof *flow->steps, by_address);
    return 0;
}

static uint32_t step_at(const struct flow *flow, uint64_t addr)
{
    const struct step key = {.insn.addr = addr},
                      *found = bsearch(&key, flow->steps, flow->count, sizeof key, by_address);
    return found ? (uint32_t)(found - flow->steps) : NONE;
}

bool tl_is_padding(const struct tl_insn *insn)
{
    unsigned at = 0;
    while (at < insn->length && (insn->bytes[at] == 0x66 || insn->bytes[at] == 0x2e))
        at++;
    unsigned left = insn->length - at;
    return (left == 1 && (insn->bytes[at] == 0x90 || insn->bytes[at] == 0xcc)) ||
           (left > 1 && insn->bytes[at] == 0x0f && insn->bytes[at + 1] == 0x1f);
}

/* Behind what does not lead on, control comes from somewhere else. */
static void mark_free(struct flow *flow)
{
    bool owed = false;
    for (size_t i = 0; i < flow->count; i++) {
        struct step *step = &flow->steps[i];
        owed |= !step->follows;
        bool reached = step->free || step->state != NONE;
        if (owed && !reached && !tl_is_padding(&step->insn))
            step->free = reached = true;
        if (owed && !reached)
            step->follows = false;
        owed &= !reached;
    }
}

/* Divide what was read into functions, and take back what is believed of those that have jump tables. */
static int poison(struct flow *flow)
{
    uint32_t region = 0;
    bool *indirect = calloc(flow->count + 1, sizeof *indirect);
    if (!indirect)
        return -ENOMEM;
    for (size_t i = 0; i < flow->count; i++) {
        struct step *step = &flow->steps[i];
        region += step->called;
        step->region = region;
        step->free |= step->called;
        indirect[region] |= step->insn.flow == TL_FLOW_JUMP_INDIRECT;
    }
    for (size_t i = 0; i < flow->count; i++)
        flow->steps[i].free |= flow->steps[i].state != NONE && indirect[flow->steps[i].region];
    free(indirect);
    return 0;
}

/* Who leads where. */
static int connect(struct flow *flow)
{
    for (size_t i = 0; i < flow->count; i++) {
        struct step *step = &flow->steps[i];
        const struct step *before = i ? step - 1 : NULL;
        step->follows = before && before->insn.addr + before->insn.length == step->insn.addr && passes(&before->insn);
        step->target = step->state = NONE;
    }
    for (size_t i = 0; i < flow->count; i++) {
        struct step *step = &flow->steps[i];
        if (step->insn.flow == TL_FLOW_JUMP || step->insn.flow == TL_FLOW_BRANCH)
            step->target = step_at(flow, step->insn.target);
        if (step->target != NONE && flow->steps[step->target].state == NONE)
            flow->steps[step->target].state = (uint32_t)flow->state_count++;
        uint32_t called = step->insn.flow == TL_FLOW_CALL ? step_at(flow, step->insn.target) : NONE;
        if (called != NONE)
            flow->steps[called].called = true;
    }
    int error = poison(flow);
    mark_free(flow);
    flow->states = calloc(flow->state_count + 1, sizeof *flow->states);
    return flow->states ? error : -ENOMEM;
}

/* What is known on both ways. */
static bool join(struct state *state, const struct state *other)
{
    struct state before = *state;
    if (!other->reached)
        return false;
    if (!state->reached) {
        *state = *other;
        return true;
    }
    state->known &= other->known;
    for (unsigned i = 0; i < REGISTERS; i++)
        if (state->numbers[i] != other->numbers[i])
            state->known &= (uint16_t) ~(1u << i);
    return state->known != before.known;
}

static void execute(const struct step *step, struct state *state)
{
    const struct tl_effect *effect = &step->effect;
    uint32_t number = effect->from == TL_NO_REG ? effect->number : state->numbers[effect->from];
    bool known = effect->gives != TL_NO_REG && (effect->from == TL_NO_REG || state->known >> effect->from & 1);
    state->known &= (uint16_t)~effect->written;
    if (step->insn.flow == TL_FLOW_CALL || step->insn.flow == TL_FLOW_CALL_INDIRECT)
        state->known &= (uint16_t)~CALL_CHANGES;
    if (step->insn.is_syscall)
        state->known &= (uint16_t) ~(1u << RAX);
    if (known) {
        state->known |= (uint16_t)(1u << effect->gives);
        state->numbers[effect->gives] = number;
    }
}

/* The register that is 0 where a `test` of it with itself sets ZF; or REGISTERS. */
static unsigned tested(const struct tl_insn *insn)
{
    unsigned at = (insn->bytes[0] & 0xf0) == 0x40, rex = at ? insn->bytes[0] : 0;
    unsigned operands = insn->bytes[at + 1];
    if (insn->length != at + 2 || insn->bytes[at] != 0x85 || operands < 0xc0)
        return REGISTERS;
    unsigned left = (operands >> 3 & 7) | (rex & 4) << 1, right = (operands & 7) | (rex & 1) << 3;
    return left == right ? left : REGISTERS;
}

/* je, or (4 | 1) jne. */
static bool is_branch(const struct tl_insn *insn, unsigned condition)
{
    return (insn->length == 2 && insn->bytes[0] == (0x70 | condition)) ||
           (insn->length == 6 && insn->bytes[0] == 0x0f && insn->bytes[1] == (0x80 | condition));
}

static void set_zero(struct state *state, unsigned reg)
{
    if (reg == REGISTERS)
        return;
    state->known |= (uint16_t)(1u << reg);
    state->numbers[reg] = 0;
}

/* On to where it may jump to, and to what follows. `zero`: what is 0 if the one before has found it equal. */
static void branch(struct flow *flow, const struct step *step, unsigned zero, struct state *state)
{
    struct state taken = *state;
    if (is_branch(&step->insn, 4))
        set_zero(&taken, zero);
    if (is_branch(&step->insn, 4 | 1))
        set_zero(state, zero);
    if (step->target != NONE)
        flow->changed |= join(&flow->states[flow->steps[step->target].state], &taken);
}

/* Through all instructions once; each() sees every one that can be reached, with what is known before it. */
static void pass(struct flow *flow, void (*each)(void *context, const struct step *step, const struct state *state),
                 void *context)
{
    static const struct state anything = {.reached = true};
    struct state state = {0};
    unsigned zero = REGISTERS;
    for (size_t i = 0; i < flow->count; i++) {
        const struct step *step = &flow->steps[i];
        if (!step->follows || step->state != NONE || step->free)
            zero = REGISTERS;
        if (!step->follows)
            state.reached = false;
        if (step->state != NONE) {
            flow->changed |= join(&flow->states[step->state], &state);
            state = flow->states[step->state];
        }
        if (step->free)
            state = anything;
        if (each)
            each(context, step, &state);
        if (!state.reached)
            continue;
        execute(step, &state);
        branch(flow, step, zero, &state);
        zero = tested(&step->insn);
    }
}

struct calls {
    uint64_t entered;
    struct tl_system_call *items;
    size_t count, most;
    bool settled;
};

static void note_call(void *context, const struct step *step, const struct state *state)
{
    struct calls *calls = context;
    if (step->free || step->state != NONE || !step->follows)
        calls->entered = step->insn.addr;
    if (!step->insn.is_syscall || calls->count == calls->most)
        return;
    struct tl_system_call *call = &calls->items[calls->count++];
    *call = (struct tl_system_call){
        .addr = step->insn.addr, .prefixes = (uint8_t)(step->insn.length - 2u), .number = state->numbers[RAX]};
    call->entered = calls->entered;
    call->known = calls->settled && state->reached && state->known >> RAX & 1;
}

int tl_system_calls(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count,
                    struct tl_system_call **out, size_t *call_count)
{
    struct flow flow = {0};
    struct calls calls = {0};
    int error = read_steps(ranges, sweeps, count, &flow);
    if (!error)
        error = connect(&flow);
    for (size_t i = 0; i < flow.count && !error; i++)
        calls.most += flow.steps[i].insn.is_syscall;
    calls.items = error ? NULL : calloc(calls.most + 1, sizeof *calls.items);
    if (!error && !calls.items)
        error = -ENOMEM;
    for (unsigned i = 0; i < PASSES && !calls.settled && !error; i++) {
        flow.changed = false;
        pass(&flow, NULL, NULL);
        calls.settled = !flow.changed;
    }
    if (!error)
        pass(&flow, note_call, &calls);
    free(flow.steps);
    free(flow.states);
    *out = calls.items;
    *call_count = calls.count;
    return error;
}
