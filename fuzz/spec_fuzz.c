/* SPDX-License-Identifier: MIT
 *
 * Any text as a spec of a probe or of a watch: it is parsed or refused with a column inside it, its complaint fits,
 * what compiles verifies, and printing a mistake never reads outside. Entry point for libFuzzer; tests/spec/fuzz_test.c
 * drives it without.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec/spec.h"
#include "spec/watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "spec_fuzz: %s\n", what);
        abort();
    }
}

static int any_variable(void *context, const char *name, uint64_t *addr)
{
    (void)context;
    *addr = strlen(name);
    return 0;
}

static int any_offset(void *context, uint64_t offset, uint64_t *addr)
{
    (void)context;
    *addr = offset;
    return 0;
}

static void check_error(const char *text, const struct tl_error *error, int result)
{
    char complaint[256];
    require(error->code == result && strlen(error->text) > 0, "an error without a text");
    require(error->column >= 0 && (size_t)error->column <= strlen(text), "a column outside the spec");
    for (size_t size = 0; size <= sizeof complaint; size += 51)
        tl_spec_complain(text, error, complaint, size);
}

static void check_program(const struct tl_spec *spec, unsigned flags)
{
    struct tl_compile_target target = {.is_return = spec->is_return,
                                       .retval_known = flags & 1,
                                       .at_entry = !(flags & 2),
                                       .filter_only = flags & 4,
                                       .variable = any_variable,
                                       .file_offset = any_offset};
    struct tl_program program;
    struct tl_operation *code;
    char *strings;
    struct tl_error error = {0};
    int result = tl_spec_compile(spec, &target, &code, &program.length, &strings, &program.strings_size, &error);
    if (result) {
        check_error(spec->text, &error, result);
        return;
    }
    program.code = code;
    program.strings = strings;
    require(tl_program_verify(&program) == 0, "a program that does not verify");
    int reads = 0;
    for (size_t i = 0; i < program.length; i++)
        reads |= code[i].op == TL_OP_LOAD || code[i].op == TL_OP_STRING;
    require(!reads || tl_spec_reads_memory(spec), "a read of memory that was not announced");
    free(code);
    free(strings);
}

static void check_watch_program(const struct tl_watch *watch, const struct tl_datatype *type)
{
    struct tl_watch_value value = {
        .type = type, .length = type ? type->size : watch->length, .has_values = true, .changes_only = true};
    struct tl_program program;
    struct tl_operation *code;
    char *strings;
    struct tl_error error = {0};
    int result = tl_watch_compile(watch, &value, &code, &program.length, &strings, &program.strings_size, &error);
    if (result) {
        check_error(watch->text, &error, result);
        return;
    }
    program.code = code;
    program.strings = strings;
    require(!code || tl_program_verify(&program) == 0, "a program that does not verify");
    require(code || !watch->filter_column, "a filter that was forgotten");
    free(code);
    free(strings);
}

static void check_watch(const char *text)
{
    static struct tl_enumerator name = {(char *)"red", -1};
    static const struct tl_datatype types[] = {
        {.kind = TL_DATA_INTEGER, .is_signed = true, .size = 2, .name = (char *)"short"},
        {.kind = TL_DATA_INTEGER, .size = 8, .bits = 7, .bit_offset = 57, .name = (char *)"long"},
        {.kind = TL_DATA_ENUM, .size = 4, .name = (char *)"enum", .count = 1, .enumerators = &name},
        {.kind = TL_DATA_FLOAT, .size = 8, .name = (char *)"double"},
    };
    struct tl_watch *watch;
    struct tl_error error = {.column = -1};
    int result = tl_watch_parse(text, &watch, &error);
    if (result) {
        check_error(text, &error, result);
        require(watch == NULL, "a watch beside an error");
        return;
    }
    require(watch->is_address || watch->symbol.name[0], "a watch of nothing");
    check_watch_program(watch, NULL);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        check_watch_program(watch, &types[i]);
    tl_watch_free(watch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct tl_spec *spec;
    struct tl_error error = {.column = -1};
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    int result = tl_spec_parse(text, &spec, &error);
    if (result) {
        check_error(text, &error, result);
        require(spec == NULL, "a spec beside an error");
    } else {
        for (unsigned flags = 0; flags < 8; flags++)
            check_program(spec, flags);
    }
    tl_spec_free(spec);
    check_watch(text);
    free(text);
    return 0;
}
