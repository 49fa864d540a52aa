/* SPDX-License-Identifier: MIT
 *
 * Return probes: values, data of each call, recursion, tail calls, jumps that stay inside; by exits and by rewriting.
 */
#include "kit.h"

static unsigned entries, returns, tails, depth, deepest;
static uint64_t last_value;

static int enter(struct tl_return_instance *instance, struct tl_regs *regs)
{
    uint64_t *data = instance->data;
    entries++;
    if (++depth > deepest)
        deepest = depth;
    if (data)
        *data = regs->rdi;
    return 0;
}

static void leave(struct tl_return_instance *instance, struct tl_regs *regs)
{
    depth--;
    returns++;
    tails += !instance->value_known;
    last_value = tl_regs_return_value(regs);
}

static void add_argument(struct tl_return_instance *instance, struct tl_regs *regs)
{
    tl_regs_set_return_value(regs, regs->rax + *(const uint64_t *)instance->data);
    returns++;
}

static int odd_only(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    return regs->rdi % 2 == 0;
}

static uint64_t way(void **state)
{
    entries = returns = tails = depth = deepest = 0;
    last_value = 0;
    return *(const uint64_t *)*state;
}

static void add(struct tl_return_probe *probe)
{
    struct tl_error error = {.text = ""};
    int code = tl_return_probe_register(probe, &error);
    if (code)
        fail_msg("register: %d %s", code, error.text);
}

static uint64_t missed(const struct tl_return_probe *probe)
{
    uint64_t count = UINT64_MAX;
    assert_int_equal(tl_return_probe_missed(probe, &count), 0);
    return count;
}

static struct tl_return_probe probe_of(uint64_t flags, const char *symbol)
{
    return (struct tl_return_probe){
        .size = sizeof(struct tl_return_probe), .flags = flags, .symbol = symbol, .entry = enter, .handler = leave};
}

static void sees_and_changes_the_value(void **state)
{
    struct tl_return_probe probe = probe_of(way(state), "kit_add");
    probe.handler = add_argument;
    probe.data_size = 8;
    add(&probe);
    assert_int_equal(kit_add(5, 6), 12 + 5);
    assert_int_equal(kit_call(7), 15 + 7);
    assert_int_equal(returns, 2);
    assert_int_equal(missed(&probe), 0);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
    assert_int_equal(kit_add(5, 6), 12);
    assert_int_equal(returns, 2);
}

static void keeps_calls_apart(void **state)
{
    struct tl_return_probe probe = probe_of(way(state), "kit_deep");
    probe.max_active = 50;
    probe.data_size = 24;
    add(&probe);
    assert_int_equal(kit_deep(40), 40);
    assert_int_equal(entries, 41);
    assert_int_equal(returns, 41);
    assert_int_equal(deepest, 41);
    assert_int_equal(last_value, 40);
    assert_int_equal(missed(&probe), 0);
    /* Deeper than can be followed: what is too much is missed, and nothing else happens. */
    assert_int_equal(kit_deep(99), 99);
    assert_int_equal(entries, 41 + 50);
    assert_int_equal(returns, 41 + 50);
    assert_int_equal(missed(&probe), 50);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static void need_not_follow(void **state)
{
    struct tl_return_probe probe = probe_of(way(state), "kit_add");
    probe.entry = odd_only;
    add(&probe);
    kit_add(1, 0);
    kit_add(2, 0);
    kit_add(3, 0);
    assert_int_equal(returns, 2);
    assert_int_equal(missed(&probe), 0);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static void says_so_of_tail_calls(void **state)
{
    struct tl_return_probe probe = probe_of(way(state), "kit_tail");
    add(&probe);
    assert_int_equal(kit_tail(4), 9);
    assert_int_equal(entries, 1);
    assert_int_equal(returns, 1);
    assert_int_equal(tails, probe.flags & TL_RETURN_REWRITE ? 0 : 1);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static void knows_jumps_that_stay_inside(void **state)
{
    struct tl_return_probe probe = probe_of(way(state), "kit_switch"), other = probe_of(way(state), "kit_branch");
    add(&probe);
    add(&other);
    for (long n = 0; n < 3; n++) {
        assert_int_equal(kit_switch(n), 10 + n);
        assert_int_equal(last_value, 10 + n);
    }
    assert_int_equal(returns, 3);
    assert_int_equal(tails, 0);
    assert_int_equal(kit_switch(3), 7);
    assert_int_equal(returns, 4);
    assert_int_equal(kit_branch(1), 1);
    assert_int_equal(kit_branch(-1), -1);
    assert_int_equal(returns, 6);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
    assert_int_equal(tl_return_probe_unregister(&other), 0);
}

static void is_switched_on_and_off(void **state)
{
    struct tl_return_probe probe = probe_of(way(state) | TL_RETURN_DISABLED, "kit_add");
    add(&probe);
    kit_add(1, 1);
    assert_int_equal(entries + returns, 0);
    assert_int_equal(tl_return_probe_enable(&probe), 0);
    kit_add(1, 1);
    assert_int_equal(entries + returns, 2);
    assert_int_equal(tl_return_probe_disable(&probe), 0);
    kit_add(1, 1);
    assert_int_equal(entries + returns, 2);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static void two_of_one_function(void **state)
{
    struct tl_return_probe probes[2] = {probe_of(way(state), "kit_add"), probe_of(way(state), "kit_add")};
    struct tl_return_probe *both[] = {&probes[0], &probes[1]};
    size_t failed;
    assert_int_equal(tl_return_probes_register(both, 2, &failed, NULL), 0);
    kit_add(1, 1);
    assert_int_equal(entries, 2);
    assert_int_equal(returns, 2);
    assert_int_equal(tl_return_probes_unregister(both, 2, &failed), 0);
}

#define WAYS(test)                                                                                                     \
    {#test " by exits", test, NULL, NULL, (void *)&ways[0]}, {#test " by traps", test, NULL, NULL, (void *)&ways[1]},  \
    {                                                                                                                  \
#test " by rewriting", test, NULL, NULL, (void *)&ways[2]                                                      \
    }

int main(void)
{
    static const uint64_t ways[] = {0, TL_RETURN_INT3, TL_RETURN_REWRITE};
    const struct CMUnitTest tests[] = {
        WAYS(sees_and_changes_the_value),
        WAYS(keeps_calls_apart),
        WAYS(need_not_follow),
        WAYS(says_so_of_tail_calls),
        WAYS(knows_jumps_that_stay_inside),
        WAYS(is_switched_on_and_off),
        WAYS(two_of_one_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
