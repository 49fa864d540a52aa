/* SPDX-License-Identifier: MIT
 *
 * Hardware breakpoints and signals: blocked, late and stale ones, other people's, handlers in handlers.
 */
#include <linux/perf_event.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hwbp_kit.h"

static _Alignas(64) volatile uint64_t words[8];
static struct seen seen;

static int begin(void **state)
{
    (void)state;
    memset((void *)(uintptr_t)words, 0, sizeof words);
    memset(&seen, 0, sizeof seen);
    return 0;
}

/* Really block SIGTRAP, or unblock it: by a system call that the library does not know of. */
static void really(int how)
{
    static const unsigned char code[] = {0x49, 0x89, 0xca, 0xb8, 14, 0, 0, 0, 0x0f, 0x05, 0xc3};
    static long (*call)(long how, const uint64_t *set, uint64_t *old, long size);
    const uint64_t set = 1ull << (SIGTRAP - 1);
    if (!call) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(page != MAP_FAILED);
        memcpy(page, code, sizeof code);
        memcpy(&call, &page, sizeof call);
    }
    assert_int_equal(call(how, &set, NULL, 8), 0);
}

static void a_program_that_blocks_sigtrap_notices_nothing(void **state)
{
    (void)state;
    sigset_t set, old;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    sigfillset(&set);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, &old), 0);
    for (unsigned i = 1; i <= 10; i++)
        kit_store(&words[1], i, 8);
    kit_expect(hwbp, 10, 10, 0);
    assert_int_equal(seen.hit.flags, 0);
    sigpending(&set);
    assert_false(sigismember(&set, SIGTRAP));
    assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
    kit_expect(hwbp, 10, 10, 0);
    kit_destroy(hwbp);
}

static void hits_behind_our_back_come_late(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(&words[1], 1, 8);
    really(SIG_BLOCK);
    for (unsigned i = 2; i <= 11; i++)
        kit_store(&words[1], i, 8);
    assert_int_equal(seen.hits, 1);
    really(SIG_UNBLOCK);
    struct tl_hwbp_counts counts = kit_counts(hwbp);
    assert_int_equal(counts.hits, 11);
    assert_int_equal(counts.handled, 2);
    assert_int_equal(counts.late, 1);
    assert_int_equal(counts.missed, 0);
    assert_int_equal(seen.hit.flags, TL_HWBP_HIT_LATE);
    assert_int_equal(seen.hit.before, 1);
    assert_int_equal(seen.hit.now, 11);
    kit_store(&words[1], 12, 8);
    assert_int_equal(seen.hit.flags, 0);
    assert_int_equal(kit_counts(hwbp).late, 1);
    kit_destroy(hwbp);
}

static void stale_signals_are_swallowed(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen), moved = options;
    struct tl_hwbp *hwbp = kit_create(&options);
    moved.address = (void *)(uintptr_t)&words[2];
    really(SIG_BLOCK);
    kit_store(&words[1], 1, 8);
    assert_int_equal(tl_hwbp_modify(hwbp, &moved, NULL), 0);
    really(SIG_UNBLOCK);
    kit_expect(hwbp, 1, 0, 1);

    really(SIG_BLOCK);
    kit_store(&words[2], 1, 8);
    assert_int_equal(tl_hwbp_disable(hwbp), 0);
    really(SIG_UNBLOCK);
    kit_expect(hwbp, 2, 0, 2);
    assert_int_equal(tl_hwbp_enable(hwbp), 0);

    really(SIG_BLOCK);
    kit_store(&words[2], 2, 8);
    kit_destroy(hwbp);
    struct tl_hwbp *next = kit_create(&options); /* in its place on the board */
    really(SIG_UNBLOCK);
    kit_expect(next, 0, 0, 0);

    really(SIG_BLOCK);
    kit_store(&words[1], 3, 8);
    kit_destroy(next);
    really(SIG_UNBLOCK);
    assert_int_equal(seen.hits, 0);
}

static volatile sig_atomic_t traps;

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    traps += info->si_code == 6;
}

/* The program's own breakpoint events raise SIGTRAP as well. */
static void what_is_not_ours_reaches_the_program(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, old;
    struct perf_event_attr attr = {.type = PERF_TYPE_BREAKPOINT,
                                   .size = sizeof attr,
                                   .bp_type = 2,
                                   .bp_addr = (uintptr_t)&words[3],
                                   .bp_len = 8,
                                   .sample_period = 1,
                                   .exclude_kernel = 1,
                                   .sigtrap = 1,
                                   .remove_on_exec = 1,
                                   .sig_data = 4711};
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    assert_true(fd >= 0);
    kit_store(&words[3], 1, 8);
    kit_store(&words[1], 1, 8);
    kit_store(&words[3], 2, 8);
    assert_int_equal(traps, 2);
    kit_expect(hwbp, 1, 1, 0);
    close(fd);
    assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
    kit_destroy(hwbp);
}

/* What was answered there; an assertion would leave the handler. */
static long answers[8];

static void write_again(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    struct tl_hwbp_counts counts = {.size = sizeof counts};
    struct tl_hwbp_options options = kit_watch(&words[5], 8, TL_HWBP_WRITE, NULL);
    struct tl_hwbp *other;
    kit_note(hwbp, regs, hit);
    kit_store(&words[1], 100, 8);
    answers[0] = kit_add(1, 2); /* it is probed */
    answers[1] = tl_hwbp_read(hwbp, &counts) ? -1 : (long)counts.hits;
    answers[2] = tl_hwbp_create(&options, &other, NULL);
    answers[3] = tl_hwbp_destroy(hwbp);
    answers[4] = tl_hwbp_disable(hwbp);
    answers[5] = tl_hwbp_modify(hwbp, &options, NULL);
    answers[6] = tl_hwbp_del(hwbp);
    answers[7] = tl_hwbp_stop(hwbp);
    kit_store(&words[1], 101, 8);
}

static int note_probe(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    ++*(unsigned *)probe->context;
    kit_store(&words[1], 200, 8);
    return 0;
}

static void hits_in_handlers_are_missed(void **state)
{
    (void)state;
    unsigned probed = 0;
    struct tl_probe probe = {.size = sizeof probe, .address = kit_add_entry, .pre = note_probe, .context = &probed};
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.handler = write_again;
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_register(&probe);
    kit_store(&words[1], 1, 8);
    kit_store(&words[1], 2, 8); /* it is stopped */
    assert_int_equal(answers[0], 4);
    assert_int_equal(answers[1], 2);
    for (unsigned i = 2; i < 7; i++)
        assert_int_equal(answers[i], -EDEADLK);
    assert_int_equal(answers[7], 0);
    kit_expect(hwbp, 2, 1, 1);
    assert_int_equal(kit_missed(&probe), 1);
    assert_int_equal(probed, 0);
    assert_int_equal(tl_hwbp_start(hwbp), 0);
    assert_int_equal(kit_add(1, 2), 4); /* a hit in the probe's handler */
    kit_expect(hwbp, 3, 1, 2);
    assert_int_equal(probed, 1);
    kit_unregister(&probe);
    kit_destroy(hwbp);
}

static void probes_and_breakpoints_on_one_instruction(void **state)
{
    const uint64_t *way = *state;
    unsigned probed = 0;
    long value = 5;
    struct seen data = {0};
    struct tl_probe probe = {
        .size = sizeof probe, .flags = *way, .address = kit_load_site, .pre = note_probe, .context = &probed};
    struct tl_hwbp_options on = kit_watch(kit_load_site, sizeof(long), TL_HWBP_EXECUTE, &seen);
    struct tl_hwbp_options of = kit_watch(&value, 8, TL_HWBP_READ | TL_HWBP_WRITE, &data);
    begin(state);
    kit_register(&probe);
    struct tl_hwbp *instruction = kit_create(&on), *bytes = kit_create(&of);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(kit_load(&value), 5);
    kit_expect(instruction, 10, 10, 0);
    kit_expect(bytes, 10, 10, 0);
    assert_int_equal(probed, 10);
    assert_int_equal(seen.regs.rip, (uintptr_t)kit_load_site);
    uint64_t behind = data.regs.rip;
    kit_unregister(&probe);
    assert_int_equal(kit_load(&value), 5);
    assert_int_equal(data.regs.rip, behind); /* as without the probe */
    kit_destroy(instruction);
    kit_destroy(bytes);
}

static void use_much_stack(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    volatile char room[40000];
    for (size_t i = 0; i < sizeof room; i += 512)
        room[i] = 1;
    kit_note(hwbp, regs, hit);
    kit_store(&words[1], 100 + room[512], 8);
    kit_store(&words[1], 200, 8);
}

/* The kernel takes the alternate stack for free while a handler runs on another: signals in the handler must not come
 * over the frame of the first. */
static void an_alternate_stack_is_kept(void **state)
{
    (void)state;
    static _Alignas(64) char small[16384];
    stack_t stack = {.ss_sp = small, .ss_size = sizeof small}, old, now;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.handler = use_much_stack;
    struct tl_hwbp *hwbp = kit_create(&options);
    assert_int_equal(sigaltstack(&stack, &old), 0);
    for (unsigned i = 0; i < 10; i++)
        kit_store(&words[1], i, 8);
    assert_int_equal(sigaltstack(&old, &now), 0);
    assert_ptr_equal(now.ss_sp, small);
    assert_int_equal(now.ss_flags, 0);
    kit_expect(hwbp, 30, 10, 20);
    kit_destroy(hwbp);
}

static int count_probe(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    ++*(unsigned *)probe->context;
    return 0;
}

/* A short instruction is probed: the next is still executed where it is, whichever came first. */
static void an_instruction_behind_a_probe(void **state)
{
    const uint64_t *way = *state;
    unsigned probed = 0;
    struct tl_probe probe = {
        .size = sizeof probe, .flags = *way, .symbol = "kit_steps", .pre = count_probe, .context = &probed};
    struct tl_hwbp_options second = kit_watch(kit_steps_second, sizeof(long), TL_HWBP_EXECUTE, &seen);
    begin(state);
    struct tl_hwbp *hwbp = kit_create(&second);
    for (unsigned turn = 1; turn <= 3; turn++) {
        kit_register(&probe);
        assert_int_equal(kit_steps(5), 10);
        kit_expect(hwbp, 1, 1, 0);
        assert_int_equal(probed, turn);
        kit_destroy(hwbp);
        if (turn == 2)
            kit_unregister(&probe);
        hwbp = kit_create(&second);
        if (turn != 2)
            kit_unregister(&probe);
    }
    kit_destroy(hwbp);
}

static volatile double sum;

static void compute(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    kit_note(hwbp, regs, hit);
    sum = sum * 3 + 1;
    errno = EBUSY;
}

static void vector_registers_and_errno_are_kept(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    options.handler = compute;
    struct tl_hwbp *hwbp = kit_create(&options);
    double before = 1.5, after;
    errno = 0;
    __asm__ volatile("movsd %1, %%xmm7\n\tmov $3, %%edi\n\tcall kit_loop\n\tmovsd %%xmm7, %0"
                     : "=m"(after)
                     : "m"(before)
                     : "xmm7", "rax", "rdi", "memory", "cc");
    assert_true(after == 1.5);
    assert_int_equal(errno, 0);
    kit_expect(hwbp, 3, 3, 0);
    kit_destroy(hwbp);
}

/* What the library does to it around a handler is not looked into again. */
static void errno_can_be_watched(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&errno, sizeof errno, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(&errno, 7, 4);
    kit_expect(hwbp, 1, 1, 0);
    kit_destroy(hwbp);
    options.handler = compute;
    hwbp = kit_create(&options);
    kit_store(&errno, 8, 4);
    int now = errno;
    kit_expect(hwbp, 3, 1, 2); /* the handler changes it, and it is put back */
    assert_int_equal(now, 8);
    options.access |= TL_HWBP_READ;
    assert_int_equal(tl_hwbp_modify(hwbp, &options, NULL), 0);
    kit_store(&errno, 9, 4);
    assert_int_equal(errno, 9);
    assert_true(kit_counts(hwbp).handled >= 3);
    kit_destroy(hwbp);
}

static sigjmp_buf out;

static __attribute__((no_sanitize_address)) void jumps(struct tl_hwbp *hwbp, struct tl_regs *regs,
                                                       const struct tl_hwbp_hit *hit)
{
    kit_note(hwbp, regs, hit);
    siglongjmp(out, 1);
}

/* They should not; but later hits are told. */
static __attribute__((no_sanitize_address)) void handlers_may_be_left(void **state)
{
    static char stack[1 << 16];
    (void)state;
    if (KIT_ASAN)
        SKIP_BECAUSE("the address sanitizer does not know of jumps from one stack to another");
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.handler = jumps;
    struct tl_hwbp *hwbp = kit_create(&options);
    for (volatile unsigned i = 1; i <= 10; i++) {
        stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = i % 2 ? 0 : SS_DISABLE};
        assert_int_equal(sigaltstack(&alternate, NULL), 0);
        if (!sigsetjmp(out, 1))
            kit_store(&words[1], i, 8);
        assert_int_equal(seen.hits, i);
    }
    kit_expect(hwbp, 10, 10, 0);
    kit_destroy(hwbp);
    assert_int_equal(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(handlers_may_be_left, begin),
        cmocka_unit_test_setup(a_program_that_blocks_sigtrap_notices_nothing, begin),
        cmocka_unit_test_setup(hits_behind_our_back_come_late, begin),
        cmocka_unit_test_setup(stale_signals_are_swallowed, begin),
        cmocka_unit_test_setup(what_is_not_ours_reaches_the_program, begin),
        cmocka_unit_test_setup(hits_in_handlers_are_missed, begin),
        cmocka_unit_test_setup(an_alternate_stack_is_kept, begin),
        BOTH_WAYS(probes_and_breakpoints_on_one_instruction),
        BOTH_WAYS(an_instruction_behind_a_probe),
        cmocka_unit_test_setup(vector_registers_and_errno_are_kept, begin),
        cmocka_unit_test_setup(errno_can_be_watched, begin),
    };
    kit_skip_without_events();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
