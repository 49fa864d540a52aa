/* SPDX-License-Identifier: MIT */
#include "kit.h"

static int variable(void *context, const char *name, uint64_t *addr)
{
    (void)context;
    *addr = KIT_COUNTER;
    return strcmp(name, "counter") ? -ENOENT : 0;
}

static int file_offset(void *context, uint64_t offset, uint64_t *addr)
{
    (void)context;
    *addr = KIT_FILE + offset;
    return offset < 0x100000 ? 0 : -ERANGE;
}

const struct tl_compile_target kit_entry = {.at_entry = true, .variable = variable, .file_offset = file_offset};
const struct tl_compile_target kit_return = {
    .is_return = true, .retval_known = true, .variable = variable, .file_offset = file_offset};

struct tl_spec *kit_parse(const char *text)
{
    struct tl_spec *spec;
    struct tl_error error = {0};
    if (tl_spec_parse(text, &spec, &error)) {
        char complaint[800];
        tl_spec_complain(text, &error, complaint, sizeof complaint);
        fail_msg("%s", complaint);
    }
    return spec;
}

int kit_compile(const struct tl_spec *spec, const struct tl_compile_target *target, struct kit_program *program,
                struct tl_error *error)
{
    memset(program, 0, sizeof *program);
    size_t length, strings_size;
    int result = tl_spec_compile(spec, target, &program->code, &length, &program->strings, &strings_size, error);
    if (result)
        return result;
    program->program = (struct tl_program){program->code, length, program->strings, strings_size};
    assert_int_equal(tl_program_verify(&program->program), 0);
    return 0;
}

void kit_program_free(struct kit_program *program)
{
    free(program->code);
    free(program->strings);
}

enum machine_end kit_run(struct machine *machine, const char *text)
{
    struct tl_spec *spec = kit_parse(text);
    struct kit_program program;
    struct tl_error error = {0};
    if (kit_compile(spec, spec->is_return ? &kit_return : &kit_entry, &program, &error))
        fail_msg("%s: %s", text, error.text);
    enum machine_end end = machine_run(machine, &program.program);
    if (end == MACHINE_BROKEN)
        fail_msg("%s: %s", text, machine->broken);
    kit_program_free(&program);
    tl_spec_free(spec);
    return end;
}

uint64_t kit_fetch(struct machine *machine, const char *text)
{
    assert_int_equal(kit_run(machine, text), MACHINE_ACCEPT);
    if (machine->slots[0].is != SLOT_NUMBER)
        fail_msg("%s: fetched no number", text);
    return machine->slots[0].value;
}
