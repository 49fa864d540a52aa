/* SPDX-License-Identifier: MIT
 *
 * The shape of compiled programs: a hit that the filter rejects costs no more than it has to, and what one place does
 * not have is refused or a fault.
 */
#include "kit.h"

static const char text[] = "name";

static struct machine world(void)
{
    struct machine machine = {.pid = 7, .tid = 8};
    machine.regs[TL_RDI] = 5;
    machine.regs[TL_RSI] = 0x5000;
    machine.regs[TL_RAX] = 9;
    machine_map(&machine, 0x5000, text, sizeof text);
    return machine;
}

/* Loads that a run of the spec takes. */
static unsigned loads(const char *spec, enum machine_end end)
{
    struct machine machine = world();
    if (kit_run(&machine, spec) != end)
        fail_msg("%s: ends otherwise", spec);
    return machine.loads;
}

static void a_rejected_hit_reads_nothing_it_need_not(void **state)
{
    (void)state;
    assert_int_equal(loads("f n=%di s=%si:string c=+1(%si):u8", MACHINE_ACCEPT), 2);
    assert_int_equal(loads("f n=%di s=%si:string c=+1(%si):u8 if n == 6", MACHINE_REJECT), 0);
    assert_int_equal(loads("f n=%di s=%si:string c=+1(%si):u8 if s == \"name\" && n == 6", MACHINE_REJECT), 0);
    assert_int_equal(loads("f n=%di s=%si:string c=+1(%si):u8 if (s == \"x\" && c) && pid == 8", MACHINE_REJECT), 0);
    assert_int_equal(loads("f n=%di s=%si:string c=+1(%si):u8 if s == \"x\"", MACHINE_REJECT), 1);
    assert_int_equal(loads("f n=%di s=%si:string c=+1(%si):u8 if c == 'a' && s == \"x\"", MACHINE_REJECT), 2);
    assert_int_equal(loads("f s=+0(+0(%si)):string c=+1(%si):u8 if s == \"x\" && c == 'b'", MACHINE_REJECT), 1);
}

static void an_accepted_hit_reads_everything_once(void **state)
{
    (void)state;
    assert_int_equal(
        loads("f s=%si:string c=+1(%si):u8 if c == 'a' && s == \"name\" && c != 'b' && s ~ \"n*\"", MACHINE_ACCEPT), 2);
    assert_int_equal(loads("f s=%si:string c=+1(%si):u8 if c == 'x' || s == \"name\"", MACHINE_ACCEPT), 2);
}

static void a_count_reads_only_for_its_filter(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        unsigned loads;
    } all[] = {{"f s=%si:string c=+1(%si):u8", 0},
               {"f s=%si:string c=+1(%si):u8 if c == 'a'", 1},
               {"f s=%si:string n=%di if n == 5", 0}};
    struct tl_compile_target target = kit_entry;
    target.filter_only = true;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct machine machine = world();
        struct tl_spec *spec = kit_parse(all[i].spec);
        struct kit_program program;
        assert_int_equal(kit_compile(spec, &target, &program, NULL), 0);
        assert_int_equal(machine_run(&machine, &program.program), MACHINE_ACCEPT);
        assert_int_equal(machine.loads, all[i].loads);
        kit_program_free(&program);
        tl_spec_free(spec);
    }
}

static void a_spec_without_anything_is_one_operation(void **state)
{
    (void)state;
    struct tl_spec *spec = kit_parse("f");
    struct kit_program program;
    assert_int_equal(kit_compile(spec, &kit_entry, &program, NULL), 0);
    assert_int_equal(program.program.length, 1);
    assert_int_equal(program.program.code[0].op, TL_OP_END);
    assert_null(program.strings);
    kit_program_free(&program);
    tl_spec_free(spec);
}

static void a_tail_exit_knows_no_returned_value(void **state)
{
    (void)state;
    struct tl_compile_target target = kit_return;
    target.retval_known = false;
    static const struct {
        const char *spec;
        enum machine_end end;
    } all[] = {{"r /x:f v=$retval n=%di", MACHINE_ACCEPT},
               {"r /x:f v=$retval n=%di if v == 9", MACHINE_REJECT},
               {"r /x:f v=$retval n=%di if v != 9", MACHINE_REJECT},
               {"r /x:f v=$retval n=%di if n == 5", MACHINE_ACCEPT}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct machine machine = world();
        struct tl_spec *spec = kit_parse(all[i].spec);
        struct kit_program program;
        assert_int_equal(kit_compile(spec, &target, &program, NULL), 0);
        assert_int_equal(machine_run(&machine, &program.program), all[i].end);
        assert_int_equal(machine.loads, 0);
        if (all[i].end == MACHINE_ACCEPT) {
            assert_int_equal(machine.slots[0].is, SLOT_FAULT);
            assert_int_equal(machine.slots[1].value, 5);
        }
        kit_program_free(&program);
        tl_spec_free(spec);
    }
}

struct refusal {
    const char *spec;
    struct tl_compile_target target;
    int code, column;
};

static void what_a_place_does_not_have_is_refused_with_its_column(void **state)
{
    (void)state;
    struct tl_compile_target inside = kit_entry, blind = kit_entry;
    inside.at_entry = false;
    blind.variable = NULL;
    blind.file_offset = NULL;
    const struct refusal all[] = {
        {"f a=%di b=$arg1", inside, -EINVAL, 10},
        {"f $arg9", inside, -EINVAL, 2},
        {"r /x:f $retval", kit_entry, -EINVAL, 7},
        {"f %di @nothing+4", kit_entry, -ENOENT, 7},
        {"f +0(@+0x100000)", kit_entry, -ERANGE, 6},
        {"f @counter", blind, -EINVAL, 3},
        {"f @+4", blind, -EINVAL, 3},
        {"f a=$arg1:string if a == \"x\"", inside, -EINVAL, 4},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tl_spec *spec = kit_parse(all[i].spec);
        struct kit_program program;
        struct tl_error error = {0};
        assert_int_equal(kit_compile(spec, &all[i].target, &program, &error), all[i].code);
        assert_int_equal(error.code, all[i].code);
        assert_int_equal(error.column, all[i].column);
        tl_spec_free(spec);
    }
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    char deep[100] = "", spec_text[8000] = "f";
    for (unsigned i = 0; i < 15; i++)
        strcat(deep, "+8(");
    strcat(deep, "%di");
    for (unsigned i = 0; i < 15; i++)
        strcat(deep, ")");
    for (unsigned i = 0; i < TL_EVENT_ARGS; i++)
        strcat(strcat(spec_text, " "), deep);
    struct tl_spec *spec = kit_parse(spec_text);
    struct kit_program program;
    struct tl_error error = {0};
    assert_int_equal(kit_compile(spec, &kit_entry, &program, &error), -E2BIG);
    assert_int_equal(error.column, 0);
    tl_spec_free(spec);

    strcat(spec_text, " %di");
    assert_int_equal(tl_spec_parse(spec_text, &spec, &error), -EINVAL);
    assert_int_equal(error.column, (int)strlen(spec_text) - 3);

    strcpy(spec_text, "f if 1");
    for (unsigned i = 0; i < 15; i++)
        strcat(spec_text, "+(2");
    for (unsigned i = 0; i < 15; i++)
        strcat(spec_text, ")");
    tl_spec_free(kit_parse(spec_text));
    strcpy(spec_text, "f if 1");
    for (unsigned i = 0; i < 16; i++)
        strcat(spec_text, "+(2");
    for (unsigned i = 0; i < 16; i++)
        strcat(spec_text, ")");
    assert_int_equal(tl_spec_parse(spec_text, &spec, &error), -EINVAL);
    assert_non_null(strstr(error.text, "nested too deeply"));
}

static void nesting_has_a_limit(void **state)
{
    (void)state;
    char text_of_depth[200] = "f if ";
    memset(text_of_depth + 5, '!', 64);
    strcpy(text_of_depth + 5 + 63, "1");
    tl_spec_free(kit_parse(text_of_depth));
    strcpy(text_of_depth + 5 + 63, "!1");
    struct tl_spec *spec;
    struct tl_error error;
    assert_int_equal(tl_spec_parse(text_of_depth, &spec, &error), -EINVAL);
    assert_int_equal(error.column, 5 + 64);
    assert_non_null(strstr(error.text, "64 deep"));
}

static void equal_constants_are_kept_once(void **state)
{
    (void)state;
    struct tl_spec *spec = kit_parse("f s=%si:string if s == \"ab\" || s == \"b\" || s ~ \"ab\" || s == \"b\"");
    struct kit_program program;
    assert_int_equal(kit_compile(spec, &kit_entry, &program, NULL), 0);
    assert_int_equal(program.program.strings_size, 5);
    assert_memory_equal(program.program.strings, "ab\0b", 5);
    kit_program_free(&program);
    tl_spec_free(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rejected_hit_reads_nothing_it_need_not),
        cmocka_unit_test(an_accepted_hit_reads_everything_once),
        cmocka_unit_test(a_count_reads_only_for_its_filter),
        cmocka_unit_test(a_spec_without_anything_is_one_operation),
        cmocka_unit_test(a_tail_exit_knows_no_returned_value),
        cmocka_unit_test(what_a_place_does_not_have_is_refused_with_its_column),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(equal_constants_are_kept_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
