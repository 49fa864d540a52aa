/* SPDX-License-Identifier: MIT
 *
 * Names of registers. Two dialects meet: the kernel's (%ax is all 64 bits, as in struct pt_regs) and the assembler's
 * (%rax, %eax, %al, %r8d). Where they clash, at %ax, %sp and so on, the kernel's meaning holds, for specs are its
 * language; the assembler's 16-bit names of these registers therefore have no spelling, but `%ax:u16` says the same.
 */
#include "spec/fetch.h"

#include <string.h>

/* In the order of enum tl_reg. */
static const char pairs[8][3] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};

static bool found(struct tl_register *reg, unsigned number, unsigned size, unsigned shift)
{
    *reg = (struct tl_register){.reg = (uint8_t)number, .size = (uint8_t)size, .shift = (uint8_t)shift};
    return true;
}

static bool is(const char *name, size_t length, const char *other)
{
    return length == strlen(other) && !memcmp(name, other, length);
}

static int pair_index(const char *name, size_t length)
{
    for (int i = 0; i < 8; i++)
        if (is(name, length, pairs[i]))
            return i;
    return -1;
}

/* al cl dl bl, ah ch dh bh */
static bool find_half(const char *name, size_t length, struct tl_register *reg)
{
    if (length != 2 || (name[1] != 'l' && name[1] != 'h'))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if (pairs[i][0] == name[0])
            return found(reg, i, 1, name[1] == 'h' ? 8 : 0);
    return false;
}

/* r8 … r15, with d, w, b or l behind for the low 4, 2, 1 bytes */
static bool find_numbered(const char *name, size_t length, struct tl_register *reg)
{
    if (length < 2 || name[0] != 'r')
        return false;
    unsigned number = 0;
    size_t at = 1;
    for (; at < length && at < 3 && tl_is_digit(name[at]); at++)
        number = number * 10 + (unsigned)(name[at] - '0');
    if (number < 8 || number > 15 || name[1] == '0' || length - at > 1)
        return false;
    if (at == length)
        return found(reg, TL_R8 + number - 8, 8, 0);
    switch (name[at]) {
    case 'd':
        return found(reg, TL_R8 + number - 8, 4, 0);
    case 'w':
        return found(reg, TL_R8 + number - 8, 2, 0);
    case 'b':
    case 'l':
        return found(reg, TL_R8 + number - 8, 1, 0);
    default:
        return false;
    }
}

bool tl_register_find(const char *name, size_t length, struct tl_register *reg)
{
    int index = pair_index(name, length);
    if (index >= 0)
        return found(reg, (unsigned)index, 8, 0);
    if (length == 3 && (name[0] == 'r' || name[0] == 'e')) {
        index = pair_index(name + 1, 2);
        if (index >= 0)
            return found(reg, (unsigned)index, name[0] == 'r' ? 8 : 4, 0);
    }
    if (length == 3 && name[2] == 'l') { /* spl bpl sil dil; "axl" and its like do not exist */
        index = pair_index(name, 2);
        if (index >= TL_RSP)
            return found(reg, (unsigned)index, 1, 0);
    }
    if (is(name, length, "ip") || is(name, length, "rip"))
        return found(reg, TL_RIP, 8, 0);
    if (is(name, length, "flags") || is(name, length, "rflags"))
        return found(reg, TL_RFLAGS, 8, 0);
    if (is(name, length, "eflags"))
        return found(reg, TL_RFLAGS, 4, 0);
    return find_half(name, length, reg) || find_numbered(name, length, reg);
}
