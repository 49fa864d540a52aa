/* SPDX-License-Identifier: MIT
 *
 * Where something is forbidden: what can be done without it is done, anything else is refused in words, and nothing has
 * changed. Each case in a child of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "../skip.h"

static void without_ptrace_threads_have_to_come_later(void **unused);
static void a_helper_that_is_killed_is_a_refusal(void **unused);
static void without_membarrier_threads_are_stopped_instead(void **unused);
static void without_both_nothing_is_patched_under_threads(void **unused);
static void a_debugger_is_named(void **unused);
static void without_proc_self_mem_nothing_begins(void **unused);
static void shared_and_missing_text_is_refused(void **unused);
static void text_that_somebody_changed_is_refused(void **unused);
static void a_shadow_stack_is_a_refusal(void **unused);

enum { SITES = 8, SKIPPED = 77 };

/* Forbid a system call to this process, from now on. */
static int forbid(int number, unsigned action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static bool ends;
static uint64_t calls;

static void *call(void *unused)
{
    while (!__atomic_load_n(&ends, __ATOMIC_RELAXED)) {
        for (int i = 0; i < SITES; i++) {
            if (subject_at((size_t)i)() != i)
                _exit(99);
        }
        __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

static pthread_t begin_to_call(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, call, NULL) ? 0 : thread;
}

static int still_calls(void)
{
    uint64_t before = __atomic_load_n(&calls, __ATOMIC_RELAXED);
    while (__atomic_load_n(&calls, __ATOMIC_RELAXED) == before)
        sched_yield();
    return 0;
}

static void in_a_child(int (*work)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(work());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        SKIP_BECAUSE("it takes root, and leave to trace");
    assert_int_equal(status, 0);
}

static int without_ptrace(unsigned action)
{
    struct kit kit;
    struct tl_error error = {0};
    pthread_t thread = begin_to_call();
    if (kit_open(&kit) || kit_plan(&kit, 0, SITES, 1u << TL_TACTIC_JUMP) || forbid(SYS_ptrace, action))
        return 1;
    if (tl_self_arm(kit.self, &kit.modules, &error) != -EPERM || !strstr(error.text, "before starting threads"))
        return 2;
    if (tl_self_armed(kit.self) || still_calls())
        return 3;
    if (tl_self_patch(kit.self, kit.in, kit.patch_count, NULL, &error) != -EPERM || !text_is_original())
        return 4;
    ends = true;
    pthread_join(thread, NULL);
    ends = false;
    if (kit_arm(&kit) || kit_publish(&kit)) /* alone: it can be done */
        return 5;
    begin_to_call();
    for (int i = 0; i < 20; i++) {
        if (kit_in(&kit) || still_calls() || kit_out(&kit))
            return 6;
    }
    uint8_t inside;
    struct tl_self_range range = {kit.plan.maps[0].addr, kit.plan.maps[0].addr + 1};
    if (tl_self_inside(kit.self, &range, 1, &inside, &error) != -EPERM || kit_unpublish(&kit))
        return 7;
    return tl_self_disarm(kit.self, &error) == -EPERM && tl_self_armed(kit.self) ? still_calls() : 8;
}

static int refused_ptrace(void)
{
    return without_ptrace(SECCOMP_RET_ERRNO | EPERM);
}

static void without_ptrace_threads_have_to_come_later(void **unused)
{
    (void)unused;
    in_a_child(refused_ptrace);
}

static int killed_by_ptrace(void)
{
    return without_ptrace(SECCOMP_RET_KILL_THREAD);
}

static void a_helper_that_is_killed_is_a_refusal(void **unused)
{
    (void)unused;
    in_a_child(killed_by_ptrace);
}

static int without_membarrier(void)
{
    struct kit kit;
    begin_to_call();
    if (kit_open(&kit) || kit_arm(&kit) || kit_plan(&kit, 0, SITES, 1u << TL_TACTIC_JUMP) || kit_publish(&kit))
        return 1;
    if (forbid(SYS_membarrier, SECCOMP_RET_ERRNO | EPERM))
        return 2;
    for (int i = 0; i < 5; i++) {
        if (kit_in(&kit) || still_calls() || kit_out(&kit))
            return 3;
    }
    return !text_is_original();
}

static void without_membarrier_threads_are_stopped_instead(void **unused)
{
    (void)unused;
    in_a_child(without_membarrier);
}

static int without_both(void)
{
    struct kit kit;
    struct tl_error error = {0};
    if (kit_open(&kit) || kit_arm(&kit) || kit_plan(&kit, 0, SITES, 1u << TL_TACTIC_JUMP) || kit_publish(&kit))
        return 1;
    begin_to_call();
    if (forbid(SYS_membarrier, SECCOMP_RET_ERRNO | EPERM) || forbid(SYS_ptrace, SECCOMP_RET_ERRNO | EPERM))
        return 2;
    if (tl_self_barrier(kit.self, &error) != -EPERM)
        return 3;
    if (tl_self_patch(kit.self, kit.in, kit.patch_count, NULL, &error) != -EPERM)
        return 4;
    return !text_is_original() || still_calls();
}

static void without_both_nothing_is_patched_under_threads(void **unused)
{
    (void)unused;
    in_a_child(without_both);
}

static int caller_tid;

static void *call_by_name(void *unused)
{
    __atomic_store_n(&caller_tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    return call(unused);
}

static int traced(void)
{
    struct kit kit;
    struct tl_error error = {0};
    pthread_t thread;
    int ready[2], begin[2];
    char byte = 0;
    if (pthread_create(&thread, NULL, call_by_name, NULL) || kit_open(&kit) || pipe(ready) || pipe(begin) ||
        still_calls())
        return 1;
    pid_t tracer = fork();
    if (tracer == 0) {
        if (read(begin[0], &byte, 1) != 1)
            _exit(1);
        byte = ptrace(PTRACE_SEIZE, caller_tid, NULL, NULL) ? 'n' : 'y';
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    prctl(PR_SET_PTRACER, tracer, 0, 0, 0);
    if (write(begin[1], "b", 1) != 1 || read(ready[0], &byte, 1) != 1)
        return 2;
    int result = tl_self_arm(kit.self, &kit.modules, &error);
    kill(tracer, SIGKILL);
    waitpid(tracer, NULL, 0);
    if (byte != 'y')
        return SKIPPED;
    if (result != -EBUSY || !strstr(error.text, "debugger") || tl_self_armed(kit.self) || still_calls())
        return 3;
    return kit_arm(&kit) || still_calls();
}

static void a_debugger_is_named(void **unused)
{
    (void)unused;
    in_a_child(traced);
}

static int without_mem(void)
{
    struct kit kit;
    if (geteuid() != 0)
        return SKIPPED;
    if (setgid(65534) || setuid(65534) || prctl(PR_SET_DUMPABLE, 0))
        return 1;
    return kit_open(&kit) == -EPERM ? 0 : 2;
}

static void without_proc_self_mem_nothing_begins(void **unused)
{
    (void)unused;
    in_a_child(without_mem);
}

static int shared_and_missing(void)
{
    struct kit kit;
    struct tl_error error = {0};
    size_t failed = 99;
    uint8_t *shared = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (kit_open(&kit) || kit_plan(&kit, 0, 2, 1u << TL_TACTIC_JUMP))
        return 1;
    struct tl_patch patches[] = {kit.in[0], {.addr = (uint64_t)shared, .length = 1, .bytes = {0x90}}};
    if (tl_self_patch(kit.self, patches, 2, &failed, &error) != -ENOTSUP || failed != 1 || !text_is_original())
        return 2;
    munmap(shared, 8192);
    if (tl_self_patch(kit.self, patches, 2, &failed, &error) != -EFAULT || failed != 1 || !text_is_original())
        return 3;
    return 0;
}

static void shared_and_missing_text_is_refused(void **unused)
{
    (void)unused;
    in_a_child(shared_and_missing);
}

static int changed(void)
{
    struct kit kit;
    struct tl_error error = {0};
    size_t failed = 99;
    if (kit_open(&kit) || kit_arm(&kit) || kit_plan(&kit, 0, SITES, 1u << TL_TACTIC_JUMP) || kit_publish(&kit))
        return 1;
    kit.in[3].expect[2] ^= 1;
    if (tl_self_patch(kit.self, kit.in, kit.patch_count, &failed, &error) != -EBUSY || failed != 3)
        return 2;
    return !text_is_original();
}

static void text_that_somebody_changed_is_refused(void **unused)
{
    (void)unused;
    in_a_child(changed);
}

/* As on a processor and kernel with shadow stacks: arch_prctl(ARCH_SHSTK_STATUS) says that one is on. */
static long call_with_shadow_stack(long number, long a, long b, long c, long d, long e, long f)
{
    if (number != SYS_arch_prctl || a != 0x5005)
        return syscall(number, a, b, c, d, e, f);
    *(uint64_t *)b = 1;
    return 0;
}

static int shadowed(void)
{
    struct tl_self *self = NULL;
    struct tl_error error = {0};
    tl_self_call = call_with_shadow_stack;
    return tl_self_open(NULL, 0, &self, &error) != -ENOTSUP || !strstr(error.text, "shadow stack") || self;
}

static void a_shadow_stack_is_a_refusal(void **unused)
{
    (void)unused;
    in_a_child(shadowed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_ptrace_threads_have_to_come_later),
        cmocka_unit_test(a_helper_that_is_killed_is_a_refusal),
        cmocka_unit_test(without_membarrier_threads_are_stopped_instead),
        cmocka_unit_test(without_both_nothing_is_patched_under_threads),
        cmocka_unit_test(a_debugger_is_named),
        cmocka_unit_test(without_proc_self_mem_nothing_begins),
        cmocka_unit_test(shared_and_missing_text_is_refused),
        cmocka_unit_test(text_that_somebody_changed_is_refused),
        cmocka_unit_test(a_shadow_stack_is_a_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
