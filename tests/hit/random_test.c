/* SPDX-License-Identifier: MIT
 *
 * Random programs that pass the verifier: they end, write nothing but their lane, and leave an event that makes sense.
 */
#include "program.h"

#include <string.h>

#include "hit/event.h"

enum { PROGRAMS = 10000, LONGEST = 60 };

static uint64_t random_word(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

/* Numbers at which arithmetic goes wrong, addresses good and bad. */
static int64_t random_number(void)
{
    static char text[304] __attribute__((aligned(8))) = "some text"; /* whole words: the runtime reads such */
    switch (random_word() >> 61) {
    case 0:
        return INT64_MIN;
    case 1:
        return -1;
    case 2:
        return 0;
    case 3:
        return (int64_t)(uintptr_t)text;
    case 4:
        return (int64_t)(uintptr_t)(text + random_word() % sizeof(text));
    default:
        return (int64_t)(random_word() >> random_word() % 64);
    }
}

static struct tl_operation random_operation(void)
{
    struct tl_operation op = {.op = (uint8_t)(random_word() % TL_OP_COUNT)};
    switch (op.op) {
    case TL_OP_LOAD_DIRECT: /* is not protected, so may not be random */
    case TL_OP_END:
    case TL_OP_REJECT: /* would end most programs early */
    case TL_OP_IMM:
        op.op = TL_OP_IMM;
        op.imm = random_number();
        break;
    case TL_OP_REG:
        op.a = (uint8_t)(random_word() % TL_REG_COUNT);
        break;
    case TL_OP_LOAD:
    case TL_OP_SIGN:
    case TL_OP_ZERO:
        op.a = (uint8_t)(1u << random_word() % 4);
        break;
    case TL_OP_BITS:
        op.b = (uint16_t)(random_word() % 64);
        op.a = (uint8_t)(1 + random_word() % (64u - op.b));
        break;
    case TL_OP_ARG:
    case TL_OP_STORE:
        op.a = (uint8_t)(random_word() % TL_EVENT_ARGS);
        break;
    case TL_OP_STRING:
        op.a = (uint8_t)(random_word() % TL_EVENT_ARGS);
        op.imm = (int64_t)(1 + random_word() % TL_STRING_MAX);
        break;
    case TL_OP_STREQ:
    case TL_OP_GLOB:
        op.a = (uint8_t)(random_word() % TL_EVENT_ARGS);
        op.imm = BRACKET;
        break;
    default:
        break;
    }
    return op;
}

/* Take on each operation with which the program, cut off there, is still valid. */
static size_t random_program(struct tl_operation code[LONGEST])
{
    size_t length = 0;
    for (int tries = 0; tries < 100 && length < LONGEST - 1; tries++) {
        code[length] = random_operation();
        code[length + 1] = (struct tl_operation){.op = TL_OP_END};
        if (program_is_valid(code, length + 2))
            length++;
    }
    code[length] = (struct tl_operation){.op = TL_OP_END};
    /* A few jumps go further, where that is allowed. */
    for (size_t i = 0; i < length; i++) {
        struct tl_operation old = code[i];
        if (old.op != TL_OP_JZ && old.op != TL_OP_JNZ && old.op != TL_OP_JUMP)
            continue;
        code[i].imm = (int64_t)(random_word() % (length - i));
        if (!program_is_valid(code, length + 1))
            code[i] = old;
    }
    return length + 1;
}

static void check_event(void)
{
    struct {
        struct tl_event head;
        uint64_t values[TL_EVENT_ARGS];
        uint8_t strings[TL_EVENT_STRINGS];
    } event;
    struct tl_hit *hit = &program_hit;
    uint32_t stored = (uint32_t)hit->slots, faulted = (uint32_t)(hit->slots >> 32), values = 0;
    assert_int_equal(stored & faulted, 0);
    assert_int_equal(hit->strings & ~(uint64_t)stored, 0);
    assert_true(hit->scratch_used <= TL_EVENT_STRINGS);
    tl_event_write(hit, 0);
    size_t size = world_take(&program_world, &event, sizeof(event));
    assert_int_equal(size, event.head.size);
    for (unsigned slot = 0; slot < TL_EVENT_ARGS; slot++) {
        if (!(stored >> slot & 1))
            continue;
        uint64_t value = event.values[values++];
        if (hit->strings >> slot & 1)
            assert_true((value >> 32) + (uint32_t)value <= size && value >> 32 >= sizeof(struct tl_event));
        else
            assert_int_equal(value, hit->lane->slots[slot]);
    }
}

static void random_programs_keep_to_their_lane(void **unused)
{
    (void)unused;
    struct tl_operation code[LONGEST];
    struct tl_lane *lane = world_lane(&program_world, 0);
    size_t operations = 0;
    for (int i = 0; i < PROGRAMS; i++) {
        size_t length = random_program(code);
        operations += length;
        lane->pad3[6] = lane->counts_and_ring[0] = 0xfeedface;
        if (program_run(code, length))
            check_event();
        assert_int_equal(lane->pad3[6], 0xfeedface);
        assert_int_equal(lane->counts_and_ring[0], 0xfeedface);
    }
    assert_true(operations > 10 * PROGRAMS);
    assert_int_equal(lane->lost, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_programs_keep_to_their_lane),
    };
    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
