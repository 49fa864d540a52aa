/* SPDX-License-Identifier: MIT
 *
 * Handlers of every kind that jump out by themselves: what comes later counts, and nobody waits for them.
 */
#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kit.h"

enum { ROUNDS = 200, THREADS = 3, STACK = 1 << 16 };

static __thread sigjmp_buf out;
static __thread uint64_t asked, hits;
static volatile long *volatile nowhere = (volatile long *)24; /* NOLINT */

/* Sanitizers do not know of stacks that a jump leaves for another one. */
#define PLAIN __attribute__((noinline, no_sanitize_address))

static PLAIN int jumps_from_fault(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault)
{
    (void)probe;
    (void)regs;
    (void)fault;
    asked++;
    siglongjmp(out, 1);
}

static PLAIN int jumps_from_break(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    asked++;
    siglongjmp(out, 1);
}

static PLAIN enum tl_verdict jumps_from_notifier(struct tl_notifier *notifier, struct tl_regs *regs,
                                                 const struct tl_notice_info *info)
{
    (void)notifier;
    (void)regs;
    if (info->notice != TL_NOTICE_PAGE_FAULT)
        return TL_NOTIFY_PASS;
    asked++;
    siglongjmp(out, 1);
}

static PLAIN void jumps_from_jump(void)
{
    asked++;
    siglongjmp(out, 1);
}

static PLAIN int jumps_from_entry(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    (void)regs;
    asked++;
    siglongjmp(out, 1);
}

static PLAIN void jumps_from_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    jumps_from_entry(instance, regs);
}

static int faults(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    *nowhere = 1;
    return 0;
}

static int breaks(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    __asm__ volatile("int3");
    return 0;
}

static int counts(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

/* So far below, without writing to what lies between. */
static PLAIN long at_depth(long (*function)(long), size_t depth, long argument)
{
    volatile char *room = alloca(depth + 16);
    room[0] = 0;
    return function(argument) + room[0];
}

static long load(long unused)
{
    (void)unused;
    return kit_load((const long *)16);
}

static long branch(long n)
{
    return kit_branch(n);
}

static PLAIN bool is_left(long (*by)(long), size_t depth)
{
    if (sigsetjmp(out, 1))
        return true;
    at_depth(by, depth, 1);
    return false;
}

/* ---- the kinds ---- */

static struct tl_probe instruction = {.size = sizeof instruction, .address = kit_load_site, .fault = jumps_from_fault},
                       handler = {.size = sizeof handler,
                                  .address = kit_call_site,
                                  .pre = faults,
                                  .fault = jumps_from_fault},
                       breakpoint = {.size = sizeof breakpoint,
                                     .address = kit_call_site,
                                     .pre = breaks,
                                     .break_handler = jumps_from_break};
static struct tl_notifier notifier = {.size = sizeof notifier, .priority = 1, .call = jumps_from_notifier};
static struct tl_jump_probe jump = {
    .size = sizeof jump, .symbol = "kit_call", .module = "EXE", .handler = jumps_from_jump};
static struct tl_return_probe entry = {.size = sizeof entry,
                                       .symbol = "kit_call",
                                       .module = "EXE",
                                       .entry = jumps_from_entry,
                                       .handler = jumps_from_return},
                              ret = {.size = sizeof ret,
                                     .symbol = "kit_call",
                                     .module = "EXE",
                                     .handler = jumps_from_return},
                              back = {.size = sizeof back,
                                      .flags = TL_RETURN_REWRITE,
                                      .symbol = "kit_call",
                                      .module = "EXE",
                                      .handler = jumps_from_return};

enum kind { INSTRUCTION, HANDLER, BREAKPOINT, NOTIFIER, JUMP, ENTRY, RETURN, BACK, KINDS };

static int change(enum kind kind, bool add)
{
    struct tl_probe *probes[] = {&instruction, &handler, &breakpoint};
    switch (kind) {
    case NOTIFIER:
        return add ? tl_notifier_add(&notifier, NULL) : tl_notifier_remove(&notifier);
    case JUMP:
        return add ? tl_jump_probe_register(&jump, NULL) : tl_jump_probe_unregister(&jump);
    case ENTRY:
        return add ? tl_return_probe_register(&entry, NULL) : tl_return_probe_unregister(&entry);
    case RETURN:
        return add ? tl_return_probe_register(&ret, NULL) : tl_return_probe_unregister(&ret);
    case BACK:
        return add ? tl_return_probe_register(&back, NULL) : tl_return_probe_unregister(&back);
    default:
        return add ? tl_probe_register(probes[kind], NULL) : tl_probe_unregister(probes[kind]);
    }
}

static bool leave(enum kind kind, size_t depth)
{
    uint64_t before = asked;
    return is_left(kind == INSTRUCTION || kind == NOTIFIER ? load : kit_call, depth) && asked == before + 1;
}

/* ---- tests, of each kind ---- */

static PLAIN void *leave_often(void *kind)
{
    stack_t stack = {.ss_sp = malloc(STACK), .ss_size = STACK}, before;
    uint64_t missed = 0;
    for (size_t i = 0; i < ROUNDS; i++) {
        if (i == ROUNDS / 2)
            sigaltstack(&stack, &before);
        uint64_t before_it = hits;
        missed += !leave(*(const enum kind *)kind, i * 37 % 5000);
        at_depth(branch, i * 61 % 7000, 3);
        missed += hits != before_it + 1;
    }
    sigaltstack(&before, NULL);
    free(stack.ss_sp);
    return (void *)(uintptr_t)missed; /* NOLINT: a number */
}

static void later_hits_count(enum kind kind, uint64_t flags)
{
    struct tl_probe good = {.size = sizeof good, .flags = flags, .address = kit_branch_site, .pre = counts};
    pthread_t threads[THREADS];
    kit_register(&good);
    assert_int_equal(change(kind, true), 0);
    assert_null(leave_often(&kind));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, leave_often, &kind), 0);
    for (int i = 0; i < THREADS; i++) {
        void *missed;
        pthread_join(threads[i], &missed);
        assert_null(missed);
    }
    assert_int_equal(kit_missed(&good), 0);
    assert_int_equal(change(kind, false), 0);
    kit_unregister(&good);
}

/* From wherever the thread is by then. */
static long take_out(long kind)
{
    return change((enum kind)kind, false);
}

static void who_has_left_may_take_it_out(enum kind kind)
{
    for (size_t depth = 0; depth < 6000; depth += 264) {
        assert_int_equal(change(kind, true), 0);
        assert_true(leave(kind, 1000));
        assert_int_equal(at_depth(take_out, depth, kind), 0);
    }
}

static sem_t left, go_on;

struct resting {
    enum kind kind;
    size_t depth;
    bool alternate;
};

static PLAIN void *leave_and_rest(void *context)
{
    const struct resting *resting = context;
    static char stack[STACK];
    if (resting->alternate)
        sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = STACK}, NULL);
    bool is_out = leave(resting->kind, resting->depth);
    sem_post(&left);
    sem_wait(&go_on);
    if (resting->alternate)
        sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    return is_out ? NULL : context;
}

static void who_has_left_keeps_nobody_waiting(enum kind kind, bool alternate)
{
    for (struct resting resting = {kind, 100, alternate}; resting.depth < 20000; resting.depth *= 9) {
        pthread_t thread;
        void *result;
        assert_int_equal(change(kind, true), 0);
        assert_int_equal(pthread_create(&thread, NULL, leave_and_rest, &resting), 0);
        sem_wait(&left);
        assert_int_equal(change(kind, false), 0);
        sem_post(&go_on);
        pthread_join(thread, &result);
        assert_null(result);
    }
}

static void all_of_a_kind(void **state)
{
    const enum kind kind = *(const enum kind *)*state;
    later_hits_count(kind, 0);
    later_hits_count(kind, TL_PROBE_INT3);
    who_has_left_may_take_it_out(kind);
    who_has_left_keeps_nobody_waiting(kind, false);
    who_has_left_keeps_nobody_waiting(kind, true);
}

/* ---- notifiers that are still there ---- */

static int inside[4];
static unsigned turn;

static PLAIN enum tl_verdict looks(struct tl_notifier *self, struct tl_regs *regs, const struct tl_notice_info *info)
{
    static const long good = 0;
    if (info->notice != TL_NOTICE_PAGE_FAULT || turn == 4)
        return TL_NOTIFY_PASS;
    inside[turn++] = tl_notifier_remove(self);
    if (turn == 1 || turn == 2)
        kit_load((const long *)8); /* another fault, in here */
    if (turn == 3 && asked++ == 0)
        siglongjmp(out, 1);
    regs->rdi = (uintptr_t)&good;
    inside[3] = tl_notifier_remove(self);
    return TL_NOTIFY_CLAIM;
}

static void who_is_inside_may_not(void **state)
{
    (void)state;
    struct tl_notifier looker = {.size = sizeof looker, .call = looks};
    assert_int_equal(tl_notifier_add(&looker, NULL), 0);
    for (asked = 0; asked < 2;) {
        turn = 0;
        if (!sigsetjmp(out, 1))
            kit_load((const long *)16);
        for (unsigned i = 0; i < turn; i++)
            assert_int_equal(inside[i], -EDEADLK);
    }
    assert_int_equal(turn, 3);
    assert_int_equal(inside[3], -EDEADLK);
    assert_int_equal(tl_notifier_remove(&looker), 0);
}

/* A thread that ends in a notifier keeps nobody waiting either. */
static PLAIN enum tl_verdict ends(struct tl_notifier *self, struct tl_regs *regs, const struct tl_notice_info *info)
{
    (void)self;
    (void)regs;
    if (info->notice != TL_NOTICE_PAGE_FAULT)
        return TL_NOTIFY_PASS;
    syscall(SYS_exit, 0);
    return TL_NOTIFY_PASS;
}

static PLAIN void *load_once(void *unused)
{
    kit_load((const long *)16);
    return unused;
}

static void nor_does_who_has_ended_in_a_notifier(void **state)
{
    (void)state;
    struct tl_notifier ender = {.size = sizeof ender, .call = ends};
    pthread_t thread;
    assert_int_equal(tl_notifier_add(&ender, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, load_once, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(tl_notifier_remove(&ender), 0);
}

static enum kind kinds[KINDS] = {INSTRUCTION, HANDLER, BREAKPOINT, NOTIFIER, JUMP, ENTRY, RETURN, BACK};
#define OF_KIND(name, kind)                                                                                            \
    {                                                                                                                  \
        name, all_of_a_kind, NULL, NULL, &kinds[kind]                                                                  \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        OF_KIND("fault handlers, of an instruction", INSTRUCTION),
        OF_KIND("fault handlers, of a handler", HANDLER),
        OF_KIND("break handlers", BREAKPOINT),
        OF_KIND("notifiers", NOTIFIER),
        OF_KIND("handlers of jump probes", JUMP),
        OF_KIND("handlers of entries", ENTRY),
        OF_KIND("handlers of returns", RETURN),
        OF_KIND("handlers of returns by rewriting", BACK),
        cmocka_unit_test(who_is_inside_may_not),
        cmocka_unit_test(nor_does_who_has_ended_in_a_notifier),
    };
    sem_init(&left, 0, 0);
    sem_init(&go_on, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
