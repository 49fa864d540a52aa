/* SPDX-License-Identifier: MIT
 *
 * The interpreter of fetch programs (program.h).
 *
 * tl_program_verify has made sure of everything about the code: operations, operands, jumps, the depth of the stack.
 * Values are any 64 bits, so nothing that is done with one may trap: division looks before it divides, shift counts are
 * taken modulo 64 as the processor does.
 *
 * The stack and the slots lie in the lane, since the program's stack may be short. `bad` has a bit for each place of
 * the stack: its value could not be had.
 */
#include "hit/broker.h"
#include "hit/runtime.h"

enum { PAGE = 4096, ARITHMETIC_FLAGS = 0x8d5, OVERFLOW = 0x800 };

/* lahf left SF ZF AF PF CF in ah, seto OF in al. The other flags are still the program's: nothing in the runtime
 * changes them. */
static __attribute__((noinline)) uint64_t whole_flags(uint64_t saved)
{
    uint64_t flags = __builtin_ia32_readeflags_u64() & ~(uint64_t)ARITHMETIC_FLAGS;
    return flags | (saved >> 8 & ARITHMETIC_FLAGS & 0xff) | (saved & 1 ? OVERFLOW : 0);
}

struct unaligned {
    uint64_t value;
} __attribute__((packed, may_alias));

static inline uint64_t low_bits(uint64_t value, unsigned bits)
{
    return bits < 64 ? value & (((uint64_t)1 << bits) - 1) : value;
}

/* `size` bytes at `addr`, zero-extended, into *value. What is read without the kernel is read by whole words, or by
 * bytes, since the program may have asked for faults at unaligned accesses. Whose bytes they are is no matter:
 * sanitizers leave it. */
static inline __attribute__((no_sanitize("address"))) bool load(const struct tl_hit *hit, uint64_t addr, unsigned size,
                                                                uint64_t *value)
{
    uint64_t pushed = (uint64_t)(uintptr_t)&hit->regs->r[TL_RFLAGS];
    unsigned within = addr % 8;
    /* The page in which the hook has just saved registers is there. */
    if ((addr ^ pushed) < PAGE && within + size <= 8 && !(hit->area->flags & TL_HIT_NO_MEMORY)) {
        *value = low_bits(*(const volatile uint64_t *)(uintptr_t)(addr - within) >> 8 * within, 8 * size);
        return true;
    }
    *value = 0;
    return tl_memory_read(hit->area, hit->fs_base, addr, value, size) == size;
}

/* Where the next string of this hit goes. */
static inline uint8_t *scratch(const struct tl_hit *hit)
{
    return hit->lane->scratch + hit->scratch_used;
}

/* Read text of at most that many bytes, to where the next string goes; how many could be read. */
static __attribute__((noinline)) size_t read_text(const struct tl_hit *hit, uint64_t addr, size_t most)
{
    return tl_memory_is_direct(hit->area, hit->fs_base) ? tl_fault_copy_text(scratch(hit), addr, most)
                                                        : tl_memory_read_by_kernel(hit->area, addr, scratch(hit), most);
}

/* Read the string at `addr`, at most code->imm bytes of it, into slot code->a. */
static __attribute__((noinline)) void fetch_string(struct tl_hit *hit, const struct tl_operation *code, uint64_t addr)
{
    uint64_t most = (uint64_t)code->imm, left = TL_EVENT_STRINGS - hit->scratch_used;
    if (most > left)
        most = left;
    size_t length = 0, read = read_text(hit, addr, most);
    for (const uint8_t *text = scratch(hit); length < read && text[length];)
        length++;
    if (length == read && read < most) {
        tl_slot_fault(hit, code->a);
        return;
    }
    tl_slot_store_string(hit, code->a, length | hit->scratch_used << 32);
    hit->scratch_used += length;
}

/* STREQ and GLOB. */
static __attribute__((noinline)) bool string_matches(const struct tl_hit *hit, const struct tl_operation *code)
{
    const char *wanted = (const char *)hit->area + hit->area->strings + code->imm;
    if (!(hit->strings >> code->a & 1))
        return false;
    uint64_t value = hit->lane->slots[code->a];
    const uint8_t *text = hit->lane->scratch + (value >> 32);
    size_t length = (uint32_t)value, i = 0;
    if (code->op == TL_OP_GLOB)
        return tl_glob_match(wanted, text, length);
    while (i < length && wanted[i] && (uint8_t)wanted[i] == text[i])
        i++;
    return i == length && !wanted[i];
}

/* Signed or unsigned quotient or remainder; false where there is none. The one quotient that does not fit wraps. */
static bool divide(uint8_t op, uint64_t a, uint64_t b, uint64_t *result)
{
    if (b == 0)
        return false;
    if (op == TL_OP_UDIV || op == TL_OP_UMOD)
        *result = op == TL_OP_UDIV ? a / b : a % b;
    else if (~b == 0)
        *result = op == TL_OP_DIV ? 0 - a : 0;
    else
        *result = (uint64_t)(op == TL_OP_DIV ? (int64_t)a / (int64_t)b : (int64_t)a % (int64_t)b);
    return true;
}

static inline uint64_t sign_extend(uint64_t value, unsigned bytes)
{
    unsigned unused = (64 - 8 * bytes) & 63;
    return (uint64_t)((int64_t)(value << unused) >> unused);
}

bool tl_fetch_run(struct tl_hit *hit, const struct tl_operation *code)
{
    struct tl_lane *lane = hit->lane;
    uint64_t *stack = lane->stack; /* the first free place */
    uint32_t top = 1;              /* the bit of that place in `bad` */
    uint32_t bad = 0;

#define PUSH(value) (*stack++ = (value), bad &= ~top, top <<= 1)
#define POP() (stack--, top >>= 1)
#define BINARY(name, expression)                                                                                       \
    case TL_OP_##name: {                                                                                               \
        POP();                                                                                                         \
        uint64_t b = stack[0], a = stack[-1];                                                                          \
        stack[-1] = (expression);                                                                                      \
        bad |= (bad & top) >> 1;                                                                                       \
        break;                                                                                                         \
    }
#define COMPARE(name, type, operator)                                                                                  \
    case TL_OP_##name:                                                                                                 \
        POP();                                                                                                         \
        stack[-1] = !(bad & (top | top >> 1)) && (type)stack[-1] operator(type) stack[0];                              \
        bad &= ~(top >> 1);                                                                                            \
        break

    for (;; code++) {
        switch (code->op) {
        case TL_OP_END:
            return true;
        case TL_OP_REJECT:
            return false;
        case TL_OP_IMM:
            PUSH((uint64_t)code->imm);
            break;
        case TL_OP_REG:
            PUSH(code->a == TL_RFLAGS ? whole_flags(hit->regs->r[TL_RFLAGS]) : hit->regs->r[code->a]);
            break;
        case TL_OP_PID:
            PUSH(hit->area->pid);
            break;
        case TL_OP_TID:
            PUSH((uint32_t)hit->tid_site);
            break;
        case TL_OP_OLD:
        case TL_OP_NEW: {
            bool is_old = code->op == TL_OP_OLD;
            const struct tl_watched *watched = hit->watched;
            uint64_t value = !watched ? 0 : is_old ? watched->old : watched->new;
            PUSH(value);
            if (!watched || (is_old ? watched->no_old : watched->no_new))
                bad |= top >> 1;
            break;
        }
        case TL_OP_HOW:
            PUSH(hit->watched ? hit->watched->how : 0);
            break;
        case TL_OP_LOAD:
            if (!(bad & top >> 1) && !load(hit, stack[-1], code->a, &stack[-1]))
                bad |= top >> 1;
            break;
        case TL_OP_LOAD_DIRECT:
            if (!(bad & top >> 1))
                stack[-1] = ((const volatile struct unaligned *)(uintptr_t)stack[-1])->value;
            break;
        case TL_OP_SIGN:
            stack[-1] = sign_extend(stack[-1], code->a);
            break;
        case TL_OP_ZERO:
            stack[-1] = low_bits(stack[-1], 8u * code->a);
            break;
        case TL_OP_BITS:
            stack[-1] = low_bits(stack[-1] >> (code->b & 63), code->a);
            break;
            BINARY(ADD, a + b)
            BINARY(SUB, a - b)
            BINARY(MUL, a * b)
            BINARY(AND, a & b)
            BINARY(OR, a | b)
            BINARY(XOR, a ^ b)
            BINARY(SHL, a << (b & 63))
            BINARY(SHR, a >> (b & 63))
            BINARY(SAR, (uint64_t)((int64_t)a >> (b & 63)))
        case TL_OP_DIV:
        case TL_OP_MOD:
        case TL_OP_UDIV:
        case TL_OP_UMOD:
            POP();
            if (bad & top || !divide(code->op, stack[-1], stack[0], &stack[-1]))
                bad |= top >> 1;
            break;
            COMPARE(EQ, uint64_t, ==);
            COMPARE(NE, uint64_t, !=);
            COMPARE(LT, int64_t, <);
            COMPARE(LE, int64_t, <=);
            COMPARE(GT, int64_t, >);
            COMPARE(GE, int64_t, >=);
            COMPARE(ULT, uint64_t, <);
            COMPARE(ULE, uint64_t, <=);
            COMPARE(UGT, uint64_t, >);
            COMPARE(UGE, uint64_t, >=);
        case TL_OP_NOT:
            stack[-1] = !stack[-1];
            break;
        case TL_OP_NEG:
            stack[-1] = 0 - stack[-1];
            break;
        case TL_OP_COM:
            stack[-1] = ~stack[-1];
            break;
        case TL_OP_DUP:
            *stack = stack[-1];
            bad = (bad & ~top) | (bad << 1 & top);
            stack++;
            top <<= 1;
            break;
        case TL_OP_DROP:
            POP();
            break;
        case TL_OP_ARG:
            PUSH(lane->slots[code->a]);
            if (!(hit->slots >> code->a & 1))
                bad |= top >> 1;
            break;
        case TL_OP_STORE:
            POP();
            if (bad & top)
                tl_slot_fault(hit, code->a);
            else
                tl_slot_store(hit, code->a, *stack);
            break;
        case TL_OP_STRING:
            POP();
            if (bad & top)
                tl_slot_fault(hit, code->a);
            else
                fetch_string(hit, code, *stack);
            break;
        case TL_OP_STREQ:
        case TL_OP_GLOB:
            PUSH(string_matches(hit, code));
            break;
        case TL_OP_JZ:
            POP();
            if (bad & top || !*stack)
                code += code->imm;
            break;
        case TL_OP_JNZ:
            POP();
            if (!(bad & top) && *stack)
                code += code->imm;
            break;
        case TL_OP_JUMP:
            code += code->imm;
            break;
        default: /* not in a verified program */
            return false;
        }
    }
}
