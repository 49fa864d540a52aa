/* SPDX-License-Identifier: MIT
 *
 * What is read out of a seccomp filter, against what the kernel makes of it: random filters, each installed in a child
 * that tries all calls.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hit/brokering.h"

enum { FILTERS = 300, HEAD = TL_OWN_COUNT + 2, BODY = 60, REFUSED = 4000 };
#define REFUSE (SECCOMP_RET_ERRNO | REFUSED)

static const uint16_t numbers[] = {
#define NUMBER(name, number) number,
    TL_OWN_CALLS(NUMBER)};

static uint32_t draw(uint32_t bound)
{
    static uint64_t state = 20;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % bound;
}

static struct sock_filter random_operation(bool looks_at_arguments)
{
    static const uint16_t operations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_OR, BPF_AND, BPF_XOR, BPF_DIV};
    static const uint16_t shifts[] = {BPF_LSH, BPF_RSH};
    switch (draw(16)) {
    case 0:
        return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, looks_at_arguments ? 4 * draw(16) : 4 * draw(2));
    case 1:
        return (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, draw(500));
    case 2:
        return (struct sock_filter)BPF_STMT(draw(2) ? BPF_MISC | BPF_TAX : BPF_MISC | BPF_TXA, 0);
    case 3:
        return (struct sock_filter)BPF_STMT((draw(2) ? BPF_LD : BPF_LDX) | BPF_W | BPF_LEN, 0);
    case 4:
        return (struct sock_filter)BPF_STMT(BPF_ALU | shifts[draw(2)] | BPF_K, draw(32));
    case 5:
        return (struct sock_filter)BPF_STMT(BPF_ALU | BPF_NEG, 0);
    case 6:
    case 7:
        return (struct sock_filter)BPF_STMT(BPF_ALU | operations[draw(6)] | BPF_X, 0);
    case 8:
    case 9:
        return (struct sock_filter)BPF_STMT(BPF_ALU | operations[draw(7)] | BPF_K, 1 + draw(700));
    default:
        return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    }
}

/* All calls but ours pass. */
static void make(struct sock_filter *code, bool looks_at_arguments)
{
    static const uint16_t conditions[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    unsigned at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < TL_OWN_COUNT; i++)
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, numbers[i], TL_OWN_COUNT - i, 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    for (unsigned i = 0; i < BODY - 2; i++) {
        uint32_t left = BODY - 2 - i, most = left < 6 ? left : 6;
        uint32_t number = numbers[draw(TL_OWN_COUNT)];
        uint16_t source = draw(3) ? BPF_K : BPF_X;
        if (draw(3) == 0)
            code[at + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | conditions[draw(4)] | source,
                                                        draw(2) ? number : draw(400), draw(most), draw(most));
        else if (draw(12) == 0)
            code[at + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, draw(most), 0, 0);
        else if (draw(12) == 0)
            code[at + i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, draw(2) ? SECCOMP_RET_ALLOW : REFUSE);
        else
            code[at + i] = random_operation(looks_at_arguments);
    }
    code[at + BODY - 2] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 4, 1, 0);
    code[at + BODY - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at + BODY] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, REFUSE);
}

/* A signal's return cannot be tried. */
static uint64_t tried(const struct sock_fprog *program)
{
    uint64_t *refused = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(refused != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program))
            _exit(2);
        for (unsigned i = 0; i < TL_OWN_COUNT; i++)
            if (i != TL_OWN_SIGRETURN && syscall(numbers[i], 0, 0, 0, 0, 0, 0) == -1 && errno == REFUSED)
                *refused |= (uint64_t)1 << i;
        for (;;)
            syscall(SYS_exit_group, 0); /* before _exit() a sanitizer makes calls of its own */
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    uint64_t result = *refused;
    munmap(refused, 4096);
    return result;
}

static uint64_t read_of(const struct sock_fprog *program)
{
    static struct tl_broker broker;
    static struct tl_broker_thread thread = {.safe = 1};
    const struct tl_caller caller = {.broker = &broker, .thread = &thread};
    uint64_t forbidden;
    assert_true(tl_filter_forbids(&caller, (uint64_t)(uintptr_t)program, &forbidden));
    return forbidden & ~((uint64_t)1 << TL_OWN_SIGRETURN);
}

static void what_the_kernel_refuses_is_known(void **unused)
{
    static struct sock_filter code[HEAD + BODY + 1];
    const struct sock_fprog program = {sizeof code / sizeof *code, code};
    unsigned some = 0, spared = 0;
    (void)unused;
    for (unsigned i = 0; i < FILTERS; i++) {
        bool looks_at_arguments = i % 3 == 0;
        make(code, looks_at_arguments);
        uint64_t refused = tried(&program), forbidden = read_of(&program);
        if (looks_at_arguments)
            assert_int_equal(refused & ~forbidden, 0);
        else
            assert_int_equal(refused, forbidden);
        some += refused != 0 && refused != (TL_OWN_ALL & ~((uint64_t)1 << TL_OWN_SIGRETURN));
        spared += refused == 0;
    }
    assert_true(some > FILTERS / 10 && spared < FILTERS);
}

static void what_is_no_filter_is_not_read(void **unused)
{
    struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct tl_filter long_one = {5000, {0}, (uint64_t)(uintptr_t)code}, none = {0, {0}, (uint64_t)(uintptr_t)code};
    struct tl_broker broker = {0};
    struct tl_broker_thread thread = {.safe = 1};
    const struct tl_caller caller = {.broker = &broker, .thread = &thread};
    uint64_t forbidden;
    (void)unused;
    assert_false(tl_filter_forbids(&caller, (uint64_t)(uintptr_t)&long_one, &forbidden));
    assert_false(tl_filter_forbids(&caller, (uint64_t)(uintptr_t)&none, &forbidden));
    /* What logs the call lets it pass, and yet is not simply that. */
    code[0].k = SECCOMP_RET_LOG;
    const struct sock_fprog logs = {1, code};
    assert_int_equal(read_of(&logs) | (uint64_t)1 << TL_OWN_SIGRETURN, TL_OWN_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_the_kernel_refuses_is_known),
                                       cmocka_unit_test(what_is_no_filter_is_not_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
