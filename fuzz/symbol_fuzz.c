/* SPDX-License-Identifier: MIT
 *
 * An ELF file that is the input, asked everything that can be asked of an object. The deterministic mutants of
 * tests/symbol/hostile_test.c go through here, too.
 *
 *     clang -g -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Isrc fuzz/symbol_fuzz.c src/symbol/[a-z]*.c
 *         src/insn/[a-z]*.c src/base/[a-z]*.c -ldw -lelf -llzma -lZydis
 */
#include <stdlib.h>
#include <string.h>

#include "symbol/symbol.h"
#include "symbol/variable.h"

enum { PARTS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static int each_match(void *context, const struct tl_function *function)
{
    must(function->name && function->name[0]);
    return ++*(size_t *)context > 100;
}

static int read_memory(void *host, uint64_t addr, void *bytes, size_t size)
{
    memset(bytes, (int)(addr >> 12), size);
    return *(int *)host;
}

static void ask_of_a_function(const struct tl_object *object, const struct tl_function *f, bool dear)
{
    struct tl_part parts[PARTS];
    size_t available;
    must(tl_object_text(object, f->addr, &available) != NULL);
    must(f->size > 0 && f->size <= available);
    must(!f->name || strlen(f->name) > 0);
    tl_object_in_rseq(object, f->addr);
    const struct tl_function *here = tl_object_function_at(object, f->addr);
    must(here && f->addr - here->addr < here->size);
    if (!dear)
        return;
    size_t count = tl_object_parts(object, f, parts, PARTS);
    must(count >= 1 && count <= PARTS && parts[0].addr == f->addr);
    for (size_t i = 0; i < count; i++)
        must(tl_object_text(object, parts[i].addr, &available) && parts[i].size <= available);
}

static void ask_of_a_module(struct tl_object *object, const struct tl_function *functions, size_t count)
{
    struct tl_module module = {.path = (char *)"/mutant", .object = object, .end = UINT64_MAX};
    struct tl_modules modules = {.modules = &module, .count = 1};
    char text[64];
    uint64_t addr;
    int answer = 0;
    tl_modules_find(&modules, "libsmall", 0);
    tl_modules_describe(&modules, tl_object_entry(object), text, sizeof text);
    for (size_t i = 0, ifuncs = 0; i < count && ifuncs < 8; i++) {
        if (functions[i].kind != TL_FUNCTION_IFUNC)
            continue;
        ifuncs++;
        tl_modules_resolve_ifunc(&modules, &module, &functions[i], read_memory, &answer, &addr);
    }
}

static bool name_of(void *modules, uint64_t addr, char *text, size_t size)
{
    return tl_modules_name(modules, addr, text, size);
}

/* A value of zeros and one of ones, whole and cut, and what lies where in it. */
static void show_value(const struct tl_variable *variable, struct tl_modules *modules)
{
    static uint8_t zeros[256], ones[256];
    const struct tl_value_names names = {name_of, modules};
    char text[512], path[64];
    memset(ones, 0xff, sizeof ones);
    for (size_t size = 0; size <= sizeof zeros; size += size < 8 ? 1 : 62) {
        must(tl_value_text(variable->type, zeros, size, &names, text, sizeof text) < sizeof text);
        must(tl_value_text(variable->type, ones, size, &names, text, sizeof text) < sizeof text);
        must(tl_value_json(variable->type, ones, size, text, sizeof text) < sizeof text);
        const struct tl_datatype *part = tl_datatype_at(variable->type, size, size % 9, path, sizeof path);
        must(!part || part->size <= variable->size);
    }
}

static void ask_of_variables(struct tl_object *object)
{
    static struct tl_step limit = {.kind = TL_STEP_MEMBER, .name = (char *)"limit"},
                          second = {.kind = TL_STEP_ELEMENT, .index = 1};
    static const struct tl_variable_name names[] = {
        {.name = (char *)"conf"},
        {.name = (char *)"conf", .steps = &limit, .step_count = 1},
        {.name = (char *)"table", .steps = &second, .step_count = 1},
        {.name = (char *)"object"},
        {.name = (char *)"counter"},
        {.name = (char *)"calls", .file = (char *)"variables.c"},
        {.name = (char *)"per_thread"},
        {.name = (char *)"ns::conter"},
        {.name = (char *)"main", .or_function = true},
    };
    struct tl_module module = {.path = (char *)"/mutant", .object = object, .end = UINT64_MAX, .is_exe = true};
    struct tl_modules modules = {.modules = &module, .count = 1};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct tl_variable variable;
        struct tl_error error = {0};
        int answer = 0;
        uint64_t addr;
        int result = tl_modules_variable(&modules, &names[i], &variable, &error);
        must(result == 0 || (result == error.code && error.text[0]));
        if (result)
            continue;
        if (variable.type)
            show_value(&variable, &modules);
        if (variable.is_thread_local)
            tl_modules_thread_local(&modules, &variable, 0x1000, read_memory, &answer, &addr, &error);
        tl_variable_free(&variable);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct tl_object *object = NULL;
    struct tl_error error = {0};
    int result = tl_object_open_memory(bytes, size, "mutant", &object, &error);
    if (result < 0) {
        must((result == -EINVAL || result == -ENOEXEC) && error.text[0] && error.code == result);
        return 0;
    }
    size_t count, matches = 0;
    uint64_t addr, length, offset;
    tl_object_match(object, "*a*", each_match, &matches);
    tl_object_match(object, "main", each_match, &matches);
    const struct tl_function *functions = tl_object_functions(object, &count);
    for (size_t i = 0; i < count; i++) {
        must(i == 0 || functions[i - 1].addr <= functions[i].addr);
        ask_of_a_function(object, &functions[i], i < 64);
    }
    ask_of_a_module(object, functions, count);
    tl_object_variable(object, "environ", &addr, &length);
    ask_of_variables(object);
    tl_object_soname(object);
    if (tl_object_interpreter(object))
        must(strlen(tl_object_interpreter(object)) < 4096);
    if (tl_object_addr_to_offset(object, tl_object_entry(object), &offset) == 0)
        must(offset < size && tl_object_offset_to_addr(object, offset, true, &addr) == 0);
    tl_object_close(object);
    return 0;
}
