/* SPDX-License-Identifier: MIT
 *
 * Hits at the end of a stack: with less room than a hit needs the program goes on all the same, and where its own
 * stack ends it sees that at its own instruction.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "kit.h"

enum { PAGE = 4096, STACK = 16 * PAGE, ALTERNATE = 1 << 16, ROOM_MOST = 1600 };

static __thread uint64_t hits;
static __thread sigjmp_buf out;
static __thread unsigned faults;
static __thread uint64_t fault_rip, fault_rsp;
static char *stack; /* its lowest page cannot be accessed */

static int counts(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static void counts_after(struct tl_probe *probe, struct tl_regs *regs)
{
    counts(probe, regs);
}

/* function(a, b) with `room` bytes left of the stack, below its return address; all other registers checked. */
static __attribute__((noinline, no_sanitize_address)) long call_near_end(long (*function)(long, long), size_t room,
                                                                         long a, long b)
{
    char *end = stack + PAGE + room + 8;
    long result = a;
    __asm__ volatile("mov %%rsp, %%rbx\n\t"
                     "mov %[end], %%rsp\n\t"
                     "mov $0x1234567, %%r12\n\t"
                     "mov $0x2345678, %%r13\n\t"
                     "mov $0x3456789, %%r14\n\t"
                     "mov $0x456789a, %%r15\n\t"
                     "stc\n\t"
                     "call *%[function]\n\t"
                     "mov %%rbx, %%rsp\n\t"
                     "sub $0x1234567, %%r12\n\t"
                     "sub $0x2345678, %%r13\n\t"
                     "sub $0x3456789, %%r14\n\t"
                     "sub $0x456789a, %%r15\n\t"
                     "or %%r13, %%r12\n\t"
                     "or %%r15, %%r14\n\t"
                     "or %%r14, %%r12\n\t"
                     "neg %%r12\n\t" /* carry: any was changed */
                     "sbb %%r12, %%r12\n\t"
                     "or %%r12, %[result]"
                     : [result] "=a"(result), "+D"(a), "+S"(b), [end] "+c"(end), [function] "+d"(function)
                     :
                     : "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
    return result;
}

static __attribute__((no_sanitize_address)) void on_fault(int number, siginfo_t *info, void *context)
{
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    (void)info;
    faults++;
    fault_rip = (uint64_t)regs[REG_RIP];
    fault_rsp = (uint64_t)regs[REG_RSP];
    siglongjmp(out, 1);
}

static char alternates[2][ALTERNATE];

/* Gives what was there before: a sanitizer has given each thread a stack, and takes back what it finds at its end. */
static stack_t begin_thread(unsigned index)
{
    stack_t before;
    assert_int_equal(sigaltstack(&(stack_t){.ss_sp = alternates[index], .ss_size = ALTERNATE}, &before), 0);
    return before;
}

static int begin(void **state)
{
    (void)state;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_thread(0);
    return stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE);
}

static void catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
}

/* The program itself needs nothing below its return address. */
static void with_any_room(uint64_t *calls)
{
    if (sigsetjmp(out, 1))
        fail_msg("a fault at %#lx", fault_rip);
    for (size_t room = 0; room < ROOM_MOST; room += 8, ++*calls)
        assert_int_equal(call_near_end(kit_add, room, 3, 4), 8);
}

static void check_near_end(struct tl_probe *probe)
{
    uint64_t calls = 0;
    catch_faults();
    kit_register(probe);
    assert_int_equal(kit_add(3, 4), 8); /* a thread's first hit needs more */
    hits = 0;
    with_any_room(&calls);
    assert_int_equal(hits + kit_missed(probe), calls);
    assert_in_range(hits, 150, calls - 1);
    kit_unregister(probe);
}

static void the_program_goes_on(void **state)
{
    uint64_t flags = *(const uint64_t *)*state;
    struct tl_probe probe = {.size = sizeof probe, .flags = flags, .address = kit_add_entry, .pre = counts};
    check_near_end(&probe);
    probe.flags = flags | TL_PROBE_GENERAL;
    check_near_end(&probe);
    probe.flags = flags;
    probe.pre = NULL;
    probe.post = counts_after;
    check_near_end(&probe);
    probe.address = kit_add_ret;
    check_near_end(&probe);
}

static void *first_hits(void *unused)
{
    uint64_t calls = 0;
    stack_t before = begin_thread(1);
    with_any_room(&calls);
    assert_int_equal(sigaltstack(&before, NULL), 0);
    return unused;
}

/* The first hit of a thread is one that needs more. */
static void so_do_new_threads(void **state)
{
    struct tl_probe probe = {
        .size = sizeof probe, .flags = *(const uint64_t *)*state, .address = kit_add_entry, .pre = counts};
    pthread_t thread;
    catch_faults();
    kit_register(&probe);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pthread_create(&thread, NULL, first_hits, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    kit_unregister(&probe);
}

static int is_called(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    (void)regs;
    return 0;
}

static void returns(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    (void)regs;
    hits++;
}

static void calls_are_followed_if_there_is_room(void **state)
{
    uint64_t calls = 0, missed = 0;
    struct tl_return_probe probe = {.size = sizeof probe,
                                    .flags = *(const uint64_t *)*state,
                                    .address = kit_add_entry,
                                    .entry = is_called,
                                    .handler = returns};
    catch_faults();
    assert_int_equal(tl_return_probe_register(&probe, NULL), 0);
    assert_int_equal(kit_add(3, 4), 8);
    hits = 0;
    with_any_room(&calls);
    assert_int_equal(tl_return_probe_missed(&probe, &missed), 0);
    assert_int_equal(hits + missed, calls);
    assert_in_range(hits, 150, calls - 1);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static const uint64_t by_rewriting = TL_RETURN_REWRITE;

static void the_programs_own_end_is_at_its_own_instruction(void **state)
{
    struct tl_probe probe = {
        .size = sizeof probe, .flags = *(const uint64_t *)*state, .address = kit_call_site, .pre = counts};
    volatile size_t room = 0;
    catch_faults();
    kit_register(&probe);
    faults = 0;
    for (room = 0; room < 64; room += 8) {
        if (!sigsetjmp(out, 1)) {
            assert_int_equal(call_near_end((long (*)(long, long))(void (*)(void))kit_call, room, 3, 4), 7);
            assert_true(room >= 16);
        } else {
            assert_true(room < 16);
            assert_int_equal(fault_rip, (uintptr_t)kit_call_site);
            assert_int_equal(fault_rsp, (uintptr_t)stack + PAGE + room - 8);
        }
    }
    assert_int_equal(faults, 2);
    kit_unregister(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(the_program_goes_on),
        BOTH_WAYS(so_do_new_threads),
        BOTH_WAYS(calls_are_followed_if_there_is_room),
        {"calls are followed by rewriting", calls_are_followed_if_there_is_room, NULL, NULL, (void *)&by_rewriting},
        BOTH_WAYS(the_programs_own_end_is_at_its_own_instruction),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
