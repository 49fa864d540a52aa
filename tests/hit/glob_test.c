/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fnmatch.h>
#include <string.h>

#include "hit/runtime.h"

static bool matches(const char *pattern, const char *text)
{
    return tl_glob_match(pattern, (const uint8_t *)text, strlen(text));
}

static void known_answers(void **unused)
{
    (void)unused;
    assert_true(matches("", ""));
    assert_false(matches("", "a"));
    assert_true(matches("*", ""));
    assert_true(matches("**a", "bba"));
    assert_true(matches("*.conf", "/etc/a.conf"));
    assert_false(matches("*.conf", "/etc/a.conf~"));
    assert_true(matches("[!a-c]x", "dx"));
    assert_false(matches("[!a-c]x", "bx"));
    assert_true(matches("[]]", "]"));
    assert_true(matches("[a-]", "-"));
    assert_true(matches("[", "["));
    assert_false(matches("[abc", "a"));
}

/* All short patterns against all short texts, with the C library as judge. */
static void agrees_with_fnmatch(void **unused)
{
    (void)unused;
    static const char symbols[] = "ab*?[]-!";
    char pattern[6] = "", text[4] = "";
    for (int p = 0; p < 8 * 8 * 8 * 8 * 8; p++) {
        for (int i = 0, rest = p; i < 5; i++, rest /= 8)
            pattern[i] = symbols[rest % 8];
        /* What an open bracket means differs between libraries. */
        const char *open = strrchr(pattern, '[');
        if (open && !strchr(open + 2 <= pattern + 5 ? open + 2 : open + 1, ']'))
            continue;
        if (strchr(pattern, '[') != open)
            continue;
        for (int t = 0; t < 2 * 2 * 2; t++) {
            for (int i = 0, rest = t; i < 3; i++, rest /= 2)
                text[i] = "ab"[rest % 2];
            if (matches(pattern, text) != (fnmatch(pattern, text, FNM_NOESCAPE) == 0))
                fail_msg("pattern %s, text %s", pattern, text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(agrees_with_fnmatch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
