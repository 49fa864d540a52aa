/* SPDX-License-Identifier: MIT
 *
 * What programs read from memory: up to the last byte that is there, and never beyond.
 */
#include "program.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
#define LOWEST ((uint64_t)INT64_MIN)

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
    program_world.area->flags |= TL_HIT_NO_MEMORY;
    FAULTS(AT(&local), OP(LOAD, .a = 8));
    FAULTS(AT(&program_hit), OP(LOAD, .a = 8));
    program_world.area->flags &= ~(uint32_t)TL_HIT_NO_MEMORY;
    munmap(end - PAGE, 2 * PAGE);
}

static void the_page_of_the_saved_registers_needs_no_kernel(void **unused)
{
    (void)unused;
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *words = (uint64_t *)(void *)pages;
    struct tl_hit_regs *saved = (struct tl_hit_regs *)(void *)(pages + 1024);
    uint32_t pid = program_world.area->pid;
    words[0] = 0x8877665544332211;
    words[PAGE / 8 - 1] = 5;
    words[PAGE / 8] = 6;
    program_world.area->pid = INT32_MAX; /* the kernel knows no such process */
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
    program_hit = (struct tl_hit){.area = program_world.area, .lane = world_lane(&program_world, 0), .regs = saved};
    assert_true(tl_fetch_run(&program_hit, code));
    assert_int_equal(program_hit.slots, 7 | 24ull << 32);
    assert_int_equal(program_hit.lane->slots[0], words[0]);
    assert_int_equal(program_hit.lane->slots[1], 0x4433);
    assert_int_equal(program_hit.lane->slots[2], 5);
    program_world.area->pid = pid;
    munmap(pages, 2 * PAGE);
}

static void assert_string(unsigned slot, const char *expected)
{
    uint64_t value = program_hit.lane->slots[slot];
    assert_true(program_hit.slots >> slot & 1 && program_hit.strings >> slot & 1);
    assert_int_equal((uint32_t)value, strlen(expected));
    assert_memory_equal(program_hit.lane->scratch + (value >> 32), expected, strlen(expected));
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
    assert_int_equal(program_hit.slots, 4 | 8 | 16);
    /* Up to the page's end without its NUL, then with it, then just enough. */
    assert_true(RUN(STRING_AT(end - 3, 2, 255), OP(END)));
    assert_int_equal(program_hit.slots, 4ull << 32);
    assert_int_equal(program_hit.scratch_used, 0);
    assert_true(RUN(STRING_AT(end - 3, 2, 3), OP(END)));
    assert_int_equal((uint32_t)program_hit.lane->slots[2], 3);
    end[-1] = 0;
    assert_true(RUN(STRING_AT(end - 3, 2, 255), OP(END)));
    assert_int_equal((uint32_t)program_hit.lane->slots[2], 2);
    assert_true(RUN(STRING_AT(end, 2, 255), BAD, OP(STRING, .a = 3, .imm = 255), OP(END)));
    assert_int_equal(program_hit.slots, 12ull << 32);
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
    assert_true(program_run(code, 17));
    assert_int_equal(program_hit.slots, 0xff);
    assert_int_equal(program_hit.scratch_used, TL_EVENT_STRINGS);
    assert_int_equal((uint32_t)program_hit.lane->slots[4], TL_EVENT_STRINGS - 4 * TL_STRING_MAX);
    assert_int_equal((uint32_t)program_hit.lane->slots[5], 0);
}

static void strings_are_compared(void **unused)
{
    (void)unused;
#define COMPARED(expected, text, name, with)                                                                           \
    GIVES_BESIDE(4, expected, STRING_AT(text, 2, 255), OP(name, .a = 2, .imm = (with)))
    COMPARED(1, "abc", STREQ, ABC);
    COMPARED(0, "ab", STREQ, ABC);
    COMPARED(0, "abcd", STREQ, ABC);
    COMPARED(1, "", STREQ, EMPTY);
    COMPARED(1, "abbbc", GLOB, A_STAR_C);
    COMPARED(0, "abbbcd", GLOB, A_STAR_C);
    COMPARED(1, "y!", GLOB, BRACKET);
    COMPARED(0, "y", GLOB, BRACKET);
    GIVES_BESIDE(4ull << 32, 0, STRING_AT(NULL, 2, 255), OP(STREQ, .a = 2, .imm = EMPTY));
    GIVES_BESIDE(4ull << 32, 0, STRING_AT(NULL, 2, 255), OP(GLOB, .a = 2, .imm = A_STAR_C));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads),
        cmocka_unit_test(the_page_of_the_saved_registers_needs_no_kernel),
        cmocka_unit_test(strings),
        cmocka_unit_test(strings_share_what_room_there_is),
        cmocka_unit_test(strings_are_compared),
    };
    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
