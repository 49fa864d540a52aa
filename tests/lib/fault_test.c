/* SPDX-License-Identifier: MIT
 *
 * Fault and break handlers, and the notifier chain.
 */
#include <signal.h>
#include <string.h>

#include "kit.h"

static char trace[64];
static struct tl_fault last;
static long good = 4711;
static sigjmp_buf out;
static uint64_t program_rip;

static uint64_t way(void **state)
{
    trace[0] = '\0';
    memset(&last, 0, sizeof last);
    program_rip = 0;
    return *(const uint64_t *)*state;
}

static int repair(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault)
{
    last = *fault;
    strcat(trace, probe->context);
    regs->rdi = (uintptr_t)&good;
    return 1;
}

static int not_mine(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault)
{
    (void)regs;
    last = *fault;
    strcat(trace, probe->context);
    return 0;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)number;
    program_rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    siglongjmp(out, 1);
}

static void catch (int number)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(number, &action, NULL), 0);
}

static void repairs_a_fault_of_the_instruction(void **state)
{
    struct tl_probe probe = {
        .size = sizeof probe, .flags = way(state), .address = kit_load_site, .fault = repair, .context = (void *)"r"};
    kit_register(&probe);
    assert_int_equal(kit_load((const long *)16), 4711);
    assert_string_equal(trace, "r");
    assert_int_equal(last.signal, SIGSEGV);
    assert_int_equal(last.address, 16);
    assert_int_equal(last.where, TL_FAULT_IN_INSTRUCTION);
    assert_int_equal(kit_load(&good), 4711);
    kit_unregister(&probe);
}

static void or_the_program_sees_it(void **state)
{
    struct tl_probe probe = {
        .size = sizeof probe, .flags = way(state), .address = kit_load_site, .fault = not_mine, .context = (void *)"n"};
    kit_register(&probe);
    catch (SIGSEGV);
    if (!sigsetjmp(out, 1))
        kit_load((const long *)16);
    assert_string_equal(trace, "n");
    assert_int_equal(program_rip, (uintptr_t)kit_load_site);
    signal(SIGSEGV, SIG_DFL);
    kit_unregister(&probe);
}

/* Loads through r8, so that a fault handler can lead it elsewhere. */
static int bad_pre(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    long value;
    __asm__ volatile("mov %1, %%rdi; mov (%%rdi), %0" : "=r"(value) : "r"(24L) : "rdi", "memory");
    strcat(trace, value == 4711 ? "+" : "-");
    strcat(trace, probe->context);
    return 0;
}

static void repairs_a_fault_of_a_handler(void **state)
{
    struct tl_probe probe = {.size = sizeof probe,
                             .flags = way(state),
                             .address = kit_add_entry,
                             .pre = bad_pre,
                             .fault = repair,
                             .context = (void *)"h"};
    kit_register(&probe);
    assert_int_equal(kit_add(1, 2), 4);
    assert_string_equal(trace, "h+h");
    assert_int_equal(last.where, TL_FAULT_IN_HANDLER);
    assert_int_equal(last.address, 24);
    kit_unregister(&probe);
}

static int breaks(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    strcat(trace, "<");
    __asm__ volatile("int3");
    strcat(trace, ">");
    return 0;
}

static int on_break(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    strcat(trace, probe->context);
    return 1;
}

static void break_handler_takes_an_int3_of_a_handler(void **state)
{
    struct tl_probe probe = {.size = sizeof probe,
                             .flags = way(state),
                             .address = kit_add_entry,
                             .pre = breaks,
                             .break_handler = on_break,
                             .context = (void *)"b"};
    kit_register(&probe);
    assert_int_equal(kit_add(1, 2), 4);
    assert_string_equal(trace, "<b>");
    kit_unregister(&probe);
}

static enum tl_verdict link_of(struct tl_notifier *notifier, struct tl_regs *regs, const struct tl_notice_info *info)
{
    const char *name = notifier->context;
    strcat(trace, name);
    if (name[0] != '!')
        return TL_NOTIFY_PASS;
    if (info->notice == TL_NOTICE_PAGE_FAULT)
        regs->rdi = (uintptr_t)&good;
    return TL_NOTIFY_CLAIM;
}

static void notifiers_are_asked_in_order(void **state)
{
    (void)state;
    trace[0] = '\0';
    struct tl_notifier links[4] = {
        {.size = sizeof links[0], .priority = -1, .call = link_of, .context = (void *)"!c"},
        {.size = sizeof links[0], .priority = 5, .call = link_of, .context = (void *)"a"},
        {.size = sizeof links[0], .priority = -1, .call = link_of, .context = (void *)"no"},
        {.size = sizeof links[0], .priority = 5, .call = link_of, .context = (void *)"b"},
    };
    for (int i = 0; i < 4; i++)
        assert_int_equal(tl_notifier_add(&links[i], NULL), 0);
    assert_int_equal(tl_notifier_add(&links[1], NULL), -EEXIST);
    assert_int_equal(kit_load((const long *)8), 4711);
    assert_string_equal(trace, "ab!c");
    trace[0] = '\0';
    __asm__ volatile("int3");
    assert_string_equal(trace, "ab!c");
    for (int i = 0; i < 4; i++)
        assert_int_equal(tl_notifier_remove(&links[i]), 0);
    assert_int_equal(tl_notifier_remove(&links[0]), -ENOENT);
    catch (SIGSEGV);
    if (!sigsetjmp(out, 1))
        kit_load((const long *)16);
    assert_int_equal(program_rip, (uintptr_t)kit_load_site);
    signal(SIGSEGV, SIG_DFL);
}

static int pass_on(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    strcat(trace, probe->context);
    return 0;
}

static void probes_stand_between_high_and_low(void **state)
{
    (void)state;
    trace[0] = '\0';
    struct tl_notifier high = {.size = sizeof high, .priority = 1, .call = link_of, .context = (void *)"h"};
    struct tl_notifier low = {.size = sizeof low, .priority = 0, .call = link_of, .context = (void *)"l"};
    struct tl_probe probe = {
        .size = sizeof probe, .flags = TL_PROBE_INT3, .address = kit_add_entry, .pre = pass_on, .context = (void *)"p"};
    assert_int_equal(tl_notifier_add(&high, NULL), 0);
    assert_int_equal(tl_notifier_add(&low, NULL), 0);
    kit_register(&probe);
    assert_int_equal(kit_add(1, 2), 4);
    assert_string_equal(trace, "hp");
    kit_unregister(&probe);
    assert_int_equal(tl_notifier_remove(&high), 0);
    assert_int_equal(tl_notifier_remove(&low), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(repairs_a_fault_of_the_instruction),  BOTH_WAYS(or_the_program_sees_it),
        BOTH_WAYS(repairs_a_fault_of_a_handler),        BOTH_WAYS(break_handler_takes_an_int3_of_a_handler),
        cmocka_unit_test(notifiers_are_asked_in_order), cmocka_unit_test(probes_stand_between_high_and_low),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
