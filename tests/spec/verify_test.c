/* SPDX-License-Identifier: MIT
 *
 * The verifier: it lets nothing through that could trouble the runtime, and does let through what the compiler makes
 * (which every other test of this room asserts as it goes).
 */
#include "kit.h"
#include "random_program.h"

#define OP(name, ...)                                                                                                  \
    {                                                                                                                  \
        .op = TL_OP_##name, __VA_ARGS__                                                                                \
    }
#define CODE(...)                                                                                                      \
    (const struct tl_operation[]){__VA_ARGS__},                                                                        \
        sizeof((const struct tl_operation[]){__VA_ARGS__}) / sizeof(struct tl_operation)

static int verify(const struct tl_operation *code, size_t length)
{
    const struct tl_program program = {code, length, "ab\0cd", 6};
    return tl_program_verify(&program);
}

static void accepts_what_is_right(void **state)
{
    (void)state;
    assert_int_equal(verify(CODE(OP(END))), 0);
    assert_int_equal(verify(CODE(OP(REJECT))), 0);
    assert_int_equal(verify(CODE(OP(REG, .a = TL_RFLAGS), OP(STORE, .a = 31), OP(ARG, .a = 31), OP(JZ, .imm = 1),
                                 OP(END), OP(REJECT))),
                     0);
    assert_int_equal(verify(CODE(OP(PID), OP(STRING, .a = 3, .imm = 255), OP(STREQ, .a = 3, .imm = 5), OP(GLOB, .a = 3),
                                 OP(AND), OP(END))),
                     0);
    assert_int_equal(
        verify(CODE(OP(TID), OP(BITS, .a = 64), OP(BITS, .a = 1, .b = 63), OP(LOAD_DIRECT, .a = 8), OP(END))), 0);
    assert_int_equal(verify(CODE(OP(IMM), OP(JNZ, .imm = 2), OP(IMM), OP(JUMP, .imm = 1), OP(IMM), OP(DROP), OP(END))),
                     0);
    assert_int_equal(verify(CODE(OP(JUMP, .imm = 1), OP(ADD), OP(END))), 0); /* nothing reaches the ADD */
    assert_int_equal(verify(CODE(OP(JUMP), OP(END))), 0);
}

static void refuses_wrong_operands(void **state)
{
    (void)state;
    assert_int_equal(verify(CODE(OP(REG, .a = TL_REG_COUNT), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE({.op = TL_OP_COUNT}, OP(END))), -EINVAL);
    assert_int_equal(verify(CODE({.op = 255}, OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(END, .zero = 1))), -EINVAL);
    assert_int_equal(verify(CODE(OP(END, .a = 1))), -EINVAL);
    assert_int_equal(verify(CODE(OP(END, .b = 1))), -EINVAL);
    assert_int_equal(verify(CODE(OP(END, .imm = 1))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(LOAD, .a = 3), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(LOAD, .a = 0), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(LOAD, .a = 16), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(LOAD_DIRECT, .a = 4), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(SIGN, .a = 0), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(ZERO, .a = 9), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(BITS, .a = 0), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(BITS, .a = 64, .b = 1), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(BITS, .a = 1, .b = 65535), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(STORE, .a = 32), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(STRING, .imm = 0), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(STRING, .imm = 256), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(STRING, .imm = -1), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(STRING, .imm = 9), OP(STREQ, .imm = 6), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(STRING, .imm = 9), OP(GLOB, .imm = -1), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(JUMP, .imm = 1), OP(REG, .a = 77), OP(END))), -EINVAL); /* though unreachable */
}

static void refuses_ways_that_do_not_end(void **state)
{
    (void)state;
    assert_int_equal(verify(NULL, 0), -EINVAL);
    assert_int_equal(verify(NULL, 1), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(JZ, .imm = 1), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(JZ), OP(END))), 0);
    assert_int_equal(verify(CODE(OP(JUMP, .imm = -1), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(JUMP, .imm = INT64_MAX), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(JUMP, .imm = INT64_MIN), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(END), OP(JUMP))), -EINVAL);
    struct tl_operation ends[TL_PROGRAM_MAX + 1];
    for (size_t i = 0; i <= TL_PROGRAM_MAX; i++)
        ends[i] = (struct tl_operation)OP(END);
    assert_int_equal(verify(ends, TL_PROGRAM_MAX), 0);
    assert_int_equal(verify(ends, TL_PROGRAM_MAX + 1), -EINVAL);
    assert_int_equal(verify(ends, SIZE_MAX), -EINVAL);
}

static void refuses_a_wrong_stack(void **state)
{
    (void)state;
    assert_int_equal(verify(CODE(OP(ADD), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(IMM), OP(ADD), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(DROP), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(DUP), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(STORE), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(JZ), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(PID), OP(JZ, .imm = 1), OP(IMM), OP(END))), -EINVAL); /* two depths at END */
    struct tl_operation deep[TL_PROGRAM_STACK + 2];
    for (unsigned depth = 1; depth <= TL_PROGRAM_STACK + 1; depth++) {
        for (unsigned i = 0; i < depth; i++)
            deep[i] = i ? (struct tl_operation)OP(DUP) : (struct tl_operation)OP(IMM);
        deep[depth] = (struct tl_operation)OP(END);
        assert_int_equal(verify(deep, depth + 1), depth <= TL_PROGRAM_STACK ? 0 : -EINVAL);
    }
}

static void refuses_slots_read_as_what_they_do_not_hold(void **state)
{
    (void)state;
    assert_int_equal(verify(CODE(OP(ARG), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(STREQ), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(PID), OP(STORE), OP(STREQ), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(PID), OP(STORE), OP(ARG, .a = 1), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(PID), OP(STRING, .imm = 9), OP(ARG), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(PID), OP(STRING, .imm = 9), OP(PID), OP(STORE), OP(GLOB), OP(END))), -EINVAL);
    assert_int_equal(verify(CODE(OP(PID), OP(STORE), OP(PID), OP(STRING, .imm = 9), OP(GLOB), OP(END))), 0);
    /* stored on one way only */
    assert_int_equal(verify(CODE(OP(PID), OP(JZ, .imm = 2), OP(PID), OP(STORE), OP(ARG), OP(END))), -EINVAL);
    assert_int_equal(
        verify(CODE(OP(PID), OP(DUP), OP(JZ, .imm = 2), OP(STORE), OP(JUMP, .imm = 1), OP(STORE), OP(ARG), OP(END))),
        0);
    assert_int_equal(verify(CODE(OP(PID), OP(DUP), OP(JZ, .imm = 2), OP(STORE), OP(JUMP, .imm = 1),
                                 OP(STRING, .imm = 9), OP(ARG), OP(END))),
                     -EINVAL);
}

static void refuses_constants_without_an_end(void **state)
{
    (void)state;
    const struct tl_operation end = OP(END);
    assert_int_equal(tl_program_verify(&(struct tl_program){&end, 1, "ab", 2}), -EINVAL);
    assert_int_equal(tl_program_verify(&(struct tl_program){&end, 1, NULL, 2}), -EINVAL);
    assert_int_equal(tl_program_verify(&(struct tl_program){&end, 1, NULL, 0}), 0);
}

/* The machine finds nothing wrong with what the verifier lets through. */
static void what_verifies_ends_and_breaks_nothing(void **state)
{
    (void)state;
    struct chance chance = {1};
    unsigned longest = 0, hits = 0;
    for (unsigned round = 0; round < 4000; round++) {
        struct tl_operation code[RANDOM_PROGRAM_MAX];
        const struct tl_program program = random_program(&chance, code);
        struct machine machine = random_machine(&chance);
        assert_int_equal(tl_program_verify(&program), 0);
        enum machine_end end = machine_run(&machine, &program);
        if (end == MACHINE_BROKEN)
            fail_msg("%s", machine.broken);
        assert_true(machine.steps <= program.length);
        longest = machine.steps > longest ? machine.steps : longest;
        hits += end == MACHINE_ACCEPT;
    }
    assert_true(longest > 20 && hits > 1000); /* else the programs say little */
}

/* Any bytes at all: the verifier itself must survive, and what it lets through must run. */
static void any_bytes_are_safe(void **state)
{
    (void)state;
    struct chance chance = {2};
    unsigned valid = 0;
    for (unsigned round = 0; round < 200000; round++) {
        struct tl_operation code[6] = {OP(IMM), OP(STORE), OP(IMM), OP(ARG), OP(JZ), OP(END)};
        for (unsigned i = chance_below(&chance, 4); i--;)
            ((uint8_t *)code)[chance_below(&chance, sizeof code)] =
                (uint8_t)(chance_bits(&chance) & (chance_below(&chance, 2) ? 0xff : 3));
        const struct tl_program program = {code, 6 - !chance_below(&chance, 8), "ab\0cd", 6};
        struct machine machine = {0};
        if (tl_program_verify(&program))
            continue;
        valid++;
        assert_int_not_equal(machine_run(&machine, &program), MACHINE_BROKEN);
    }
    assert_true(valid > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_is_right),
        cmocka_unit_test(refuses_wrong_operands),
        cmocka_unit_test(refuses_ways_that_do_not_end),
        cmocka_unit_test(refuses_a_wrong_stack),
        cmocka_unit_test(refuses_slots_read_as_what_they_do_not_hold),
        cmocka_unit_test(refuses_constants_without_an_end),
        cmocka_unit_test(what_verifies_ends_and_breaks_nothing),
        cmocka_unit_test(any_bytes_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
