/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

const char *fixture(const char *name)
{
    static char paths[8][4096];
    static unsigned next;
    char *path = paths[next++ % 8];
    const char *directory = getenv("FIXTURES");
    assert_non_null(directory);
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

struct tl_object *open_object(const char *path)
{
    struct tl_object *object = NULL;
    struct tl_error error = {0};
    if (tl_object_open(path, NULL, &object, &error) < 0)
        fail_msg("%s", error.text);
    return object;
}

static FILE *start(const char *format, va_list arguments)
{
    char command[8192];
    assert_true(vsnprintf(command, sizeof command, format, arguments) < (int)sizeof command);
    FILE *output = popen(command, "r");
    assert_non_null(output);
    return output;
}

void each_line(void (*each)(void *context, char *line), void *context, const char *format, ...)
{
    char *line = NULL;
    size_t size = 0;
    va_list arguments;
    va_start(arguments, format);
    FILE *output = start(format, arguments);
    va_end(arguments);
    while (getline(&line, &size, output) > 0) {
        line[strcspn(line, "\n")] = '\0';
        each(context, line);
    }
    free(line);
    assert_int_equal(pclose(output), 0);
}

uint64_t number_behind(const char *key, const char *format, ...)
{
    char *line = NULL;
    size_t size = 0;
    uint64_t number = 0;
    bool found = false;
    va_list arguments;
    va_start(arguments, format);
    FILE *output = start(format, arguments);
    va_end(arguments);
    while (getline(&line, &size, output) > 0) {
        const char *at = strstr(line, key);
        if (at && !found) {
            number = strtoull(at + strlen(key), NULL, 0);
            found = true;
        }
    }
    free(line);
    pclose(output);
    if (!found)
        fail_msg("no \"%s\" in the output", key);
    return number;
}

struct first {
    const struct tl_function *function;
    size_t count;
};

static int note_first(void *context, const struct tl_function *function)
{
    struct first *first = context;
    if (first->count++ == 0)
        first->function = function;
    return 0;
}

size_t named(const struct tl_object *object, const char *name, const struct tl_function **function)
{
    struct first first = {0};
    assert_int_equal(tl_object_match(object, name, note_first, &first), 0);
    *function = first.function;
    return first.count;
}

void program_start(struct program *program, const char *path, const char *root)
{
    int input[2], output[2];
    size_t used = 0;
    assert_int_equal(pipe(input), 0);
    assert_int_equal(pipe(output), 0);
    program->pid = fork();
    assert_true(program->pid >= 0);
    if (program->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(input[0], 0);
        dup2(output[1], 1);
        close(input[1]);
        close(output[0]);
        if (root && (chroot(root) < 0 || chdir("/") < 0))
            _exit(99);
        execl(path, path, "wait", (char *)NULL);
        _exit(98);
    }
    close(input[0]);
    close(output[1]);
    program->input = input[1];
    /* It prints all at once, ending with x. */
    while (!(used && program->output[used - 1] == '\n' && strstr(program->output, "\nx "))) {
        ssize_t n = read(output[0], program->output + used, sizeof program->output - 1 - used);
        if (n <= 0)
            fail_msg("%s did not start", path);
        used += (size_t)n;
        program->output[used] = '\0';
    }
    close(output[0]);
}

void program_stop(struct program *program)
{
    close(program->input);
    waitpid(program->pid, NULL, 0);
}

uint64_t program_says(const struct program *program, const char *key)
{
    const char *at = strstr(program->output, key);
    assert_non_null(at);
    return strtoull(at + strlen(key), NULL, 16);
}

int read_process(void *host, uint64_t addr, void *bytes, size_t size)
{
    struct iovec here = {bytes, size}, there = {(void *)(uintptr_t)addr, size};
    return process_vm_readv(*(const pid_t *)host, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

struct tl_modules read_modules(pid_t pid)
{
    struct tl_modules modules;
    struct tl_error error = {0};
    if (tl_modules_read(pid, &modules, &error) < 0)
        fail_msg("%s", error.text);
    return modules;
}

void named_at(const struct tl_modules *modules, uint64_t addr, const char *expected)
{
    char text[128];
    tl_modules_describe(modules, addr, text, sizeof text);
    assert_string_equal(text, expected);
}
