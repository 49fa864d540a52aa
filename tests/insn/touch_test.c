/* SPDX-License-Identifier: MIT
 *
 * Which bytes an instruction has accessed, from the registers behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "insn/touch.h"

enum { AT = 0x1000, RDX = 2, RSP = 4, RSI = 6, RDI = 7, R = TL_INSN_READS, W = TL_INSN_WRITES };

static uint64_t registers[16], flags;
static struct tl_touch touches[TL_TOUCHES_MAX];

static unsigned touched(const uint8_t *bytes, size_t size)
{
    struct tl_insn insn;
    assert_int_equal(tl_insn_decode(bytes, size, AT, &insn), 0);
    assert_int_equal(insn.length, size);
    return tl_insn_touches(&insn, registers, flags, touches);
}

#define TOUCHED(...) touched((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void expect(unsigned i, uint64_t addr, uint64_t size, unsigned access)
{
    assert_int_equal(touches[i].addr, addr);
    assert_int_equal(touches[i].size, size);
    assert_int_equal(touches[i].access, access);
}

static int begin(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++)
        registers[i] = 0x10000 * (i + 1);
    flags = 0;
    return 0;
}

static void operands_that_are_written_down(void **state)
{
    (void)state;
    assert_int_equal(TOUCHED(0x89, 0x07), 1); /* mov %eax, (%rdi) */
    expect(0, 0x80000, 4, W);
    assert_int_equal(TOUCHED(0x48, 0x89, 0x44, 0x97, 0xf8), 1); /* mov %rax, -8(%rdi,%rdx,4) */
    expect(0, 0x80000 + 4 * 0x30000 - 8, 8, W);
    assert_int_equal(TOUCHED(0xff, 0x05, 0x10, 0, 0, 0), 1); /* incl 16(%rip) */
    expect(0, AT + 6 + 16, 4, R | W);
    assert_int_equal(TOUCHED(0xf3, 0x0f, 0x7f, 0x07), 1); /* movdqu %xmm0, (%rdi) */
    expect(0, 0x80000, 16, W);
    assert_int_equal(TOUCHED(0x67, 0x88, 0x07), 1); /* mov %al, (%edi) */
    expect(0, 0x80000, 1, W);
}

static void strings_and_pushes_move_a_register(void **state)
{
    (void)state;
    assert_int_equal(TOUCHED(0x48, 0xa5), 2); /* movsq */
    expect(0, 0x80000 - 8, 8, W);
    expect(1, 0x70000 - 8, 8, R);
    assert_int_equal(TOUCHED(0xf3, 0xaa), 1); /* rep stosb, one round */
    expect(0, 0x80000 - 1, 1, W);
    flags = TL_TOUCH_FLAG_DIRECTION;
    assert_int_equal(TOUCHED(0x66, 0xab), 1); /* stosw, downwards */
    expect(0, 0x80000 + 2, 2, W);
    flags = 0;
    assert_int_equal(TOUCHED(0x50), 1); /* push %rax */
    expect(0, 0x50000, 8, W);
    assert_int_equal(TOUCHED(0x58), 1); /* pop %rax */
    expect(0, 0x50000 - 8, 8, R);
    assert_int_equal(TOUCHED(0xff, 0x37), 2); /* push (%rdi) */
    expect(0, 0x80000, 8, R);
    expect(1, 0x50000, 8, W);
}

static void what_is_not_known_is_left_out(void **state)
{
    (void)state;
    assert_int_equal(TOUCHED(0x48, 0x8b, 0x00), 0);       /* mov (%rax), %rax */
    assert_int_equal(TOUCHED(0x48, 0x8b, 0x04, 0x10), 0); /* mov (%rax,%rdx), %rax */
    assert_int_equal(TOUCHED(0x48, 0x8b, 0x02), 1);       /* mov (%rdx), %rax */
    assert_int_equal(TOUCHED(0x64, 0x89, 0x07), 0);       /* mov %eax, %fs:(%rdi) */
    assert_int_equal(TOUCHED(0x48, 0x8d, 0x07), 0);       /* lea (%rdi), %rax */
    assert_int_equal(TOUCHED(0x0f, 0x18, 0x07), 0);       /* prefetchnta (%rdi) */
    assert_int_equal(TOUCHED(0xe8, 0, 0, 0, 0), 0);       /* call */
    assert_int_equal(TOUCHED(0xc3), 0);                   /* ret */
    assert_int_equal(TOUCHED(0x89, 0xc8), 0);             /* mov %ecx, %eax */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(operands_that_are_written_down, begin),
        cmocka_unit_test_setup(strings_and_pushes_move_a_register, begin),
        cmocka_unit_test_setup(what_is_not_known_is_left_out, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
