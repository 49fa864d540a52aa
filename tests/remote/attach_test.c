/* SPDX-License-Identifier: MIT
 *
 * Coming and going is not felt: every call gives what it would have given, and nothing piles up.
 */
#include "common.h"

#include <string.h>

#include <fcntl.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/rseq.h>
#include <unistd.h>

static void two_hundred_times(void **state)
{
    (void)state;
    struct target t;
    target_start(&t, ARGV(program("worker")));
    come_and_go(&t, true);
    target_baseline(&t);
    for (int i = 0; i < 200; i++) {
        come_and_go(&t, true);
        if (i % 20 == 0)
            assert_goes_on(&t);
    }
    assert_goes_on(&t);
    assert_as_before(&t);
    assert_int_equal(t.progress->interrupted, 0);
    target_end(&t);
}

static void what_a_handle_knows(void **state)
{
    (void)state;
    struct target t;
    target_start(&t, ARGV(program("worker")));
    struct tl_remote *r = open_target(&t);
    const struct tl_remote_facts *facts = tl_remote_facts(r);
    assert_int_equal(facts->pid, t.pid);
    assert_int_equal(facts->ns_pid, t.pid);
    assert_int_equal(facts->threads, 9);
    assert_true(facts->fs_self);
    assert_false(facts->launched || facts->no_syscalls || facts->no_clock);
    assert_int_not_equal(facts->tid_offset, INT32_MIN);
    for (size_t i = 0; i < 9; i++) {
        pid_t tid, there;
        assert_int_equal(tl_remote_thread(r, r->known[i].fs_base, &tid), 0);
        assert_int_equal(tid, r->known[i].tid);
        assert_int_equal(tl_remote_read(r, r->known[i].fs_base + (uint64_t)(int64_t)facts->tid_offset, &there, 4), 0);
        assert_int_equal(tid, there);
    }
    pid_t nobody;
    assert_int_equal(tl_remote_thread(r, 0x1234, &nobody), -ENOENT);
    uint8_t byte;
    assert_int_equal(tl_remote_read(r, 8, &byte, 1), -EFAULT);
    tl_remote_close(r);
    target_end(&t);
}

/* A breakpoint that somebody else puts on the first byte of a place of ours outlives us; the bytes behind it come back.
 */
static void a_breakpoint_over_our_patch(void **state)
{
    (void)state;
    struct target t;
    uint8_t before[5], now[5], breakpoint = 0xcc;
    target_start(&t, ARGV(program("worker"), "1"));
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    struct tl_remote_region region;
    uint64_t at = t.progress->probe + 5;
    assert_int_equal(tl_remote_region(r, 1, 1, &region, NULL), 0);
    assert_int_equal(tl_remote_read(r, at, before, sizeof before), 0);
    struct tl_patch patch = {.addr = at + 1, .length = 4, .bytes = {0xe9, 1, 2, 3}};
    memcpy(patch.expect, before + 1, 4);
    assert_int_equal(port->stop(port->host), 0);
    assert_int_equal(port->patch(port->host, &patch, 1), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", t.pid);
    int mem = open(path, O_RDWR);
    assert_int_equal(pwrite(mem, &breakpoint, 1, (off_t)at + 1), 1);
    struct tl_patch behind = {.addr = at + 2, .length = 3, .expect = {1, 2, 3}};
    memcpy(behind.bytes, before + 2, 3);
    assert_int_equal(port->patch(port->host, &behind, 1), 0);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    assert_int_equal(tl_remote_read(r, at, now, sizeof now), 0);
    assert_int_equal(now[1], 0xcc);
    assert_memory_equal(now + 2, before + 2, 3);
    assert_int_equal(pwrite(mem, before + 1, 1, (off_t)at + 1), 1);
    close(mem);
    port->resume(port->host);
    assert_goes_on(&t);
    tl_remote_close(r);
    target_end(&t);
}

static void text_that_is_not_as_expected(void **state)
{
    (void)state;
    struct target t;
    target_start(&t, ARGV(program("worker"), "1"));
    come_and_go(&t, false);
    target_baseline(&t);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    struct tl_remote_region region;
    uint64_t at = t.progress->probe;
    assert_int_equal(tl_remote_region(r, 1, 1, &region, NULL), 0);
    struct tl_patch patches[2] = {{.addr = at, .length = 1, .expect = {0xb8}, .bytes = {0xcc}},
                                  {.addr = at + 5, .length = 1, .expect = {0x90}, .bytes = {0xcc}}};
    assert_int_equal(port->stop(port->host), 0);
    assert_int_equal(port->patch(port->host, patches, 2), -EBUSY); /* a ret stands there: nothing is written */
    patches[1].addr = 0x10;
    assert_int_equal(port->patch(port->host, patches, 2), -EFAULT);
    patches[1].addr = at | 0xfff;
    patches[1].length = 2;
    assert_int_equal(port->patch(port->host, patches, 2), -EINVAL);
    port->resume(port->host);
    assert_goes_on(&t);
    /* Text that is still patched is put back by remove. */
    patches[0] = (struct tl_patch){.addr = at + 6, .length = 1, .bytes = {0xcc}};
    assert_int_equal(tl_remote_read(r, at + 6, patches[0].expect, 1), 0);
    assert_int_equal(port->stop(port->host), 0);
    assert_int_equal(port->patch(port->host, patches, 1), 0);
    port->resume(port->host);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    tl_remote_close(r);
    assert_as_before(&t);
    target_end(&t);
}

static void *lonely(void *context)
{
    struct progress *p = context;
    p->ready = 1;
    for (;;) {
        p->loops[0]++;
        usleep(200);
    }
    return NULL;
}

static void leaves_its_leader(struct progress *p)
{
    pthread_t other;
    pthread_create(&other, NULL, lonely, p);
    pthread_exit(NULL);
}

static void a_process_whose_first_thread_has_ended(void **state)
{
    (void)state;
    struct target t;
    target_fork(&t, leaves_its_leader);
    eventually(tl_task_state(t.pid) == 'Z');
    for (int i = 0; i < 3; i++) {
        struct tl_remote *r = open_target(&t);
        struct tl_remote_region region;
        struct tl_error error;
        assert_int_equal(tl_remote_facts(r)->threads, 1);
        assert_int_equal(tl_remote_region(r, 1, 1, &region, &error), 0);
        assert_int_equal(tl_remote_remove(r, &error), 0);
        bool gone;
        int status;
        assert_int_equal(tl_remote_poll(r, 0, &gone, &status), 0);
        assert_false(gone);
        tl_remote_close(r);
    }
    uint64_t before = t.progress->loops[0];
    eventually(t.progress->loops[0] > before + 2);
    target_end(&t);
}

static bool is_gone(struct tl_remote *r)
{
    bool gone;
    int status;
    assert_int_equal(tl_remote_poll(r, 0, &gone, &status), 0);
    return gone;
}

/* The kernel tells of its end when no tracer has to be told of a thread's any more. */
static void a_process_that_is_killed_while_it_stands_still(void **state)
{
    (void)state;
    struct target t;
    target_start(&t, ARGV(program("worker"), "2"));
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    assert_int_equal(port->stop(port->host), 0);
    kill(t.pid, SIGKILL);
    eventually(tl_task_state(t.pid) == 'Z');
    assert_false(is_gone(r));
    port->resume(port->host);
    eventually(is_gone(r));
    tl_remote_close(r);
    target_end(&t);
}

/* A sequence that ends only when it is aborted, and then starts over. */
extern const char sequence_begin[], sequence_end[], sequence_abort[];
static struct {
    uint32_t version, flags;
    uint64_t start, length, abort;
} sequence __attribute__((aligned(32)));

static void in_a_sequence(struct progress *p)
{
    struct {
        uint32_t cpu_start, cpu;
        uint64_t sequence;
        uint32_t flags, pad[3];
    } *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    sequence.start = (uintptr_t)sequence_begin;
    sequence.length = (uintptr_t)(sequence_end - sequence_begin);
    sequence.abort = (uintptr_t)sequence_abort;
    p->ready = 1;
    for (;;) {
        p->loops[1]++;
        __asm__ volatile("mov %[sequence], %[field]\n"
                         ".globl sequence_begin, sequence_end, sequence_abort\n"
                         "sequence_begin:\n"
                         "1: pause\n"
                         "jmp 1b\n"
                         "sequence_end:\n"
                         ".long 0x53053053\n"
                         "sequence_abort:\n"
                         : [field] "=m"(area->sequence)
                         : [sequence] "r"(&sequence)
                         : "memory", "cc");
    }
}

static void a_stop_ends_a_restartable_sequence(void **state)
{
    (void)state;
    struct target t;
    if (__rseq_size == 0)
        SKIP_BECAUSE("this kernel or C library has no restartable sequences");
    target_fork(&t, in_a_sequence);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    struct tl_remote_region region;
    assert_int_equal(port->stop(port->host), 0);
    uint64_t before = t.progress->loops[1];
    assert_int_equal(tl_remote_region(r, 1, 1, &region, NULL), 0); /* calls from elsewhere, and back */
    port->resume(port->host);
    eventually(t.progress->loops[1] > before);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    tl_remote_close(r);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_hundred_times),
        cmocka_unit_test(what_a_handle_knows),
        cmocka_unit_test(text_that_is_not_as_expected),
        cmocka_unit_test(a_breakpoint_over_our_patch),
        cmocka_unit_test(a_process_whose_first_thread_has_ended),
        cmocka_unit_test(a_process_that_is_killed_while_it_stands_still),
        cmocka_unit_test(a_stop_ends_a_restartable_sequence),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
