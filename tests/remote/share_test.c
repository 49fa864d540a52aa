/* SPDX-License-Identifier: MIT
 *
 * Memory that several tasks share: vfork, and CLONE_VM beside the thread group.
 */
#include "common.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Computes, and calls what may be probed. */
extern const char share_probe[];
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "share_probe:\n"
        "    mov $0x11223344, %eax\n"
        "    ret\n"
        ".popsection\n");

static void call_probe(struct progress *p, unsigned slot)
{
    if (((unsigned (*)(void))(uintptr_t)share_probe)() != 0x11223344)
        p->errors++;
    p->loops[slot]++;
}

/* ---- vfork ---- */

static void vforks(struct progress *p)
{
    p->probe = (uintptr_t)share_probe;
    p->ready = 1;
    for (;;) {
        call_probe(p, 0);
        if (p->value == 1) {
            pid_t child = vfork();
            if (child == 0) {
                p->value = 2;
                while (p->value != 3)
                    usleep(200);
                _exit(0);
            }
            waitpid(child, NULL, 0);
            p->value = 4;
        }
        usleep(200);
    }
}

static void a_vfork_parent_is_not_waited_for(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote *r;
    struct tl_error error;
    target_fork(&t, vforks);
    target_baseline(&t);
    tl_remote_close(open_target(&t));
    t.progress->value = 1;
    eventually(t.progress->value == 2);
    assert_int_equal(tl_remote_open(t.pid, &r, &error), -EAGAIN);
    assert_non_null(strstr(error.text, "vfork"));
    t.progress->value = 3;
    eventually(t.progress->value == 4);
    assert_goes_on(&t);
    tl_remote_close(open_target(&t));
    assert_as_before(&t);
    target_end(&t);
}

/* One that goes into a vfork after it was seized and before it was asked to stop: the asking must not stay behind. */
static struct progress *shared;

static void vfork_now(const char *step)
{
    if (strcmp(step, "seized") != 0 || shared->value == 2)
        return;
    shared->value = 1;
    eventually(shared->value == 2);
}

static void a_stop_that_is_given_up_leaves_nothing(void **state)
{
    (void)state;
    struct target t;
    target_fork(&t, vforks);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    shared = t.progress;
    tl_remote_step_hook = vfork_now;
    assert_int_equal(port->stop(port->host), -EAGAIN);
    tl_remote_step_hook = NULL;
    t.progress->value = 3;
    eventually(t.progress->value == 4);
    assert_goes_on(&t);
    assert_int_equal(port->stop(port->host), 0);
    port->resume(port->host);
    assert_goes_on(&t);
    tl_remote_close(r);
    target_end(&t);
}

/* ---- CLONE_VM ---- */

static int sharer(void *context)
{
    struct progress *p = context;
    for (;;)
        call_probe(p, 1);
    return 0;
}

static void clones(struct progress *p)
{
    char *stack = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t child = clone(sharer, stack + (1 << 16), CLONE_VM | SIGCHLD, p);
    p->probe = (uintptr_t)share_probe;
    p->value = (uint64_t)child;
    while (!p->loops[1])
        usleep(100);
    p->ready = 1;
    for (;;)
        call_probe(p, 0);
}

static void a_task_beside_the_group_is_stopped_too(void **state)
{
    (void)state;
    struct target t;
    struct probe probe = {0};
    struct tl_remote_region region;
    target_fork(&t, clones);
    target_baseline(&t);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    assert_int_equal(port->stop(port->host), 0);
    assert_int_equal(tl_remote_facts(r)->threads, 2);
    assert_int_equal(tl_task_state((pid_t)t.progress->value), 't');
    uint64_t before = t.progress->loops[1];
    tl_nap(20000);
    assert_true(t.progress->loops[1] == before);
    port->resume(port->host);
    assert_goes_on(&t);
    assert_int_equal(tl_remote_region(r, 1, 8192, &region, NULL), 0);
    assert_int_equal(probe_place(r, t.progress->probe, &probe), 0);
    assert_goes_on(&t);
    assert_int_equal(probe_take_out(r, &probe), 0);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    tl_remote_close(r);
    assert_as_before(&t);
    kill((pid_t)t.progress->value, SIGKILL);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vfork_parent_is_not_waited_for),
        cmocka_unit_test(a_stop_that_is_given_up_leaves_nothing),
        cmocka_unit_test(a_task_beside_the_group_is_stopped_too),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
