/* SPDX-License-Identifier: MIT
 *
 * What holds for every spec: printed and parsed again it is the same, its program verifies and is the same, and
 * expressions come to what they come to in C.
 */
#include "kit.h"
#include "print.h"
#include "random_spec.h"

typedef void print_function(FILE *out, const struct tl_spec *spec);

static char *printed(print_function *print, const struct tl_spec *spec)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    print(out, spec);
    fclose(out);
    return text;
}

static void parse_print_parse(void **state)
{
    (void)state;
    struct chance chance = {3};
    for (unsigned round = 0; round < 20000; round++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        random_spec(out, &chance);
        fclose(out);
        struct tl_spec *first = kit_parse(text);
        char *canonical = printed(print_spec, first), *listing = printed(print_listing, first);
        struct tl_spec *second = kit_parse(canonical);
        char *again = printed(print_spec, second), *listing_again = printed(print_listing, second);
        assert_string_equal(canonical, again);
        assert_string_equal(listing, listing_again);
        tl_spec_free(first);
        tl_spec_free(second);
        free(text);
        free(canonical);
        free(again);
        free(listing);
        free(listing_again);
    }
}

/* Any prefix of a valid spec is valid too or refused with a column inside it; never anything else. */
static void prefixes_are_parsed_or_refused_with_a_column(void **state)
{
    (void)state;
    struct chance chance = {4};
    unsigned refused = 0;
    for (unsigned round = 0; round < 500; round++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        random_spec(out, &chance);
        fclose(out);
        for (size_t length = size; length--;) {
            struct tl_spec *spec;
            struct tl_error error = {.column = -1};
            text[length] = 0;
            int result = tl_spec_parse(text, &spec, &error);
            if (result) {
                assert_int_equal(result, -EINVAL);
                assert_true(error.column >= 0 && (size_t)error.column <= length);
                refused++;
            }
            tl_spec_free(spec);
        }
        free(text);
    }
    assert_true(refused > 1000);
}

static void expect(const char *format, const char *expression, uint64_t value)
{
    struct machine machine = {0};
    char text[4000];
    snprintf(text, sizeof text, format, expression, (unsigned long long)value);
    if (kit_run(&machine, text) != MACHINE_ACCEPT)
        fail_msg("%s is not so", text);
}

static void expressions_come_to_what_they_do_in_c(void **state)
{
    (void)state;
    struct chance chance = {5};
    for (unsigned round = 0; round < 20000; round++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        struct random_value value = random_expression(out, &chance, 1 + chance_below(&chance, 5));
        fclose(out);
        expect("f if (%s) == 0x%llx", text, value.bits);
        expect("f if ((%s) < 0) == %llu", text, !value.is_unsigned && (int64_t)value.bits < 0);
        expect(value.bits ? "f if %s" : "f if !(%s)", text, 0);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_print_parse),
        cmocka_unit_test(prefixes_are_parsed_or_refused_with_a_column),
        cmocka_unit_test(expressions_come_to_what_they_do_in_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
