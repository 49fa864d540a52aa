/* SPDX-License-Identifier: MIT
 *
 * A hit leaves no trace in registers, flags, red zone and vector state, whatever its handlers do to them; and handlers
 * find what their ABI promises.
 */
#include "call_world.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hit/call_state.h"
#include "state.h"

enum { ROUNDS = 300, AVX = 1 << 2, MASKS = 1 << 5, UPPER = 1 << 6, HIGH = 1 << 7 };

/* CF PF AF ZF SF DF OF AC ID; NT is left out, since system calls in tests would lose it */
static const uint64_t user_flags = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x400 | 0x800 | 0x40000 | 0x200000;
static uint32_t components; /* of XCR0 */

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

static size_t component(unsigned number, size_t *offset)
{
    unsigned a = 0, b = 0, c, d;
    if (components >> number & 1)
        __cpuid_count(13, number, a, b, c, d);
    *offset = b;
    return a;
}

/* The x87 unit's registers, tags and words, all exceptions masked, and no address of a last instruction, which some
 * processors do not keep. */
static void random_x87(uint8_t *area)
{
    uint16_t words[3] = {(uint16_t)(0x7f | (random_word() & 0xf00)), (uint16_t)(random_word() & 0x7f3f),
                         (uint16_t)(random_word() & 0xff)};
    memset(area, 0, 24);
    memcpy(area, words, 6);
    for (int i = 0; i < 8; i++)
        random_bytes(area + 32 + 16 * i, 10);
}

static void random_state(void)
{
    static const unsigned numbers[] = {2, 5, 6, 7};
    uint64_t in_use = (random_word() & components & 0xe5) | 2;
    uint32_t mxcsr = 0x1f80 | (random_word() & 0xe07f);
    size_t offset, size;
    for (int i = 0; i < 16; i++)
        state_in.r[i] = random_word();
    state_in.flags = (random_word() & user_flags) | 0x202;
    random_bytes((uint8_t *)state_in.red_zone, sizeof(state_in.red_zone));
    memset(state_in.vector, 0, sizeof(state_in.vector));
    memcpy(state_in.vector + 24, &mxcsr, 4);
    memcpy(state_in.vector + 512, &in_use, 8);
    random_bytes(state_in.vector + 160, 256);
    state_in.vector[0] = 0x7f, state_in.vector[1] = 3;
    if (in_use & 1)
        random_x87(state_in.vector);
    for (size_t i = 0; i < 4; i++)
        if ((size = component(numbers[i], &offset)) != 0 && in_use >> numbers[i] & 1)
            random_bytes(state_in.vector + offset, size);
}

static void check_state(void)
{
    static const unsigned numbers[] = {2, 5, 6, 7};
    size_t offset, size;
    for (int i = 0; i < 16; i++)
        assert_int_equal(state_out.r[i], state_in.r[i]);
    assert_int_equal(state_out.flags & user_flags, state_in.flags & user_flags);
    assert_memory_equal(state_out.red_zone, state_in.red_zone, sizeof(state_in.red_zone));
    assert_memory_equal(state_out.vector, state_in.vector, 5); /* x87: control, status, tags */
    for (int i = 0; i < 8; i++)
        assert_memory_equal(state_out.vector + 32 + 16 * i, state_in.vector + 32 + 16 * i, 10);
    assert_memory_equal(state_out.vector + 24, state_in.vector + 24, 4); /* mxcsr */
    assert_memory_equal(state_out.vector + 160, state_in.vector + 160, 256);
    for (size_t i = 0; i < 4; i++)
        if ((size = component(numbers[i], &offset)) != 0)
            assert_memory_equal(state_out.vector + offset, state_in.vector + offset, size);
}

static uint64_t hits, handler_flags, handler_frame;
static struct tl_regs seen;

/* By words, so that no compiler uses vector registers here. */
static int look(struct tl_probe *probe, struct tl_regs *regs)
{
    volatile uint64_t *to = (volatile uint64_t *)&seen;
    const volatile uint64_t *from = (const volatile uint64_t *)regs;
    __asm__ volatile("pushfq; pop %0" : "=r"(handler_flags));
    (void)probe;
    hits++;
    for (size_t i = 0; i < sizeof(seen) / 8; i++)
        to[i] = from[i];
    handler_frame = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    return 0;
}

static void change_low(void)
{
    __asm__ volatile("pcmpeqb %%xmm0, %%xmm0; movaps %%xmm0, %%xmm1; movaps %%xmm0, %%xmm2; movaps %%xmm0, %%xmm3;"
                     "movaps %%xmm0, %%xmm4; movaps %%xmm0, %%xmm5; movaps %%xmm0, %%xmm6; movaps %%xmm0, %%xmm7;"
                     "movaps %%xmm0, %%xmm8; movaps %%xmm0, %%xmm9; movaps %%xmm0, %%xmm10; movaps %%xmm0, %%xmm11;"
                     "movaps %%xmm0, %%xmm12; movaps %%xmm0, %%xmm13; movaps %%xmm0, %%xmm14; movaps %%xmm0, %%xmm15"
                     :
                     :
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
}

#define EACH8(x, first) x(first##0) x(first##1) x(first##2) x(first##3) x(first##4) x(first##5) x(first##6) x(first##7)
#define YMM(n) "vpcmpeqb %%ymm" #n ", %%ymm" #n ", %%ymm" #n ";"
#define ZMM(n) "vpternlogd $0xff, %%zmm" #n ", %%zmm" #n ", %%zmm" #n ";"
#define MASK(n) "kxnorw %%k" #n ", %%k" #n ", %%k" #n ";"

/* What a handler may do at the very most, and more: it leaves the x87 stack full, and words changed. */
static int change_all(struct tl_probe *probe, struct tl_regs *regs)
{
    static const uint32_t mxcsr = 0x7f80;
    static const uint16_t control = 0xf7f;
    look(probe, regs);
    errno = 12345;
    change_low();
    if (components & AVX)
        __asm__ volatile(EACH8(YMM, ) YMM(8) YMM(9) YMM(10) YMM(11) YMM(12) YMM(13) YMM(14) YMM(15) : : : "memory");
    if (components & HIGH)
        __asm__ volatile(ZMM(0) ZMM(7) ZMM(15) ZMM(16) ZMM(17) ZMM(18) ZMM(19) EACH8(ZMM, 2) ZMM(28) ZMM(29) ZMM(30)
                             ZMM(31) EACH8(MASK, )
                         :
                         :
                         : "memory");
    __asm__ volatile("fninit; fldpi; fld1; fldpi; fldz; fldcw %0; ldmxcsr %1" : : "m"(control), "m"(mxcsr) : "memory");
    return 0;
}

static void run(void *code)
{
    random_state();
    state_code = code;
    state_run();
    check_state();
}

static void check_seen(void)
{
    assert_int_equal(seen.rax, state_in.r[0]);
    assert_int_equal(seen.rcx, state_in.r[1]);
    assert_int_equal(seen.rdx, state_in.r[2]);
    assert_int_equal(seen.rbx, state_in.r[3]);
    assert_int_equal(seen.rsp, state_in.r[4] - 8);
    assert_int_equal(seen.rbp, state_in.r[5]);
    assert_int_equal(seen.rsi, state_in.r[6]);
    assert_int_equal(seen.rdi, state_in.r[7]);
    assert_memory_equal(&seen.r8, &state_in.r[8], 8 * 8);
    assert_int_equal(seen.rip, 0x1001);
    assert_int_equal(seen.rflags, state_in.flags);
    assert_int_equal(handler_flags & 0x44500, 0);
    assert_int_equal(handler_frame % 16, 0);
}

static void check(tl_pre_handler *pre, uint32_t flags)
{
    struct tl_call_action action = {.kind = TL_CALL_PRE, .flags = flags, .pre = pre};
    call_world_list(1, &action, 1);
    void *code = call_world_code(1, "\xc3", 1);
    hits = 0;
    for (int round = 0; round < ROUNDS; round++) {
        errno = round;
        run(code);
        check_seen();
        assert_int_equal(errno, round);
    }
    assert_int_equal(hits, ROUNDS);
}

static void general_handlers_see_and_keep_everything(void **unused)
{
    (void)unused;
    check(look, TL_PROBE_GENERAL);
    check(look, TL_PROBE_GENERAL | TL_PROBE_OWN_STACK);
}

static void handlers_that_change_all_vector_state_leave_no_trace(void **unused)
{
    (void)unused;
    check(change_all, 0);
    check(change_all, TL_PROBE_OWN_STACK);
}

/* As on processors that cannot be asked what is in use. */
static void so_it_is_on_older_processors(void **unused)
{
    (void)unused;
    tl_vector_setup();
    tl_vector_can_ask = 0;
    check(change_all, 0);
    tl_vector_setup();
}

static void a_hit_without_handlers_leaves_no_trace(void **unused)
{
    (void)unused;
    call_world_list(2, NULL, 0);
    void *code = call_world_code(2, "\xc3", 1);
    for (int round = 0; round < ROUNDS; round++)
        run(code);
}

static void *inner;

static int hit_again(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    run(inner); /* its own state is another one, which is checked as well */
    return 0;
}

static void a_hit_in_a_handler_leaves_no_trace(void **unused)
{
    (void)unused;
    struct tl_call_action action = {.kind = TL_CALL_PRE, .flags = TL_PROBE_GENERAL, .pre = hit_again};
    call_world_list(3, &action, 1);
    inner = call_world_code(3, "\xc3", 1);
    uint64_t missed = tl_call_missed(3);
    for (int round = 0; round < ROUNDS; round++)
        call_world_function(inner)(0, 0);
    assert_int_equal(tl_call_missed(3) - missed, ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(general_handlers_see_and_keep_everything),
        cmocka_unit_test(handlers_that_change_all_vector_state_leave_no_trace),
        cmocka_unit_test(so_it_is_on_older_processors),
        cmocka_unit_test(a_hit_without_handlers_leaves_no_trace),
        cmocka_unit_test(a_hit_in_a_handler_leaves_no_trace),
    };
    uint32_t high;
    __asm__("xgetbv" : "=a"(components), "=d"(high) : "c"(0));
    call_world_make(4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
