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
static bool cut;

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
    frame_count = tl_unwind(unwinder, &snapshot, frames, MOST, &cut);
    assert_true(frame_count > 0 && frame_count <= MOST && !cut);
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

static void code_without_tables_has_its_caller_on_top_of_the_stack(void **state)
{
    (void)state;
    begin("stacks");
    for (int i = 0; i < 3; i++)
        next(1); /* the first instruction of bare */
    is_stack("bare through_bare " TO_START);
    next(0); /* the ret of bare_ret */
    is_stack("bare_ret through_bare " TO_START);
    end();
}

static void calls_back_from_a_library_are_followed(void **state)
{
    (void)state;
    begin("stacks");
    for (int i = 0; i < 5; i++)
        next(1);
    is_stack("leaf inner compare * sort " TO_START);
    end();
}

static void a_signal_is_followed_to_what_it_interrupted(void **state)
{
    (void)state;
    begin("stacks");
    for (int i = 0; i < 6; i++)
        next(1);
    is_stack("leaf inner skip * interrupted interrupt " TO_START);
    assert_string_equal(described(4), "interrupted+0x0");
    assert_true(!frames[4].is_return && frames[5].is_return);
    end();
}

static void a_thread_s_stack_ends_where_it_began(void **state)
{
    (void)state;
    begin("stacks");
    for (int i = 0; i < 7; i++)
        next(1);
    is_stack("leaf inner middle outer in_thread *");
    assert_true(frame_count >= 6 && frame_count <= 7);
    end();
}

static void a_library_that_is_loaded_late_is_known(void **state)
{
    (void)state;
    begin("stacks");
    for (int i = 0; i < 8; i++)
        next(1);
    is_stack("leaf through " TO_START);
    end();
}

static void static_and_stripped_programs_have_stacks(void **state)
{
    (void)state;
    begin("stacks-static");
    next(1);
    is_stack("leaf inner middle outer " TO_START);
    end();
    begin("stacks-stripped");
    next(1);
    is_stack("[stacks-stripped] [stacks-stripped] [stacks-stripped] [stacks-stripped] [stacks-stripped] * "
             "[stacks-stripped]");
    end();
}

/* The C library of this one has neither tables nor frame pointers: nothing is said that is not so. */
static void where_tables_are_missing_nothing_is_guessed(void **state)
{
    (void)state;
    begin("stacks-musl");
    next(1);
    is_stack("leaf inner middle outer main *");
    assert_true(frame_count <= 7);
    next(1);
    next(1);
    is_stack("bare through_bare main *");
    next(0);
    is_stack("bare_ret through_bare main *");
    next(1);
    is_stack("leaf inner compare *");
    assert_true(frame_count <= 8);
    next(1);
    is_stack("leaf inner skip __restore_rt interrupted interrupt main *");
    next(1);
    is_stack("leaf inner middle outer in_thread *");
    end();
}

static void a_stack_outlives_its_process(void **state)
{
    (void)state;
    char before[MOST][256];
    begin("stacks");
    next(1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    is_stack("leaf inner middle outer " TO_START);
    for (size_t i = 0; i < frame_count; i++)
        snprintf(before[i], sizeof before[i], "%s", described(i));
    tl_unwinder_close(unwinder);
    begin("stacks");
    next(1);
    is_stack("leaf inner middle outer " TO_START);
    for (size_t i = 0; i < frame_count; i++)
        assert_string_equal(described(i), before[i]);
    end();
}

/* Of each shorter piece, a shorter part of the same stack. */
static void a_short_piece_gives_the_inner_frames(void **state)
{
    (void)state;
    struct tl_frame whole[MOST];
    begin("stacks");
    next(1);
    is_stack("leaf inner middle outer " TO_START);
    size_t all = frame_count, size = snapshot.stack_size, before = 0;
    memcpy(whole, frames, sizeof whole);
    for (size_t short_size = 0; short_size <= size && before < all; short_size += 8) {
        snapshot.stack_size = short_size;
        frame_count = tl_unwind(unwinder, &snapshot, frames, MOST, &cut);
        assert_true(frame_count >= 1 && frame_count >= before && frame_count <= all);
        assert_int_equal(cut, frame_count < all);
        for (size_t i = 0; i < frame_count; i++)
            assert_true(frames[i].addr == whole[i].addr && frames[i].is_return == whole[i].is_return);
        before = frame_count;
    }
    assert_int_equal(before, all);
    snapshot.stack_size = size;
    for (size_t most = 0; most <= all; most++) {
        assert_int_equal(tl_unwind(unwinder, &snapshot, frames, most, &cut), most);
        assert_int_equal(cut, most < all);
    }
    end();
}

/* Whatever the registers and the stack are, a walk ends, and begins where the registers say. */
static void nonsense_ends(void **state)
{
    (void)state;
    uint64_t seed = 0x7261700a;
    begin("stacks");
    next(1);
    struct tl_snapshot honest = snapshot;
    for (int i = 0; i < 3000; i++) {
        snapshot = honest;
        for (int changes = 1 + i % 5; changes; changes--) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            uint64_t value = seed >> 60 ? honest.stack_addr + seed % 2048 : seed;
            if (seed >> 32 & 1)
                snapshot.regs[seed % TL_UNWIND_REGS] = value;
            else
                memcpy(stack + seed % 1024 / 8 * 8, &value, sizeof value);
        }
        frame_count = tl_unwind(unwinder, &snapshot, frames, MOST, &cut);
        assert_true(frame_count >= 1 && frame_count <= MOST);
        assert_int_equal(frames[0].addr, snapshot.regs[TL_UNWIND_RIP]);
    }
    end();
}

static void no_process_is_said(void **state)
{
    (void)state;
    struct tl_error error = {0};
    assert_int_equal(tl_unwinder_open(0x3fffffff, &unwinder, &error), -ESRCH);
    assert_non_null(strstr(error.text, "no process"));
    tl_unwinder_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_followed_to_the_start),
        cmocka_unit_test(code_without_tables_has_its_caller_on_top_of_the_stack),
        cmocka_unit_test(calls_back_from_a_library_are_followed),
        cmocka_unit_test(a_signal_is_followed_to_what_it_interrupted),
        cmocka_unit_test(a_thread_s_stack_ends_where_it_began),
        cmocka_unit_test(a_library_that_is_loaded_late_is_known),
        cmocka_unit_test(static_and_stripped_programs_have_stacks),
        cmocka_unit_test(where_tables_are_missing_nothing_is_guessed),
        cmocka_unit_test(a_stack_outlives_its_process),
        cmocka_unit_test(a_short_piece_gives_the_inner_frames),
        cmocka_unit_test(nonsense_ends),
        cmocka_unit_test(no_process_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
