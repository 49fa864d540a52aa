/* SPDX-License-Identifier: MIT
 *
 * Variables as other tools have them: values and types as gdb prints them, addresses and sizes as nm lists them.
 */
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "symbol/object.h"
#include "symbol/variable.h"

static struct tl_module module;
static struct tl_modules modules = {.modules = &module, .count = 1};

static void open_program(const char *path)
{
    module = (struct tl_module){.path = (char *)path, .object = open_object(path), .is_exe = true, .end = UINT64_MAX};
}

static int find(const char *name, struct tl_step *steps, size_t count, struct tl_variable *variable)
{
    struct tl_variable_name asked = {.name = (char *)name, .steps = steps, .step_count = count};
    return tl_modules_variable(&modules, &asked, variable, NULL);
}

static void show(const char *name, const char *member, char *text, size_t size)
{
    struct tl_step step = {.kind = TL_STEP_MEMBER, .name = (char *)member};
    struct tl_variable variable;
    assert_int_equal(find(name, &step, member ? 1 : 0, &variable), 0);
    const void *content = object_data(module.object, variable.file_addr, variable.size);
    assert_non_null(variable.type);
    static const char zeros[4096]; /* of what stands in no file */
    assert_true(content || variable.size <= sizeof zeros);
    tl_value_text(variable.type, content ? content : zeros, variable.size, NULL, text, size);
    tl_variable_free(&variable);
}

struct printed {
    char values[64][1000];
};

/* gdb's lines "$7 = 42". */
static void note_value(void *context, char *line)
{
    struct printed *printed = context;
    char *value = NULL;
    unsigned long number = line[0] == '$' ? strtoul(line + 1, &value, 10) : 0;
    if (number && number <= 64 && !strncmp(value, " = ", 3))
        snprintf(printed->values[number - 1], sizeof printed->values[0], "%s", value + 3);
}

static void values_as_gdb_prints_them(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"tiny", NULL},     {"small", NULL},    {"narrow", NULL},  {"port", NULL},      {"word", NULL},
        {"distance", NULL}, {"huge", NULL},     {"giant", NULL},   {"is_ready", NULL},  {"letter", NULL},
        {"quote", NULL},    {"line_end", NULL}, {"precise", NULL}, {"colour", NULL},    {"negative", NULL},
        {"unknown", NULL},  {"mode", NULL},     {"no_mode", NULL}, {"listening", NULL}, {"conf", NULL},
        {"zeros", NULL},    {"text", NULL},     {"raw", NULL},     {"conf", "limit"},   {"conf", "grid"},
        {"conf", "name"},   {"conf", "load"},   {"conf", "kind"},  {"conf", "level"},   {"conf", "wide"},
        {"conf", "colour"},
    };
    enum { COUNT = sizeof names / sizeof *names };
    static struct printed printed;
    char commands[COUNT * 40] = "";
    const char *path = fixture("variables");
    for (size_t i = 0; i < COUNT; i++)
        sprintf(commands + strlen(commands), " -ex 'print %s%s%s'", names[i][0], names[i][1] ? "." : "",
                names[i][1] ? names[i][1] : "");
    each_line(note_value, &printed, "gdb -q -nx -batch -ex 'set print null-stop on' %s %s", commands, path);
    open_program(path);
    for (size_t i = 0; i < COUNT; i++) {
        char text[1000];
        show(names[i][0], names[i][1], text, sizeof text);
        /* Of a flexible array gdb shows what happens to stand there. */
        char *tail = strstr(text, ", tail = "), *gdb_tail = strstr(printed.values[i], ", tail = ");
        if (tail && gdb_tail)
            *tail = *gdb_tail = '\0';
        if (strcmp(printed.values[i], text) != 0)
            fail_msg("%s %s is %s, for gdb %s", names[i][0], names[i][1] ? names[i][1] : "", text, printed.values[i]);
    }
    tl_object_close(module.object);
}

struct compared {
    size_t count;
    const char *path;
};

/* nm's lines "ADDRESS SIZE TYPE NAME". */
static void compare_with_nm(void *context, char *line)
{
    struct compared *compared = context;
    char *at = line, *name = strrchr(line, ' ') + 1;
    uint64_t addr = strtoull(at, &at, 16), size = strtoull(at, NULL, 16);
    struct tl_variable variable;
    int result = find(name, NULL, 0, &variable);
    if (result)
        fail_msg("%s: %s: %s", compared->path, name, tl_errno_name(-result));
    assert_int_equal(variable.addr, addr);
    assert_int_equal(variable.size, size);
    tl_variable_free(&variable);
    compared->count++;
}

static void names_without_types_as_nm_has_them(void **state)
{
    (void)state;
    static const char *const paths[] = {"/usr/bin/bash", PYTHON, "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0"};
    size_t least[] = {500, 150, 10};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct compared compared = {.path = paths[i]};
        open_program(paths[i]);
        each_line(compare_with_nm, &compared,
                  "nm -D -S --defined-only %s | awk 'NF == 4 && $3 ~ /[BbDdRV]/ { sub(/@.*/, \"\", $4); print }'",
                  paths[i]);
        assert_true(compared.count >= least[i]);
        tl_object_close(module.object);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_as_gdb_prints_them),
        cmocka_unit_test(names_without_types_as_nm_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
