/* SPDX-License-Identifier: MIT
 *
 * Hooks that call somebody, run for real: what they find, and that nothing is lost on the way.
 *
 * - a CALL hook is called with all registers, flags and the stack as the program has them, by a jump and by a trap
 * - a hook behind sees what the instruction has done, and is called after the one in front
 * - a guard is asked about numbers of interest only; it may let the call happen or be done with it
 * - what is known to be of interest is asked about without looking
 * - a child that comes back from a guarded clone on another stack goes on in the program
 * - a guarded call that a signal interrupts is begun again
 * - instructions in front of a guarded call are executed on the way
 * - trampolines go into rooms that are there, and the rest is offered again
 */
#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hooks.h"
#include "live.h"
#include "probe/guards.h"
#include "process.h"

enum { JUMP = 0, TRAP = 1u << TL_TACTIC_INT3, STATUS = 0x8d5 /* OF, SF, ZF, AF, PF, CF */ };

static struct planned planned;
static struct tl_site sites[4];

static void add_site(const uint8_t *code, struct tl_site *site)
{
    static struct text text;
    static uint8_t bytes[4096];
    size_t size = (size_t)(hooks_end - hooks_start);
    memcpy(bytes, hooks_start, size);
    text = (struct text){(uint64_t)hooks_start, bytes, size};
    planned.text = &text;
    site_at(&text, (uint64_t)code, site);
    planned.site_count++;
}

/* Plan for the sites made, and do it. */
static void go(struct tl_plan_options *options)
{
    struct tl_area *areas = areas_of(getpid(), &planned.area_count);
    planned.sites = sites;
    planned.areas = areas;
    options->max_mappings = 1000;
    options->guard.routine = (uint64_t)hooks_guard;
    options->guard.context = 0x1122334455667788;
    assert_int_equal(tl_plan_build(sites, planned.site_count, areas, planned.area_count, options, &planned.plan), 0);
    assert_int_equal(planned.plan.planned, planned.site_count);
    free(areas);
    assert_int_equal(live_map(&planned.plan), 0);
    assert_int_equal(live_open_text((uint64_t)hooks_start, (size_t)(hooks_end - hooks_start)), 0);
    assert_int_equal(live_traps(sites, planned.site_count, NULL), 0);
    for (size_t i = 0; i < planned.plan.gate_count; i++)
        ((struct tl_gate *)planned.plan.gates[i].addr)->call = (uint64_t)hooks_called;
    live_write(&planned.plan);
}

/* Take it back; what is mapped stays for the next plan, or goes. */
static void end_with(bool keep)
{
    live_take_back(&planned.plan);
    if (!keep)
        live_unmap(&planned.plan);
    planned.site_count = 0;
    tl_plan_free(&planned.plan);
    hooks_hits = hooks_asked = 0;
}

static void end(void)
{
    end_with(false);
}

static struct hooks_state random_state(void)
{
    struct hooks_state state;
    for (unsigned i = 0; i < 16; i++)
        state.r[i] = (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ (uint64_t)random();
    state.flags = ((uint64_t)random() & STATUS) | 0x202;
    return state;
}

/* Run from `code`; the same without the plan must end the same. */
static void run_both(const struct hooks_state *start, const uint8_t *code, struct hooks_state *with)
{
    struct hooks_state bare = *start;
    *with = *start;
    hooks_run(with, code);
    live_take_back(&planned.plan);
    hooks_run(&bare, code);
    live_write(&planned.plan);
    assert_memory_equal(with, &bare, sizeof bare);
}

static void called(uint32_t tactics)
{
    struct hooks_state start, result;
    struct tl_plan_options options = {.tactics = tactics};
    add_site(hooks_lea, &sites[0]);
    add_site(hooks_add, &sites[1]);
    sites[0].hook = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 7};
    sites[1].hook = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 0x80000001};
    go(&options);
    for (int i = 0; i < 100; i++) {
        start = random_state();
        hooks_hits = 0;
        run_both(&start, hooks_lea, &result);
        assert_int_equal(hooks_hits, 2);
        assert_int_equal(hooks_seen[0].index, 7);
        assert_int_equal(hooks_seen[1].index, (uint64_t)(int64_t)(int32_t)0x80000001);
        start.r[HOOKS_RSP] = hooks_rsp;
        assert_memory_equal(&hooks_seen[0].state, &start, sizeof start);
        start.r[HOOKS_RAX] = start.r[HOOKS_RAX] + 2 * start.r[HOOKS_RBX] + 5; /* lea rax, [rax + 2 * rbx + 5] */
        assert_memory_equal(&hooks_seen[1].state, &start, sizeof start);
    }
    end();
}

static void calls_find_the_program_as_it_is(void **state)
{
    (void)state;
    called(JUMP);
    called(TRAP);
}

static void behind(uint32_t tactics)
{
    struct hooks_state start, result;
    struct tl_plan_options options = {.tactics = tactics};
    add_site(hooks_add, &sites[0]);
    sites[0].hook = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 1};
    sites[0].after = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 2};
    go(&options);
    for (int i = 0; i < 100; i++) {
        start = random_state();
        hooks_hits = 0;
        run_both(&start, hooks_add, &result);
        assert_int_equal(hooks_hits, 2);
        assert_int_equal(hooks_seen[0].index, 1);
        assert_int_equal(hooks_seen[1].index, 2);
        assert_int_equal(hooks_seen[1].state.r[HOOKS_RAX], (uint32_t)(start.r[HOOKS_RAX] + start.r[HOOKS_RCX]));
        result.r[HOOKS_RSP] = hooks_rsp;
        assert_memory_equal(&hooks_seen[1].state, &result, sizeof result);
    }
    end();
}

static void hooks_behind_see_the_result(void **state)
{
    (void)state;
    behind(JUMP);
    behind(TRAP);
    struct tl_plan_options options = {.tactics = UINT32_MAX, .max_mappings = 100};
    add_site(hooks_jump, &sites[0]);
    sites[0].after.kind = TL_HOOK_CALL;
    assert_int_equal(tl_plan_build(sites, 1, NULL, 0, &options, &planned.plan), 0);
    assert_int_equal(sites[0].why, TL_WHY_TACTIC);
    end();
}

static void make_guard(enum tl_site_guard guard, unsigned lead, struct tl_plan_options *options)
{
    add_site(hooks_syscall - lead, &sites[0]);
    sites[0].guard = (uint8_t)guard;
    sites[0].guard_at = (uint8_t)lead;
    go(options);
}

static void guards_are_asked(void **state)
{
    (void)state;
    struct tl_plan_options options = {.guard_breakpoints = true};
    make_guard(TL_GUARD_ASK, 0, &options);
    assert_true(sites[0].beyond != 0);
    static const struct {
        uint64_t number;
        bool wanted;
    } calls[] = {{SYS_rt_sigaction, true},
                 {SYS_rt_sigprocmask, true},
                 {SYS_epoll_pwait2, true},
                 {0x5500000000 | SYS_clone3, true}, /* the kernel looks at the lower half only */
                 {SYS_getpid, false},
                 {0x5500000000 | SYS_getpid, false},
                 {64 * TL_GUARDED_END + SYS_rt_sigaction, false},
                 {0x80000000 | SYS_rt_sigaction, false}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct hooks_state start = random_state(), result;
        bool getpid_called = (uint32_t)calls[i].number == SYS_getpid;
        start.r[HOOKS_RAX] = calls[i].number;
        result = start;
        hooks_asked = 0;
        hooks_answer = true;
        hooks_result = 4711;
        hooks_run(&result, hooks_syscall);
        assert_int_equal(hooks_asked, calls[i].wanted);
        assert_int_equal(result.r[HOOKS_RCX], (uint64_t)hooks_syscall + 2);
        assert_int_equal(result.r[HOOKS_R11] & STATUS, start.flags & STATUS);
        assert_int_equal(result.r[HOOKS_RAX], calls[i].wanted ? 4711 : getpid_called ? getpid() : -ENOSYS);
        if (calls[i].wanted) {
            assert_int_equal(hooks_guarded.r[HOOKS_RAX], start.r[HOOKS_RAX]);
            assert_int_equal(hooks_guarded.r[HOOKS_RCX], (uint64_t)hooks_syscall + 2);
            assert_int_equal(hooks_guarded.r[HOOKS_R11], 0x1122334455667788);
            assert_int_equal(hooks_guarded.r[HOOKS_RSP], hooks_rsp);
            assert_int_equal(hooks_guarded.flags & STATUS, start.flags & STATUS);
        }
        result.r[HOOKS_RAX] = start.r[HOOKS_RAX];
        result.r[HOOKS_RCX] = start.r[HOOKS_RCX];
        result.r[HOOKS_R11] = start.r[HOOKS_R11];
        assert_memory_equal(&result, &start, sizeof start);
    }
    end();
}

static void guards_that_know_ask_always(void **state)
{
    (void)state;
    struct tl_plan_options options = {0};
    make_guard(TL_GUARD_KNOWN, 0, &options);
    struct hooks_state start = random_state();
    start.r[HOOKS_RAX] = SYS_getpid;
    hooks_answer = false;
    hooks_run(&start, hooks_syscall);
    assert_int_equal(hooks_asked, 1);
    assert_int_equal(start.r[HOOKS_RAX], getpid());
    end();
}

static void what_is_in_front_is_executed(void **state)
{
    (void)state;
    struct tl_plan_options options = {0};
    make_guard(TL_GUARD_KNOWN, (unsigned)(hooks_syscall - hooks_lead), &options);
    assert_int_equal(sites[0].tactic, TL_TACTIC_JUMP);
    struct hooks_state start = random_state(), result = start;
    hooks_answer = false;
    hooks_run(&result, hooks_lead); /* mov eax, SYS_getpid; mov r10d, 8 */
    assert_int_equal(hooks_asked, 1);
    assert_int_equal(hooks_guarded.r[HOOKS_R10], 8);
    assert_int_equal(result.r[HOOKS_RAX], getpid());
    assert_int_equal(result.r[HOOKS_R12], start.r[HOOKS_R12]);
    end();
}

static void children_come_back_in_the_program(void **state)
{
    (void)state;
    struct tl_plan_options options = {.guard_breakpoints = true};
    static uint8_t stack[4096] __attribute__((aligned(16)));
    make_guard(TL_GUARD_ASK, 0, &options);
    hooks_answer = false;
    for (int vfork_too = 0; vfork_too < 2; vfork_too++) {
        int status;
        hooks_asked = 0;
        long flags = CLONE_VM | SIGCHLD | (vfork_too ? CLONE_VFORK : 0);
        long child = hooks_clone(flags, vfork_too ? NULL : stack + sizeof stack); /* the child exits with 42 */
        assert_true(child > 0);
        assert_int_equal(waitpid((pid_t)child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 42);
        assert_int_equal(hooks_asked, 1);
    }
    end();
}

static volatile int alarms;
static int pipe_ends[2];

static void on_alarm(int number)
{
    (void)number;
    if (++alarms == 2 && write(pipe_ends[1], "x", 1) != 1)
        _exit(9);
}

static void interrupted_calls_begin_again(void **state)
{
    (void)state;
    struct tl_plan_options options = {.guard_breakpoints = true};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    char byte = 0;
    make_guard(TL_GUARD_ASK, 0, &options);
    assert_int_equal(pipe(pipe_ends), 0);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    struct hooks_state call = random_state();
    call.r[HOOKS_RAX] = SYS_read;
    call.r[HOOKS_RDI] = (uint64_t)pipe_ends[0];
    call.r[HOOKS_RSI] = (uint64_t)&byte;
    call.r[HOOKS_RDX] = 1;
    hooks_run(&call, hooks_syscall);
    setitimer(ITIMER_REAL, &never, NULL);
    assert_int_equal(call.r[HOOKS_RAX], 1);
    assert_int_equal(byte, 'x');
    assert_true(alarms >= 2);
    end();
}

static void rooms_are_used_up(void **state)
{
    (void)state;
    struct tl_plan_options options = {.arena_bytes = 2 * PAGE_BYTES};
    struct hooks_state start = random_state(), result;
    add_site(hooks_lea, &sites[0]);
    sites[0].hook = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 3};
    go(&options);
    assert_int_equal(planned.plan.room_count, 1);
    struct tl_plan_room room = planned.plan.rooms[0];
    uint64_t used = sites[0].trampoline + sites[0].trampoline_size;
    assert_int_equal(room.gate, sites[0].hook.gate);
    assert_int_equal(room.addr, used);
    assert_int_equal(room.addr + room.size, planned.plan.maps[0].addr + 2 * PAGE_BYTES);
    end_with(true);
    struct tl_plan_room rooms[] = {{room.gate, used, 8}, room};
    options.rooms = rooms;
    options.room_count = 2;
    add_site(hooks_lea, &sites[0]);
    sites[0].hook = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 4};
    go(&options);
    assert_int_equal(planned.plan.fill_count, 1);
    assert_int_equal(planned.plan.map_count + planned.plan.gate_count, 0);
    assert_true(sites[0].trampoline >= used && sites[0].trampoline < used + 16);
    assert_int_equal(planned.plan.room_count, 2);
    assert_int_equal(planned.plan.rooms[0].size, 8);
    assert_int_equal(planned.plan.rooms[1].addr + planned.plan.rooms[1].size, room.addr + room.size);
    assert_int_equal(planned.plan.rooms[1].addr, sites[0].trampoline + sites[0].trampoline_size);
    run_both(&start, hooks_lea, &result);
    assert_int_equal(hooks_hits, 1);
    uint64_t original;
    int fix_rcx;
    assert_int_equal(
        tl_plan_locate(sites, 1, &planned.plan, sites[0].trampoline + sites[0].copy_at, &original, &fix_rcx), 0);
    assert_int_equal(original, (uint64_t)hooks_lea);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_find_the_program_as_it_is),
        cmocka_unit_test(hooks_behind_see_the_result),
        cmocka_unit_test(guards_are_asked),
        cmocka_unit_test(guards_that_know_ask_always),
        cmocka_unit_test(what_is_in_front_is_executed),
        cmocka_unit_test(children_come_back_in_the_program),
        cmocka_unit_test(interrupted_calls_begin_again),
        cmocka_unit_test(rooms_are_used_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
