/* SPDX-License-Identifier: MIT
 *
 * Any text as a spec: it is parsed or refused with a column inside it, its complaint fits, what compiles verifies, and
 * printing a mistake never reads outside. Entry point for libFuzzer; tests/spec/fuzz_test.c drives it without.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec/spec.h"

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
    free(text);
    return 0;
}
