/* SPDX-License-Identifier: MIT
 *
 * Functions by name and address, against what readelf prints of the same files.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

struct oracle {
    struct tl_object *object;
    size_t compared, versions;
};

/* Of several entries of a name: the one at an address. */
static const struct tl_function *at_address(const struct tl_object *object, const char *name, uint64_t addr)
{
    size_t count;
    const struct tl_function *functions = tl_object_functions(object, &count);
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (functions[middle].addr < addr)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && functions[low].addr == addr; low++)
        if (functions[low].name && strcmp(functions[low].name, name) == 0)
            return &functions[low];
    return NULL;
}

/* "   Num:    Value          Size Type    Bind   Vis      Ndx Name" */
static void compare_symbol(void *context, char *line)
{
    struct oracle *oracle = context;
    char size_text[32], type[16], bind[16], visibility[16], index[16], name[4096];
    uint64_t addr;
    size_t available;
    if (sscanf(line, " %*d: %" SCNx64 " %31s %15s %15s %15s %15s %4095[^\n]", &addr, size_text, type, bind, visibility,
               index, name) != 7)
        return;
    if ((strcmp(type, "FUNC") != 0 && strcmp(type, "IFUNC") != 0) || strcmp(index, "UND") == 0)
        return;
    if (!tl_object_text(oracle->object, addr, &available))
        return;
    char *version = strchr(name, '@');
    if (version && version != name) {
        *version = '\0';
        oracle->versions++;
    }
    const struct tl_function *function = at_address(oracle->object, name, addr);
    if (!function)
        fail_msg("%s at %#" PRIx64 " is missing", name, addr);
    uint64_t size = strtoull(size_text, NULL, 0);
    if (size)
        assert_true(function->size >= size); /* a double entry may tell more */
    assert_true(function->size > 0);
    if (strcmp(type, "IFUNC") == 0)
        assert_int_equal(function->kind, TL_FUNCTION_IFUNC);
    if (strcmp(bind, "LOCAL") != 0)
        assert_true(function->global);
    const struct tl_function *here = tl_object_function_at(oracle->object, addr);
    assert_non_null(here);
    assert_int_equal(here->addr, addr);
    const struct tl_function *first;
    assert_true(named(oracle->object, name, &first) >= 1);
    oracle->compared++;
}

static size_t compare(const char *path)
{
    struct oracle oracle = {.object = open_object(path)};
    each_line(compare_symbol, &oracle, "readelf -W -s --dyn-syms %s 2>/dev/null", path);
    size_t count, entries = 0;
    const struct tl_function *functions = tl_object_functions(oracle.object, &count);
    for (size_t i = 0; i < count; i++) {
        assert_true(functions[i].size > 0);
        assert_true(i == 0 || functions[i].addr >= functions[i - 1].addr);
        entries += functions[i].name != NULL;
    }
    print_message("%s: %zu functions, %zu named, %zu symbols compared\n", path, count, entries, oracle.compared);
    if (strcmp(path, LIBC) != 0) /* its debug file, where installed, knows more */
        assert_true(entries <= oracle.compared);
    tl_object_close(oracle.object);
    return oracle.compared;
}

static void every_symbol_of_readelf_is_found(void **state)
{
    (void)state;
    assert_true(compare(LIBC) > 2000);
    assert_true(compare("/bin/bash") > 1500);
    assert_true(compare(PYTHON) > 1000);
    static const char *const fixtures[] = {"pie",      "nopie", "static", "static-pie", "libsmall.so.7.1",
                                           "stripped", "musl",  "go"};
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++)
        compare(fixture(fixtures[i]));
    assert_true(compare(fixture("go")) > 1000);
}

static void stubs_are_no_functions(void **state)
{
    (void)state;
    static const char *const files[] = {LIBC, "/bin/bash", PYTHON};
    for (size_t i = 0; i < 3; i++) {
        struct tl_object *object = open_object(files[i]);
        char key[64];
        snprintf(key, sizeof key, " .plt              PROGBITS        ");
        char command[256];
        snprintf(command, sizeof command, "readelf -SW %s | sed 's/PROGBITS  */&0x/'", files[i]);
        uint64_t plt = number_behind(key, "%s", command);
        assert_true(plt != 0);
        for (uint64_t at = plt; at < plt + 0x40; at += 8)
            assert_null(tl_object_function_at(object, at));
        tl_object_close(object);
    }
}

static void copies_of_a_name_are_all_delivered(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    const struct tl_function *function, *alias;
    assert_int_equal(named(object, "twin", &function), 2);
    assert_false(function->global);
    assert_int_equal(named(object, "sum", &function), 1);
    assert_int_equal(named(object, "sum_alias", &alias), 1);
    assert_int_equal(alias->addr, function->addr);
    assert_int_equal(named(object, "*tw?n", &function), 3);
    assert_int_equal(named(object, "sum[x_]alias", &function), 1);
    assert_int_equal(named(object, "no_such", &function), 0);
    tl_object_close(object);
    object = open_object(LIBC);
    assert_int_equal(named(object, "memcpy", &function), 2); /* two versions, two addresses */
    tl_object_close(object);
    object = open_object(fixture("go"));
    assert_int_equal(named(object, "main.(*greeter).greet", &function), 1);
    tl_object_close(object);
}

static int stop_at_second(void *context, const struct tl_function *function)
{
    (void)function;
    return ++*(int *)context == 2 ? 77 : 0;
}

static void a_match_stops_when_told(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    int calls = 0;
    assert_int_equal(tl_object_match(object, "*", stop_at_second, &calls), 77);
    assert_int_equal(calls, 2);
    tl_object_close(object);
}

static void sizeless_assembly_gets_an_extent(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    const struct tl_function *function;
    assert_int_equal(named(object, "cfi_sizeless", &function), 1);
    assert_int_equal(function->size, 4); /* what its frame description says */
    assert_int_equal(named(object, "sizeless", &function), 1);
    assert_int_equal(function->size, 16); /* up to the next */
    assert_ptr_equal(tl_object_function_at(object, function->addr + 15), function);
    tl_object_close(object);
}

static void a_file_without_section_headers_has_its_dynamic_symbols(void **state)
{
    (void)state;
    static const char *const names[] = {"headless-libsmall.so.7.1", "headless-sysv"};
    for (size_t i = 0; i < 2; i++) {
        struct tl_object *object = open_object(fixture(names[i])), *whole = open_object(fixture("libsmall.so.7.1"));
        static const char *const exported[] = {"sum", "sum_alias", "with_cold", "other_twin", "main", "picked"};
        for (size_t j = 0; j < sizeof exported / sizeof *exported; j++) {
            const struct tl_function *function, *expected;
            assert_int_equal(named(object, exported[j], &function), 1);
            assert_int_equal(named(whole, exported[j], &expected), 1);
            assert_int_equal(function->size, expected->size);
            assert_int_equal(function->kind, expected->kind);
        }
        const struct tl_function *function;
        assert_int_equal(named(object, "twin", &function), 0);
        tl_object_close(object);
        tl_object_close(whole);
    }
    struct tl_object *object = open_object(fixture("headless-pie")), *whole = open_object(fixture("pie"));
    const struct tl_function *twin, *found;
    assert_int_equal(named(whole, "twin", &twin), 2);
    found = tl_object_function_at(object, twin->addr);
    assert_non_null(found);
    assert_int_equal(found->addr, twin->addr);
    assert_int_equal(found->size, twin->size);
    tl_object_close(object);
    tl_object_close(whole);
}

static void variables_have_addresses(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    uint64_t addr, size;
    assert_int_equal(tl_object_variable(object, "shared_variable", &addr, &size), 0);
    assert_int_equal(size, 4);
    assert_int_equal(addr, number_behind("variable ", "nm %s | sed -n 's/^\\(.*\\) D shared_variable/variable 0x\\1/p'",
                                         fixture("pie")));
    assert_int_equal(tl_object_variable(object, "no_such", &addr, &size), -ENOENT);
    assert_int_equal(tl_object_variable(object, "main", &addr, &size), -ENOENT);
    tl_object_close(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_symbol_of_readelf_is_found),
        cmocka_unit_test(stubs_are_no_functions),
        cmocka_unit_test(copies_of_a_name_are_all_delivered),
        cmocka_unit_test(a_match_stops_when_told),
        cmocka_unit_test(sizeless_assembly_gets_an_extent),
        cmocka_unit_test(a_file_without_section_headers_has_its_dynamic_symbols),
        cmocka_unit_test(variables_have_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
