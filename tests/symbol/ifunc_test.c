/* SPDX-License-Identifier: MIT
 *
 * What indirect functions became, against what the loader and the programs themselves say.
 */
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

static void check_program(const char *name)
{
    struct program program;
    struct tl_modules modules;
    struct tl_error error = {0};
    const struct tl_function *function;
    uint64_t addr = 0;
    char text[64];
    program_start(&program, fixture(name), NULL);
    assert_int_equal(tl_modules_read(program.pid, &modules, &error), 0);
    assert_int_equal(named(modules.modules[0].object, "picked", &function), 1);
    assert_int_equal(function->kind, TL_FUNCTION_IFUNC);
    assert_int_equal(
        tl_modules_resolve_ifunc(&modules, &modules.modules[0], function, read_process, &program.pid, &addr), 0);
    assert_int_equal(addr, program_says(&program, "picked "));
    tl_modules_describe(&modules, addr, text, sizeof text);
    assert_string_equal(text, "picked_two+0x0");
    assert_int_equal(named(modules.modules[0].object, "sum", &function), 1);
    assert_int_equal(
        tl_modules_resolve_ifunc(&modules, &modules.modules[0], function, read_process, &program.pid, &addr), -EINVAL);
    tl_modules_free(&modules);
    program_stop(&program);
}

static void a_programs_own_ifunc(void **state)
{
    (void)state;
    check_program("pie");
    check_program("nopie");
    check_program("static");
    check_program("static-pie");
}

struct check {
    const struct tl_modules *modules;
    const struct tl_module *libc;
    void *handle;
    size_t resolved, unbound;
};

/* Each of libc's that anything here uses is what dlsym says. */
static int check_one(void *context, const struct tl_function *function)
{
    struct check *check = context;
    uint64_t addr = 0;
    pid_t pid = getpid();
    if (function->kind != TL_FUNCTION_IFUNC || !function->global)
        return 0;
    void *expected = dlsym(check->handle, function->name);
    if (!expected)
        return 0;
    int result = tl_modules_resolve_ifunc(check->modules, check->libc, function, read_process, &pid, &addr);
    if (result == -ENOENT) {
        check->unbound++;
        return 0;
    }
    assert_int_equal(result, 0);
    if (addr != (uintptr_t)expected)
        fail_msg("%s: %#lx, not %p", function->name, (long)addr, expected);
    check->resolved++;
    return 0;
}

static void all_that_libc_resolved(void **state)
{
    (void)state;
    struct tl_modules modules;
    struct tl_error error = {0};
    assert_int_equal(tl_modules_read(getpid(), &modules, &error), 0);
    int libc = tl_modules_find(&modules, "libc.so.6", 0);
    assert_true(libc > 0);
    /* Its own answer, whatever stands before it (a sanitizer has a memchr of its own). */
    void *handle = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(handle);
    struct check check = {.modules = &modules, .libc = &modules.modules[libc], .handle = handle};
    assert_int_equal(tl_object_match(check.libc->object, "*", check_one, &check), 0);
    print_message("%zu resolved, %zu that nothing uses\n", check.resolved, check.unbound);
    assert_true(check.resolved >= 15);
    dlclose(handle);
    tl_modules_free(&modules);
}

/* A program that is bound to an older version of the name, which is no answer. */
static void another_version_is_not_the_answer(void **state)
{
    (void)state;
    struct program program;
    struct tl_modules modules;
    struct tl_error error = {0};
    const struct tl_function *function;
    uint64_t addr;
    program_start(&program, fixture("old-program"), NULL);
    assert_int_equal(tl_modules_read(program.pid, &modules, &error), 0);
    int library = tl_modules_find(&modules, "libversions", 0);
    assert_true(library > 0);
    const struct tl_module *module = &modules.modules[library];
    assert_int_equal(named(module->object, "versioned", &function), 2);
    bool old_first = function->kind != TL_FUNCTION_IFUNC;
    size_t count;
    const struct tl_function *all = tl_object_functions(module->object, &count), *indirect = NULL, *old = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!all[i].name || strcmp(all[i].name, "versioned") != 0)
            continue;
        *(all[i].kind == TL_FUNCTION_IFUNC ? &indirect : &old) = &all[i];
    }
    assert_true(indirect && old && old_first == (old->addr < indirect->addr));
    assert_int_equal(module->bias + old->addr, program_says(&program, "old "));
    assert_int_equal(tl_modules_resolve_ifunc(&modules, module, indirect, read_process, &program.pid, &addr), -ENOENT);
    tl_modules_free(&modules);
    program_stop(&program);
}

static int read_nothing(void *host, uint64_t addr, void *bytes, size_t size)
{
    (void)host;
    (void)addr;
    memset(bytes, 0, size);
    return 0;
}

static int cannot_read(void *host, uint64_t addr, void *bytes, size_t size)
{
    (void)host;
    (void)addr;
    (void)bytes;
    (void)size;
    return -EFAULT;
}

static void what_nothing_bound_is_said(void **state)
{
    (void)state;
    struct tl_modules modules;
    struct tl_error error = {0};
    const struct tl_function *function;
    uint64_t addr;
    assert_int_equal(tl_modules_read(getpid(), &modules, &error), 0);
    int libc = tl_modules_find(&modules, "libc.so.6", 0);
    assert_int_equal(named(modules.modules[libc].object, "strlen", &function), 1);
    assert_int_equal(tl_modules_resolve_ifunc(&modules, &modules.modules[libc], function, read_nothing, NULL, &addr),
                     -ENOENT);
    assert_int_equal(tl_modules_resolve_ifunc(&modules, &modules.modules[libc], function, cannot_read, NULL, &addr),
                     -ENOENT);
    tl_modules_free(&modules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_programs_own_ifunc),
        cmocka_unit_test(all_that_libc_resolved),
        cmocka_unit_test(another_version_is_not_the_answer),
        cmocka_unit_test(what_nothing_bound_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
