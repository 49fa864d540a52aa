/* SPDX-License-Identifier: MIT
 *
 * The modules of live processes: this one, and programs of all shapes.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* Addresses that the program itself printed are found under their names. */
static void check_program(const char *name, bool dynamic)
{
    struct program program;
    program_start(&program, fixture(name), NULL);
    struct tl_modules modules = read_modules(program.pid);
    const struct tl_module *exe = &modules.modules[0];
    const struct tl_function *function;
    uint64_t addr, size;
    assert_true(exe->is_exe);
    assert_string_equal(exe->path, fixture(name));
    assert_non_null(exe->object);
    named_at(&modules, program_says(&program, "sum "), "sum+0x0");
    named_at(&modules, program_says(&program, "twin ") + 5, "twin+0x5");
    assert_true(named(exe->object, "sum", &function) == 1);
    assert_int_equal(exe->bias + function->addr, program_says(&program, "sum "));
    assert_int_equal(tl_object_variable(exe->object, "shared_variable", &addr, &size), 0);
    assert_int_equal(exe->bias + addr, program_says(&program, "variable "));
    assert_ptr_equal(tl_modules_at(&modules, program_says(&program, "variable ")), exe);
    size_t interpreters = 0, vdsos = 0;
    for (size_t i = 0; i < modules.count; i++) {
        interpreters += modules.modules[i].is_interpreter;
        vdsos += modules.modules[i].is_vdso;
        assert_int_equal(modules.modules[i].is_exe, i == 0);
        assert_true(i < 2 || modules.modules[i].start >= modules.modules[i - 1].end);
    }
    assert_int_equal(interpreters, dynamic);
    assert_true(vdsos <= 1);
    assert_true(dynamic == (tl_modules_find(&modules, "libc", 0) > 0));
    tl_modules_free(&modules);
    program_stop(&program);
}

static void programs_of_all_shapes_are_placed(void **state)
{
    (void)state;
    check_program("pie", true);
    check_program("nopie", true);
    check_program("static", false);
    check_program("static-pie", false);
}

static void a_function_without_a_name_is_a_place_in_its_file(void **state)
{
    (void)state;
    struct program program;
    char expected[64];
    program_start(&program, fixture("stripped"), NULL);
    struct tl_modules modules = read_modules(program.pid);
    uint64_t addr = program_says(&program, "twin ");
    snprintf(expected, sizeof expected, "[stripped]+%#llx", (unsigned long long)(addr - modules.modules[0].bias));
    named_at(&modules, addr, expected);
    tl_modules_free(&modules);
    program_stop(&program);
}

static int check_phdr(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct tl_modules *modules = context;
    (void)size;
    for (size_t i = 0; i < modules->count; i++)
        if (modules->modules[i].bias == info->dlpi_addr && modules->modules[i].object)
            return 0;
    fail_msg("%s at %#lx is missing", info->dlpi_name, (long)info->dlpi_addr);
    return 1;
}

static void this_process_is_as_its_loader_says(void **state)
{
    (void)state;
    struct tl_modules modules = read_modules(getpid());
    dl_iterate_phdr(check_phdr, &modules);
    const struct tl_function *function;
    int libc = tl_modules_find(&modules, "libc.so.6", 0);
    assert_true(libc > 0);
    assert_int_equal(named(modules.modules[libc].object, "getenv", &function), 1);
    assert_int_equal(modules.modules[libc].bias + function->addr, (uintptr_t)dlsym(RTLD_DEFAULT, "getenv"));
    named_at(&modules, (uintptr_t)dlsym(RTLD_DEFAULT, "getenv") + 1, "getenv+0x1");
    named_at(&modules, 0x10, "0x10");
    assert_null(tl_modules_at(&modules, 0x10));
    assert_int_equal(tl_modules_find(&modules, "vdso", 0), tl_modules_find(&modules, "[vdso]", 0));
    int vdso = tl_modules_find(&modules, "vdso", 0);
    if (vdso >= 0) {
        assert_non_null(modules.modules[vdso].object);
        assert_true(named(modules.modules[vdso].object, "__vdso_clock_gettime", &function) == 1);
    }
    tl_modules_free(&modules);
}

/* A text in several mappings is one module; the same file mapped a second time is another. */
static void a_split_text_is_one_module(void **state)
{
    (void)state;
    struct tl_modules before = read_modules(getpid());
    int libc = tl_modules_find(&before, "libc.so.6", 0);
    assert_true(libc > 0);
    uint64_t page = ((uintptr_t)dlsym(RTLD_DEFAULT, "getenv") + 4096) & ~4095ull;
    assert_int_equal(mprotect((void *)(uintptr_t)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
    struct tl_modules after = read_modules(getpid());
    assert_int_equal(after.count, before.count);
    assert_int_equal(after.modules[libc].bias, before.modules[libc].bias);
    tl_modules_free(&after);
    assert_int_equal(mprotect((void *)(uintptr_t)page, 4096, PROT_READ | PROT_EXEC), 0);

    uint64_t offset;
    assert_int_equal(tl_object_addr_to_offset(before.modules[libc].object, page - before.modules[libc].bias, &offset),
                     0);
    int fd = open(LIBC, O_RDONLY);
    void *again = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, (off_t)offset);
    close(fd);
    assert_ptr_not_equal(again, MAP_FAILED);
    after = read_modules(getpid());
    assert_int_equal(after.count, before.count + 1);
    int first = tl_modules_find(&after, "libc.so.6", 0),
        second = tl_modules_find(&after, "libc.so.6", (size_t)first + 1);
    assert_true(second > first);
    const struct tl_module *module = tl_modules_at(&after, (uintptr_t)again);
    assert_non_null(module);
    assert_int_equal(module->bias, (uintptr_t)again - (page - before.modules[libc].bias));
    munmap(again, 4096);
    tl_modules_free(&after);
    tl_modules_free(&before);
}

static void no_process_is_said(void **state)
{
    (void)state;
    struct tl_modules modules;
    struct tl_error error = {0};
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t info;
    waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
    assert_int_equal(tl_modules_read(child, &modules, &error), -ESRCH); /* a zombie */
    assert_non_null(strstr(error.text, "ended"));
    waitpid(child, NULL, 0);
    assert_int_equal(tl_modules_read(0x3fffffff, &modules, &error), -ESRCH);
    assert_non_null(strstr(error.text, "no process"));
    if (geteuid() != 0)
        assert_int_equal(tl_modules_read(1, &modules, &error), -EACCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_of_all_shapes_are_placed),
        cmocka_unit_test(a_function_without_a_name_is_a_place_in_its_file),
        cmocka_unit_test(this_process_is_as_its_loader_says),
        cmocka_unit_test(a_split_text_is_one_module),
        cmocka_unit_test(no_process_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
