/* SPDX-License-Identifier: MIT
 *
 * Source lines, functions inside others, and who has just accessed memory: of this program itself.
 */
#include <string.h>
#include <unistd.h>

#include "insn/insn.h"
#include "support.h"
#include "symbol/source.h"

static struct tl_unwinder *unwinder;

static int volatile watched;
int outer(int n);

enum { INNERMOST_LINE = __LINE__ + 3 };
static inline __attribute__((always_inline)) int innermost(int n)
{
    return watched = n;
}

enum { INNER_LINE = __LINE__ + 3 };
static inline __attribute__((always_inline)) int inner(int n)
{
    return innermost(n * 3) + 1;
}

enum { OUTER_LINE = __LINE__ + 3 };
__attribute__((noinline)) int outer(int n)
{
    return inner(n + 1) ^ 5;
}

/* Places that access memory in their ways; the labels are where the processor stands afterwards. */
extern const char plain[], plain_after[], string[], string_at[], callee[], call[], call_after[], other[], other_after[],
    lock[], lock_after[], jump[], behind_jump[];
extern char some_memory[];
__asm__(".pushsection .text\n"
        ".type accesses, @function\n"
        "accesses:\n"
        "plain: movl $1, some_memory(%rip)\n"
        "plain_after: lea some_memory(%rip), %rdi\n"
        "xor %eax, %eax\n"
        "string: string_at: rep stosb\n"
        "other: mov %eax, some_memory + 512(%rip)\n"
        "other_after: rep stosb\n"
        "jz 1f\n"
        "lock: lock\n"
        "1: incl (%rdi)\n"
        "lock_after: nop\n"
        "call: call callee\n"
        "call_after: jump: jmp *(%rax)\n"
        "behind_jump: ret\n"
        ".size accesses, . - accesses\n"
        ".type callee, @function\n"
        "callee: ret\n"
        ".size callee, . - callee\n"
        ".popsection\n"
        ".pushsection .bss\n"
        ".globl some_memory\n"
        "some_memory: .zero 1024\n"
        ".popsection\n");

static uint64_t at(const char *label)
{
    return (uint64_t)(uintptr_t)label;
}

static int open_all(void **state)
{
    struct tl_error error;
    (void)state;
    return tl_unwinder_open(getpid(), &unwinder, &error);
}

static int close_all(void **state)
{
    (void)state;
    tl_unwinder_close(unwinder);
    return 0;
}

static void lines_tell_which_functions_are_inside_which(void **state)
{
    struct tl_source_line lines[8];
    int found = 0;
    (void)state;
    for (uint64_t addr = (uint64_t)(uintptr_t)outer; found < 2 && addr < (uint64_t)(uintptr_t)outer + 32; addr++) {
        struct tl_frame frame = {.addr = addr + 1, .is_return = true};
        size_t count = tl_unwinder_lines(unwinder, &frame, lines, 8);
        assert_in_range(count, 1, 3);
        assert_string_equal(lines[count - 1].function, "");
        for (size_t i = 0; i < count; i++)
            assert_string_equal(lines[i].file, "source_test.c");
        found += count == 3;
        if (count < 3)
            continue;
        assert_string_equal(lines[0].function, "innermost");
        assert_string_equal(lines[1].function, "inner");
        assert_int_equal(lines[0].line, INNERMOST_LINE);
        assert_int_equal(lines[1].line, INNER_LINE);
        assert_int_equal(lines[2].line, OUTER_LINE);
        assert_int_equal(tl_unwinder_lines(unwinder, &frame, lines, 2), 2);
        assert_int_equal(tl_unwinder_lines(unwinder, &frame, lines, 0), 0);
    }
    assert_int_equal(found, 2);
    assert_int_not_equal(outer(3), 0);
}

static void what_is_no_code_has_no_line(void **state)
{
    struct tl_source_line line;
    (void)state;
    assert_int_equal(tl_unwinder_lines(unwinder, &(struct tl_frame){.addr = 0}, &line, 1), 0);
    assert_int_equal(tl_unwinder_lines(unwinder, &(struct tl_frame){.addr = UINT64_MAX}, &line, 1), 0);
    assert_int_equal(tl_unwinder_lines(unwinder, &(struct tl_frame){.addr = at(some_memory)}, &line, 1), 0);
}

static void who_accessed(const char *rip, const char *expected, unsigned kinds, uint64_t value)
{
    struct tl_access access = {.kinds = kinds, .addr = at(some_memory), .length = 8, .has_value = true, .value = value};
    assert_int_equal(tl_unwinder_accessor(unwinder, at(rip), &access) - at(plain), at(expected) - at(plain));
}

static void the_one_that_accessed_memory_is_found(void **state)
{
    (void)state;
    who_accessed(plain_after, plain, TL_INSN_WRITES, 1);
    who_accessed(string_at, string, TL_INSN_WRITES, 0);        /* not done yet */
    who_accessed(other, string, TL_INSN_WRITES, 0);            /* done */
    who_accessed(other_after, other_after, TL_INSN_WRITES, 0); /* the one before writes elsewhere */
    who_accessed(lock_after, lock, TL_INSN_READS, 0);
    who_accessed(callee, call, TL_INSN_WRITES, at(call_after));
    who_accessed(callee, callee, TL_INSN_WRITES, 12345);
    who_accessed(behind_jump, behind_jump, TL_INSN_READS, 0); /* nobody goes on there from the jump */
}

static void nothing_is_known_of_what_is_no_code(void **state)
{
    struct tl_access access = {.kinds = TL_INSN_WRITES, .addr = at(some_memory), .length = 8};
    (void)state;
    assert_int_equal(tl_unwinder_accessor(unwinder, at(some_memory), &access), at(some_memory));
    assert_int_equal(tl_unwinder_accessor(unwinder, 0, &access), 0);
    assert_int_equal(tl_unwinder_accessor(unwinder, 1, &access), 1);
    access.has_value = true;
    assert_int_equal(tl_unwinder_accessor(unwinder, UINT64_MAX, &access), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_tell_which_functions_are_inside_which),
        cmocka_unit_test(what_is_no_code_has_no_line),
        cmocka_unit_test(the_one_that_accessed_memory_is_found),
        cmocka_unit_test(nothing_is_known_of_what_is_no_code),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
