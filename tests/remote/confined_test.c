/* SPDX-License-Identifier: MIT
 *
 * Programs under seccomp: root can attach and knows what its code may not do there; others are told why not.
 */
#include "common.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void idle(struct progress *p)
{
    p->ready = 1;
    for (;;) {
        p->loops[0]++;
        usleep(500);
    }
}

/* Only what it does itself; anything else ends it. */
static void confined(struct progress *p)
{
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_clock_nanosleep),
        ALLOW(SYS_nanosleep),
        ALLOW(SYS_restart_syscall),
        ALLOW(SYS_rt_sigreturn),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program_of = {sizeof filter / sizeof filter[0], filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program_of) != 0)
        p->errors++;
    idle(p);
}

static void strictly_confined(struct progress *p)
{
    p->ready = 1;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        p->errors++;
    for (;;)
        p->loops[0]++;
}

static void attach_to_confined(void (*run)(struct progress *), bool strict)
{
    struct target t;
    struct tl_remote_region region;
    target_fork(&t, run);
    eventually(t.progress->loops[0] > 2);
    target_baseline(&t);
    struct tl_remote *r;
    struct tl_error error = {0};
    int result = tl_remote_open(t.pid, &r, &error);
    if (geteuid() != 0) {
        assert_int_equal(result, -EPERM);
        assert_non_null(strstr(error.text, "seccomp"));
    } else {
        assert_int_equal(result, 0);
        assert_true(tl_remote_facts(r)->no_syscalls);
        assert_int_equal(tl_remote_facts(r)->no_clock, strict);
        assert_int_equal(tl_remote_region(r, 1, 1, &region, &error), 0);
        assert_goes_on(&t);
        assert_int_equal(tl_remote_remove(r, &error), 0);
        tl_remote_close(r);
        assert_as_before(&t);
    }
    assert_goes_on(&t);
    target_end(&t);
}

static void one_with_a_seccomp_filter(void **state)
{
    (void)state;
    if (SANITIZED)
        SKIP_BECAUSE("the address sanitizer's own system calls are more than the filter lets through");
    attach_to_confined(confined, false);
}

static void one_in_strict_seccomp(void **state)
{
    (void)state;
    if (SANITIZED)
        SKIP_BECAUSE("the address sanitizer's own system calls are more than strict mode lets through");
    attach_to_confined(strictly_confined, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_with_a_seccomp_filter),
        cmocka_unit_test(one_in_strict_seccomp),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
