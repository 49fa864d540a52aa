/* SPDX-License-Identifier: MIT
 *
 * Filters mean what they mean in C: the C compiler itself is the oracle for precedence, association and signs.
 */
#include "kit.h"

static struct machine world(void)
{
    static const char text[] = "libssl.so.3";
    static const char empty[] = "";
    struct machine machine = {.pid = 700, .tid = 701};
    machine.regs[TL_RDI] = (uint64_t)-7;
    machine.regs[TL_RSI] = 0xfffffffffffffff0;
    machine.regs[TL_RDX] = 200;
    machine.regs[TL_RCX] = 0xfd;
    machine.regs[TL_R8] = 0x5000;
    machine.regs[TL_R9] = 0x6000;
    machine_map(&machine, 0x5000, text, sizeof text);
    machine_map(&machine, 0x6000, empty, sizeof empty);
    return machine;
}

static bool accepts(const char *filter)
{
    struct machine machine = world();
    char spec[600];
    snprintf(spec, sizeof spec,
             "f s=%%di:s64 u=%%si:u64 b=%%dx:u8 n=%%cl:s8 text=%%r8:string empty=%%r9:string bad=+0(%%dx):u64 "
             "nowhere=+0(%%dx):string "
             "raw=%%si word=%%esi:u32 c=+3(%%r8):char if %s",
             filter);
    return kit_run(&machine, spec) == MACHINE_ACCEPT;
}

static void expect(const char *filter, bool expected)
{
    if (accepts(filter) != expected)
        fail_msg("%s: not %s", filter, expected ? "true" : "false");
}

#define AGREES(expression) expect(#expression, !!(expression))

/* What compilers warn of in these expressions is what they are about. */
#pragma GCC diagnostic push
#ifdef __clang__
#pragma GCC diagnostic ignored "-Wtautological-constant-out-of-range-compare"
#else
#pragma GCC diagnostic ignored "-Wbool-compare"
#pragma GCC diagnostic ignored "-Wint-in-bool-context"
#endif
#pragma GCC diagnostic ignored "-Wparentheses"
#pragma GCC diagnostic ignored "-Wsign-compare"
static void as_in_c(void **state)
{
    (void)state;
    const long s = -7, b = 200, n = -3, word = 0xfffffff0, pid = 700, tid = 701, c = 's';
    const unsigned long u = 0xfffffffffffffff0, raw = u;
    /* clang-format off */
    AGREES(s < 0); AGREES(s < b); AGREES(s < u); AGREES(u > -1); AGREES(u < 5); AGREES(raw > 0); AGREES(word > -1);
    AGREES(n == -3); AGREES(n < 5u); AGREES(n < 0x8000000000000000); AGREES(b == 0xc8); AGREES(b == 0310);
    AGREES(s + 2 * 3 == -1); AGREES((s + 2) * 3 == -15); AGREES(10 - 4 - 3 == 3); AGREES(100 / 10 / 5 == 2);
    AGREES(s / 2 == -3); AGREES(s % 4 == -3); AGREES(u / 2 == 0x7ffffffffffffff8); AGREES(u % 7 == 3);
    AGREES(s / 2u > 5); AGREES(s >> 1 == -4); AGREES(u >> 60 == 15); AGREES(s >> 1u < 0); AGREES(1 << 2 + 1 == 8);
    AGREES(b << 8 == 51200); AGREES(1 | 2 ^ 3 & 1); AGREES(4 & 6 == 6); AGREES((4 & 6) == 4); AGREES(5 & 4 | 1);
    AGREES(1 ^ 1 | 0); AGREES(2 & b); AGREES(!s == 0); AGREES(!(s == 0)); AGREES(!!s); AGREES(-s == 7);
    AGREES(~s == 6); AGREES(- -s == s); AGREES(+s < 0); AGREES(!b + 1); AGREES(-b < 0); AGREES(~0 == -1);
    AGREES(-1 < 1ul); AGREES(s < 0u); AGREES(s < 1ul); AGREES(s < 0x100000000u); AGREES(~u == 15); AGREES(-u == 16);
    AGREES(1 || 0 && 0); AGREES((1 || 0) && 0); AGREES(0 && 1 || 1); AGREES(s < b < 2); AGREES(3 > 2 > 1);
    AGREES(s == n == 0); AGREES(1 == 2 != 1); AGREES(s && b && n); AGREES((s && 0) + (s || 0) == 1);
    AGREES((s < 0) + (b > 0) == 2); AGREES(s < 0 && !(b < 0 || n > 0)); AGREES(!(s < 0 && b < 0));
    AGREES(!(s < 0) || !(b < 0)); AGREES(!s || !b); AGREES(pid == 700 && tid == pid + 1); AGREES(pid - 701 < 0);
    AGREES(c == 's'); AGREES(c >= 'a' && c <= 'z'); AGREES('\n' == 10); AGREES('\x41' == 65); AGREES('\101' == 'A');
    AGREES('\xff' == -1); AGREES('\'' == 39); AGREES('"' == 34); AGREES(0xffffffffffffffff == -1);
    AGREES(18446744073709551615u > 0); AGREES(0x7fffffffffffffff > 0); AGREES(0b101 == 5); AGREES(10ul == 10L);
    AGREES(10ULL == 10llu); AGREES(u - u == 0); AGREES(s - u > 0); AGREES(b * b == 40000);
    /* clang-format on */
}

#pragma GCC diagnostic pop

static void strings(void **state)
{
    (void)state;
    expect("text == \"libssl.so.3\"", true);
    expect("text == \"libssl\"", false);
    expect("text == \"libssl.so.3x\"", false);
    expect("\"libssl.so.3\" == text", true);
    expect("text != \"libssl\"", true);
    expect("text != \"libssl.so.3\"", false);
    expect("text ~ \"lib*.so*\"", true);
    expect("text ~ \"lib*.so\"", false);
    expect("text ~ \"libss[a-m].so.?\"", true);
    expect("text ~ \"libss[!a-m].so.?\"", false);
    expect("!(text ~ \"x*\")", true);
    expect("text == \"\\x6c\\151bssl.so.3\"", true);
    expect("empty == \"\"", true);
    expect("empty ~ \"*\" && text != \"\"", true);
    expect("(text == \"a\" || text == \"libssl.so.3\") && pid", true);
    expect("(text == \"libssl.so.3\") + (text != \"x\") == 2", true);
}

static void what_cannot_be_read_makes_a_comparison_false(void **state)
{
    (void)state;
    static const char *const all_false[] = {"bad",
                                            "bad == 0",
                                            "bad != 0",
                                            "!bad",
                                            "bad < 1",
                                            "bad >= 0",
                                            "-bad",
                                            "bad + 1",
                                            "!(bad+1)",
                                            "nowhere == \"x\"",
                                            "nowhere != \"x\"",
                                            "nowhere ~ \"*\"",
                                            "bad && 1",
                                            "1 && bad",
                                            "b / (s + 7) == 0",
                                            "b % (s + 7) != 0"};
    for (size_t i = 0; i < sizeof all_false / sizeof *all_false; i++)
        expect(all_false[i], false);
    expect("bad || 1", true);
    expect("bad == 0 || s < 0", true);
    expect("!(bad == 0)", true);
    expect("!(nowhere == \"x\")", true);
    expect("s + 7 != 0 && b / (s + 7) == 0 || s < 0", true);
}

static void an_argument_hides_what_a_hit_has(void **state)
{
    (void)state;
    struct machine machine = world();
    assert_int_equal(kit_run(&machine, "f pid=%dx:u8 if pid == 200"), MACHINE_ACCEPT);
    assert_int_equal(kit_run(&machine, "f tid=%dx:u8 if pid == 700"), MACHINE_ACCEPT);
    assert_int_equal(kit_run(&machine, "f %dx %di if arg1 == 200 && arg2==-7"), MACHINE_ACCEPT);
}

static void blanks_do_not_matter(void **state)
{
    (void)state;
    struct machine machine = world();
    assert_int_equal(kit_run(&machine, "f a=%dx if(a==200)"), MACHINE_ACCEPT);
    assert_int_equal(kit_run(&machine, "f a=%dx\tif\n( a\t==\n200 ) "), MACHINE_ACCEPT);
    assert_int_equal(kit_run(&machine, "f a=%dx if a-1==199&&!!a"), MACHINE_ACCEPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_in_c),
        cmocka_unit_test(strings),
        cmocka_unit_test(what_cannot_be_read_makes_a_comparison_false),
        cmocka_unit_test(an_argument_hides_what_a_hit_has),
        cmocka_unit_test(blanks_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
