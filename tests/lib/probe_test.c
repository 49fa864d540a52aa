/* SPDX-License-Identifier: MIT
 *
 * What a probe does at one instruction: before, behind, instead of it; by a jump and by a trap.
 */
#include <string.h>

#include "kit.h"

static char trace[64];
static struct tl_regs seen, seen_behind;
static unsigned hits;

static int note_pre(struct tl_probe *probe, struct tl_regs *regs)
{
    strcat(trace, probe->context);
    seen = *regs;
    hits++;
    return 0;
}

static void note_post(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    strcat(trace, "|");
    seen_behind = *regs;
}

static int change_arguments(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    regs->rdi = 100;
    return 0;
}

static void change_result(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    regs->rax += 1000;
}

/* Return from the function at once. */
static int instead(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    regs->rax = 77;
    regs->rip = *(uint64_t *)regs->rsp; /* NOLINT */
    regs->rsp += 8;
    return 1;
}

static uint64_t way(void **state)
{
    trace[0] = '\0';
    hits = 0;
    return *(const uint64_t *)*state;
}

static uint64_t address(const void *label)
{
    return (uintptr_t)label;
}

static void sees_registers_before_and_behind(void **state)
{
    struct tl_probe probe = {.size = sizeof probe,
                             .flags = way(state),
                             .address = (void *)kit_add_entry,
                             .pre = note_pre,
                             .post = note_post,
                             .context = (void *)"a"};
    kit_register(&probe);
    const char *tactic;
    void *at;
    assert_int_equal(tl_probe_place(&probe, &at, &tactic), 0);
    assert_ptr_equal(at, kit_add_entry);
    assert_int_equal(strcmp(tactic, "int3") == 0, probe.flags == TL_PROBE_INT3);
    assert_int_equal(kit_add(3, 4), 8);
    assert_string_equal(trace, "a|");
    assert_int_equal(seen.rdi, 3);
    assert_int_equal(seen.rsi, 4);
    assert_int_equal(seen.rip, address(kit_add_entry));
    assert_int_equal(seen_behind.rip, address(kit_add_body));
    assert_int_equal(seen_behind.rax, 4);
    assert_int_equal(seen_behind.rsp, seen.rsp);
    kit_unregister(&probe);
    assert_int_equal(kit_add(3, 4), 8);
    assert_string_equal(trace, "a|");
}

static void changes_registers(void **state)
{
    struct tl_probe probe = {.size = sizeof probe,
                             .flags = way(state),
                             .address = (void *)kit_add_entry,
                             .pre = change_arguments,
                             .post = change_result};
    kit_register(&probe);
    assert_int_equal(kit_add(3, 4), 100 + 1 + 1000 + 4);
    kit_unregister(&probe);
}

static void redirects(void **state)
{
    struct tl_probe probe = {.size = sizeof probe, .flags = way(state), .symbol = "kit_add", .pre = instead};
    struct tl_probe behind = {.size = sizeof behind,
                              .flags = way(state),
                              .symbol = "kit_add",
                              .pre = note_pre,
                              .post = note_post,
                              .context = (void *)"no"};
    kit_register(&probe);
    kit_register(&behind);
    assert_int_equal(kit_add(3, 4), 77);
    assert_string_equal(trace, "");
    kit_unregister(&probe);
    assert_int_equal(kit_add(3, 4), 8);
    assert_string_equal(trace, "no|");
    kit_unregister(&behind);
}

static void several_run_in_order_of_registration(void **state)
{
    struct tl_probe probes[3];
    static char names[][2] = {"1", "2", "3"};
    for (int i = 0; i < 3; i++) {
        probes[i] = (struct tl_probe){.size = sizeof probes[0],
                                      .flags = way(state),
                                      .symbol = "kit_add",
                                      .offset = (uint64_t)(kit_add_body - kit_add_entry),
                                      .pre = note_pre,
                                      .context = names[i]};
        kit_register(&probes[i]);
    }
    kit_add(1, 1);
    assert_string_equal(trace, "123");
    kit_unregister(&probes[1]);
    kit_add(1, 1);
    assert_string_equal(trace, "12313");
    kit_register(&probes[1]);
    kit_add(1, 1);
    assert_string_equal(trace, "12313132");
    for (int i = 0; i < 3; i++)
        kit_unregister(&probes[i]);
}

static void is_switched_on_and_off(void **state)
{
    struct tl_probe probe = {.size = sizeof probe,
                             .flags = way(state) | TL_PROBE_DISABLED,
                             .symbol = "kit_add",
                             .pre = note_pre,
                             .context = (void *)""};
    unsigned long text = kit_text_sum(kit_add_entry, 16);
    kit_register(&probe);
    kit_add(1, 1);
    assert_int_equal(hits, 0);
    assert_int_equal(kit_text_sum(kit_add_entry, 16), text);
    for (unsigned turn = 1; turn < 4; turn++) {
        assert_int_equal(tl_probe_enable(&probe), 0);
        assert_int_equal(tl_probe_enable(&probe), 0);
        kit_add(1, 1);
        assert_int_equal(hits, turn);
        assert_int_equal(tl_probe_disable(&probe), 0);
        assert_int_equal(tl_probe_disable(&probe), 0);
        kit_add(1, 1);
        assert_int_equal(hits, turn);
        assert_int_equal(kit_text_sum(kit_add_entry, 16), text);
    }
    kit_unregister(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(sees_registers_before_and_behind),     BOTH_WAYS(changes_registers),      BOTH_WAYS(redirects),
        BOTH_WAYS(several_run_in_order_of_registration), BOTH_WAYS(is_switched_on_and_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
