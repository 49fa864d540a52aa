/* SPDX-License-Identifier: MIT
 *
 * Memory that is copied and left: fork and exec.
 */
#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* Computes, and calls what may be probed. */
extern const char fork_probe[];
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "fork_probe:\n"
        "    mov $0x11223344, %eax\n"
        "    ret\n"
        ".popsection\n");

static void call_probe(struct progress *p, unsigned slot)
{
    if (((unsigned (*)(void))(uintptr_t)fork_probe)() != 0x11223344)
        p->errors++;
    p->loops[slot]++;
}

/* ---- fork ---- */

static void forks(struct progress *p)
{
    p->probe = (uintptr_t)fork_probe;
    p->ready = 1;
    for (unsigned slot = 0;;) {
        call_probe(p, slot);
        if (p->value == 1) {
            pid_t child = fork();
            p->value = child ? (uint64_t)child : p->value;
            slot = child ? 0 : 1;
        }
        usleep(100);
    }
}

static void a_fork_child_runs_on_and_can_be_cleaned(void **state)
{
    (void)state;
    struct target t, child;
    struct probe probe = {0};
    struct tl_remote_region region;
    uint64_t gate = 1;
    target_fork(&t, forks);
    target_baseline(&t);
    struct tl_remote *r = open_target(&t);
    assert_int_equal(tl_remote_region(r, 1, 8192, &region, NULL), 0);
    assert_int_equal(probe_place(r, t.progress->probe, &probe), 0);
    t.progress->value = 1;
    eventually(t.progress->value > 1);
    assert_goes_on(&t);
    child = t;
    child.pid = (pid_t)t.progress->value;
    /* While the parent is being probed, and by the same tool: the child is none of its business. */
    struct tl_remote *c = open_target(&child);
    assert_int_equal(tl_remote_read(c, probe.mappings[1].addr, &gate, 8), -EFAULT);
    tl_remote_close(c);
    assert_as_before(&child);
    assert_goes_on(&t);
    assert_int_equal(probe_take_out(r, &probe), 0);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    tl_remote_close(r);
    assert_as_before(&t);
    assert_goes_on(&t);
    kill(child.pid, SIGKILL);
    target_end(&t);
}

static void a_gate_reads_zero_in_a_fork_child(void **state)
{
    (void)state;
    struct target t;
    struct probe probe = {0};
    struct tl_remote_region region;
    uint64_t gate = 0;
    char path[64];
    target_fork(&t, forks);
    struct tl_remote *r = open_target(&t);
    assert_int_equal(tl_remote_region(r, 1, 8192, &region, NULL), 0);
    assert_int_equal(probe_place(r, t.progress->probe, &probe), 0);
    assert_int_equal(tl_remote_read(r, probe.mappings[1].addr, &gate, 8), 0);
    assert_int_equal(gate, 1);
    t.progress->value = 1;
    eventually(t.progress->value > 1);
    snprintf(path, sizeof path, "/proc/%d/mem", (pid_t)t.progress->value);
    FILE *mem = fopen(path, "r");
    assert_non_null(mem);
    assert_int_equal(fseek(mem, (long)probe.mappings[1].addr, SEEK_SET), 0);
    assert_int_equal(fread(&gate, 8, 1, mem), 1);
    assert_int_equal(gate, 0);
    fclose(mem);
    kill((pid_t)t.progress->value, SIGKILL);
    assert_int_equal(probe_take_out(r, &probe), 0);
    tl_remote_remove(r, NULL);
    tl_remote_close(r);
    target_end(&t);
}

/* ---- exec ---- */

static void execs(struct progress *p)
{
    p->ready = 1;
    while (!p->value)
        usleep(100);
    p->ready = 0;
    execl(program("tiny"), "tiny", NULL);
}

static void after_an_exec_there_is_nothing_to_do(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote_region region;
    struct tl_error error;
    uint8_t byte;
    target_fork(&t, execs);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    assert_int_equal(tl_remote_region(r, 1, 8192, &region, NULL), 0);
    t.progress->value = 1;
    target_wait_ready(&t);
    eventually(t.progress->loops[0] > 1);
    assert_int_equal(tl_remote_read(r, region.area_addr, &byte, 1), -ESRCH);
    assert_int_equal(port->stop(port->host), -ESRCH);
    assert_goes_on(&t);
    assert_int_equal(tl_remote_remove(r, &error), 0);
    tl_remote_close(r);
    assert_goes_on(&t);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_child_runs_on_and_can_be_cleaned),
        cmocka_unit_test(a_gate_reads_zero_in_a_fork_child),
        cmocka_unit_test(after_an_exec_there_is_nothing_to_do),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
