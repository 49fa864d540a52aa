/* SPDX-License-Identifier: MIT
 *
 * Ranges out of .eh_frame, against what readelf reads there.
 */
#include <inttypes.h>
#include <string.h>

#include "support.h"

struct oracle {
    struct tl_object *object;
    size_t frames, stubs, unnamed;
};

/* "0000… 000014 0000… FDE cie=0000… pc=00001020..00001040" */
static void compare_frame(void *context, char *line)
{
    struct oracle *oracle = context;
    uint64_t start, end;
    const char *pc = strstr(line, " pc=");
    if (!strstr(line, " FDE ") || !pc || sscanf(pc, " pc=%" SCNx64 "..%" SCNx64, &start, &end) != 2 || start == end)
        return;
    oracle->frames++;
    const struct tl_function *function = tl_object_function_at(oracle->object, start);
    if (!function) {
        oracle->stubs++;
        return;
    }
    if (function->name)
        return;
    oracle->unnamed++;
    assert_int_equal(function->addr, start);
    assert_true(function->size <= end - start);
    assert_true(function->kind == TL_FUNCTION_UNNAMED || function->kind == TL_FUNCTION_PART);
    assert_ptr_equal(tl_object_function_at(oracle->object, start + function->size - 1), function);
}

static struct oracle compare(const char *path)
{
    struct oracle oracle = {.object = open_object(path)};
    each_line(compare_frame, &oracle, "readelf -W --debug-dump=frames %s 2>/dev/null | grep FDE", path);
    size_t count, unnamed = 0;
    const struct tl_function *functions = tl_object_functions(oracle.object, &count);
    for (size_t i = 0; i < count; i++)
        unnamed += functions[i].name == NULL;
    print_message("%s: %zu frames, %zu unnamed, %zu stubs\n", path, oracle.frames, oracle.unnamed, oracle.stubs);
    assert_int_equal(unnamed, oracle.unnamed);
    assert_true(oracle.stubs <= 4); /* .plt, .plt.got, .plt.sec, .iplt */
    tl_object_close(oracle.object);
    return oracle;
}

static void every_frame_is_a_function_or_a_stub(void **state)
{
    (void)state;
    struct oracle oracle = compare(PYTHON);
    assert_true(oracle.unnamed > 5000);
    oracle = compare("/bin/bash");
    assert_true(oracle.frames > 2000);
    assert_true(compare(LIBC).frames > 3000);
    oracle = compare(fixture("stripped"));
    assert_true(oracle.unnamed >= 5);
    oracle = compare(fixture("static-stripped"));
    assert_true(oracle.unnamed > 500);
}

static void a_stripped_program_has_the_ranges_of_the_full_one(void **state)
{
    (void)state;
    struct tl_object *full = open_object(fixture("pie")), *stripped = open_object(fixture("stripped"));
    static const char *const names[] = {"main", "sum", "twin", "with_cold", "other_twin", "cfi_sizeless"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct tl_function *function, *found;
        assert_true(named(full, names[i], &function) >= 1);
        found = tl_object_function_at(stripped, function->addr);
        assert_non_null(found);
        assert_null(found->name);
        assert_int_equal(found->kind, TL_FUNCTION_UNNAMED);
        assert_int_equal(found->addr, function->addr);
        assert_int_equal(found->size, function->size);
    }
    tl_object_close(full);
    tl_object_close(stripped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_is_a_function_or_a_stub),
        cmocka_unit_test(a_stripped_program_has_the_ranges_of_the_full_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
