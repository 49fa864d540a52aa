/* SPDX-License-Identifier: MIT
 *
 * Threads and children: each has what it would have. And what execve leaves to the next program.
 */
#include "broker_world.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TRAP TL_SIGNAL_BIT(TL_SIGTRAP)
#define ALL (~(uint64_t)0)
enum { BLOCK, UNBLOCK, SET };

static void on_signal(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)info;
    note("handled", (uint64_t)number);
    note("hit", subject_plain(7));
    if (number == TL_SIGSEGV)
        context->rip += 7; /* behind the load */
}

static void do_everything(void)
{
    note("hit", subject_plain(1));
    note("own", subject_own());
    subject_load(NULL);
    note("mask", mask(BLOCK, 0));
    note("mask", mask(BLOCK, TRAP));
    note("hit", subject_plain(2));
    sys(SYS_tgkill, (uint64_t)getpid(), (uint64_t)gettid(), (uint64_t)TL_SIGTRAP);
    note("mask", mask(SET, 0));
}

static void handle_all(void)
{
    handle(TL_SIGTRAP, on_signal, TL_SA_SIGINFO, 0);
    handle(TL_SIGSEGV, on_signal, TL_SA_SIGINFO, 0);
    handle(TL_SIGFPE, on_signal, TL_SA_SIGINFO, TRAP);
}

static void *thread(void *unused)
{
    (void)unused;
    mask(SET, 0);
    do_everything();
    return NULL;
}

static void threads(void)
{
    handle_all();
    do_everything();
    for (int i = 0; i < 40; i++) {
        pthread_t id;
        uint64_t before = mask(SET, i % 2 ? ALL : TRAP);
        CHECK(pthread_create(&id, NULL, thread, NULL) == 0);
        CHECK(pthread_join(id, NULL) == 0);
        note("mask", mask(SET, before));
    }
}

static void each_thread_has_its_mask(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(threads), 0);
}

/* Made by a guarded clone. */
static int64_t thread_block[64];
static uint32_t ended;

static void raw_thread_body(void)
{
    note("mask of thread", mask(BLOCK, 0));
    note("hit", subject_plain(1));
    note("mask", mask(SET, 0));
    note("own", subject_own());
    __atomic_store_n(&ended, 1, __ATOMIC_SEQ_CST);
    for (;;)
        syscall(SYS_exit, 0);
}

int64_t broker_clone(uint64_t flags, void *stack, void *tls, void (*body)(void));
__asm__(".text\n.globl broker_clone\n.hidden broker_clone\nbroker_clone:\n"
        "push %rbx; mov %rcx, %rbx; mov %rdx, %r9; mov %rsi, %rdx; mov %rdi, %rsi; mov $56, %edi; xor %ecx, %ecx\n"
        "xor %r8d, %r8d; push $0; call subject_syscall; pop %rcx; test %rax, %rax; jne 1f; jmp *%rbx\n"
        "1: pop %rbx; ret\n");

static void raw_threads(void)
{
    enum { FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS };
    static uint64_t stack[8192] __attribute__((aligned(16)));
    handle_all();
    for (int i = 0; i < 6; i++) {
        mask(SET, i % 2 ? ALL : i % 3 ? TRAP : 0);
        ended = 0;
        memset(thread_block, 0, sizeof thread_block);
        thread_block[0] = (int64_t)(uintptr_t)thread_block; /* the same thread pointer each time */
        uint64_t *top = &stack[8000];
        *top = (uint64_t)(uintptr_t)raw_thread_body; /* where the child returns to from the system call */
        CHECK(broker_clone(FLAGS, top, thread_block, raw_thread_body) > 0);
        while (!__atomic_load_n(&ended, __ATOMIC_SEQ_CST))
            sched_yield();
    }
}

static void a_new_thread_has_its_makers_mask(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(raw_threads), 0);
}

static void wait_for(pid_t child)
{
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    note("status", (uint64_t)status);
}

static void forks(void)
{
    handle_all();
    for (int i = 0; i < 3; i++) {
        mask(SET, i == 1 ? ALL : 0);
        pid_t child = (pid_t)syscall(SYS_fork);
        if (child == 0) {
            note("mask of child", mask(SET, 0));
            do_everything();
            handle(TL_SIGSEGV, on_signal, TL_SA_SIGINFO | TL_SA_NODEFER, 0);
            pid_t grandchild = (pid_t)syscall(SYS_fork);
            if (grandchild == 0) {
                do_everything();
                struct tl_sigaction none = {.handler = TL_SIG_DFL};
                CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGSEGV, &none, 0ul, 8ul) == 0);
                subject_load(NULL);
            }
            wait_for(grandchild);
            syscall(SYS_exit_group, 5);
        }
        wait_for(child);
        mask(SET, 0);
        do_everything();
    }
}

static void a_fork_child_is_on_its_own(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(forks), 0);
}

static int output;

/* What the next program finds. */
static void execute(const char *path)
{
    static const char *const arguments[] = {"grep", "^S[ih][gd][BICP]\\|^ShdPnd", "/proc/self/status", NULL};
    static const char *const environment[] = {NULL};
    sys(SYS_dup2, (uint64_t)output, 1ul);
    note("execve", (uint64_t)sys(SYS_execve, path, arguments, environment));
}

static void note_output(void)
{
    char text[512] = "";
    ssize_t length = pread(output, text, sizeof text, 0);
    uint64_t hash = 5381;
    for (ssize_t i = 0; i < length; i++)
        hash = hash * 33 + (uint8_t)text[i];
    CHECK(length > 50);
    note("what it said", hash);
    CHECK(ftruncate(output, 0) == 0 && lseek(output, 0, SEEK_SET) == 0);
}

/* A child as vfork and posix_spawn make it: it shares all memory, and has a mask and actions of its own. */
static int vfork_child(void *argument)
{
    long kind = (long)(intptr_t)argument;
    note("mask of child", mask(BLOCK, 0));
    note("hit", subject_plain(1));
    struct tl_sigaction none = {.handler = TL_SIG_DFL}, old;
    CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGSEGV, &none, &old, 8ul) == 0);
    note("old", old.handler);
    CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGSEGV, 0ul, &old, 8ul) == 0);
    note("now", old.handler);
    if (kind == 1) {
        none.handler = TL_SIG_IGN;
        CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGTRAP, &none, 0ul, 8ul) == 0);
        CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGBUS, &none, 0ul, 8ul) == 0);
        mask(SET, TRAP | TL_SIGNAL_BIT(SIGUSR2));
    } else
        mask(SET, 0);
    note("hit", subject_plain(2));
    if (kind == 3)
        subject_load(NULL);
    execute("/nowhere/grep");
    note("mask", mask(BLOCK, 0));
    note("hit", subject_plain(3));
    execute("/bin/grep");
    syscall(SYS_exit, 9);
    return 0;
}

static void spawns(void)
{
    static uint64_t stack[8192] __attribute__((aligned(16)));
    output = memfd_create("output", 0);
    handle_all();
    for (int i = 0; i < 24; i++) {
        uint64_t before = mask(SET, ALL);
        int child = clone(vfork_child, stack + 8192, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)(intptr_t)(i % 4));
        note("mask", mask(SET, before));
        wait_for(child);
        if (i % 4 != 3)
            note_output();
        struct tl_sigaction old;
        CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGSEGV, 0ul, &old, 8ul) == 0);
        note("still", old.handler);
    }
    do_everything();
}

static void a_vfork_child_leaves_its_parent_alone(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(spawns), 0);
}

/* The program itself executes another one, with a mask, ignored signals, and a signal that is pending. */
static void become_another(void)
{
    struct tl_sigaction ignore = {.handler = TL_SIG_IGN};
    handle_all();
    CHECK(sys(SYS_rt_sigaction, (uint64_t)TL_SIGFPE, &ignore, 0ul, 8ul) == 0);
    mask(SET, TRAP | TL_SIGNAL_BIT(SIGUSR1));
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGTRAP);
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGFPE);
    execute("/nowhere/grep");
    note("mask", mask(BLOCK, 0));
    note("hit", subject_plain(1));
    uint64_t pending = 0;
    sys(SYS_rt_sigpending, &pending, 8ul);
    note("pending", pending);
    sys(SYS_kill, (uint64_t)getpid(), (uint64_t)TL_SIGFPE);
    execute("/bin/grep");
}

static void executes(void)
{
    output = memfd_create("output", 0);
    pid_t child = (pid_t)syscall(SYS_fork);
    if (child == 0)
        become_another();
    wait_for(child);
    note_output();
}

static void execve_leaves_what_the_program_believes(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(executes), 0);
}

/* A child that begins without handlers would have no broker, and share breakpoints: there is no such call, as on older
 * kernels, which whoever makes it knows. One that inherits them is made as always. */
static void clones(void)
{
    enum { FLAGS, EXIT_SIGNAL = 4, WORDS = 8 };
    uint64_t arguments[WORDS] = {[EXIT_SIGNAL] = SIGCHLD};
    for (int clears = 0; clears < 2; clears++) {
        int status = 0;
        arguments[FLAGS] = (uint64_t)clears << 32; /* CLONE_CLEAR_SIGHAND */
        int64_t child = sys(SYS_clone3, arguments, sizeof arguments);
        if (child == 0)
            syscall(SYS_exit_group, clears || subject_plain(1) == 2 ? 7 : 8);
        if (clears && broker_here()) {
            CHECK(child == -ENOSYS);
            continue;
        }
        CHECK(child > 0 && waitpid((pid_t)child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
}

static void a_child_without_handlers_is_refused(void **unused)
{
    (void)unused;
    for (int mode = MODE_BARE; mode < MODE_COUNT; mode++)
        assert_int_equal(broker_run((enum broker_mode)mode, clones), 0);
}

/* Guards keep all registers that a system call keeps, vector registers as well. */
static void registers(void)
{
    uint64_t in[8], out[8], set = TRAP;
    for (int i = 0; i < 8; i++)
        in[i] = 0x0101010101010101 * (uint64_t)(i + 1);
    int64_t result;
    __asm__ volatile("movups %2, %%xmm7; movups 16+%2, %%xmm15; mov 32+%2, %%rbx; mov 40+%2, %%r12\n"
                     "mov $14, %%edi; xor %%esi, %%esi; mov %3, %%rdx; xor %%ecx, %%ecx; mov $8, %%r8d\n"
                     "call subject_syscall\n"
                     "movups %%xmm7, %1; movups %%xmm15, 16+%1; mov %%rbx, 32+%1; mov %%r12, 40+%1"
                     : "=a"(result), "=m"(out)
                     : "m"(in), "r"(&set)
                     : "rbx", "r12", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "xmm7", "xmm15", "memory",
                       "cc");
    CHECK(result == 0 && memcmp(in, out, 48) == 0);
    note("mask", mask(BLOCK, 0));
}

static void guards_keep_registers(void **unused)
{
    (void)unused;
    assert_int_equal(broker_check_same(registers), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_has_its_mask),
        cmocka_unit_test(a_new_thread_has_its_makers_mask),
        cmocka_unit_test(a_fork_child_is_on_its_own),
        cmocka_unit_test(a_vfork_child_leaves_its_parent_alone),
        cmocka_unit_test(execve_leaves_what_the_program_believes),
        cmocka_unit_test(a_child_without_handlers_is_refused),
        cmocka_unit_test(guards_keep_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
