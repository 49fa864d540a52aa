/* SPDX-License-Identifier: MIT
 *
 * Filters of watches: compared as the variable's type wants it.
 */
#include "kit.h"
#include "spec/watch.h"

static const struct tl_datatype i8 = {.kind = TL_DATA_INTEGER, .is_signed = true, .size = 1, .name = (char *)"char"};
static const struct tl_datatype u32 = {.kind = TL_DATA_INTEGER, .size = 4, .name = (char *)"unsigned int"};
static const struct tl_datatype i64 = {.kind = TL_DATA_INTEGER, .is_signed = true, .size = 8, .name = (char *)"long"};
static const struct tl_datatype u64 = {.kind = TL_DATA_INTEGER, .size = 8, .name = (char *)"unsigned long"};
static const struct tl_datatype real = {.kind = TL_DATA_FLOAT, .size = 8, .name = (char *)"double"};
static const struct tl_datatype field = {
    .kind = TL_DATA_INTEGER, .is_signed = true, .size = 4, .bits = 3, .bit_offset = 5, .name = (char *)"int"};
static struct tl_enumerator colours[] = {{(char *)"RED", 0}, {(char *)"GREEN", 5}};
static const struct tl_datatype colour = {
    .kind = TL_DATA_ENUM, .size = 4, .count = 2, .enumerators = colours, .name = (char *)"enum colour"};

static int compile(const char *text, const struct tl_watch_value *value, struct machine *machine,
                   struct tl_error *error)
{
    struct tl_watch *watch;
    struct tl_program program = {0};
    struct tl_operation *code;
    char *strings;
    int result = tl_watch_parse(text, &watch, error);
    if (result)
        fail_msg("%s: %s", text, error->text);
    result = tl_watch_compile(watch, value, &code, &program.length, &strings, &program.strings_size, error);
    tl_watch_free(watch);
    if (result)
        return result;
    if (!code)
        return MACHINE_ACCEPT;
    program.code = code;
    program.strings = strings;
    assert_int_equal(tl_program_verify(&program), 0);
    result = (int)machine_run(machine, &program);
    free(code);
    free(strings);
    assert_int_not_equal(result, MACHINE_BROKEN);
    return result;
}

static bool passes(const char *text, const struct tl_datatype *type, uint64_t old, uint64_t new)
{
    struct machine machine = {.is_watch = true, .old = old, .new = new, .pid = 7, .tid = 8, .regs[TL_RIP] = 0x401000};
    struct tl_watch_value value = {
        .type = type, .length = type ? type->size : 4, .has_values = true, .changes_only = true};
    struct tl_error error = {0};
    int result = compile(text, &value, &machine, &error);
    if (result < 0)
        fail_msg("%s: %s", text, error.text);
    return result == MACHINE_ACCEPT;
}

static void numbers_are_compared_by_their_type(void **state)
{
    (void)state;
    assert_true(passes("x", &u32, 1, 2));
    assert_true(passes("x if new == 2", &u32, 1, 2));
    assert_false(passes("x if new == 3", &u32, 1, 2));
    assert_true(passes("x if old < new", &u32, 1, 0xffffffff));
    assert_true(passes("x if new < 0", &i8, 1, 0xff));
    assert_true(passes("x if new == -1", &i8, 1, 0xff));
    assert_true(passes("x if old > new", &i64, 1, UINT64_MAX));
    assert_false(passes("x if old > new", &u64, 1, UINT64_MAX));
    assert_true(passes("x if new == 0xffffffff", NULL, 1, 0xffffffff));
    assert_true(passes("x if pid == 7 && tid == 8 && ip == 0x401000", &u32, 1, 1));
}

static void enumerators_are_names(void **state)
{
    (void)state;
    assert_true(passes("x if new == GREEN", &colour, 0, 5));
    assert_false(passes("x if old != RED", &colour, 0, 5));
}

static void bit_fields_have_neighbours(void **state)
{
    (void)state;
    uint32_t three = 3 << 5, minus_one = 7 << 5;
    assert_true(passes("x if new == -1", &field, 0, minus_one | 0xffff001f));
    assert_true(passes("x if new > old", &field, 0, three | 1));
    assert_true(passes("x", &field, 0, three));
    assert_false(passes("x", &field, three, three | 0xffff001f));
    assert_false(passes("x if new == 3", &field, three, three | 1));
}

static void what_was_not_read_is_rejected(void **state)
{
    (void)state;
    struct machine machine = {0};
    struct tl_error error;
    struct tl_watch_value value = {.type = &u32, .length = 4, .has_values = true, .changes_only = true};
    assert_int_equal(compile("x if old != 5", &value, &machine, &error), MACHINE_REJECT);
    assert_int_equal(compile("x", &value, &machine, &error), MACHINE_ACCEPT);
    value.type = &field;
    assert_int_equal(compile("x", &value, &machine, &error), MACHINE_ACCEPT);
}

static void refuses(const char *text, const struct tl_watch_value *value, int column, const char *says)
{
    struct tl_error error = {0};
    struct machine machine = {0};
    assert_int_equal(compile(text, value, &machine, &error), -EINVAL);
    assert_int_equal(error.column, column);
    if (!strstr(error.text, says))
        fail_msg("%s: %s", text, error.text);
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    struct tl_watch_value value = {.type = &real, .length = 8, .has_values = true};
    refuses("x if new > 1", &value, 5, "this is double, 8 bytes");
    value = (struct tl_watch_value){.length = 24, .has_values = true};
    refuses("x if pid == 3 && new > 1", &value, 17, "24 bytes");
    value = (struct tl_watch_value){.type = &u32, .length = 4};
    refuses("x if new > 1", &value, 5, "no value before and after");
    value = (struct tl_watch_value){.type = &colour, .length = 4, .has_values = true};
    refuses("x if new == BLUE", &value, 12, "an enumerator");
    value.type = &u32;
    refuses("x if new == GREEN", &value, 12, "old, new, pid, tid or ip");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_compared_by_their_type), cmocka_unit_test(enumerators_are_names),
        cmocka_unit_test(bit_fields_have_neighbours),         cmocka_unit_test(what_was_not_read_is_rejected),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
