/* SPDX-License-Identifier: MIT
 *
 * Variables of running programs: the addresses are those that the program itself prints.
 */
#include <string.h>

#include "support.h"
#include "symbol/variable.h"

struct live {
    struct program program;
    struct tl_modules modules;
    uint64_t self;
};

static void start(struct live *live, const char *name)
{
    program_start(&live->program, fixture(name), NULL);
    live->modules = read_modules(live->program.pid);
    live->self = program_says(&live->program, "self ");
}

static void stop(struct live *live)
{
    tl_modules_free(&live->modules);
    program_stop(&live->program);
}

static struct tl_variable find(const struct live *live, const char *scope, const char *name)
{
    struct tl_variable_name asked = {.scope = (char *)scope, .name = (char *)name};
    struct tl_variable variable;
    struct tl_error error = {0};
    if (tl_modules_variable(&live->modules, &asked, &variable, &error))
        fail_msg("%s: %s", name, error.text);
    return variable;
}

static void is_at(const struct live *live, const char *scope, const char *name, const char *printed)
{
    struct tl_variable variable = find(live, scope, name);
    assert_int_equal(variable.addr, program_says(&live->program, printed));
    tl_variable_free(&variable);
}

static int thread_local_addr(const struct live *live, const char *scope, const char *name, uint64_t *addr)
{
    struct tl_variable variable = find(live, scope, name);
    struct tl_error error = {0};
    pid_t pid = live->program.pid;
    assert_true(variable.is_thread_local);
    assert_int_equal(variable.addr, 0);
    int result = tl_modules_thread_local(&live->modules, &variable, live->self, read_process, &pid, addr, &error);
    assert_int_equal(result, error.code);
    tl_variable_free(&variable);
    return result;
}

static void is_in_thread_at(const struct live *live, const char *scope, const char *name, const char *printed)
{
    uint64_t addr;
    assert_int_equal(thread_local_addr(live, scope, name, &addr), 0);
    assert_int_equal(addr, program_says(&live->program, printed));
}

static const char *const programs[][2] = {{"variables-live-gcc-no-pie", "libvariables-gcc.so"},
                                          {"variables-live-gcc-pie", "libvariables-gcc.so"},
                                          {"variables-live-musl-gcc-no-pie", "libvariables-musl-gcc.so"},
                                          {"variables-live-musl-gcc-pie", "libvariables-musl-gcc.so"}};

static void addresses_are_those_in_use(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        struct live live;
        start(&live, programs[i][0]);
        is_at(&live, NULL, "environ", "environ ");
        is_at(&live, strstr(programs[i][0], "musl") ? "*musl*" : "libc", "environ", "environ ");
        is_at(&live, NULL, "exported", "exported ");
        is_at(&live, programs[i][1], "exported", "exported ");
        is_at(&live, programs[i][1], "exported_too", "exported ");
        stop(&live);
    }
}

static void the_programs_own_goes_first(void **state)
{
    (void)state;
    struct live live;
    start(&live, "variables-live-gcc-pie");
    is_at(&live, NULL, "counter", "\ncounter ");
    is_at(&live, "EXE", "counter", "\ncounter ");
    is_at(&live, "libvariables-gcc.so", "counter", "library_counter ");
    is_at(&live, "libvariables-gcc", "counter", "library_counter ");
    stop(&live);
}

static void thread_locals_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        struct live live;
        start(&live, programs[i][0]);
        is_in_thread_at(&live, NULL, "own", "own ");
        is_in_thread_at(&live, NULL, "aligned", "aligned ");
        is_in_thread_at(&live, programs[i][1], "library_tls", "library_tls ");
        is_in_thread_at(&live, programs[i][1], "early", "early ");
        stop(&live);
    }
}

/* The block of a library that was loaded later is made when the thread first uses it. */
static void a_block_that_is_not_there_yet(void **state)
{
    (void)state;
    struct live live;
    uint64_t addr;
    start(&live, "variables-live-gcc-pie");
    assert_int_equal(thread_local_addr(&live, "liblate-gcc.so", "library_tls", &addr), -ENOENT);
    stop(&live);
}

static void what_is_in_several_libraries_is_ambiguous(void **state)
{
    (void)state;
    struct live live;
    struct tl_variable_name asked = {.name = (char *)"library_tls"};
    struct tl_variable variable;
    struct tl_error error;
    start(&live, "variables-live-gcc-pie");
    assert_int_equal(tl_modules_variable(&live.modules, &asked, &variable, &error), -ENOTUNIQ);
    assert_string_equal(error.text, "library_tls is ambiguous: liblate-gcc.so:library_tls, "
                                    "libvariables-gcc.so:library_tls");
    stop(&live);
}

static void addresses_have_names(void **state)
{
    (void)state;
    struct live live;
    char text[100];
    start(&live, "variables-live-gcc-pie");
    assert_true(tl_modules_name(&live.modules, program_says(&live.program, "\ncounter "), text, sizeof text));
    assert_string_equal(text, "counter");
    assert_true(tl_modules_name(&live.modules, program_says(&live.program, "\ncounter ") + 2, text, sizeof text));
    assert_string_equal(text, "counter+0x2");
    assert_false(tl_modules_name(&live.modules, 16, text, sizeof text));
    stop(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_those_in_use),
        cmocka_unit_test(the_programs_own_goes_first),
        cmocka_unit_test(thread_locals_are_found),
        cmocka_unit_test(a_block_that_is_not_there_yet),
        cmocka_unit_test(what_is_in_several_libraries_is_ambiguous),
        cmocka_unit_test(addresses_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
