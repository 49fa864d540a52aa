/* SPDX-License-Identifier: MIT
 *
 * Shorthands for tests of specs.
 */
#ifndef TRAPLINE_TEST_KIT_H
#define TRAPLINE_TEST_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine.h"
#include "spec/spec.h"

/* Where variables and file offsets lie in the world of the tests: @counter is at KIT_COUNTER, @+N at KIT_FILE + N. */
enum { KIT_COUNTER = 0x601040, KIT_FILE = 0x400000 };
extern const struct tl_compile_target kit_entry, kit_return;

/* Parse what must parse; free with tl_spec_free. */
struct tl_spec *kit_parse(const char *text);
/* Parse and compile for a function's entry, or for its exit if that is what the spec asks for; the program must verify.
 * Then run it. */
enum machine_end kit_run(struct machine *machine, const char *text);
/* The same, what kit_run has made of argument 0 as a number; the test fails where it is none. */
uint64_t kit_fetch(struct machine *machine, const char *text);

struct kit_program {
    struct tl_program program;
    struct tl_operation *code;
    char *strings;
};
/* 0 or what tl_spec_compile says. A program that compiles must verify. */
int kit_compile(const struct tl_spec *spec, const struct tl_compile_target *target, struct kit_program *program,
                struct tl_error *error);
void kit_program_free(struct kit_program *program);

#endif
