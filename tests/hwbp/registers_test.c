/* SPDX-License-Identifier: MIT
 *
 * The codec of the debug registers: decoding undoes encoding, fields stand where the manual says, and the kernel takes
 * what is encoded for a traced process and gives it back.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hwbp/registers.h"

static uint64_t seed = 1;
static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(seed >> 33) % n;
}

static struct tl_debug_control random_control(void)
{
    static const uint8_t accesses[] = {TL_ACCESS_X, TL_ACCESS_W, TL_ACCESS_RW}, lengths[] = {1, 2, 4, 8};
    struct tl_debug_control control = {.exact = below(2)};
    for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++) {
        struct tl_debug_register *reg = &control.registers[n];
        reg->local = below(2);
        reg->global = below(2);
        reg->access = accesses[below(3)];
        reg->length = reg->access == TL_ACCESS_X ? 1 : lengths[below(4)];
    }
    return control;
}

static void test_decode_undoes_encode(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct tl_debug_control before = random_control(), after;
        uint64_t dr7;
        assert_int_equal(tl_dr7_encode(&before, &dr7), 0);
        tl_dr7_decode(dr7, &after);
        for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++)
            assert_memory_equal(&before.registers[n], &after.registers[n], sizeof before.registers[n]);
        assert_int_equal(before.exact, after.exact);
    }
}

static void test_fields(void **state)
{
    (void)state;
    struct tl_debug_control control = {.exact = true};
    uint64_t dr7;
    assert_int_equal(tl_dr7_encode(&control, &dr7), 0);
    assert_int_equal(dr7, 0x200);
    control.registers[0] = (struct tl_debug_register){.local = true, .access = TL_ACCESS_W, .length = 4};
    control.registers[3] = (struct tl_debug_register){.global = true, .access = TL_ACCESS_RW, .length = 8};
    assert_int_equal(tl_dr7_encode(&control, &dr7), 0);
    assert_int_equal(dr7, 0xb00d0281);
    control.registers[1] = (struct tl_debug_register){.local = true, .access = TL_ACCESS_X, .length = 1};
    assert_int_equal(tl_dr7_encode(&control, &dr7), 0);
    assert_int_equal(dr7, 0xb00d0285);
}

static void test_what_cannot_be_encoded(void **state)
{
    (void)state;
    const struct tl_debug_register bad[] = {
        {.local = true, .access = TL_ACCESS_R, .length = 1}, {.local = true, .access = 0, .length = 1},
        {.local = true, .access = TL_ACCESS_W, .length = 3}, {.local = true, .access = TL_ACCESS_W, .length = 16},
        {.local = true, .access = TL_ACCESS_X, .length = 8},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tl_debug_control control = {.registers = {bad[i]}};
        uint64_t dr7 = 42;
        assert_int_equal(tl_dr7_encode(&control, &dr7), -EINVAL);
        assert_int_equal(dr7, 42);
    }
}

static void test_status(void **state)
{
    (void)state;
    struct tl_debug_status status;
    tl_dr6_decode(0xffff0ff0, &status); /* nothing happened */
    assert_int_equal(status.hit, 0);
    assert_false(status.single_step || status.access_detected || status.task_switch || status.bus_lock);
    tl_dr6_decode(0xffff4ff5, &status);
    assert_int_equal(status.hit, 5);
    assert_true(status.single_step);
    tl_dr6_decode(0xffffa7f0, &status);
    assert_true(status.access_detected && status.task_switch && status.bus_lock);
}

static long poke(pid_t pid, unsigned reg, uint64_t value)
{
    return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + 8 * reg, value) ? -errno : 0;
}

static uint64_t peek(pid_t pid, unsigned reg)
{
    errno = 0;
    long value = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 8 * reg, 0);
    assert_int_equal(errno, 0);
    return (uint64_t)value;
}

static void test_the_kernel_agrees(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (!pid) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    for (int i = 0; i < 2000; i++) {
        struct tl_debug_control control = random_control();
        for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++)
            control.registers[n].global = false; /* the kernel keeps these for itself */
        uint64_t dr7;
        assert_int_equal(tl_dr7_encode(&control, &dr7), 0);
        assert_int_equal(poke(pid, 7, 0), 0);
        for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++)
            assert_int_equal(poke(pid, n, 0x10000 + 8 * (uint64_t)n), 0);
        assert_int_equal(poke(pid, 7, dr7), 0);
        assert_int_equal(peek(pid, 7), dr7);
        struct tl_debug_control read;
        tl_dr7_decode(peek(pid, 7), &read);
        for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++)
            assert_memory_equal(&read.registers[n], &control.registers[n], sizeof read.registers[n]);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_undoes_encode),   cmocka_unit_test(test_fields),
        cmocka_unit_test(test_what_cannot_be_encoded), cmocka_unit_test(test_status),
        cmocka_unit_test(test_the_kernel_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
