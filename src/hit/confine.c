/* SPDX-License-Identifier: MIT
 *
 * What a seccomp filter says of our own system calls. The kernel has not seen the filter yet: whatever it would refuse
 * comes to an end here as well, since all jumps lead forward.
 */
#include "hit/confine.h"
#include "hit/guard.h"

enum { LENGTH_MAX = 4096, WINDOW = 4 };
#define ARCHITECTURE 0xc000003eu /* x86-64 */
#define RET_ACTION 0xffff0000u
#define RET_ALLOW 0x7fff0000u

enum { NUMBER_AT = 0, ARCHITECTURE_AT = 4, DATA_SIZE = 64 };   /* struct seccomp_data */
enum { LD, LDX, ST, STX, ALU, JMP, RET, MISC };                /* code & 7 */
enum { IMM = 0x00, ABS = 0x20, LEN = 0x80 };                   /* of a load: code & 0xe0 */
enum { FROM_X = 8 };                                           /* in code: of ALU and JMP */
enum { ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR }; /* code >> 4 & 15, of ALU */
enum { JA, JEQ, JGT, JGE, JSET };                              /* the same, of JMP */
enum { RET_A = 0x10, TXA = 0x80 };

struct machine {
    const struct tl_caller *caller;
    struct tl_filter filter;
    uint32_t number; /* of the system call that it is asked about */
    uint32_t a, x, at;
    uint32_t window_at; /* which instructions are in the window */
    struct tl_filter_insn window[WINDOW];
};

static const struct tl_filter_insn *fetch(struct machine *m)
{
    uint32_t count = m->filter.length - m->at;
    if (m->at - m->window_at >= WINDOW) {
        if (count > WINDOW)
            count = WINDOW;
        m->window_at = m->at;
        if (!tl_guard_load(m->caller, m->window, m->filter.code + sizeof *m->window * m->at, sizeof *m->window * count))
            return NULL;
    }
    return &m->window[m->at - m->window_at];
}

/* False: it looks at what is not known here, the arguments and where the call stands. */
static bool load(const struct machine *m, const struct tl_filter_insn *insn, uint32_t *to)
{
    switch (insn->code & 0xe0) {
    case IMM:
        *to = insn->k;
        return true;
    case ABS:
        *to = insn->k == NUMBER_AT ? m->number : ARCHITECTURE;
        return insn->k == NUMBER_AT || insn->k == ARCHITECTURE_AT;
    case LEN:
        *to = DATA_SIZE;
        return true;
    default:
        return false;
    }
}

/* False: there is no result. */
static bool calculate(unsigned operation, uint32_t *a, uint32_t b)
{
    switch (operation) {
    case ADD:
        *a += b;
        return true;
    case SUB:
        *a -= b;
        return true;
    case MUL:
        *a *= b;
        return true;
    case DIV:
        *a = b ? *a / b : 0;
        return b != 0;
    case OR:
        *a |= b;
        return true;
    case AND:
        *a &= b;
        return true;
    case LSH:
        *a <<= b & 31;
        return true;
    case RSH:
        *a >>= b & 31;
        return true;
    case NEG:
        *a = 0 - *a;
        return true;
    case XOR:
        *a ^= b;
        return true;
    default:
        return false;
    }
}

static bool is_met(unsigned condition, uint32_t a, uint32_t b)
{
    switch (condition) {
    case JEQ:
        return a == b;
    case JGT:
        return a > b;
    case JGE:
        return a >= b;
    default:
        return (a & b) != 0;
    }
}

/* One instruction. False: it is the last; *action is what the filter returns, or 0: unknown. */
static bool step(struct machine *m, uint32_t *action)
{
    const struct tl_filter_insn *insn = fetch(m);
    *action = 0;
    if (!insn)
        return false;
    uint32_t b = insn->code & FROM_X ? m->x : insn->k;
    m->at++;
    switch (insn->code & 7) {
    case LD:
        return load(m, insn, &m->a);
    case LDX:
        return load(m, insn, &m->x);
    case ST: /* there is no memory here: stacks may be short, and nobody uses it */
    case STX:
        return false;
    case ALU:
        return calculate(insn->code >> 4 & 15, &m->a, b);
    case JMP:
        if ((insn->code >> 4 & 15) == JA)
            m->at += insn->k < LENGTH_MAX ? insn->k : LENGTH_MAX;
        else
            m->at += is_met(insn->code >> 4 & 15, m->a, b) ? insn->if_true : insn->if_false;
        return true;
    case RET:
        *action = insn->code & RET_A ? m->a : insn->k;
        return false;
    default:
        if (insn->code & TXA)
            m->a = m->x;
        else
            m->x = m->a;
        return true;
    }
}

static bool lets_pass(struct machine *m, uint32_t number)
{
    uint32_t action = 0;
    m->number = number;
    m->a = m->x = m->at = 0;
    m->window_at = ~(uint32_t)0 - WINDOW;
    while (m->at < m->filter.length && step(m, &action))
        action = 0;
    return (action & RET_ACTION) == RET_ALLOW;
}

bool tl_filter_forbids(const struct tl_caller *caller, uint64_t filter, uint64_t *forbidden)
{
#define NUMBER(name, number) number,
    static const uint16_t numbers[TL_OWN_COUNT] = {TL_OWN_CALLS(NUMBER)};
    struct machine m;
    m.caller = caller;
    if (!tl_guard_load(caller, &m.filter, filter, sizeof m.filter) || !m.filter.length || m.filter.length > LENGTH_MAX)
        return false;
    *forbidden = 0;
    for (unsigned i = 0; i < TL_OWN_COUNT; i++)
        if (!lets_pass(&m, numbers[i]))
            *forbidden |= (uint64_t)1 << i;
    return true;
}
