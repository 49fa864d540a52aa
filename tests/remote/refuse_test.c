/* SPDX-License-Identifier: MIT
 *
 * Who cannot be attached to, and that the refusal says why.
 */
#include "common.h"

#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void refused(pid_t pid, int code, const char *text)
{
    struct tl_remote *r;
    struct tl_error error = {0};
    assert_int_equal(tl_remote_open(pid, &r, &error), code);
    if (!strstr(error.text, text))
        fail_msg("\"%s\" does not speak of \"%s\"", error.text, text);
    assert_int_equal(error.code, code);
    assert_null(strchr(error.text, '\n'));
}

static void idle(struct progress *p)
{
    p->ready = 1;
    for (;;) {
        p->loops[0]++;
        usleep(500);
    }
}

static void nobody_there(void **state)
{
    (void)state;
    char number[16];
    refused(0, -ESRCH, "no process");
    refused(-5, -ESRCH, "no process");
    refused(getpid(), -EINVAL, "itself");
    pid_t zombie = fork();
    if (zombie == 0)
        _exit(0);
    eventually(tl_task_state(zombie) == 'Z');
    snprintf(number, sizeof number, "%d", zombie);
    refused(zombie, -ESRCH, number);
    refused(zombie, -ESRCH, "zombie");
    waitpid(zombie, NULL, 0);
    refused(zombie, -ESRCH, number);
}

static void a_kernel_thread(void **state)
{
    (void)state;
    char *status = tl_proc_file(2, "status", NULL);
    bool kernel = status && strstr(status, "kthreadd");
    free(status);
    if (!kernel)
        SKIP_BECAUSE("no kernel threads are to be seen (a container)");
    refused(2, -EPERM, "kernel thread");
}

static void somebody_elses(void **state)
{
    (void)state;
    struct target t;
    int status;
    if (geteuid() != 0)
        SKIP_BECAUSE("only root can be somebody else");
    target_fork(&t, idle);
    pid_t child = fork();
    if (child == 0) {
        if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
            _exit(2);
        refused(t.pid, -EPERM, "belongs to user 0");
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_goes_on(&t);
    target_end(&t);
}

static void one_that_is_traced(void **state)
{
    (void)state;
    struct target t;
    char number[16];
    int ready[2];
    target_fork(&t, idle);
    assert_int_equal(pipe(ready), 0);
    pid_t tracer = fork();
    if (tracer == 0) {
        prctl(PR_SET_NAME, "some-debugger");
        if (ptrace(PTRACE_SEIZE, t.pid, NULL, NULL) == 0 && write(ready[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    snprintf(number, sizeof number, "%d", tracer);
    refused(t.pid, -EBUSY, number);
    refused(t.pid, -EBUSY, "some-debugger");
    kill(tracer, SIGKILL);
    waitpid(tracer, NULL, 0);
    tl_remote_close(open_target(&t));
    target_end(&t);
    close(ready[0]);
    close(ready[1]);
}

static void one_that_is_probed(void **state)
{
    (void)state;
    struct target t;
    char number[16];
    struct tl_remote_region region;
    int ready[2];
    target_fork(&t, idle);
    target_baseline(&t);
    assert_int_equal(pipe(ready), 0);
    pid_t tool = fork();
    if (tool == 0) {
        struct tl_remote *r = open_target(&t);
        if (tl_remote_region(r, 1, 1, &region, NULL) == 0 && write(ready[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    snprintf(number, sizeof number, "process %d", tool);
    refused(t.pid, -EBUSY, number);
    refused(t.pid, -EBUSY, "already probed");
    kill(tool, SIGKILL);
    waitpid(tool, NULL, 0);
    tl_remote_close(open_target(&t)); /* and cleans */
    assert_as_before(&t);
    assert_goes_on(&t);
    target_end(&t);
    close(ready[0]);
    close(ready[1]);
}

/* Both have opened, neither has left anything to see yet. */
static void one_that_another_tool_takes_at_the_same_time(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote_region region;
    struct tl_error error;
    target_fork(&t, idle);
    target_baseline(&t);
    struct tl_remote *first = open_target(&t), *second = open_target(&t);
    assert_int_equal(tl_remote_region(first, 1, 1, &region, &error), 0);
    assert_int_equal(tl_remote_region(second, 1, 1, &region, &error), -EBUSY);
    assert_non_null(strstr(error.text, "another trapline"));
    assert_int_equal(tl_remote_remove(second, &error), 0); /* nothing of its own */
    uint8_t byte;
    assert_int_equal(tl_remote_read(first, first->area_addr, &byte, 1), 0);
    assert_int_equal(tl_remote_remove(first, &error), 0);
    tl_remote_close(first);
    tl_remote_close(second);
    assert_as_before(&t);
    target_end(&t);
}

/* An i386 program in 96 bytes: sleeps for ever. */
static const uint8_t i386_code[] = {0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7}; /* pause(); again */

static void one_of_32_bits(void **state)
{
    (void)state;
    char path[] = "/tmp/trapline-i386-XXXXXX";
    int fd = mkstemp(path), status;
    uint8_t file[4096] = {0};
    Elf32_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
                         .e_type = ET_EXEC,
                         .e_machine = EM_386,
                         .e_version = EV_CURRENT,
                         .e_entry = 0x08048080,
                         .e_phoff = sizeof header,
                         .e_ehsize = sizeof header,
                         .e_phentsize = sizeof(Elf32_Phdr),
                         .e_phnum = 1};
    Elf32_Phdr segment = {.p_type = PT_LOAD,
                          .p_vaddr = 0x08048000,
                          .p_filesz = sizeof file,
                          .p_memsz = sizeof file,
                          .p_flags = PF_R | PF_X,
                          .p_align = 4096};
    memcpy(file, &header, sizeof header);
    memcpy(file + sizeof header, &segment, sizeof segment);
    memcpy(file + 0x80, i386_code, sizeof i386_code);
    assert_int_equal(write(fd, file, sizeof file), sizeof file);
    fchmod(fd, 0700);
    close(fd);
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, NULL);
        _exit(127);
    }
    char link[64], to[64] = "";
    snprintf(link, sizeof link, "/proc/%d/exe", child);
    for (int i = 0; i < 2000 && strcmp(to, path) != 0 && waitpid(child, &status, WNOHANG) == 0; i++) {
        ssize_t n = readlink(link, to, sizeof to - 1);
        to[n > 0 ? n : 0] = 0;
        tl_nap(1000);
    }
    bool runs = strcmp(to, path) == 0;
    if (runs) {
        struct tl_remote *r;
        struct tl_error error;
        refused(child, -ENOEXEC, "64-bit");
        assert_int_equal(tl_remote_launch((char *const[]){path, NULL}, &r, &error), -ENOEXEC);
        assert_non_null(strstr(error.text, "64-bit"));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    unlink(path);
    if (!runs)
        SKIP_BECAUSE("this kernel runs no 32-bit programs");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_there),       cmocka_unit_test(a_kernel_thread),
        cmocka_unit_test(somebody_elses),     cmocka_unit_test(one_that_is_traced),
        cmocka_unit_test(one_that_is_probed), cmocka_unit_test(one_that_another_tool_takes_at_the_same_time),
        cmocka_unit_test(one_of_32_bits),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
