/* SPDX-License-Identifier: MIT
 *
 * The pieces of functions: with symbols by their names, without symbols by what the code shows. The oracle of the
 * second is the first: the same file before it was stripped.
 */
#include <string.h>

#include "support.h"

enum { MOST = 8 };

static void a_function_in_one_piece_is_one_piece(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    const struct tl_function *function;
    struct tl_part parts[MOST];
    assert_int_equal(named(object, "sum", &function), 1);
    assert_int_equal(tl_object_parts(object, function, parts, MOST), 1);
    assert_int_equal(parts[0].addr, function->addr);
    assert_int_equal(parts[0].size, function->size);
    assert_int_equal(tl_object_parts(object, function, parts, 0), 0);
    tl_object_close(object);
}

static void a_cold_symbol_is_a_piece(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    const struct tl_function *function, *cold;
    struct tl_part parts[MOST];
    assert_int_equal(named(object, "with_cold", &function), 1);
    assert_int_equal(named(object, "with_cold.cold", &cold), 1);
    assert_int_equal(cold->kind, TL_FUNCTION_PART);
    assert_int_equal(tl_object_parts(object, function, parts, MOST), 2);
    assert_int_equal(parts[0].addr, function->addr);
    assert_int_equal(parts[1].addr, cold->addr);
    assert_int_equal(parts[1].size, cold->size);
    assert_int_equal(tl_object_parts(object, function, parts, 1), 1);
    assert_int_equal(tl_object_parts(object, cold, parts, MOST), 1);
    assert_int_equal(named(object, "with_c*", &function), 1); /* a glob means functions, not pieces */
    tl_object_close(object);
}

static void a_piece_behind_a_table_is_known_by_its_name(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    const struct tl_function *function, *cold;
    struct tl_part parts[MOST];
    assert_int_equal(named(object, "tabled", &function), 1);
    assert_int_equal(named(object, "tabled.cold", &cold), 1);
    assert_int_equal(tl_object_parts(object, function, parts, MOST), 2);
    assert_int_equal(parts[1].addr, cold->addr);
    tl_object_close(object);
}

static void a_stripped_file_has_the_same_pieces(void **state)
{
    (void)state;
    struct tl_object *full = open_object(fixture("pie")), *stripped = open_object(fixture("stripped"));
    const struct tl_function *function;
    struct tl_part expected[MOST], found[MOST];
    assert_int_equal(named(full, "with_cold", &function), 1);
    assert_int_equal(tl_object_parts(full, function, expected, MOST), 2);
    function = tl_object_function_at(stripped, function->addr);
    assert_non_null(function);
    assert_int_equal(tl_object_parts(stripped, function, found, MOST), 2);
    assert_memory_equal(found, expected, 2 * sizeof *found);
    tl_object_close(full);
    tl_object_close(stripped);
}

/* A large program: each piece that has a name is found without it, or not missed by more than a few, and nothing else
 * is. */
static void compare_all(const char *full_path, const char *stripped_path, size_t at_least)
{
    struct tl_object *full = open_object(full_path), *stripped = open_object(stripped_path);
    size_t count, with_pieces = 0, missed = 0, invented = 0, single = 0;
    const struct tl_function *functions = tl_object_functions(full, &count);
    for (size_t i = 0; i < count; i++) {
        struct tl_part expected[MOST], found[MOST];
        const struct tl_function *f = &functions[i], *same = tl_object_function_at(stripped, f->addr);
        if (f->kind != TL_FUNCTION || !same || same->addr != f->addr || same->size != f->size)
            continue;
        size_t wanted = tl_object_parts(full, f, expected, MOST), got = tl_object_parts(stripped, same, found, MOST);
        single += wanted == 1;
        with_pieces += wanted > 1;
        for (size_t p = 1; p < wanted; p++) {
            size_t at = 1;
            while (at < got && found[at].addr != expected[p].addr)
                at++;
            missed += at == got;
        }
        for (size_t p = 1; p < got; p++) {
            size_t at = 1;
            while (at < wanted && expected[at].addr != found[p].addr)
                at++;
            invented += at == wanted;
        }
    }
    print_message("%s: %zu functions in one piece, %zu in several; stripped: %zu pieces missed, %zu invented\n",
                  full_path, single, with_pieces, missed, invented);
    assert_true(with_pieces >= at_least);
    assert_true(missed * 8 <= with_pieces);
    assert_true(invented * 200 <= single);
    tl_object_close(full);
    tl_object_close(stripped);
}

static void large_programs_have_the_same_pieces(void **state)
{
    (void)state;
    compare_all(fixture("static"), fixture("static-stripped"), 20);
    compare_all(fixture("nopie"), fixture("nopie-stripped"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_in_one_piece_is_one_piece),
        cmocka_unit_test(a_cold_symbol_is_a_piece),
        cmocka_unit_test(a_piece_behind_a_table_is_known_by_its_name),
        cmocka_unit_test(a_stripped_file_has_the_same_pieces),
        cmocka_unit_test(large_programs_have_the_same_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
