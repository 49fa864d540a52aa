/* SPDX-License-Identifier: MIT
 *
 * Breakpoints of whole CPUs, which take root, and registers from everybody: this test runs alone.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hwbp_kit.h"

enum { SLOTS = 4, SKIPPED = 77, WRITES = 1000 };

static _Alignas(64) volatile uint64_t words[8];
static struct seen seen;

static struct tl_hwbp_options counting(uint32_t scope)
{
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, NULL);
    options.scope = scope;
    return options;
}

static void run_on(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
}

static void run_anywhere(void)
{
    cpu_set_t set;
    memset(&set, 0xff, sizeof set);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
}

static void write_words(void)
{
    for (unsigned i = 0; i < WRITES; i++)
        kit_store(&words[1], i, 8);
}

static long online(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN);
}

static void one_cpu_counts_what_runs_there(void **state)
{
    (void)state;
    struct tl_hwbp_options options = counting(TL_HWBP_CPU);
    struct tl_hwbp *hwbp = kit_create(&options);
    run_on(0);
    write_words();
    kit_expect(hwbp, WRITES, 0, 0);
    if (online() > 1) {
        run_on(1);
        write_words();
        kit_expect(hwbp, WRITES, 0, 0);
    }
    run_anywhere();
    kit_destroy(hwbp);
}

static void wide_is_every_cpu_and_every_process(void **state)
{
    (void)state;
    struct tl_hwbp_options options = counting(TL_HWBP_WIDE);
    struct tl_hwbp *hwbp = kit_create(&options);
    for (unsigned cpu = 0; cpu < (unsigned)online(); cpu++) {
        run_on(cpu);
        write_words();
    }
    run_anywhere();
    pid_t pid = fork();
    if (!pid) {
        write_words();
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    kit_expect(hwbp, (uint64_t)(online() + 1) * WRITES, 0, 0);
    struct tl_hwbp_options moved = options;
    moved.address = (void *)(uintptr_t)&words[2];
    assert_int_equal(tl_hwbp_modify(hwbp, &moved, NULL), 0);
    write_words();
    kit_expect(hwbp, (uint64_t)(online() + 1) * WRITES, 0, 0);
    kit_destroy(hwbp);
}

/* What the rules say: a CPU's, those of all threads, and one thread's share the registers. */
static void all_kinds_share_the_slots(void **state)
{
    (void)state;
    struct tl_hwbp_options wide = counting(TL_HWBP_WIDE), cpu = counting(TL_HWBP_CPU);
    struct tl_hwbp_options process = kit_watch(&words[2], 8, TL_HWBP_WRITE, &seen), thread = process;
    struct tl_hwbp *held[SLOTS], *none = NULL;
    thread.scope = TL_HWBP_THREAD;
    cpu.cpu = (unsigned)online() - 1;
    held[0] = kit_create(&wide);
    held[1] = kit_create(&cpu);
    held[2] = kit_create(&process);
    held[3] = kit_create(&thread);
    assert_int_equal(tl_hwbp_create(&wide, &none, NULL), -ENOSPC);
    assert_int_equal(tl_hwbp_create(&cpu, &none, NULL), -ENOSPC);
    assert_int_equal(tl_hwbp_create(&process, &none, NULL), -ENOSPC);
    assert_int_equal(tl_hwbp_create(&thread, &none, NULL), -ENOSPC);
    if (online() > 1) {
        cpu.cpu = 0;
        kit_destroy(kit_create(&cpu)); /* there is one left there */
    }
    for (unsigned i = 0; i < SLOTS; i++)
        kit_destroy(held[i]);
}

/* Somebody else holds the registers of the last CPU: what was opened on the others is closed. */
static void all_or_none(void **state)
{
    (void)state;
    struct tl_hwbp_options last = counting(TL_HWBP_CPU), wide = counting(TL_HWBP_WIDE);
    int ready[2], over[2];
    char byte = 0;
    last.cpu = (unsigned)online() - 1;
    assert_int_equal(pipe(ready) | pipe(over), 0);
    pid_t pid = fork();
    if (!pid) {
        struct tl_hwbp *hwbp;
        for (unsigned i = 0; i < SLOTS; i++)
            if (tl_hwbp_create(&last, &hwbp, NULL))
                _exit(1);
        close(over[1]);
        _exit(write(ready[1], &byte, 1) != 1 || read(over[0], &byte, 1) != 0);
    }
    close(over[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1); /* else somebody outside of this test holds registers */
    struct tl_error error;
    struct tl_hwbp *hwbp;
    for (unsigned i = 0; i < 2 * SLOTS; i++)
        assert_int_equal(tl_hwbp_create(&wide, &hwbp, &error), -ENOSPC);
    close(over[1]);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    kit_destroy(kit_create(&wide));
}

/* The kernel writes for us: counted with TL_HWBP_KERNEL only. */
static void accesses_by_the_kernel_by_request(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= TL_HWBP_KERNEL; flags += TL_HWBP_KERNEL) {
        struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, NULL);
        uint64_t value = 5;
        int ends[2];
        options.flags = flags;
        assert_int_equal(pipe(ends), 0);
        struct tl_hwbp *hwbp = kit_create(&options);
        assert_int_equal(write(ends[1], &value, 8), 8);
        assert_int_equal(read(ends[0], (void *)(uintptr_t)&words[1], 8), 8);
        assert_int_equal(words[1], 5);
        assert_int_equal(kit_counts(hwbp).hits > 0, flags != 0);
        close(ends[0]);
        close(ends[1]);
        kit_destroy(hwbp);
    }
}

static uint64_t kernel_symbol(const char *wanted)
{
    char name[128];
    unsigned long long addr = 0, found = 0;
    FILE *file = fopen("/proc/kallsyms", "r");
    while (file && fscanf(file, "%llx %*c %127s%*[^\n]", &addr, name) == 2 && !found)
        if (!strcmp(name, wanted))
            found = addr;
    if (file)
        fclose(file);
    return found;
}

/* Write to a kernel variable what it holds already. */
static bool rewrite(const char *path)
{
    char text[64] = "";
    FILE *file = fopen(path, "r+");
    size_t size = file ? fread(text, 1, sizeof text, file) : 0;
    bool done = size > 0 && !fseek(file, 0, SEEK_SET) && fwrite(text, 1, size, file) == size && !fflush(file);
    if (file)
        fclose(file);
    return done;
}

static void a_kernel_variable(void **state)
{
    static const char path[] = "/proc/sys/kernel/printk";
    (void)state;
    uint64_t addr = kernel_symbol("console_printk");
    if (!addr || !rewrite(path)) {
        SKIP_BECAUSE("this kernel does not tell where its variables are");
    }
    struct tl_hwbp_options options = kit_watch((void *)addr, 4, TL_HWBP_WRITE, NULL); /* NOLINT */
    struct tl_hwbp *hwbp;
    assert_int_equal(tl_hwbp_create(&options, &hwbp, NULL), -EINVAL);
    options.flags = TL_HWBP_KERNEL;
    hwbp = kit_create(&options);
    assert_true(rewrite(path));
    kit_expect(hwbp, 1, 0, 0);
    kit_destroy(hwbp);
    options.scope = TL_HWBP_WIDE;
    hwbp = kit_create(&options);
    assert_true(rewrite(path));
    kit_expect(hwbp, 1, 0, 0);
    kit_destroy(hwbp);
}

/* A kernel without kprobes refuses that. */
static void a_kernel_function(void **state)
{
    (void)state;
    uint64_t addr = kernel_symbol("__x64_sys_getppid");
    struct tl_hwbp_options options = kit_watch((void *)addr, sizeof(long), TL_HWBP_EXECUTE, NULL); /* NOLINT */
    struct tl_hwbp *hwbp;
    struct tl_error error;
    options.flags = TL_HWBP_KERNEL;
    int code = addr ? tl_hwbp_create(&options, &hwbp, &error) : -ENOENT;
    if (code) {
        assert_true(code == -EINVAL || code == -ENOENT);
        SKIP_BECAUSE("this kernel was built without kprobes, or tells no addresses");
    }
    for (unsigned i = 0; i < 10; i++)
        syscall(SYS_getppid);
    kit_expect(hwbp, 10, 0, 0);
    kit_destroy(hwbp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cpu_counts_what_runs_there),
        cmocka_unit_test(wide_is_every_cpu_and_every_process),
        cmocka_unit_test(all_kinds_share_the_slots),
        cmocka_unit_test(all_or_none),
        cmocka_unit_test(accesses_by_the_kernel_by_request),
        cmocka_unit_test(a_kernel_variable),
        cmocka_unit_test(a_kernel_function),
    };
    kit_skip_without_events();
    struct tl_hwbp_options options = counting(TL_HWBP_WIDE);
    struct tl_error error = {.text = ""};
    struct tl_hwbp *hwbp;
    if (tl_hwbp_create(&options, &hwbp, &error)) {
        printf("skipped: %s\n", error.text);
        return error.code == -EACCES || error.code == -EPERM ? SKIPPED : 1;
    }
    tl_hwbp_destroy(hwbp);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
