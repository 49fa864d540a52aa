/* SPDX-License-Identifier: MIT
 *
 * What a person sees of a mistake: the caret stands under the column, whatever the spec is made of.
 */
#include "kit.h"

static void complain(const char *text, int column, char *out, size_t size)
{
    struct tl_error error = {.code = -EINVAL, .column = column, .text = "here"};
    tl_spec_complain(text, &error, out, size);
}

static void expect(const char *text, int column, const char *expected)
{
    char out[800];
    complain(text, column, out, sizeof out);
    assert_string_equal(out, expected);
}

static void the_caret_stands_under_the_column(void **state)
{
    (void)state;
    expect("f %dj", 3, "f %dj\n   ^ here\n");
    expect("f", 0, "f\n^ here\n");
    expect("f", 1, "f\n ^ here\n");
    expect("", 0, "\n^ here\n");
    expect("f", 99, "f\n ^ here\n");
    expect("f", -1, "here\n");
}

static void characters_of_several_bytes_count_once(void **state)
{
    (void)state;
    expect("m\xc3\xa4h %dj", 6, "m\xc3\xa4h %dj\n     ^ here\n");
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    (void)state;
    expect("f\t\x1b[31m\n%dj", 9, "f  [31m %dj\n         ^ here\n");
}

static void of_a_long_spec_the_part_around_the_caret_is_shown(void **state)
{
    (void)state;
    char text[400], out[800];
    for (int column = 0; column < 399; column++) {
        memset(text, 'a', sizeof text);
        text[column] = 'X';
        text[399] = 0;
        complain(text, column, out, sizeof out);
        char *newline = strchr(out, '\n'), *caret = strchr(newline, '^');
        size_t hidden = strncmp(out, "…", strlen("…")) ? 0 : strlen("…") - 1; /* a wide mark is one column */
        assert_true(newline - out <= 108);
        assert_int_equal(out[(size_t)(caret - newline - 1) + hidden], 'X');
    }
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = i % 2 ? '\xa4' : '\xc3';
    for (int column = 0; column < 398; column += 2) {
        complain(text, column, out, sizeof out);
        const char *line = out + (strncmp(out, "…", strlen("…")) ? 0 : strlen("…"));
        assert_int_equal((unsigned char)line[0], 0xc3); /* never begins inside a character */
    }
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    char whole[100], out[100];
    complain("f %dj", 3, whole, sizeof whole);
    for (size_t size = 0; size < strlen(whole) + 2; size++) {
        memset(out, 'x', sizeof out);
        complain("f %dj", 3, out, size);
        size_t length = size > strlen(whole) ? strlen(whole) : size ? size - 1 : 0;
        assert_memory_equal(out, whole, length);
        assert_int_equal(out[length], size ? 0 : 'x');
        assert_int_equal(out[size], 'x');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_caret_stands_under_the_column),
        cmocka_unit_test(characters_of_several_bytes_count_once),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(of_a_long_spec_the_part_around_the_caret_is_shown),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
