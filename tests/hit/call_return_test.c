/* SPDX-License-Identifier: MIT
 *
 * Return probes, by exits and by rewriting return addresses.
 */
#include "call_world.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { ENTRY = 30, EXIT = 31, STUB = 32 };

/* The probed function: push rdi; call rsi; pop rax; ret. Probed are the push and the ret. */
typedef uint64_t probed_fn(uint64_t, void (*)(void));

static struct tl_return_probe probe;
static struct tl_call_return *calls;
static probed_fn *probed;
static uint64_t entries, returns;
static int refuse;
static uint64_t add;

static int enters(struct tl_return_instance *instance, struct tl_regs *regs)
{
    entries++;
    assert_ptr_equal(instance->probe, &probe);
    assert_int_equal((uintptr_t)instance->data % 16, 0);
    memcpy(instance->data, &regs->rdi, 8);
    return refuse;
}

static void leaves(struct tl_return_instance *instance, struct tl_regs *regs)
{
    uint64_t argument;
    memcpy(&argument, instance->data, 8);
    returns++;
    assert_true(instance->value_known);
    assert_int_equal(tl_regs_return_value(regs), argument);
    tl_regs_set_return_value(regs, argument + add);
}

static tl_return_entry *entry_handler = enters;
static tl_return_handler *return_handler = leaves;

static void put(uint32_t index, enum tl_call_kind kind)
{
    struct tl_call_action action = {.kind = kind, .calls = calls};
    call_world_list(index, &action, calls != NULL);
}

static void make_with(uint32_t max_active, bool rewrite, tl_return_entry *entry, tl_return_handler *handler)
{
    static uint8_t *stub;
    uint8_t bytes[TL_CALL_STUB_BYTES];
    if (!probed) {
        uint8_t call[] = {0x57, 0xff, 0xd6, 0x58}; /* push rdi; call rsi; pop rax */
        void *code = call_world_two(ENTRY, call, sizeof(call), EXIT, "\xc3", 1);
        memcpy(&probed, &code, sizeof(code));
        tl_call_return_stub(STUB, bytes);
        stub = call_world_room(bytes, sizeof(bytes));
    }
    struct tl_call_return_shape shape = {.probe = &probe,
                                         .entry = entry,
                                         .handler = handler,
                                         .stub = rewrite ? (uint64_t)(uintptr_t)stub : 0,
                                         .data_size = 8,
                                         .max_active = max_active};
    calls = NULL;
    put(ENTRY, TL_CALL_ENTRY);
    put(EXIT, TL_CALL_EXIT);
    put(STUB, TL_CALL_BACK);
    size_t size = (tl_call_return_size(&shape) + 15) & ~(size_t)15;
    calls = aligned_alloc(16, size);
    memset(calls, 0, size);
    tl_call_return_init(calls, &shape);
    put(STUB, TL_CALL_BACK);
    if (!rewrite)
        put(EXIT, TL_CALL_EXIT);
    put(ENTRY, TL_CALL_ENTRY);
    entries = returns = add = 0;
    refuse = 0;
}

static void make(uint32_t max_active, bool rewrite)
{
    make_with(max_active, rewrite, entry_handler, return_handler);
}

static void nothing(void)
{
}

static void both_ways(void (*test)(bool rewrite))
{
    test(false);
    test(true);
}

static void calls_are_seen(bool rewrite)
{
    make(4, rewrite);
    add = 1000;
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(probed(i, nothing), i + 1000);
    assert_int_equal(entries, 100);
    assert_int_equal(returns, 100);
    refuse = 1;
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(probed(i, nothing), i);
    assert_int_equal(entries, 200);
    assert_int_equal(returns, 100);
    assert_int_equal(tl_call_return_missed(calls), 0);
    assert_int_equal(tl_call_return_rewritten(calls), 0);
    free(calls);
}

static int refuse_at; /* which entry is refused; 0: none */

static int enter_again(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance, (void)regs;
    return (int)++entries == refuse_at;
}

static void come_back(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance, (void)regs;
    returns++;
}

/* dec rdi; jnz to the hook; ret: a function that calls itself as the last thing it does */
static void tail_calls_take_the_place_of_their_callers(bool rewrite)
{
    static void *code;
    entry_handler = enter_again;
    return_handler = come_back;
    if (!code)
        code = call_world_code(ENTRY, "\x48\xff\xcf\x75\xe3\xc3", 6);
    for (refuse_at = 0; refuse_at <= 10; refuse_at++) {
        make(4, rewrite);
        call_world_function(code)(10, 0);
        assert_int_equal(entries, 10);
        assert_int_equal(returns, rewrite && refuse_at != 10);
        assert_int_equal(tl_call_return_missed(calls), 0);
        put(ENTRY, TL_CALL_ENTRY);
        free(calls);
    }
    entry_handler = enters;
    return_handler = leaves;
}

static int depth;

static void recurse(void)
{
    if (depth-- > 0)
        probed((uint64_t)depth, recurse);
}

static void recursion_up_to_the_limit_is_seen(bool rewrite)
{
    make(10, rewrite);
    depth = 10;
    recurse();
    assert_int_equal(returns, 10);
    assert_int_equal(tl_call_return_missed(calls), 0);
    depth = 17;
    recurse();
    assert_int_equal(returns, 20);
    assert_int_equal(entries, 20);
    assert_int_equal(tl_call_return_missed(calls), 7);
    free(calls);
}

static jmp_buf back;

static void jump_back(void)
{
    longjmp(back, 1);
}

static void recurse_and_jump(void)
{
    if (depth-- > 0)
        probed(1, recurse_and_jump);
    else
        longjmp(back, 1);
}

/* Of the dead none is proven so but by its overwritten return address. */
static void calls_that_longjmp_cut_off_give_way(bool rewrite)
{
    make(16, rewrite);
    for (volatile int i = 0; i < 200; i++) {
        if (!setjmp(back))
            probed(2, jump_back);
        assert_int_equal(probed(3, nothing), 3);
    }
    assert_int_equal(returns, 200);
    for (volatile int i = 0; i < 200; i++) {
        depth = 8;
        if (!setjmp(back))
            probed(4, recurse_and_jump);
        uint8_t over[8192];
        memset(over, 0, sizeof(over));
        __asm__ volatile("" : : "r"(over) : "memory");
    }
    depth = 10;
    recurse();
    assert_int_equal(returns, 210);
    assert_int_equal(tl_call_return_missed(calls), 0);
    put(ENTRY, TL_CALL_ENTRY);
    free(calls);
}

/* Handlers that are left by a jump, at the entry or at the return, keep nothing of the room. */
static bool leaves_at_entry, leaves_at_return;

static int may_leave_entry(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance, (void)regs;
    entries++;
    if (leaves_at_entry)
        longjmp(back, 1);
    return 0;
}

static void may_leave_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance, (void)regs;
    returns++;
    if (leaves_at_return)
        longjmp(back, 1);
}

static void handlers_that_are_left_take_no_room(bool rewrite)
{
    make_with(4, rewrite, may_leave_entry, may_leave_return);
    for (volatile int i = 0; i < 64; i++) {
        leaves_at_entry = i % 2;
        leaves_at_return = !leaves_at_entry;
        if (!setjmp(back))
            probed(1, nothing);
        leaves_at_entry = leaves_at_return = false;
        assert_int_equal(probed(2, nothing), 2);
    }
    assert_int_equal(entries, 128);
    assert_int_equal(returns, 96);
    assert_int_equal(tl_call_return_missed(calls), 0);
    put(ENTRY, TL_CALL_ENTRY);
    free(calls);
}

static ucontext_t main_context, contexts[3];
static int current;

static void switch_to_main(void)
{
    int self = current;
    swapcontext(&contexts[self], &main_context);
}

static void coroutine(void)
{
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(probed(i, switch_to_main), i);
}

static void coroutines_interleave(bool rewrite)
{
    static uint8_t stacks[3][65536];
    make(8, rewrite);
    for (int i = 0; i < 3; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = sizeof(stacks[i]);
        contexts[i].uc_link = &main_context;
        makecontext(&contexts[i], coroutine, 0);
    }
    for (int turn = 0; turn < 51; turn++)
        for (current = 0; current < 3; current++)
            swapcontext(&main_context, &contexts[current]);
    assert_int_equal(returns, 150);
    assert_int_equal(tl_call_return_missed(calls), 0);
    free(calls);
}

static void *run_many(void *unused)
{
    for (uint64_t i = 0; i < 20000; i++)
        if (probed(i, nothing) != i)
            abort();
    return unused;
}

/* Fewer places than threads: each call is followed, or counted as one that is not. */
static int count_entry(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance, (void)regs;
    __atomic_fetch_add(&entries, 1, __ATOMIC_RELAXED);
    return 0;
}

static void count_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance, (void)regs;
    __atomic_fetch_add(&returns, 1, __ATOMIC_RELAXED);
}

static void threads_are_exact(bool rewrite)
{
    pthread_t threads[4];
    entry_handler = count_entry;
    return_handler = count_return;
    make(2, rewrite);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(entries, returns);
    assert_int_equal(returns + tl_call_return_missed(calls), 4 * 20000);
    entry_handler = enters;
    return_handler = leaves;
    free(calls);
}

static void test_seen(void **unused)
{
    (void)unused;
    both_ways(calls_are_seen);
}
static void test_tail_calls(void **unused)
{
    (void)unused;
    both_ways(tail_calls_take_the_place_of_their_callers);
}
static void test_recursion(void **unused)
{
    (void)unused;
    both_ways(recursion_up_to_the_limit_is_seen);
}
static void test_longjmp(void **unused)
{
    (void)unused;
    both_ways(calls_that_longjmp_cut_off_give_way);
    both_ways(handlers_that_are_left_take_no_room);
}
static void test_coroutines(void **unused)
{
    (void)unused;
    both_ways(coroutines_interleave);
}
static void test_threads(void **unused)
{
    (void)unused;
    both_ways(threads_are_exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seen),    cmocka_unit_test(test_tail_calls), cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_longjmp), cmocka_unit_test(test_coroutines), cmocka_unit_test(test_threads),
    };
    call_world_make(16);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
