/* SPDX-License-Identifier: MIT
 *
 * Jump probes: a handler with the function's own signature sees its arguments; the function then runs as if nothing had
 * been.
 */
#include <stdio.h>
#include <string.h>

#include "kit.h"

static long arguments[8];
static double number;
static unsigned calls;

static long see_many(long a, long b, long c, long d, long e, long f, long g, long h)
{
    const long all[] = {a, b, c, d, e, f, g, h};
    memcpy(arguments, all, sizeof all);
    calls++;
    a = b = c = d = e = f = g = h = -1;
    __asm__ volatile("" ::"r"(a + b + c + d + e + f + g + h) : "memory");
    return 12345;
}

static double see_half(double x, long n)
{
    number = x;
    arguments[0] = n;
    calls++;
    return x * 3.25; /* uses vector registers */
}

static uint64_t way(void **state)
{
    memset(arguments, 0, sizeof arguments);
    calls = 0;
    return *(const uint64_t *)*state;
}

static void add(struct tl_jump_probe *probe)
{
    struct tl_error error = {.text = ""};
    int code = tl_jump_probe_register(probe, &error);
    if (code)
        fail_msg("register: %d %s", code, error.text);
}

static void sees_arguments_in_registers_and_on_the_stack(void **state)
{
    struct tl_jump_probe probe = {
        .size = sizeof probe, .flags = way(state), .symbol = "kit_many", .handler = TL_JUMP_HANDLER(see_many)};
    add(&probe);
    assert_int_equal(kit_many(1, 2, 3, 4, 5, 6, 7, 8), 1 + 2 + 3 + 4 + 5 + 6 + 7 - 8);
    for (long i = 0; i < 8; i++)
        assert_int_equal(arguments[i], i + 1);
    assert_int_equal(calls, 1);
    assert_int_equal(tl_jump_probe_disable(&probe), 0);
    kit_many(1, 2, 3, 4, 5, 6, 7, 8);
    assert_int_equal(calls, 1);
    assert_int_equal(tl_jump_probe_enable(&probe), 0);
    kit_many(1, 2, 3, 4, 5, 6, 7, 8);
    assert_int_equal(calls, 2);
    assert_int_equal(tl_jump_probe_unregister(&probe), 0);
    kit_many(1, 2, 3, 4, 5, 6, 7, 8);
    assert_int_equal(calls, 2);
}

static void sees_vector_arguments_and_keeps_them(void **state)
{
    struct tl_jump_probe probe = {
        .size = sizeof probe, .flags = way(state), .symbol = "kit_half", .handler = TL_JUMP_HANDLER(see_half)};
    add(&probe);
    assert_true(kit_half(5.0, 3) == 5.5);
    assert_true(number == 5.0);
    assert_int_equal(arguments[0], 3);
    assert_int_equal(tl_jump_probe_unregister(&probe), 0);
}

static int (*real_printf)(const char *, ...) = printf;
static int see_printf(const char *format, const char *word)
{
    char copy[64];
    calls += snprintf(copy, sizeof copy, "%s/%s", format, word) == 6;
    return 0;
}

static void of_a_library_function(void **state)
{
    if (KIT_ASAN)
        SKIP_BECAUSE("with the address sanitizer printf is not the C library's");
    struct tl_jump_probe probe = {.size = sizeof probe,
                                  .flags = way(state),
                                  .symbol = "printf",
                                  .module = "libc.so.6",
                                  .handler = TL_JUMP_HANDLER(see_printf)};
    add(&probe);
    assert_int_equal(real_printf("%s", "abc"), 3);
    assert_int_equal(calls, 1);
    assert_int_equal(tl_jump_probe_unregister(&probe), 0);
    puts("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {BOTH_WAYS(sees_arguments_in_registers_and_on_the_stack),
                                       BOTH_WAYS(sees_vector_arguments_and_keeps_them),
                                       BOTH_WAYS(of_a_library_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
