/* SPDX-License-Identifier: MIT
 *
 * The interpreter does what program.h says, operation by operation, faults included.
 */
#include "program.h"

#include <unistd.h>

#define LOWEST ((uint64_t)INT64_MIN)

static void pushes(void **unused)
{
    (void)unused;
    GIVES(-5, IMM(-5));
    GIVES(1000 + TL_RDI, OP(REG, .a = TL_RDI));
    GIVES(1000 + TL_RIP, OP(REG, .a = TL_RIP));
    GIVES(getpid(), OP(PID));
    GIVES(77, OP(TID));
    GIVES(7, IMM(7), OP(DUP), OP(DROP));
    GIVES(49, IMM(7), OP(DUP), OP(MUL));
    GIVES(6, IMM(3), OP(STORE, .a = 5), OP(ARG, .a = 5), OP(ARG, .a = 5), OP(ADD));
}

static void widths(void **unused)
{
    (void)unused;
    GIVES(-1, IMM(0xff), OP(SIGN, .a = 1));
    GIVES(0x7f, IMM(0x1ff7f), OP(SIGN, .a = 1));
    GIVES(-2, IMM(0xfffe), OP(SIGN, .a = 2));
    GIVES(LOWEST, IMM(LOWEST), OP(SIGN, .a = 8));
    GIVES(0xfffffffe, IMM(-2), OP(ZERO, .a = 4));
    GIVES(-2, IMM(-2), OP(ZERO, .a = 8));
    GIVES(5, IMM(0x5a0), OP(BITS, .a = 3, .b = 8));
    GIVES(-1, IMM(-1), OP(BITS, .a = 64));
    GIVES(1, IMM(-1), OP(BITS, .a = 1, .b = 63));
}

#define BINARY(expected, a, name, b) GIVES(expected, IMM(a), IMM(b), OP(name))

static void arithmetic_wraps_and_never_traps(void **unused)
{
    (void)unused;
    BINARY(LOWEST, INT64_MAX, ADD, 1);
    BINARY(-1, 0, SUB, 1);
    BINARY(0, 1ull << 63, MUL, 2);
    BINARY(-3, -7, DIV, 2);
    BINARY(-1, -7, MOD, 2);
    BINARY(LOWEST, LOWEST, DIV, -1);
    BINARY(0, LOWEST, MOD, -1);
    BINARY(0x7ffffffffffffffc, -7, UDIV, 2);
    BINARY(1, -1, UMOD, 2);
    BINARY(0, 5, UDIV, -1);
    BINARY(8, 12, AND, 10);
    BINARY(14, 12, OR, 10);
    BINARY(6, 12, XOR, 10);
    BINARY(2, 1, SHL, 65);
    BINARY(1, -1, SHR, 63);
    BINARY(-1, -8, SAR, 67);
    GIVES(0, IMM(9), OP(NOT));
    GIVES(1, IMM(0), OP(NOT));
    GIVES(-9, IMM(9), OP(NEG));
    GIVES(~9, IMM(9), OP(COM));
}

static void comparisons(void **unused)
{
    (void)unused;
    static const struct {
        uint8_t op;
        bool below, equal, above, minus_below_one;
    } rows[] = {{TL_OP_EQ, 0, 1, 0, 0},  {TL_OP_NE, 1, 0, 1, 1}, {TL_OP_LT, 1, 0, 0, 1},  {TL_OP_LE, 1, 1, 0, 1},
                {TL_OP_GT, 0, 0, 1, 0},  {TL_OP_GE, 0, 1, 1, 0}, {TL_OP_ULT, 1, 0, 0, 0}, {TL_OP_ULE, 1, 1, 0, 0},
                {TL_OP_UGT, 0, 0, 1, 1}, {TL_OP_UGE, 0, 1, 1, 1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct tl_operation op = {.op = rows[i].op};
        GIVES(rows[i].below, IMM(3), IMM(4), op);
        GIVES(rows[i].equal, IMM(4), IMM(4), op);
        GIVES(rows[i].above, IMM(5), IMM(4), op);
        GIVES(rows[i].minus_below_one, IMM(-1), IMM(1), op);
        GIVES(0, BAD, IMM(0), op);
        GIVES(0, IMM(0), BAD, op);
        GIVES(0, BAD, BAD, op);
    }
}

static void faults_spread(void **unused)
{
    (void)unused;
    FAULTS(BAD);
    FAULTS(IMM(1), IMM(0), OP(UMOD));
    FAULTS(BAD, OP(NOT));
    FAULTS(BAD, OP(SIGN, .a = 4));
    FAULTS(BAD, IMM(1), OP(ADD));
    FAULTS(IMM(1), BAD, OP(SUB));
    FAULTS(IMM(1), BAD, OP(DIV));
    FAULTS(BAD, IMM(1), OP(MOD));
    FAULTS(BAD, OP(LOAD, .a = 8));
    FAULTS(BAD, OP(LOAD_DIRECT, .a = 8));
    FAULTS(BAD, OP(DUP), OP(DROP));
    FAULTS(IMM(3), BAD, OP(DUP), OP(DROP), OP(ADD));
    FAULTS(BAD, OP(STORE, .a = 5), OP(ARG, .a = 5));
    GIVES(2, BAD, OP(DROP), IMM(2));
    GIVES(5, BAD, OP(STORE, .a = 5), IMM(5));
    FAULTS(IMM(2), OP(STORE, .a = 5), BAD);
}

static void watched_memory(void **unused)
{
    (void)unused;
    struct tl_watched watched = {.old = 3, .new = 0xfffffffe};
    FAULTS(OP(OLD));
    FAULTS(OP(NEW));
    program_watched = &watched;
    GIVES(3, OP(OLD));
    GIVES(-2, OP(NEW), OP(SIGN, .a = 4));
    watched.no_old = true;
    FAULTS(OP(OLD));
    GIVES(0xfffffffe, OP(NEW));
    watched = (struct tl_watched){.no_new = true};
    FAULTS(OP(NEW));
    program_watched = NULL;
}

static void jumps(void **unused)
{
    (void)unused;
    assert_false(RUN(OP(REJECT)));
    assert_false(RUN(IMM(0), OP(JZ, .imm = 1), OP(END), OP(REJECT)));
    assert_true(RUN(IMM(2), OP(JZ, .imm = 1), OP(END), OP(REJECT)));
    assert_false(RUN(BAD, OP(JZ, .imm = 1), OP(END), OP(REJECT)));
    assert_false(RUN(IMM(2), OP(JNZ, .imm = 1), OP(END), OP(REJECT)));
    assert_true(RUN(IMM(0), OP(JNZ, .imm = 1), OP(END), OP(REJECT)));
    assert_true(RUN(BAD, OP(JNZ, .imm = 1), OP(END), OP(REJECT)));
    assert_false(RUN(OP(JUMP, .imm = 2), OP(END), OP(END), OP(REJECT)));
    assert_true(RUN(OP(JUMP, .imm = 0), OP(END)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes),
        cmocka_unit_test(widths),
        cmocka_unit_test(arithmetic_wraps_and_never_traps),
        cmocka_unit_test(comparisons),
        cmocka_unit_test(faults_spread),
        cmocka_unit_test(watched_memory),
        cmocka_unit_test(jumps),
    };
    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
