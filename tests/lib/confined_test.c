/* SPDX-License-Identifier: MIT
 *
 * A program that confines itself while it has probes: hits make no system call that it does not allow, a thread's first
 * one included.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"

static int hits;

static int counts(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static void sees(long a, long b, long c, long d, long e, long f, long g, long h)
{
    hits += a + b + c + d + e + f == 21 && g == 7 && h == 8;
}

/* What hits might ask for kills. */
static void confine(void)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sigaltstack, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        _exit(2);
}

static void *hit(void *unused)
{
    for (int i = 0; i < 10; i++)
        if (kit_add(3, 4) != 8 || kit_many(1, 2, 3, 4, 5, 6, 7, 8) != 20)
            syscall(SYS_exit, 3);
    return unused;
}

static void in_child(void (*run)(void))
{
    int status;
    hits = 0;
    pid_t child = fork();
    if (child == 0)
        run();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void run_filtered(void)
{
    pthread_t thread;
    confine();
    hit(NULL);
    if (pthread_create(&thread, NULL, hit, NULL) || pthread_join(thread, NULL))
        _exit(4);
    _exit(hits != 40);
}

static void run_strictly(void)
{
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        _exit(2);
    hit(NULL);
    syscall(SYS_exit, hits != 20);
}

static void first_hits_make_no_system_call(void **state)
{
    struct tl_probe probe = {
        .size = sizeof probe, .flags = *(const uint64_t *)*state, .address = kit_add_entry, .pre = counts};
    struct tl_jump_probe jump = {.size = sizeof jump,
                                 .flags = probe.flags,
                                 .symbol = "kit_many",
                                 .module = "EXE",
                                 .handler = TL_JUMP_HANDLER(sees)};
    kit_register(&probe);
    assert_int_equal(tl_jump_probe_register(&jump, NULL), 0);
    in_child(run_filtered);
    in_child(run_strictly);
    assert_int_equal(tl_jump_probe_unregister(&jump), 0);
    kit_unregister(&probe);
}

int main(void)
{
    if (KIT_ASAN) {
        print_message("[  BECAUSE ] the address sanitizer makes system calls of its own\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {BOTH_WAYS(first_hits_make_no_system_call)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
