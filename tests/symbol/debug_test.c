/* SPDX-License-Identifier: MIT
 *
 * Separate debug files: found by build-id and by debug link, and never taken from another program.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"
#include "symbol/object.h"

static struct tl_object *open_below(const char *path, const char *root)
{
    struct tl_object *object = NULL;
    struct tl_error error = {0};
    struct object_source source = {.path = path, .root = root};
    if (object_open(&source, &object, &error) < 0)
        fail_msg("%s", error.text);
    return object;
}

/* That a stripped file has the same functions as the full one, by name, address and size. */
static void same_functions(struct tl_object *stripped, const char *full_path)
{
    struct tl_object *full = open_object(full_path);
    size_t count, found_count, compared = 0;
    const struct tl_function *expected = tl_object_functions(full, &count);
    const struct tl_function *found = tl_object_functions(stripped, &found_count);
    assert_int_equal(count, found_count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(expected[i].addr, found[i].addr);
        assert_int_equal(expected[i].size, found[i].size);
        assert_int_equal(expected[i].kind, found[i].kind);
        if (!expected[i].name)
            continue;
        assert_string_equal(expected[i].name, found[i].name);
        compared++;
    }
    assert_true(compared > 20);
    tl_object_close(full);
}

static void names_come_from_the_file_with_the_build_id(void **state)
{
    (void)state;
    struct tl_object *object = open_below(fixture("stripped"), fixture("root"));
    const struct tl_function *function;
    uint64_t addr, size;
    assert_int_equal(named(object, "twin", &function), 2);
    assert_int_equal(tl_object_variable(object, "shared_variable", &addr, &size), 0);
    same_functions(object, fixture("pie"));
    tl_object_close(object);
    object = open_below(fixture("stripped"), NULL);
    assert_int_equal(named(object, "twin", &function), 0);
    tl_object_close(object);
}

static void names_come_from_the_linked_file(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("linked/by-link"));
    same_functions(object, fixture("unlinked"));
    tl_object_close(object);
}

/* Also where the file is opened by a name relative to the working directory. */
static void a_relative_path_finds_its_link(void **state)
{
    (void)state;
    char before[4096];
    const struct tl_function *function;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(fixture("linked")), 0);
    struct tl_object *object = open_object("by-link");
    assert_int_equal(named(object, "twin", &function), 2);
    tl_object_close(object);
    assert_int_equal(chdir(before), 0);
}

static void names_come_from_the_file_inside(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("embedded"));
    same_functions(object, fixture("pie"));
    tl_object_close(object);
}

static void what_is_no_file_inside_is_left_alone(void **state)
{
    (void)state;
    static const char *const files[] = {"embedded-cut", "embedded-bomb", "embedded-text"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const struct tl_function *function;
        struct tl_object *object = open_object(fixture(files[i]));
        assert_int_equal(named(object, "twin", &function), 0);
        assert_non_null(tl_object_function_at(object, tl_object_entry(object)));
        tl_object_close(object);
    }
}

static void another_programs_debug_file_is_left_alone(void **state)
{
    (void)state;
    const struct tl_function *function;
    struct tl_object *object = open_object(fixture("wrong/by-link"));
    assert_int_equal(named(object, "twin", &function), 0);
    assert_non_null(tl_object_function_at(object, tl_object_entry(object)));
    tl_object_close(object);
}

/* With the tables of the file and of the debug file there are no double entries, and what both know is one. */
static void libc_has_more_names_with_its_debug_file(void **state)
{
    (void)state;
    struct tl_object *object = open_object(LIBC);
    size_t count;
    const struct tl_function *functions = tl_object_functions(object, &count);
    for (size_t i = 1; i < count; i++)
        assert_false(functions[i].addr == functions[i - 1].addr && functions[i].name && functions[i - 1].name &&
                     strcmp(functions[i].name, functions[i - 1].name) == 0);
    const struct tl_function *function;
    assert_int_equal(named(object, "malloc", &function), 1);
    assert_true(function->global);
    tl_object_close(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_come_from_the_file_with_the_build_id),
        cmocka_unit_test(names_come_from_the_linked_file),
        cmocka_unit_test(names_come_from_the_file_inside),
        cmocka_unit_test(what_is_no_file_inside_is_left_alone),
        cmocka_unit_test(a_relative_path_finds_its_link),
        cmocka_unit_test(another_programs_debug_file_is_left_alone),
        cmocka_unit_test(libc_has_more_names_with_its_debug_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
