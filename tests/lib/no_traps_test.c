/* SPDX-License-Identifier: MIT
 *
 * In a program whose signals cannot be taken over: what jumps reach is probed, and the rest is refused for that reason.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

#include "kit.h"

extern long (*tl_self_call)(long number, long a, long b, long c, long d, long e, long f);
static long (*real_call)(long number, long a, long b, long c, long d, long e, long f);

static long call_without_signals(long number, long a, long b, long c, long d, long e, long f)
{
    return number == SYS_rt_sigaction ? -ENOSYS : real_call(number, a, b, c, d, e, f);
}

static unsigned hits;

static int on_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static void jumps_do(void **state)
{
    (void)state;
    struct tl_probe probe = {.size = sizeof probe, .symbol = "kit_add", .pre = on_hit};
    const char *tactic;
    hits = 0;
    kit_register(&probe);
    assert_int_equal(tl_probe_place(&probe, NULL, &tactic), 0);
    assert_string_not_equal(tactic, "int3");
    assert_int_equal(kit_add(1, 2), 4);
    assert_int_equal(hits, 1);
    kit_unregister(&probe);
}

static void refused(struct tl_probe *probe, enum tl_why why)
{
    struct tl_error error = {.text = ""};
    assert_int_equal(tl_probe_register(probe, &error), -tl_why_errno(why));
    if (!strstr(error.text, tl_why_text(why)))
        fail_msg("%s", error.text);
}

static void a_breakpoint_is_refused(void **state)
{
    (void)state;
    struct tl_probe probe = {.size = sizeof probe, .flags = TL_PROBE_INT3, .symbol = "kit_add", .pre = on_hit};
    refused(&probe, TL_WHY_SIGNALS);
}

/* Every instruction of a function cannot have a jump: their bytes are each other's. */
static void so_is_what_no_jump_reaches(void **state)
{
    (void)state;
    struct tl_probe probes[3];
    char *const places[3] = {kit_add_ret, kit_add_body, kit_add_entry};
    struct tl_error error;
    size_t refusals = 0;
    bool registered[3];
    for (size_t i = 0; i < 3; i++) {
        probes[i] = (struct tl_probe){.size = sizeof probes[i], .address = places[i], .pre = on_hit};
        registered[i] = !tl_probe_register(&probes[i], &error);
        if (!registered[i]) {
            refusals++;
            if (!strstr(error.text, tl_why_text(TL_WHY_SIGNALS)))
                fail_msg("%s", error.text);
            probes[i].flags = TL_PROBE_JUMP; /* who wants no trap does not want for signals */
            assert_int_not_equal(tl_probe_register(&probes[i], &error), 0);
            assert_null(strstr(error.text, tl_why_text(TL_WHY_SIGNALS)));
        }
    }
    assert_true(refusals > 0);
    for (size_t i = 0; i < 3; i++)
        if (registered[i])
            kit_unregister(&probes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(jumps_do), cmocka_unit_test(a_breakpoint_is_refused),
                                       cmocka_unit_test(so_is_what_no_jump_reaches)};
    real_call = tl_self_call;
    tl_self_call = call_without_signals;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
