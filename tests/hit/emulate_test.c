/* SPDX-License-Identifier: MIT
 *
 * Emulated transfers against the processor: the same registers, executed and emulated.
 */
#include "broker_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hit/emulate.h"

enum { TARGET = 0x1111, NEXT = 0x2222 };

/* Whether the processor jumps on this condition with these flags. */
#define JUMPS(condition)                                                                                               \
    __asm__ volatile("push %1; popfq; mov $1, %%eax; j" condition " 1f; xor %%eax, %%eax; 1:"                          \
                     : "=&a"(taken)                                                                                    \
                     : "r"(flags)                                                                                      \
                     : "cc", "memory")

static int jumps(unsigned condition, uint64_t flags)
{
    int taken = -1;
    switch (condition) {
    case 0:
        JUMPS("o");
        break;
    case 1:
        JUMPS("no");
        break;
    case 2:
        JUMPS("b");
        break;
    case 3:
        JUMPS("ae");
        break;
    case 4:
        JUMPS("z");
        break;
    case 5:
        JUMPS("nz");
        break;
    case 6:
        JUMPS("be");
        break;
    case 7:
        JUMPS("a");
        break;
    case 8:
        JUMPS("s");
        break;
    case 9:
        JUMPS("ns");
        break;
    case 10:
        JUMPS("p");
        break;
    case 11:
        JUMPS("np");
        break;
    case 12:
        JUMPS("l");
        break;
    case 13:
        JUMPS("ge");
        break;
    case 14:
        JUMPS("le");
        break;
    case 15:
        JUMPS("g");
        break;
    }
    return taken;
}

static void every_condition_with_all_flags(void **unused)
{
    (void)unused;
    static const uint64_t bits[] = {1, 4, 0x10, 0x40, 0x80, 0x800};
    for (unsigned condition = 0; condition < 16; condition++)
        for (unsigned i = 0; i < 64; i++) {
            uint64_t flags = 0x202;
            for (unsigned bit = 0; bit < 6; bit++)
                flags |= i >> bit & 1 ? bits[bit] : 0;
            struct tl_emulation branch = {
                .op = TL_EMULATE_BRANCH, .condition = (uint8_t)condition, .target = TARGET, .next = NEXT};
            struct tl_hit_regs regs = {.r = {[TL_RFLAGS] = flags}};
            assert_int_equal(tl_emulate(&branch, &regs), 0);
            assert_int_equal(regs.r[TL_RIP], jumps(condition, flags) ? TARGET : NEXT);
            assert_int_equal(regs.r[TL_RFLAGS], flags);
        }
}

static void loops_count(void **unused)
{
    (void)unused;
    static const struct {
        bool narrow;
        uint8_t condition;
        uint64_t counter, flags, left;
        uint64_t rip;
    } cases[] = {
        {false, TL_CONDITION_NONE, 2, 0, 1, TARGET},
        {false, TL_CONDITION_NONE, 1, 0, 0, NEXT},
        {false, TL_CONDITION_NONE, 0, 0, UINT64_MAX, TARGET},
        {true, TL_CONDITION_NONE, 0x500000000, 0, 0xffffffff, TARGET},
        {true, TL_CONDITION_NONE, 0x500000001, 0, 0, NEXT},
        {false, TL_CONDITION_Z, 5, 0x40, 4, TARGET},
        {false, TL_CONDITION_Z, 5, 0, 4, NEXT},
        {false, TL_CONDITION_NZ, 5, 0, 4, TARGET},
        {false, TL_CONDITION_NZ, 5, 0x40, 4, NEXT},
        {false, TL_CONDITION_NZ, 1, 0, 0, NEXT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tl_emulation loop = {.op = TL_EMULATE_LOOP,
                                    .narrow = cases[i].narrow,
                                    .condition = cases[i].condition,
                                    .target = TARGET,
                                    .next = NEXT};
        struct tl_hit_regs regs = {.r = {[TL_RCX] = cases[i].counter, [TL_RFLAGS] = cases[i].flags}};
        assert_int_equal(tl_emulate(&loop, &regs), 0);
        assert_int_equal(regs.r[TL_RCX], cases[i].left);
        assert_int_equal(regs.r[TL_RIP], cases[i].rip);
    }
    struct tl_emulation zero = {.op = TL_EMULATE_JUMP_ZERO, .target = TARGET, .next = NEXT};
    struct tl_hit_regs regs = {.r = {[TL_RCX] = 0x500000000}};
    tl_emulate(&zero, &regs);
    assert_int_equal(regs.r[TL_RIP], NEXT);
    zero.narrow = true;
    tl_emulate(&zero, &regs);
    assert_int_equal(regs.r[TL_RIP], TARGET);
    assert_int_equal(regs.r[TL_RCX], 0x500000000);
}

static void calls_and_returns(void **unused)
{
    (void)unused;
    uint64_t stack[4] = {0, 0, 0, 0}, table[3] = {0, 0x3333, 0x4444};
    struct tl_hit_regs regs = {
        .r = {[TL_RSP] = (uintptr_t)&stack[3], [TL_RBX] = (uintptr_t)table, [TL_RSI] = 1, [TL_RAX] = 0xabcd}};
    struct tl_emulation call = {.op = TL_EMULATE_CALL, .target = TARGET, .next = NEXT, .base = 0xff, .index = 0xff};
    assert_int_equal(tl_emulate(&call, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], TARGET);
    assert_int_equal(stack[2], NEXT);
    assert_ptr_equal(regs.r[TL_RSP], &stack[2]);

    struct tl_emulation indirect = {.op = TL_EMULATE_CALL_INDIRECT,
                                    .next = NEXT,
                                    .memory = true,
                                    .base = TL_RBX,
                                    .index = TL_RSI,
                                    .scale = 8,
                                    .displacement = 8};
    assert_int_equal(tl_emulate(&indirect, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], 0x4444);
    assert_ptr_equal(regs.r[TL_RSP], &stack[1]);

    /* The operand is read with rsp as it is before the push. */
    stack[1] = 0x5555;
    struct tl_emulation through_stack = {
        .op = TL_EMULATE_CALL_INDIRECT, .next = NEXT, .memory = true, .base = TL_RSP, .index = 0xff};
    assert_int_equal(tl_emulate(&through_stack, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], 0x5555);
    assert_int_equal(stack[0], NEXT);

    struct tl_emulation ret = {.op = TL_EMULATE_RET, .release = 16};
    assert_int_equal(tl_emulate(&ret, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], NEXT);
    assert_ptr_equal(regs.r[TL_RSP], &stack[3]);

    struct tl_emulation jump = {.op = TL_EMULATE_JUMP_INDIRECT, .base = TL_RAX, .index = 0xff};
    assert_int_equal(tl_emulate(&jump, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], 0xabcd);

    struct tl_emulation transaction = {.op = TL_EMULATE_ABORT, .target = TARGET};
    assert_int_equal(tl_emulate(&transaction, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], TARGET);
    assert_int_equal(regs.r[TL_RAX], 0);
}

static void segments_and_short_addresses(void **unused)
{
    (void)unused;
    static _Thread_local uint64_t word;
    word = 0x6666;
    uint64_t base, offset = (uint64_t)(uintptr_t)&word;
    __asm__("movq %%fs:0, %0; sub %0, %1" : "=&r"(base), "+r"(offset));
    struct tl_hit_regs regs = {.r = {[TL_RDX] = offset + 0x700000000}};
    struct tl_emulation jump = {.op = TL_EMULATE_JUMP_INDIRECT,
                                .memory = true,
                                .segment = TL_SEGMENT_FS,
                                .base = TL_RDX,
                                .index = 0xff,
                                .displacement = -0x700000000};
    assert_int_equal(tl_emulate(&jump, &regs), 0);
    assert_int_equal(regs.r[TL_RIP], 0x6666);
}

static void bad_accesses(void)
{
    struct tl_emulation call = {.op = TL_EMULATE_CALL, .target = TARGET, .next = NEXT};
    struct tl_emulation ret = {.op = TL_EMULATE_RET};
    struct tl_emulation jump = {.op = TL_EMULATE_JUMP_INDIRECT, .memory = true, .base = TL_RDI, .index = 0xff};
    struct tl_emulation far = {.op = TL_EMULATE_JUMP_INDIRECT, .base = TL_RSI, .index = 0xff};
    struct tl_emulation short_one = {
        .op = TL_EMULATE_JUMP_INDIRECT, .memory = true, .address_32 = true, .base = TL_RBX, .index = 0xff};
    uint64_t here = TARGET;
    const struct tl_hit_regs before = {
        .r = {[TL_RSP] = 8, [TL_RSI] = 1ull << 62, [TL_RBX] = (uintptr_t)&here, [TL_RIP] = 1}};
    struct tl_hit_regs regs = before;
    CHECK(tl_emulate(&call, &regs) == -EFAULT);
    CHECK(tl_emulate(&ret, &regs) == -EFAULT);
    CHECK(tl_emulate(&jump, &regs) == -EFAULT);
    CHECK(tl_emulate(&far, &regs) == -EFAULT);
    CHECK(tl_emulate(&short_one, &regs) == -EFAULT); /* the stack is not in the lowest 4 GiB */
    CHECK(memcmp(&regs, &before, sizeof regs) == 0);
}

static void bad_accesses_change_nothing(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, bad_accesses), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_condition_with_all_flags),
        cmocka_unit_test(loops_count),
        cmocka_unit_test(calls_and_returns),
        cmocka_unit_test(segments_and_short_addresses),
        cmocka_unit_test(bad_accesses_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
