/* SPDX-License-Identifier: MIT
 *
 * Types and values by hand: what is cut off, what is missing, what lies where.
 */
#include <math.h>
#include <string.h>

#include "support.h"
#include "symbol/type.h"

static struct tl_datatype integer = {.kind = TL_DATA_INTEGER, .is_signed = true, .size = 4, .name = (char *)"int"};
static struct tl_datatype letter = {.kind = TL_DATA_CHAR, .is_signed = true, .size = 1, .name = (char *)"char"};
static struct tl_datatype real = {.kind = TL_DATA_FLOAT, .size = 8, .name = (char *)"double"};
static struct tl_datatype pair = {
    .kind = TL_DATA_ARRAY, .size = 8, .count = 2, .element = &integer, .name = (char *)"int [2]"};
static struct tl_datatype word = {
    .kind = TL_DATA_ARRAY, .size = 6, .count = 6, .element = &letter, .name = (char *)"char [6]"};
static struct tl_member inner_members[] = {{(char *)"low", 0, false, &integer}, {(char *)"pair", 4, false, &pair}};
static struct tl_datatype inner = {
    .kind = TL_DATA_STRUCT, .size = 12, .count = 2, .members = inner_members, .name = (char *)"struct inner"};
static struct tl_member members[] = {
    {(char *)"first", 0, false, &integer}, {NULL, 4, false, &inner}, {(char *)"word", 16, false, &word}};
static struct tl_datatype outer = {
    .kind = TL_DATA_STRUCT, .size = 24, .count = 3, .members = members, .name = (char *)"struct outer"};

static void shown(const struct tl_datatype *type, const void *bytes, size_t size, const char *text, const char *json)
{
    char out[300];
    assert_int_equal(tl_value_text(type, bytes, size, NULL, out, sizeof out), strlen(text));
    assert_string_equal(out, text);
    assert_int_equal(tl_value_json(type, bytes, size, out, sizeof out), strlen(json));
    assert_string_equal(out, json);
}

static void what_is_missing_is_told(void **state)
{
    (void)state;
    const int32_t numbers[6] = {1, 2, 3, 4, 0x006f6c, 0};
    shown(&outer, numbers, 24, "{first = 1, {low = 2, pair = {3, 4}}, word = \"lo\"}",
          "{\"first\":1,\"\":{\"low\":2,\"pair\":[3,4]},\"word\":\"lo\"}");
    shown(&outer, numbers, 12, "{first = 1, {low = 2, pair = {3, ?}}, word = \"\"}",
          "{\"first\":1,\"\":{\"low\":2,\"pair\":[3,null]},\"word\":\"\"}");
    shown(&integer, numbers, 3, "?", "null");
    shown(&integer, numbers, 4, "1", "1");
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    const int32_t numbers[6] = {1, 2, 3, 4, 0x006f6c, 0};
    char out[64];
    for (size_t room = 0; room < sizeof out; room++) {
        memset(out, 'x', sizeof out);
        size_t length = tl_value_text(&outer, numbers, 24, NULL, out, room);
        assert_true(room ? length < room && strlen(out) == length : out[0] == 'x');
        memset(out, 'x', sizeof out);
        length = tl_value_json(&outer, numbers, 24, out, room);
        assert_true(room ? length < room && strlen(out) == length : out[0] == 'x');
        if (room > 4)
            assert_true(!strcmp(out, "null") || out[length - 1] == '}');
    }
}

static void numbers_that_are_none(void **state)
{
    (void)state;
    const double numbers[] = {1e300, -0.0, 1.0 / 3, (double)INFINITY, -(double)INFINITY, (double)NAN};
    shown(&real, &numbers[0], 8, "1e+300", "1e+300");
    shown(&real, &numbers[1], 8, "-0", "-0");
    shown(&real, &numbers[2], 8, "0.3333333333333333", "0.3333333333333333");
    shown(&real, &numbers[3], 8, "inf", "\"inf\"");
    shown(&real, &numbers[4], 8, "-inf", "\"-inf\"");
    shown(&real, &numbers[5], 8, "nan", "\"nan\"");
}

static void bytes_of_no_type(void **state)
{
    (void)state;
    const uint8_t bytes[24] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const struct {
        size_t size;
        const char *text, *json;
    } cases[] = {{1, "0x01", "1"},
                 {2, "0x0201", "513"},
                 {3, "{0x01, 0x02, 0x03}", "[1,2,3]"},
                 {4, "0x04030201", "67305985"},
                 {6, "{0x0201, 0x0403, 0x0605}", "[513,1027,1541]"},
                 {8, "0x0807060504030201", "578437695752307201"},
                 {0, "{}", "[]"},
                 {16, "{0x0807060504030201, 0x0000000000000009}", "[578437695752307201,9]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tl_datatype *type = tl_datatype_of_bytes(cases[i].size);
        shown(type, bytes, sizeof bytes, cases[i].text, cases[i].json);
        tl_datatype_free(type);
    }
}

static void lies_at(uint64_t offset, uint64_t size, const struct tl_datatype *expected, const char *path)
{
    char text[64];
    assert_ptr_equal(tl_datatype_at(&outer, offset, size, text, sizeof text), expected);
    assert_string_equal(text, path);
}

static void what_lies_where(void **state)
{
    (void)state;
    lies_at(0, 24, &outer, "");
    lies_at(0, 0, &integer, ".first");
    lies_at(0, 4, &integer, ".first");
    lies_at(4, 12, &inner, "");
    lies_at(4, 4, &integer, ".low");
    lies_at(8, 8, &pair, ".pair");
    lies_at(12, 4, &integer, ".pair[1]");
    lies_at(12, 0, &integer, ".pair[1]");
    lies_at(17, 1, &letter, ".word[1]");
    lies_at(2, 2, NULL, "");
    lies_at(8, 4, &integer, ".pair[0]");
    lies_at(0, 8, NULL, "");
    lies_at(24, 0, NULL, "");
    lies_at(UINT64_MAX, 4, NULL, "");
    char text[4];
    assert_ptr_equal(tl_datatype_at(&outer, 12, 4, text, sizeof text), &integer);
    assert_string_equal(text, ".pa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_told), cmocka_unit_test(what_does_not_fit_is_cut),
        cmocka_unit_test(numbers_that_are_none),   cmocka_unit_test(bytes_of_no_type),
        cmocka_unit_test(what_lies_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
