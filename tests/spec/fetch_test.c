/* SPDX-License-Identifier: MIT
 *
 * What each fetch argument fetches: from the text, through the compiler and the byte code, to a value.
 */
#include "kit.h"

static const struct {
    uint64_t pointer;
    int32_t number;
    uint8_t bytes[4];
} record = {0x5000, -7, {1, 2, 3, 0xf4}};
static const uint64_t stack[] = {0xdead, 0x107, 0x108, 0x5000};
static const char text[] = "hello\0world";
static const uint64_t counter = 42;
static const uint32_t in_file = 0x89abcdef;

static struct machine world(void)
{
    struct machine machine = {.pid = 7, .tid = 8};
    for (unsigned i = 0; i < TL_REG_COUNT; i++)
        machine.regs[i] = 0x8182838485868700u + i;
    machine.regs[TL_RSP] = 0x7000;
    machine.regs[TL_RDI] = 0x6000;
    machine.regs[TL_RSI] = 0x5000;
    machine_map(&machine, 0x7000, stack, sizeof stack);
    machine_map(&machine, 0x6000, &record, sizeof record);
    machine_map(&machine, 0x5000, text, sizeof text);
    machine_map(&machine, KIT_COUNTER, &counter, sizeof counter);
    machine_map(&machine, KIT_FILE + 0x200, &in_file, sizeof in_file);
    return machine;
}

struct expectation {
    const char *arg;
    uint64_t value;
};

static void expect(const char *probe, const struct expectation *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct machine machine = world();
        char spec[200];
        snprintf(spec, sizeof spec, "%s %s", probe, all[i].arg);
        uint64_t value = kit_fetch(&machine, spec);
        if (value != all[i].value)
            fail_msg("%s: 0x%llx, not 0x%llx", spec, (unsigned long long)value, (unsigned long long)all[i].value);
    }
}
#define EXPECT(probe, ...)                                                                                             \
    const struct expectation all[] = {__VA_ARGS__};                                                                    \
    expect(probe, all, sizeof all / sizeof *all)

static void registers_by_all_their_names(void **state)
{
    (void)state;
    EXPECT("f", {"%ax", 0x8182838485868700}, {"%rax", 0x8182838485868700}, {"%eax", 0x85868700}, {"%al", 0},
           {"%ah", 0x87}, {"%cx", 0x8182838485868701}, {"%cl", 1}, {"%dx", 0x8182838485868702},
           {"%bx", 0x8182838485868703}, {"%bh", 0x87}, {"%sp", 0x7000}, {"%spl", 0}, {"%rbp", 0x8182838485868705},
           {"%bpl", 5}, {"%esi", 0x5000}, {"%sil", 0}, {"%di", 0x6000}, {"%edi", 0x6000}, {"%r8", 0x8182838485868708},
           {"%r9d", 0x85868709}, {"%r10w", 0x870a}, {"%r11b", 11}, {"%r12l", 12}, {"%r15", 0x818283848586870f},
           {"%ip", 0x8182838485868710}, {"%rip", 0x8182838485868710}, {"%flags", 0x8182838485868711},
           {"%eflags", 0x85868711});
}

static void types_of_registers(void **state)
{
    (void)state;
    EXPECT("f", {"%bx:u8", 3}, {"%bx:u16", 0x8703}, {"%bx:u32", 0x85868703}, {"%bx:u64", 0x8182838485868703},
           {"%bx:x16", 0x8703}, {"%bx:s16", 0xffffffffffff8703}, {"%bx:s32", 0xffffffff85868703},
           {"%bh:s8", (uint64_t)-121}, {"%ebx:u64", 0x85868703}, {"%ebx:s64", 0x85868703}, {"%bl:s32", 3},
           {"%bx:char", 3}, {"%bx:symbol", 0x8182838485868703}, {"%bx:b4@0/8", 3}, {"%bx:b8@8/16", 0x87},
           {"%bx:b64@0/64", 0x8182838485868703}, {"%bx:b1@63/64", 1});
}

static void memory(void **state)
{
    (void)state;
    EXPECT("f", {"+0(%di)", 0x5000}, {"+8(%di):s32", (uint64_t)-7}, {"+8(%di):u32", 0xfffffff9},
           {"+u12(%di):u16", 0x201}, {"+15(%di):s8", (uint64_t)-12}, {"+12(%di):x8", 1}, {"-0x1000(%di):char", 'h'},
           {"+1(+0(%di)):u8", 'e'}, {"+12(%di):b4@4/16", 0}, {"+14(%di):b4@12/16", 15}, {"@counter", 42},
           {"@counter+0:u8", 42}, {"@0x601040:u16", 42}, {"@+0x200:u32", 0x89abcdef}, {"@counter-0", 42});
}

static void stack_arguments_and_constants(void **state)
{
    (void)state;
    EXPECT("f", {"$stack", 0x7000}, {"$stack0", 0xdead}, {"$stack3", 0x5000}, {"$stack3:u8", 0}, {"$arg1", 0x6000},
           {"$arg2:u8", 0}, {"$arg3", 0x8182838485868702}, {"$arg4", 0x8182838485868701}, {"$arg5", 0x8182838485868708},
           {"$arg6", 0x8182838485868709}, {"$arg7", 0x107}, {"$arg8:u8", 8}, {"+8($stack)", 0x107},
           {"+0($stack3):char", 'h'}, {"\\42", 42}, {"\\-1:s64", (uint64_t)-1}, {"\\-1:u8", 255},
           {"\\0xffffffffffffffff", UINT64_MAX}, {"+0(\\0x5000):u8", 'h'});
}

static void returned_value(void **state)
{
    (void)state;
    EXPECT("r /x:f", {"$retval", 0x8182838485868700}, {"$retval:s16", 0xffffffffffff8700}, {"%al", 0});
}

static void strings(void **state)
{
    (void)state;
    static const char *const specs[] = {"f +0(%si):string", "f %si:string",         "f $arg2:ustring",
                                        "f $stack3:string", "f +0(+0(%di)):string", "f \\0x5000:string",
                                        "f @0x5000:string"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct machine machine = world();
        assert_int_equal(kit_run(&machine, specs[i]), MACHINE_ACCEPT);
        assert_int_equal(machine.slots[0].is, SLOT_STRING);
        assert_string_equal(machine.slots[0].text, "hello");
    }
    struct machine machine = world();
    assert_int_equal(kit_run(&machine, "f a=+6(%si):string b=$comm c=\\\"text\"  d=%si:u8"), MACHINE_ACCEPT);
    assert_string_equal(machine.slots[0].text, "world");
    assert_int_equal(machine.slots[1].is, SLOT_EMPTY);
    assert_int_equal(machine.slots[2].is, SLOT_EMPTY);
    assert_int_equal(machine.slots[3].is, SLOT_NUMBER);
}

static void what_cannot_be_read_is_a_fault(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "f +0(%ax)",      "f +8(+0(%ax))", "f +0(%ax):string", "f +0(+0(%ax)):string", "f $stack9:string",
        "f +13(%di):u32", "f $arg12",      "f @8:b3@2/8",      "f +0(%ax):s8"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct machine machine = world();
        assert_int_equal(kit_run(&machine, specs[i]), MACHINE_ACCEPT);
        assert_int_equal(machine.slots[0].is, SLOT_FAULT);
    }
}

static void many_strings_share_the_room(void **state)
{
    (void)state;
    static char longer[400];
    memset(longer, 'x', sizeof longer - 1);
    for (unsigned count = 1; count <= TL_EVENT_ARGS; count++) {
        struct machine machine = world();
        machine_map(&machine, 0x9000, longer, sizeof longer);
        char spec[1000] = "f";
        for (unsigned i = 0; i < count; i++)
            strcat(spec, " @0x9000:string");
        assert_int_equal(kit_run(&machine, spec), MACHINE_ACCEPT);
        size_t total = 0;
        for (unsigned i = 0; i < count; i++)
            total += strlen(machine.slots[i].text);
        assert_true(total <= TL_EVENT_STRINGS);
        assert_true(total + count > TL_EVENT_STRINGS || total == count * TL_STRING_MAX);
        assert_int_equal(strlen(machine.slots[0].text), strlen(machine.slots[count - 1].text));
    }
}

static void which_specs_read_memory(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        bool reads;
    } all[] = {{"f", false},           {"f %di $arg6 $stack \\3 $comm \\\"x\"", false},
               {"f $arg7", true},      {"f $stack0", true},
               {"f %di:string", true}, {"f %ax +0(%di):u8", true},
               {"f @counter", true},   {"f if pid == 3", false}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tl_spec *spec = kit_parse(all[i].spec);
        assert_int_equal(tl_spec_reads_memory(spec), all[i].reads);
        tl_spec_free(spec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_by_all_their_names),
        cmocka_unit_test(types_of_registers),
        cmocka_unit_test(memory),
        cmocka_unit_test(stack_arguments_and_constants),
        cmocka_unit_test(returned_value),
        cmocka_unit_test(strings),
        cmocka_unit_test(what_cannot_be_read_is_a_fault),
        cmocka_unit_test(many_strings_share_the_room),
        cmocka_unit_test(which_specs_read_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
