/* SPDX-License-Identifier: MIT
 *
 * Threads that are inside a trampoline when it has to go: blocked in a displaced system call, or interrupted there by a
 * signal whose handler does not return yet. The tool takes the trampoline out, or is killed and the next one does.
 */
#include "common.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* inside_read: 2 bytes of syscall; jmp's tail is made of the 3 that follow: rel32 = 0x3c909000. */
extern const char inside_read[], inside_spin[];
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "inside_read:\n"
        "    syscall\n"
        "    nop\n nop\n"
        "    cmp $0, %al\n"
        "    ret\n"
        ".balign 16\n"
        "inside_spin:\n"
        "    mov $0x12345678, %eax\n"
        "    ret\n"
        ".popsection\n");

static int tube[2];
static struct progress *page;

static long read_number(uint64_t *number, uint64_t *rcx)
{
    long result = 0;
    register long count __asm__("rdx") = sizeof *number;
    __asm__ volatile("sub $128, %%rsp\n" /* the red zone */
                     "call inside_read\n"
                     "add $128, %%rsp"
                     : "+a"(result), "=c"(*rcx)
                     : "D"(tube[0]), "S"(number), "r"(count)
                     : "r11", "memory", "cc");
    return result;
}

static void reads(struct progress *p)
{
    page = p;
    p->probe = (uintptr_t)inside_read;
    p->ready = 1;
    for (;;) {
        uint64_t number = 0, rcx = 0;
        if (read_number(&number, &rcx) != sizeof number || number != p->value || rcx != (uintptr_t)inside_read + 2)
            p->errors++;
        p->loops[0]++;
    }
}

static struct probe probe;

static int place_on_read(struct tl_remote *r, uint64_t addr)
{
    const struct tl_port *port = tl_remote_port(r);
    uint64_t trampoline = addr + 5 + 0x3c909000;
    uint8_t code[] = {0x0f, 0x05, 0x48, 0x8d, 0x0d, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0};
    int32_t back = (int32_t)(addr + 2 - (trampoline + 9)), jump = (int32_t)(addr + 2 - (trampoline + 14));
    memcpy(code + 5, &back, 4);
    memcpy(code + 10, &jump, 4);
    probe.mappings[0] = (struct tl_mapping){.addr = trampoline & ~0xfffull, .size = 4096, .kind = TL_MAPPING_CODE};
    probe.patch = (struct tl_patch){.addr = addr, .length = 2, .expect = {0x0f, 0x05}, .bytes = {0xe9, 0x00}};
    int result = port->fill(port->host, trampoline & 0xfff, code, sizeof code);
    if (result == 0)
        result = port->stop(port->host);
    if (result)
        return result;
    result = port->map(port->host, probe.mappings, 1);
    if (result == 0)
        result = port->patch(port->host, &probe.patch, 1);
    port->resume(port->host);
    return result;
}

static int locate_read(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    uint64_t at = pc - (probe.patch.addr + 5 + 0x3c909000);
    (void)context;
    *original = probe.patch.addr + (at ? 2 : 0);
    *fix_rcx = at == 2;
    return at <= 14 ? 0 : -ENOENT;
}

static void send(struct target *t, uint64_t number)
{
    uint64_t before = t->progress->loops[0];
    t->progress->value = number;
    assert_int_equal(write(tube[1], &number, sizeof number), sizeof number);
    eventually(t->progress->loops[0] == before + 1);
    assert_int_equal(t->progress->errors, 0);
}

static bool inside(const struct target *t)
{
    char *text = tl_proc_file(t->pid, "syscall", NULL), *pc = text ? strrchr(text, ' ') : NULL;
    uint64_t at = pc ? strtoull(pc, NULL, 16) - (t->progress->probe + 5 + 0x3c909000) : 0;
    free(text);
    return at == 2;
}

static void make_tube(void)
{
    assert_int_equal(pipe(tube), 0);
    for (int i = 0; i < 2; i++) { /* out of the way of PROGRESS_FD */
        int fd = tube[i];
        tube[i] = fcntl(fd, F_DUPFD, 100);
        close(fd);
    }
}

static void a_thread_blocked_in_a_displaced_call(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote_region region;
    make_tube();
    target_fork(&t, reads);
    target_baseline(&t);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    assert_int_equal(tl_remote_region(r, 1, 4096, &region, NULL), 0);
    assert_int_equal(place_on_read(r, t.progress->probe), 0);
    send(&t, 1); /* the one that was blocked before, at the original place */
    eventually(inside(&t));
    send(&t, 2);
    eventually(inside(&t));
    assert_int_equal(port->stop(port->host), 0);
    struct tl_patch back = {.addr = probe.patch.addr, .length = 2, .expect = {0xe9, 0x00}, .bytes = {0x0f, 0x05}};
    assert_int_equal(port->patch(port->host, &back, 1), 0);
    assert_int_equal(port->evacuate(port->host, locate_read, NULL), 0);
    assert_int_equal(port->unmap(port->host, probe.mappings, 1), 0);
    port->resume(port->host);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    tl_remote_close(r);
    assert_as_before(&t);
    send(&t, 3);
    target_end(&t);
}

static void the_same_after_the_tool_was_killed(void **state)
{
    (void)state;
    struct target t;
    int status;
    make_tube();
    target_fork(&t, reads);
    target_baseline(&t);
    pid_t tool = fork();
    if (tool == 0) {
        struct tl_remote_region region;
        struct tl_remote *r = open_target(&t);
        if (tl_remote_region(r, 1, 4096, &region, NULL) == 0 && place_on_read(r, t.progress->probe) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    waitpid(tool, &status, 0);
    assert_true(WIFSIGNALED(status));
    send(&t, 1);
    eventually(inside(&t));
    tl_remote_close(open_target(&t));
    assert_as_before(&t);
    send(&t, 2);
    send(&t, 3);
    target_end(&t);
}

/* ---- a signal inside a trampoline ---- */

static void stay(int signal)
{
    (void)signal;
    page->loops[2]++;
    while (page->value == 0)
        usleep(100);
}

static void spins(struct progress *p)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_handler = stay, .sa_flags = SA_ONSTACK};
    page = p;
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    p->probe = (uintptr_t)inside_spin;
    p->ready = 1;
    for (;;) {
        if (((unsigned (*)(void))(uintptr_t)inside_spin)() != 0x12345678)
            p->errors++;
        p->loops[0]++;
    }
}

static int locate_spin(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    (void)context;
    *fix_rcx = 0;
    *original = probe.patch.addr;
    return pc - probe.mappings[0].addr < 4096 ? 0 : -ENOENT;
}

static void a_handler_that_came_inside(void **state)
{
    (void)state;
    struct target t;
    struct tl_remote_region region;
    target_fork(&t, spins);
    target_baseline(&t);
    struct tl_remote *r = open_target(&t);
    const struct tl_port *port = tl_remote_port(r);
    assert_int_equal(tl_remote_region(r, 1, 4096, &region, NULL), 0);
    uint64_t addr = t.progress->probe, there = (addr & ~0xfffull) + (64 << 20);
    int32_t jump = (int32_t)(there - addr - 5);
    probe.mappings[0] = (struct tl_mapping){.addr = there, .size = 4096, .kind = TL_MAPPING_CODE};
    probe.patch = (struct tl_patch){.addr = addr, .length = 5, .bytes = {0xe9}};
    memcpy(probe.patch.bytes + 1, &jump, 4);
    assert_int_equal(tl_remote_read(r, addr, probe.patch.expect, 5), 0);
    port->fill(port->host, 0, "\xf3\x90\xeb\xfc", 4); /* for ever */
    assert_int_equal(port->stop(port->host), 0);
    assert_int_equal(port->map(port->host, probe.mappings, 1), 0);
    assert_int_equal(port->patch(port->host, &probe.patch, 1), 0);
    port->resume(port->host);
    uint64_t before;
    do { /* it has entered the trampoline */
        before = t.progress->loops[0];
        tl_nap(2000);
    } while (t.progress->loops[0] != before);
    kill(t.pid, SIGUSR1);
    eventually(t.progress->loops[2] == 1);
    assert_int_equal(port->stop(port->host), 0);
    struct tl_patch back = probe.patch;
    memcpy(back.expect, probe.patch.bytes, 5);
    memcpy(back.bytes, probe.patch.expect, 5);
    assert_int_equal(port->patch(port->host, &back, 1), 0);
    assert_int_equal(port->evacuate(port->host, locate_spin, NULL), 0);
    assert_int_equal(port->unmap(port->host, probe.mappings, 1), 0);
    port->resume(port->host);
    t.progress->value = 1;
    eventually(t.progress->loops[0] > before + 2);
    assert_int_equal(t.progress->errors, 0);
    assert_int_equal(tl_remote_remove(r, NULL), 0);
    tl_remote_close(r);
    assert_as_before(&t);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_blocked_in_a_displaced_call),
        cmocka_unit_test(the_same_after_the_tool_was_killed),
        cmocka_unit_test(a_handler_that_came_inside),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
