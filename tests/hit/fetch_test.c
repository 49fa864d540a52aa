/* SPDX-License-Identifier: MIT
 *
 * The interpreter does what program.h says, operation by operation, faults included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hit/runtime.h"
#include "world.h"

enum { PAGE = 4096 };
#define LOWEST ((uint64_t)INT64_MIN)

static struct world world;
static struct tl_hit_regs regs;
static struct tl_hit hit;
static const char pool[] = "\0abc\0a*c\0[x-z]?*";
enum { EMPTY = 0, ABC = 1, A_STAR_C = 5, BRACKET = 9 };

static int make(void **unused)
{
    (void)unused;
    world = world_make(&(struct world_shape){.probes = 1, .strings = pool, .strings_size = sizeof(pool)});
    for (unsigned i = 0; i < TL_REG_COUNT; i++)
        regs.r[i] = 1000 + i;
    return 0;
}

static int drop(void **unused)
{
    (void)unused;
    world_free(&world);
    return 0;
}

/* Run a program, which has to be one that the runtime may be given, from an empty event. */
static bool run(const struct tl_operation *code, size_t length)
{
    struct tl_program program = {.code = code, .length = length, .strings = pool, .strings_size = sizeof(pool)};
    assert_int_equal(tl_program_verify(&program), 0);
    hit = (struct tl_hit){.area = world.area, .lane = world_lane(&world, 0), .regs = &regs, .tid_site = 77};
    return tl_fetch_run(&hit, code);
}

#define OP(name, ...)                                                                                                  \
    (struct tl_operation)                                                                                              \
    {                                                                                                                  \
        .op = TL_OP_##name, ##__VA_ARGS__                                                                              \
    }
#define IMM(value) OP(IMM, .imm = (int64_t)(value))
#define RUN(...)                                                                                                       \
    run((const struct tl_operation[]){__VA_ARGS__},                                                                    \
        sizeof((const struct tl_operation[]){__VA_ARGS__}) / sizeof(struct tl_operation))

/* The operations leave one value: it is as expected, or faulted. */
#define GIVES(expected, ...)                                                                                           \
    do {                                                                                                               \
        assert_true(RUN(__VA_ARGS__, OP(STORE, .a = 5), OP(END)));                                                     \
        assert_int_equal(hit.slots, 1ull << 5);                                                                        \
        assert_int_equal(hit.lane->slots[5], (uint64_t)(expected));                                                    \
    } while (0)
#define FAULTS(...)                                                                                                    \
    do {                                                                                                               \
        assert_true(RUN(__VA_ARGS__, OP(STORE, .a = 5), OP(END)));                                                     \
        assert_int_equal(hit.slots, 1ull << 37);                                                                       \
    } while (0)
#define BAD IMM(1), IMM(0), OP(DIV)

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

/* Two pages, the second of which cannot be read. */
static char *edge(void)
{
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    for (int i = 0; i < PAGE; i++)
        pages[i] = (char)('a' + i % 26);
    assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
    return pages + PAGE;
}

#define AT(pointer) IMM((uintptr_t)(pointer))

static void loads(void **unused)
{
    (void)unused;
    char *end = edge();
    uint64_t local = 0x8877665544332211, expected;
    memcpy(&expected, end - 8, 8);
    GIVES(0x11, AT(&local), OP(LOAD, .a = 1));
    GIVES(0x3322, AT((char *)&local + 1), OP(LOAD, .a = 2));
    GIVES(0x88776655, AT((char *)&local + 4), OP(LOAD, .a = 4));
    GIVES(local, AT(&local), OP(LOAD, .a = 8));
    GIVES(local, AT(&local), OP(LOAD_DIRECT, .a = 8));
    GIVES(expected, AT(end - 8), OP(LOAD, .a = 8));
    GIVES((uint8_t)end[-1], AT(end - 1), OP(LOAD, .a = 1));
    FAULTS(AT(end - 7), OP(LOAD, .a = 8));
    FAULTS(AT(end), OP(LOAD, .a = 1));
    FAULTS(IMM(0), OP(LOAD, .a = 8));
    FAULTS(IMM(-1), OP(LOAD, .a = 8));
    FAULTS(IMM(LOWEST), OP(LOAD, .a = 4));
    /* Across a page where both can be read. */
    mprotect(end, PAGE, PROT_READ);
    memcpy(&expected, end - 3, 8);
    GIVES(expected, AT(end - 3), OP(LOAD, .a = 8));
    world.area->flags |= TL_HIT_NO_MEMORY;
    FAULTS(AT(&local), OP(LOAD, .a = 8));
    FAULTS(AT(&hit), OP(LOAD, .a = 8));
    world.area->flags &= ~(uint32_t)TL_HIT_NO_MEMORY;
    munmap(end - PAGE, 2 * PAGE);
}

static void the_page_of_the_saved_registers_needs_no_kernel(void **unused)
{
    (void)unused;
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *words = (uint64_t *)(void *)pages;
    struct tl_hit_regs *saved = (struct tl_hit_regs *)(void *)(pages + 1024);
    uint32_t pid = world.area->pid;
    words[0] = 0x8877665544332211;
    words[PAGE / 8 - 1] = 5;
    words[PAGE / 8] = 6;
    world.area->pid = INT32_MAX; /* the kernel knows no such process */
    struct tl_operation code[] = {AT(words),
                                  OP(LOAD, .a = 8),
                                  OP(STORE, .a = 0),
                                  AT(pages + 2),
                                  OP(LOAD, .a = 2),
                                  OP(STORE, .a = 1),
                                  AT(words + PAGE / 8 - 1),
                                  OP(LOAD, .a = 8),
                                  OP(STORE, .a = 2),
                                  AT(words + PAGE / 8),
                                  OP(LOAD, .a = 8),
                                  OP(STORE, .a = 3),
                                  AT(pages + PAGE - 4),
                                  OP(LOAD, .a = 8),
                                  OP(STORE, .a = 4),
                                  OP(END)};
    hit = (struct tl_hit){.area = world.area, .lane = world_lane(&world, 0), .regs = saved};
    assert_true(tl_fetch_run(&hit, code));
    assert_int_equal(hit.slots, 7 | 24ull << 32);
    assert_int_equal(hit.lane->slots[0], words[0]);
    assert_int_equal(hit.lane->slots[1], 0x4433);
    assert_int_equal(hit.lane->slots[2], 5);
    world.area->pid = pid;
    munmap(pages, 2 * PAGE);
}

static void assert_string(unsigned slot, const char *expected)
{
    uint64_t value = hit.lane->slots[slot];
    assert_true(hit.slots >> slot & 1 && hit.strings >> slot & 1);
    assert_int_equal((uint32_t)value, strlen(expected));
    assert_memory_equal(hit.lane->scratch + (value >> 32), expected, strlen(expected));
}

#define STRING_AT(pointer, slot, most) AT(pointer), OP(STRING, .a = (slot), .imm = (most))

static void strings(void **unused)
{
    (void)unused;
    char *end = edge();
    assert_true(RUN(STRING_AT("hello", 2, 255), STRING_AT("", 3, 255), STRING_AT("world", 4, 3), OP(END)));
    assert_string(2, "hello");
    assert_string(3, "");
    assert_string(4, "wor");
    assert_int_equal(hit.slots, 4 | 8 | 16);
    /* Up to the page's end without its NUL, then with it, then just enough. */
    assert_true(RUN(STRING_AT(end - 3, 2, 255), OP(END)));
    assert_int_equal(hit.slots, 4ull << 32);
    assert_int_equal(hit.scratch_used, 0);
    assert_true(RUN(STRING_AT(end - 3, 2, 3), OP(END)));
    assert_int_equal((uint32_t)hit.lane->slots[2], 3);
    end[-1] = 0;
    assert_true(RUN(STRING_AT(end - 3, 2, 255), OP(END)));
    assert_int_equal((uint32_t)hit.lane->slots[2], 2);
    assert_true(RUN(STRING_AT(end, 2, 255), BAD, OP(STRING, .a = 3, .imm = 255), OP(END)));
    assert_int_equal(hit.slots, 12ull << 32);
    munmap(end - PAGE, 2 * PAGE);
}

static void strings_share_what_room_there_is(void **unused)
{
    (void)unused;
    char text[256];
    struct tl_operation code[17];
    memset(text, 'x', sizeof(text));
    for (uint8_t i = 0; i < 8; i++) {
        code[2 * i] = AT(text);
        code[2 * i + 1] = OP(STRING, .a = i, .imm = TL_STRING_MAX);
    }
    code[16] = OP(END);
    assert_true(run(code, 17));
    assert_int_equal(hit.slots, 0xff);
    assert_int_equal(hit.scratch_used, TL_EVENT_STRINGS);
    assert_int_equal((uint32_t)hit.lane->slots[4], TL_EVENT_STRINGS - 4 * TL_STRING_MAX);
    assert_int_equal((uint32_t)hit.lane->slots[5], 0);
}

static void strings_are_compared(void **unused)
{
    (void)unused;
#define COMPARED(expected, text, name, with)                                                                           \
    GIVES_TOO(expected, STRING_AT(text, 2, 255), OP(name, .a = 2, .imm = (with)))
#define GIVES_TOO(expected, ...)                                                                                       \
    do {                                                                                                               \
        assert_true(RUN(__VA_ARGS__, OP(STORE, .a = 5), OP(END)));                                                     \
        assert_int_equal(hit.lane->slots[5], expected);                                                                \
    } while (0)
    COMPARED(1, "abc", STREQ, ABC);
    COMPARED(0, "ab", STREQ, ABC);
    COMPARED(0, "abcd", STREQ, ABC);
    COMPARED(1, "", STREQ, EMPTY);
    COMPARED(1, "abbbc", GLOB, A_STAR_C);
    COMPARED(0, "abbbcd", GLOB, A_STAR_C);
    COMPARED(1, "y!", GLOB, BRACKET);
    COMPARED(0, "y", GLOB, BRACKET);
    GIVES_TOO(0, STRING_AT(NULL, 2, 255), OP(STREQ, .a = 2, .imm = EMPTY));
    GIVES_TOO(0, STRING_AT(NULL, 2, 255), OP(GLOB, .a = 2, .imm = A_STAR_C));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes),
        cmocka_unit_test(widths),
        cmocka_unit_test(arithmetic_wraps_and_never_traps),
        cmocka_unit_test(comparisons),
        cmocka_unit_test(faults_spread),
        cmocka_unit_test(jumps),
        cmocka_unit_test(loads),
        cmocka_unit_test(the_page_of_the_saved_registers_needs_no_kernel),
        cmocka_unit_test(strings),
        cmocka_unit_test(strings_share_what_room_there_is),
        cmocka_unit_test(strings_are_compared),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
