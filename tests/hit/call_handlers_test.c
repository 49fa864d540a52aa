/* SPDX-License-Identifier: MIT
 *
 * What handlers see, in which order they run, and what comes of what they change.
 */
#include "call_world.h"

#include <stdlib.h>
#include <string.h>

/* mov rax, rdi; ret: what is probed is the mov */
#define RETURN_FIRST "\x48\x89\xf8\xc3"

static struct tl_probe probes[8];
static int order[16], calls;

static int note(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    order[calls++] = (int)(probe - probes);
    return 0;
}

static void note_after(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    order[calls++] = 100 + (int)(probe - probes);
}

static struct tl_call_action pre(tl_pre_handler *handler, int probe)
{
    return (struct tl_call_action){.kind = TL_CALL_PRE, .probe = &probes[probe], .pre = handler};
}

static struct tl_call_action post(tl_post_handler *handler, int probe)
{
    return (struct tl_call_action){.kind = TL_CALL_POST, .probe = &probes[probe], .post = handler};
}

static void check_order(const int *expected, int count)
{
    assert_int_equal(calls, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(order[i], expected[i]);
    calls = 0;
}

static void several_probes_run_in_order(void **unused)
{
    (void)unused;
    struct tl_call_action actions[] = {pre(note, 3), pre(note, 1), pre(NULL, 7), pre(note, 2)};
    call_world_list(10, actions, 4);
    call_fn *function = call_world_function(call_world_code(10, RETURN_FIRST, 4));
    assert_int_equal(function(42, 0), 42);
    check_order((int[]){3, 1, 2}, 3);
    call_world_list(10, NULL, 0);
    assert_int_equal(function(43, 0), 43);
    check_order(NULL, 0);
}

static int change_argument(struct tl_probe *probe, struct tl_regs *regs)
{
    regs->rdi += (uint64_t)(uintptr_t)probe->context;
    regs->rip = 0; /* of no effect, since the result is 0 */
    return 0;
}

static void changed_registers_are_the_instructions_input(void **unused)
{
    (void)unused;
    struct tl_call_action actions[] = {pre(change_argument, 0), pre(change_argument, 0)};
    probes[0].context = (void *)100;
    call_world_list(10, actions, 2);
    assert_int_equal(call_world_function(call_world_code(10, RETURN_FIRST, 4))(1, 0), 201);
}

static int change_flags(struct tl_probe *probe, struct tl_regs *regs)
{
    regs->rflags ^= (uint64_t)(uintptr_t)probe->context;
    return 0;
}

static uint64_t flags_after(uint64_t change)
{
    struct tl_call_action action = pre(change_flags, 0);
    probes[0].context = (void *)(uintptr_t)change;
    call_world_list(10, &action, 1);
    return call_world_function(call_world_code(10, "\x9c\x58\xfc\xc3", 4))(0, 0); /* pushf; pop rax; cld; ret */
}

static void flags_can_be_changed(void **unused)
{
    (void)unused;
    uint64_t before = flags_after(0);
    static const uint64_t flags[] = {1, 4, 0x10, 0x40, 0x80, 0x400, 0x800, 0x4000, 0x8d5};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        assert_int_equal((flags_after(flags[i]) ^ flags_after(0)) & 0xdd5, flags[i] & 0xdd5);
    assert_int_equal((flags_after(0x3202) ^ before) & 0x3202, 0); /* IF, IOPL, reserved: not the handler's */
}

static uint64_t old_rsp;

static int go_elsewhere(struct tl_probe *probe, struct tl_regs *regs)
{
    note(probe, regs);
    old_rsp = regs->rsp;
    regs->rsp += (uint64_t)(uintptr_t)probe->context;
    regs->rip = (uint64_t)(uintptr_t)probe->address;
    regs->rdx = ~regs->rsi;
    return 1;
}

/* The frame of the hit may overlap with where the new rip is put. */
static void a_redirected_program_goes_on_there_with_any_stack(void **unused)
{
    (void)unused;
    static const int64_t moves[] = {0,    8,    16,   -8,   -16,   -136, -144, -152, -160,
                                    -280, -288, -296, -432, -1000, 128,  136,  1024, 4000};
    struct tl_call_action actions[] = {pre(go_elsewhere, 1), pre(note, 2)};
    typedef uint64_t call_at_fn(uint64_t, uint64_t, void *);
    /* push rbp; mov rbp, rsp; sub rsp, 8192; call rdx */
    uint8_t *room = call_world_room("\x55\x48\x89\xe5\x48\x81\xec\x00\x20\x00\x00\xff\xd2", 13);
    call_at_fn *call;
    memcpy(&call, &room, sizeof(call));
    void *probed = call_world_code(11, "\x0f\x0b", 2); /* ud2: must not be executed */
    /* mov rax, rsp; xor rax, rdx; xor rax, rdi; leave; ret */
    probes[1].address = call_world_room("\x48\x89\xe0\x48\x31\xd0\x48\x31\xf8\xc9\xc3", 11);
    call_world_list(11, actions, 2);
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        uint64_t first = 0x123456789abcdef, second = 0xfedcba987654321 + i;
        probes[1].context = (void *)(intptr_t)moves[i];
        uint64_t result = call(first, second, probed);
        assert_int_equal(result ^ first ^ ~second, old_rsp + (uint64_t)moves[i]);
        check_order((int[]){1}, 1); /* the one behind does not run */
    }
}

static uint64_t other_stack[512];

static int switch_stack(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    other_stack[500] = regs->rsp;
    regs->rsp = (uint64_t)(uintptr_t)&other_stack[500];
    return 0;
}

static void a_changed_rsp_is_the_instructions_too(void **unused)
{
    (void)unused;
    struct tl_call_action action = pre(switch_stack, 0);
    /* probed: mov rax, rsp. Then: pop rsp; ret */
    call_world_list(12, &action, 1);
    call_fn *function = call_world_function(call_world_code(12, "\x48\x89\xe0\x5c\xc3", 5));
    for (int i = 0; i < 3; i++)
        assert_int_equal(function(0, 0), (uintptr_t)&other_stack[500]);
}

static struct tl_regs after;

static void double_result(struct tl_probe *probe, struct tl_regs *regs)
{
    note_after(probe, regs);
    after = *regs;
    regs->rax *= 2;
}

static void post_handlers_run_behind_the_instruction(void **unused)
{
    (void)unused;
    struct tl_call_action before[] = {pre(note, 0), pre(note, 1)};
    struct tl_call_action behind[] = {post(double_result, 0), post(double_result, 1)};
    calls = 0;
    call_world_list(13, before, 2);
    call_world_list(14, behind, 2);
    void *code = call_world_two(13, RETURN_FIRST, 3, 14, "\xc3", 1);
    assert_int_equal(call_world_function(code)(21, 0), 84);
    check_order((int[]){0, 1, 100, 101}, 4);
    assert_int_equal(after.rax, 42);
    assert_int_equal(after.rip, 0x1000 + 14);
    call_world_list(13, NULL, 0);
    assert_int_equal(call_world_function(code)(1, 0), 4);
    check_order((int[]){100, 101}, 2);
}

static void post_handlers_of_a_transfer_see_where_it_has_led(void **unused)
{
    (void)unused;
    struct tl_call_action actions[] = {pre(note, 0), post(double_result, 0), pre(change_argument, 1),
                                       post(note_after, 1)};
    calls = 0;
    probes[1].context = NULL;
    call_world_list_at_ret(15, actions, 4);
    /* mov rax, rdi; jmp to the code with the hook: its ret is emulated */
    uint8_t *hook = call_world_code(15, "\x0f\x0b", 2);
    uint8_t jump[8] = {0x48, 0x89, 0xf8, 0xe9};
    uint8_t *room = call_world_room(jump, 0);
    int32_t distance = (int32_t)(hook - (room + 8));
    memcpy(jump + 4, &distance, 4);
    room = call_world_room(jump, 8);
    assert_int_equal(call_world_function(room)(21, 0), 42);
    check_order((int[]){0, 100, 101}, 3);
    uint64_t here = (uint64_t)(uintptr_t)post_handlers_of_a_transfer_see_where_it_has_led;
    assert_true(after.rip > here && after.rip < here + 2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_probes_run_in_order),
        cmocka_unit_test(changed_registers_are_the_instructions_input),
        cmocka_unit_test(flags_can_be_changed),
        cmocka_unit_test(a_redirected_program_goes_on_there_with_any_stack),
        cmocka_unit_test(a_changed_rsp_is_the_instructions_too),
        cmocka_unit_test(post_handlers_run_behind_the_instruction),
        cmocka_unit_test(post_handlers_of_a_transfer_see_where_it_has_led),
    };
    call_world_make(4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
