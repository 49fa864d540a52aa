/* SPDX-License-Identifier: MIT
 *
 * Stacks of a program that stops at the bottom of known ones (fixtures/stacks.c), from a copy of its registers and of
 * a piece of its stack.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "support.h"
#include "symbol/unwind.h"

enum { STACK = 32768, MOST = 64, RED_ZONE = 128 };

static pid_t pid;
static int to, from;
static struct tl_unwinder *unwinder;
static struct tl_snapshot snapshot;
static uint8_t stack[STACK];
static struct tl_frame frames[MOST];
static size_t frame_count;

static void begin(const char *name)
{
    int input[2], output[2];
    assert_int_equal(pipe(input), 0);
    assert_int_equal(pipe(output), 0);
    pid = fork();
    if (pid == 0) {
        dup2(input[0], 0);
        dup2(output[1], 1);
        close(input[1]);
        close(output[0]);
        execl(fixture(name), name, (char *)NULL);
        _exit(98);
    }
    close(input[0]);
    close(output[1]);
    to = input[1];
    from = output[0];
    unwinder = NULL;
}

static void end(void)
{
    int status;
    tl_unwinder_close(unwinder);
    close(to);
    close(from);
    waitpid(pid, &status, 0);
}

static void open_unwinder(void)
{
    struct tl_error error;
    if (!unwinder && tl_unwinder_open(pid, &unwinder, &error))
        fail_msg("%s", error.text);
}

/* Go on to the next int3. `back` is 1 for the state before it, 0 for that behind it. */
static void next(unsigned back)
{
    greg_t r[17];
    if (unwinder)
        assert_int_equal(write(to, "", 1), 1);
    assert_int_equal(read(from, r, sizeof r), sizeof r);
    static const uint8_t order[TL_UNWIND_REGS] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                                  REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                                  REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    for (size_t i = 0; i < TL_UNWIND_REGS; i++)
        snapshot.regs[i] = (uint64_t)r[order[i]];
    snapshot.regs[TL_UNWIND_RIP] -= back;
    snapshot.stack_addr = snapshot.regs[TL_UNWIND_RSP] - RED_ZONE;
    snapshot.stack = stack;
    struct iovec here = {stack, STACK}, there = {(void *)(uintptr_t)snapshot.stack_addr, STACK};
    ssize_t size = process_vm_readv(pid, &here, 1, &there, 1, 0);
    assert_true(size > RED_ZONE);
    snapshot.stack_size = (size_t)size;
    open_unwinder();
}

static const char *described(size_t index)
{
    static char text[256];
    tl_unwinder_describe(unwinder, &frames[index], text, sizeof text);
    return text;
}

static void show(void)
{
    for (size_t i = 0; i < frame_count; i++)
        print_message("    %s%s\n", described(i), frames[i].is_return ? "" : " *");
}

/* The stack has these functions, from the innermost out: "leaf inner * main": any number for *, more behind the last
 * one where the text ends in *. */
static void is_stack(const char *expected)
{
    char names[512], *rest = names;
    size_t at = 0;
    bool skip = false;
    snprintf(names, sizeof names, "%s", expected);
    memset(frames, 0xee, sizeof frames);
    frame_count = tl_unwind(unwinder, &snapshot, frames, MOST);
    assert_true(frame_count > 0 && frame_count <= MOST);
    for (char *name; (name = strsep(&rest, " "));) {
        size_t length = strlen(name);
        if ((skip |= *name == '*') && *name == '*')
            continue;
        while (skip && at < frame_count && (strncmp(described(at), name, length) || described(at)[length] != '+'))
            at++;
        if (at == frame_count || strncmp(described(at), name, length) || described(at)[length] != '+') {
            show();
            fail_msg("\"%s\" is not the stack: frame %zu is not %s", expected, at, name);
        }
        at++;
        skip = false;
    }
    if (at != frame_count && !skip) {
        show();
        fail_msg("\"%s\" goes on", expected);
    }
}

#define TO_START "main * _start"

static void calls_are_followed_to_the_start(void **state)
{
    (void)state;
    begin("stacks");
    next(1);
    is_stack("leaf inner middle outer " TO_START);
    for (size_t i = 0; i < frame_count; i++)
        assert_int_equal(frames[i].is_return, i > 0);
    assert_string_equal(described(0), "leaf+0x0");
    next(1);
    is_stack("leaf inner recurse recurse recurse recurse recurse recurse recurse recurse recurse recurse recurse "
             "recurse recurse " TO_START);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_followed_to_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
