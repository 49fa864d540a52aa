/* SPDX-License-Identifier: MIT
 *
 * Which file a module is, and which module a path means: links, deleted and replaced files, other roots; with and
 * without the privilege to open what is mapped itself.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support.h"

/* With no capability but that of looking at other processes, /proc/PID/map_files is closed. Given back at the end of
 * the test. */
static void use_capabilities(bool use)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    assert_int_equal(syscall(SYS_capget, &header, data), 0);
    data[0].effective = data[0].permitted & (use ? UINT32_MAX : 1u << CAP_SYS_PTRACE);
    data[1].effective = use ? data[1].permitted : 0;
    assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static int without_capabilities(void **state)
{
    (void)state;
    use_capabilities(false);
    return 0;
}

static int with_capabilities(void **state)
{
    (void)state;
    use_capabilities(true);
    return 0;
}

static void paths_mean_what_people_mean(void **state)
{
    (void)state;
    char path[] = "/tmp/trapline-link-XXXXXX";
    struct program program;
    program_start(&program, fixture("pie"), NULL);
    struct tl_modules modules = read_modules(program.pid);
    int libc = tl_modules_find(&modules, "libc", 0), loader = tl_modules_find(&modules, "ld-linux-x86-64", 0);
    assert_true(libc > 0 && loader > 0);
    assert_true(modules.modules[loader].is_interpreter);
    assert_int_equal(tl_modules_find(&modules, "libc", (size_t)libc + 1), -ENOENT);
    assert_int_equal(tl_modules_find(&modules, "libc.so.6", 0), libc);
    assert_int_equal(tl_modules_find(&modules, "libc.so", 0), -ENOENT);
    assert_int_equal(tl_modules_find(&modules, "lib", 0), -ENOENT);
    assert_int_equal(tl_modules_find(&modules, "libcrypto", 0), -ENOENT);
    assert_int_equal(tl_modules_find(&modules, LIBC, 0), libc); /* through the link /lib */
    assert_int_equal(tl_modules_find(&modules, modules.modules[libc].path, 0), libc);
    assert_int_equal(tl_modules_find(&modules, "*/libc.so*", 0), libc);
    assert_int_equal(tl_modules_find(&modules, "libc.so.[5-7]", 0), libc);
    assert_int_equal(tl_modules_find(&modules, "EXE", 0), 0);
    assert_int_equal(tl_modules_find(&modules, "pie", 0), 0);
    assert_int_equal(tl_modules_find(&modules, fixture("pie"), 0), 0);
    assert_int_equal(tl_modules_find(&modules, NULL, 0), 0);
    assert_int_equal(tl_modules_find(&modules, NULL, modules.count), -ENOENT);
    assert_int_equal(tl_modules_find(&modules, "/etc/passwd", 0), -ENOENT);
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(symlink(fixture("pie"), path), 0);
    assert_int_equal(tl_modules_find(&modules, path, 0), 0);
    /* A command's name is found along PATH, as the shell does it. */
    setenv("PATH", "/tmp", 1);
    assert_int_equal(tl_modules_find(&modules, path + 5, 0), 0);
    setenv("PATH", "/usr/bin:/bin", 1);
    assert_int_equal(tl_modules_find(&modules, path + 5, 0), -ENOENT);
    unlink(path);
    tl_modules_free(&modules);
    program_stop(&program);
}

static void copy_file(const char *from, const char *to)
{
    char command[9000];
    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static void a_deleted_program_is_still_read(void **state)
{
    (void)state;
    char path[] = "/tmp/trapline-gone-XXXXXX";
    struct program program;
    close(mkstemp(path));
    copy_file(fixture("pie"), path);
    chmod(path, 0700);
    program_start(&program, path, NULL);
    unlink(path);
    copy_file(fixture("nopie"), path); /* something else takes its name */
    struct tl_modules modules = read_modules(program.pid);
    bool seen = false;
    for (size_t i = 0; i < modules.count; i++) {
        struct tl_module *module = &modules.modules[i];
        if (!strstr(module->path, "(deleted)"))
            continue;
        const struct tl_function *function;
        seen = true;
        assert_true(module->is_exe);
        assert_non_null(module->object);
        assert_true(named(module->object, "sum", &function) == 1);
        assert_int_equal(module->bias + function->addr, program_says(&program, "sum "));
    }
    assert_true(seen);
    unlink(path);
    tl_modules_free(&modules);
    program_stop(&program);
}

/* A library that is gone is read where that is allowed, and otherwise said to be gone; never is another file taken for
 * it. */
static void a_replaced_library_is_read_or_refused(void **state)
{
    (void)state;
    char path[] = "/tmp/trapline-lib-XXXXXX";
    close(mkstemp(path));
    copy_file(fixture("libsmall.so.7.1"), path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    unlink(path);
    copy_file(fixture("nopie"), path);
    /* maps shows the old name with " (deleted)" behind it, which may be a file's name, too. */
    char shown[64];
    snprintf(shown, sizeof shown, "%s (deleted)", path);
    copy_file(fixture("nopie"), shown);
    struct tl_modules modules = read_modules(getpid());
    unlink(path);
    unlink(shown);
    const struct tl_module *module = tl_modules_at(&modules, (uintptr_t)dlsym(library, "with_cold"));
    assert_non_null(module);
    assert_non_null(strstr(module->path, "(deleted)"));
    if (module->object) {
        char text[64];
        tl_modules_describe(&modules, (uintptr_t)dlsym(library, "with_cold"), text, sizeof text);
        assert_string_equal(text, "with_cold+0x0");
        assert_int_equal(tl_modules_find(&modules, "libsmall", 0), module - modules.modules); /* by its soname */
    } else {
        assert_int_equal(module->refused.code, -ENOENT);
        assert_non_null(strstr(module->refused.text, "deleted or replaced"));
    }
    tl_modules_free(&modules);
    dlclose(library);
}

/* A change of it would be one of the file. */
static void code_that_is_mapped_shared_is_refused(void **state)
{
    (void)state;
    int fd = open(fixture("libsmall.so.7.1"), O_RDONLY | O_CLOEXEC);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    assert_true(code != MAP_FAILED);
    close(fd);
    struct tl_modules modules = read_modules(getpid());
    const struct tl_module *module = tl_modules_at(&modules, (uintptr_t)code);
    assert_non_null(module);
    assert_null(module->object);
    assert_int_equal(module->refused.code, -ENOTSUP);
    assert_non_null(strstr(module->refused.text, "shared mapping"));
    tl_modules_free(&modules);
    munmap(code, 4096);
}

/* A program in another root: its path means another file to us, or none. */
static void a_program_in_another_root_is_found(void **state)
{
    (void)state;
    char root[] = "/tmp/trapline-root-XXXXXX", path[64], decoy[72];
    struct program program;
    if (geteuid() != 0)
        SKIP_BECAUSE("only root can change the root directory");
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/program", root);
    copy_file(fixture("static"), path);
    program_start(&program, "/program", root);
    struct tl_modules modules = read_modules(program.pid);
    assert_true(modules.modules[0].is_exe);
    named_at(&modules, program_says(&program, "twin "), "twin+0x0");
    assert_int_equal(tl_modules_find(&modules, "/program", 0), 0);
    assert_int_equal(tl_modules_find(&modules, path, 0), 0);
    snprintf(decoy, sizeof decoy, "%s-not", path);
    assert_int_equal(tl_modules_find(&modules, decoy, 0), -ENOENT);
    tl_modules_free(&modules);
    program_stop(&program);
    unlink(path);
    rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_mean_what_people_mean),
        cmocka_unit_test_setup_teardown(paths_mean_what_people_mean, without_capabilities, with_capabilities),
        cmocka_unit_test(a_deleted_program_is_still_read),
        cmocka_unit_test_setup_teardown(a_deleted_program_is_still_read, without_capabilities, with_capabilities),
        cmocka_unit_test(a_replaced_library_is_read_or_refused),
        cmocka_unit_test_setup_teardown(a_replaced_library_is_read_or_refused, without_capabilities, with_capabilities),
        cmocka_unit_test(code_that_is_mapped_shared_is_refused),
        cmocka_unit_test(a_program_in_another_root_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
