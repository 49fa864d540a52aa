/* SPDX-License-Identifier: MIT
 *
 * A hook leaves no trace in registers, flags, red zone and vector state, and programs see the registers as they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"
#include "world.h"

enum { ROUNDS = 300 };

/* CF PF AF ZF SF DF OF AC ID */
static const uint64_t user_flags = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x400 | 0x800 | 0x40000 | 0x200000;

static uint64_t random_word(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

static void random_bytes(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(random_word() >> 56);
}

/* For each part of the extended state that holds vector registers: legacy xmm, upper ymm, opmasks, upper zmm, zmm16-31.
 */
static size_t vector_parts(size_t offsets[5], size_t sizes[5])
{
    static const unsigned components[] = {2, 5, 6, 7};
    unsigned a, b, c, d;
    uint32_t enabled, high;
    size_t count = 1;
    offsets[0] = 160;
    sizes[0] = 256;
    __asm__("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
    for (size_t i = 0; i < 4; i++) {
        if (!(enabled >> components[i] & 1) || !__get_cpuid_count(13, components[i], &a, &b, &c, &d))
            continue;
        offsets[count] = b;
        sizes[count++] = a;
    }
    return count;
}

static void random_state(void)
{
    size_t offsets[5], sizes[5], parts = vector_parts(offsets, sizes);
    uint32_t low = 0xe6, high = 0;
    for (int i = 0; i < 16; i++)
        state_in.r[i] = random_word();
    state_in.flags = (random_word() & user_flags) | 0x202;
    random_bytes((uint8_t *)state_in.red_zone, sizeof(state_in.red_zone));
    memset(state_in.vector, 0, sizeof(state_in.vector));
    __asm__ volatile("xsave %0" : "+m"(state_in.vector) : "a"(low), "d"(high));
    uint64_t in_use;
    memcpy(&in_use, state_in.vector + 512, 8);
    in_use |= parts == 5 ? 0xe6 : parts >= 2 ? 6 : 2;
    memcpy(state_in.vector + 512, &in_use, 8);
    for (size_t i = 0; i < parts; i++)
        random_bytes(state_in.vector + offsets[i], sizes[i]);
}

static void check_state(void)
{
    size_t offsets[5], sizes[5], parts = vector_parts(offsets, sizes);
    for (int i = 0; i < 16; i++)
        assert_int_equal(state_out.r[i], state_in.r[i]);
    assert_int_equal(state_out.flags & user_flags, state_in.flags & user_flags);
    assert_memory_equal(state_out.red_zone, state_in.red_zone, sizeof(state_in.red_zone));
    for (size_t i = 0; i < parts; i++)
        assert_memory_equal(state_out.vector + offsets[i], state_in.vector + offsets[i], sizes[i]);
}

static void run(void *code)
{
    random_state();
    state_code = code;
    state_run();
    check_state();
}

static void a_count_hook_keeps_everything(void **unused)
{
    (void)unused;
    struct world world = world_make(&(struct world_shape){.probes = 3});
    static const struct {
        uint8_t self, fsgsbase;
    } variants[] = {{1, 0}, {0, 1}, {0, 0}};
    uint64_t expected = 0;
    for (size_t i = 0; i < 3; i++) {
        struct tl_hook hook = world_hook(&world, TL_HOOK_COUNT, 1);
        if (variants[i].fsgsbase && !hook.has_fsgsbase)
            continue;
        hook.fs_self = variants[i].self;
        hook.has_fsgsbase = variants[i].fsgsbase;
        void *code = world_trampoline(&world, &hook, "\xc3", 1);
        for (int round = 0; round < ROUNDS; round++)
            run(code);
        expected += ROUNDS;
        assert_int_equal(world_count(&world, 1), expected);
    }
    assert_int_equal(world_count(&world, 0) + world_count(&world, 2), 0);
    world_free(&world);
}

/* Both tables too small: all blocks belong to somebody else. */
static void a_thread_without_a_block_keeps_everything(void **unused)
{
    (void)unused;
    struct world world = world_make(&(struct world_shape){.probes = 3, .table_shift = 1});
    for (int i = 0; i < 2; i++)
        *(uint64_t *)((char *)world.area + world.area->blocks + ((uint64_t)i << world.area->block_shift)) = 7;
    void *code = (void *)world_function(&world, TL_HOOK_COUNT, 2);
    for (int round = 0; round < ROUNDS; round++)
        run(code);
    assert_int_equal(world_count(&world, 2), ROUNDS);
    assert_int_equal(world_count(&world, 0) + world_count(&world, 1), 0);
    world_free(&world);
}

/* Fetch the first `registers` registers, by a program of its own. */
static void check_event(uint8_t registers)
{
    struct tl_operation code[2 * TL_REG_COUNT + 1];
    for (uint8_t i = 0; i < registers; i++) {
        code[2 * i] = (struct tl_operation){.op = TL_OP_REG, .a = i};
        code[2 * i + 1] = (struct tl_operation){.op = TL_OP_STORE, .a = i};
    }
    code[2 * registers] = (struct tl_operation){.op = TL_OP_END};
    static const struct tl_hit_site site = {.addr = 0x123456789abc, .action_count = 1};
    struct tl_hit_action action = {.kind = TL_ACTION_EVENT, .operations = 2u * registers + 1};
    struct world world = world_make(&(struct world_shape){.probes = 1,
                                                          .sites = &site,
                                                          .site_count = 1,
                                                          .actions = &action,
                                                          .action_count = 1,
                                                          .operations = code,
                                                          .operation_count = action.operations});
    void *function = (void *)world_function(&world, TL_HOOK_ENTER, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct {
            struct tl_event head;
            uint64_t values[TL_REG_COUNT];
        } event;
        run(function);
        assert_int_equal(world_take(&world, &event, sizeof(event)), sizeof(event.head) + 8u * registers);
        for (uint8_t i = 0; i < 16; i++)
            assert_int_equal(event.values[i], i == TL_RSP ? state_in.r[i] - 8 : state_in.r[i]);
        assert_int_equal(event.values[TL_RIP], site.addr);
        if (registers > TL_RFLAGS)
            assert_int_equal(event.values[TL_RFLAGS], state_in.flags);
    }
    world_free(&world);
}

static void an_event_keeps_everything_and_sees_everything(void **unused)
{
    (void)unused;
    check_event(TL_RFLAGS);    /* what goes straight into the ring */
    check_event(TL_REG_COUNT); /* and what needs the interpreter */
}

static void a_gate_that_is_off_keeps_everything(void **unused)
{
    (void)unused;
    struct world world = world_make(&(struct world_shape){.probes = 1});
    memset(world.gate, 0, sizeof(*world.gate));
    void *count = (void *)world_function(&world, TL_HOOK_COUNT, 0);
    void *enter = (void *)world_function(&world, TL_HOOK_ENTER, 0);
    for (int round = 0; round < ROUNDS; round++) {
        run(count);
        run(enter);
    }
    assert_int_equal(world_count(&world, 0), 0);
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_count_hook_keeps_everything),
        cmocka_unit_test(a_thread_without_a_block_keeps_everything),
        cmocka_unit_test(an_event_keeps_everything_and_sees_everything),
        cmocka_unit_test(a_gate_that_is_off_keeps_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
