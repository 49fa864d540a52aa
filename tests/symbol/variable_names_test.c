/* SPDX-License-Identifier: MIT
 *
 * Names of variables: mangled ones against binutils' c++filt, and what is taken for what.
 */
#include <string.h>

#include "support.h"
#include "symbol/variables.h"

static void check_one(void *context, char *line)
{
    size_t *known = context;
    char text[512], *plain = strchr(line, ' ');
    assert_non_null(plain);
    *plain++ = '\0';
    if (!name_demangle(line + 1, text, sizeof text))
        return;
    /* c++filt shows the parameters of functions, too. */
    if (!name_fits(plain, text) || name_fits(text, plain) == RANK_EXACT)
        ++*known;
    else
        fail_msg("%s is %s, not %s", line, plain, text);
}

static void as_binutils_has_them(void **state)
{
    (void)state;
    size_t known = 0;
    /* A word that begins with Q is no mangled name, and stays. */
    each_line(check_one, &known,
              "{ nm %s; nm %s; nm -D /usr/lib/x86_64-linux-gnu/libstdc++.so.6; } | "
              "awk '$2 ~ /[BbDdRru]/ && $3 ~ /^_ZN?[LSZ1-9]/ { sub(/@.*/, \"\", $3); print \"Q\" $3, $3 }' | sort -u | "
              "c++filt",
              fixture("variables-cc"), fixture("variables-cc-clang"));
    assert_true(known > 30);
}

static void demangled(const char *mangled, const char *expected)
{
    char text[512];
    if (!expected) {
        assert_false(name_demangle(mangled, text, sizeof text));
        return;
    }
    assert_true(name_demangle(mangled, text, sizeof text));
    assert_string_equal(text, expected);
}

static void mangled_names(void **state)
{
    (void)state;
    demangled("_ZN2ns7counterE", "ns::counter");
    demangled("_ZL5plain", "plain");
    demangled("_ZN12_GLOBAL__N_14nameE", "(anonymous namespace)::name");
    demangled("_ZSt4cout", "std::cout");
    demangled("_ZNSt8numpunctIcE2idE", NULL);
    demangled("_ZZ4bumpiE5calls", "bump::calls");
    demangled("_ZZ4bumpiE5calls_0", "bump::calls");
    demangled("_ZZN3box3runEPKcE5calls", "box::run::calls");
    demangled("_ZN5crate6module7COUNTER17h0123456789abcdefE", "crate::module::COUNTER");
    demangled("_ZTV3box", NULL);
    demangled("_ZGVZ4bumpvE1x", NULL);
    demangled("counter", NULL);
    demangled("_Z", NULL);
    demangled("_ZN", NULL);
    demangled("_ZN2nsE4", NULL);
    demangled("_ZN99xE", NULL);
    demangled("_ZN99999999999999999999xE", NULL);
}

static void names_fit_from_behind(void **state)
{
    (void)state;
    assert_int_equal(name_fits("ns::counter", "ns::counter"), RANK_EXACT);
    assert_int_equal(name_fits("ns::(anonymous namespace)::x", "ns::x"), RANK_EXACT);
    assert_int_equal(name_fits("bump(int)::calls", "bump::calls"), RANK_EXACT);
    assert_int_equal(name_fits("ns::counter", "counter"), RANK_INNER);
    assert_int_equal(name_fits("a::b::c", "b::c"), RANK_INNER);
    assert_int_equal(name_fits("counter.12", "counter"), RANK_NUMBERED);
    assert_int_equal(name_fits("ns::encounter", "counter"), RANK_NONE);
    assert_int_equal(name_fits("counter", "ns::counter"), RANK_NONE);
    assert_int_equal(name_fits("counter.x", "counter"), RANK_NONE);
    assert_true(file_fits("/src/a.c", "a.c"));
    assert_true(file_fits("../src/a.c", "src/a.c"));
    assert_true(file_fits("a.c", "./a.c"));
    assert_false(file_fits("/src/aa.c", "a.c"));
    assert_false(file_fits(NULL, "a.c"));
}

static void the_nearest_come_first(void **state)
{
    (void)state;
    struct nearest nearest = {.wanted = "conter"};
    char text[200];
    static const char *const names[] = {"pointer", "counter", "printer", "counter", "conter_max", "monster", "cnoter"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        nearest_offer(&nearest, names[i]);
    nearest_say(&nearest, text, sizeof text);
    assert_string_equal(text, "; did you mean counter, cnoter, pointer or conter_max?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_binutils_has_them),
        cmocka_unit_test(mangled_names),
        cmocka_unit_test(names_fit_from_behind),
        cmocka_unit_test(the_nearest_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
