/* SPDX-License-Identifier: MIT
 *
 * What stands in front of a guarded system call.
 *
 *     mov  r11, rax; lahf; seto al       rcx and r11 are the kernel's to overwrite, so they are free here
 *     cmp  r11d, numbers
 *     jae  out
 *     bt   [table], r11d
 *     jnc  out
 *     add  al, 127; sahf; mov rax, r11   (a number that is known beforehand begins here)
 *     lea  rsp, [rsp - 128]
 *     mov  rcx, [rsp - 896]              (whether there is stack enough: see hook.c)
 *     mov  r11, context
 *     mov  rcx, next
 *     call [routine]
 *     jrcxz go
 *     pushf; pop r11
 *     lea  rsp, [rsp + 128]
 *     jmp  behind the system call
 *  go:
 *     lea  rsp, [rsp + 128]
 *     jmp  to it
 *  routine, table
 *  out:
 *     add  al, 127; sahf; mov rax, r11
 *     (the system call; rcx = next)
 *
 * A call that is of no interest passes in a dozen instructions, none of which writes to memory. Everything is absolute
 * or in here, nothing in the gate page: in a fork child, where that is wiped, guards go on.
 */
#include <errno.h>
#include <string.h>

#include "hit/abi.h"
#include "probe/guards.h"

struct code {
    uint8_t *out;
    size_t length;
};

static void put(struct code *code, const void *bytes, size_t count)
{
    memcpy(code->out + code->length, bytes, count);
    code->length += count;
}

#define PUT(code, ...) put(code, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* A distance of 32 bits that is not known yet; `land` fills it in. */
static size_t distance(struct code *code)
{
    PUT(code, 0, 0, 0, 0);
    return code->length;
}

static void land_at(struct code *code, size_t from, size_t to)
{
    uint32_t value = (uint32_t)(to - from);
    memcpy(code->out + from - sizeof value, &value, sizeof value);
}

static void land(struct code *code, size_t from)
{
    land_at(code, from, code->length);
}

static void restore_rax(struct code *code)
{
    PUT(code, 0x04, 0x7f, 0x9e, 0x4c, 0x89, 0xd8); /* add al, 127; sahf; mov rax, r11 */
}

static void raise_stack(struct code *code)
{
    PUT(code, 0x48, 0x8d, 0xa4, 0x24, TL_RED_ZONE, 0, 0, 0); /* lea rsp, [rsp + 128] */
}

struct look {
    size_t beyond, table, none;
};

static struct look emit_look(struct code *code)
{
    struct look look;
    uint32_t end = TL_GUARDED_END;
    PUT(code, 0x49, 0x89, 0xc3, 0x9f, 0x0f, 0x90, 0xc0); /* mov r11, rax; lahf; seto al */
    PUT(code, 0x41, 0x81, 0xfb);                         /* cmp r11d, … */
    put(code, &end, sizeof end);
    PUT(code, 0x0f, 0x83); /* jae */
    look.beyond = distance(code);
    PUT(code, 0x44, 0x0f, 0xa3, 0x1d); /* bt [rip + …], r11d */
    look.table = distance(code);
    PUT(code, 0x0f, 0x83); /* jnc */
    look.none = distance(code);
    restore_rax(code);
    return look;
}

enum { LOOK_BYTES = 3 + 4 + 7 + 6 + 8 + 6 + 6 };
/* Behind the look. */
enum { AT_LOOK = 5, AT_CONTEXT = AT_LOOK + 8, AT_CALL = AT_CONTEXT + 10 + 10, END_CALL = AT_CALL + 6 };
enum { GUARD_STACK = 896 }; /* what a guard takes of the stack below the red zone, at most */

int tl_guard_hook_emit(const struct tl_guard_hook *hook, uint8_t out[TL_GUARD_BYTES_MAX], size_t *length)
{
    struct code code = {.out = out};
    struct look look = {0};
    if (!hook->length)
        return -EINVAL;
    if (!hook->known)
        look = emit_look(&code);
    PUT(&code, 0x48, 0x8d, 0x64, 0x24, 0x80); /* lea rsp, [rsp - 128] */
    PUT(&code, 0x48, 0x8b, 0x8c, 0x24);       /* mov rcx, [rsp - …] */
    put(&code, &(int32_t){-GUARD_STACK}, sizeof(int32_t));
    PUT(&code, 0x49, 0xbb); /* mov r11, … */
    put(&code, &hook->context, sizeof hook->context);
    PUT(&code, 0x48, 0xb9); /* mov rcx, … */
    put(&code, &hook->next, sizeof hook->next);
    PUT(&code, 0xff, 0x15); /* call [rip + …] */
    size_t routine = distance(&code);
    PUT(&code, 0xe3, 0); /* jrcxz */
    size_t go = code.length;
    PUT(&code, 0x9c, 0x41, 0x5b); /* pushf; pop r11 */
    raise_stack(&code);
    PUT(&code, 0xe9);
    size_t behind = distance(&code);
    out[go - 1] = (uint8_t)(code.length - go);
    raise_stack(&code);
    PUT(&code, 0xe9);
    size_t to_it = distance(&code);
    land(&code, routine);
    put(&code, &hook->routine, sizeof hook->routine);
    if (!hook->known) {
        land(&code, look.table);
        put(&code, tl_guarded_numbers, sizeof tl_guarded_numbers);
        land(&code, look.beyond);
        land(&code, look.none);
        restore_rax(&code);
    }
    land(&code, to_it);
    land_at(&code, behind, code.length + hook->length);
    *length = code.length;
    return 0;
}

unsigned tl_guard_hook_marks(const struct tl_guard_hook *hook, uint64_t addr, struct tl_mark marks[TL_HOOK_MARKS],
                             size_t *end)
{
    size_t from = hook->known ? 0 : LOOK_BYTES;
    marks[0] = (struct tl_mark){.state = TL_MARK_BEFORE, .borrowed = TL_NO_REG, .addr = addr};
    static const uint8_t within[] = {AT_LOOK, AT_CALL};
    for (unsigned i = 0; i < sizeof within; i++)
        marks[i + 1] = (struct tl_mark){.at = (uint8_t)(from + within[i]),
                                        .state = TL_MARK_WITHIN,
                                        .borrowed = TL_NO_REG,
                                        .unwind = TL_RED_ZONE,
                                        .addr = addr};
    *end = from + END_CALL;
    return 1 + sizeof within;
}
