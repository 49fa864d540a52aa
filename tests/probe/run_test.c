/* SPDX-License-Identifier: MIT
 *
 * Plans carried out in a process of our own, and the probed functions run: they must do what they did.
 *
 * - every instruction displaced, with nothing in front and with a hook that is switched off
 * - every other instruction displaced, and somebody's breakpoint on each of those between that a jump runs into: each
 *   site still gets to its trampoline, and the breakpoints trap where they stand
 * - sites far enough apart for the instructions behind to be copied with them
 * - every instruction a breakpoint, and every one without exception by all tactics together
 * - with the text put back all is as before
 *
 * Linked twice: position independent, and not, where the planner has to make do without room below.
 */
#include "kit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "live.h"
#include "process.h"

enum { SITES_MAX = 8000, SEEDS = 40, SEEDS_WITH_TRAPS = 1, BREAKPOINT = 0xcc };
static const uint32_t traps_only = 1u << TL_TACTIC_INT3, all_tactics = UINT32_MAX;

/* What is seen to about others' breakpoints: nothing; room for them; or they are there. */
enum others { UNGUARDED, GUARDED, BREAKPOINTS };

uint64_t subject_fast(uint64_t seed);
uint64_t subject_small(uint64_t seed);
uint64_t subject_plain(uint64_t seed);
extern uint8_t __start_subject[], __stop_subject[];

static uint8_t original[1 << 16];
static volatile size_t traps;

static uint64_t run_all(uint64_t seeds)
{
    uint64_t sum = 0;
    for (uint64_t seed = 0; seed < seeds; seed++)
        sum = sum * 31 + subject_fast(seed) + subject_small(seed) * 3 + subject_plain(seed) * 7;
    return sum;
}

/* A breakpoint of somebody's: take it out and go on. */
static void on_trap(void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint8_t *at = (uint8_t *)registers[REG_RIP] - 1;
    if (at < __start_subject || at >= __stop_subject || *at != BREAKPOINT)
        _exit(10);
    *at = original[at - __start_subject];
    registers[REG_RIP]--;
    traps++;
}

static size_t make_sites(struct tl_site *sites, const struct text *text, unsigned step, enum tl_hook_kind hook)
{
    struct tl_insn insn;
    size_t count = 0, number = 0;
    for (size_t at = 0; at < text->size && count < SITES_MAX; at += insn.length) {
        if (tl_insn_decode(text->bytes + at, text->size - at, text->addr + at, &insn))
            _exit(11);
        if (number++ % step)
            continue;
        site_at(text, text->addr + at, &sites[count]);
        sites[count].hook.kind = hook;
        sites[count].hook.index = (uint32_t)count;
        count++;
    }
    return count;
}

/* Breakpoints on the instructions that jumps run into; not on sites, and not where a jump is not guarded. */
static size_t set_breakpoints(const struct planned *planned)
{
    enum { NEAR = 9 };
    size_t set = 0;
    for (size_t i = 0; i + 1 < planned->site_count; i++) {
        const struct tl_site *site = &planned->sites[i];
        uint64_t until = planned->sites[i + 1].addr - site->addr;
        for (unsigned at = 1; at < NEAR && at < until; at++) {
            bool wanted = site->boundaries >> at & 1;
            for (size_t k = i + 1; k-- > 0 && site->addr + at - planned->sites[k].addr < NEAR;)
                wanted = wanted && (planned->sites[k].why != TL_WHY_NONE || planned->sites[k].guarded);
            if (wanted)
                *(uint8_t *)(site->addr + at) = BREAKPOINT;
            set += wanted;
        }
    }
    return set;
}

static size_t jumps_by_pointer(const struct tl_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->write_count; i++)
        count += plan->writes[i].length >= 3 && !memcmp(plan->writes[i].new_bytes, "\x67\xff\x25", 3);
    return count;
}

/* In a child: plan for the address space as it is, carry it out, run, take it back, run. The exit status. */
static int try(unsigned step, enum tl_hook_kind hook, enum others others, uint32_t tactics, uint64_t expected)
{
    static struct tl_site sites[SITES_MAX];
    uint64_t seeds = tactics == traps_only ? SEEDS_WITH_TRAPS : SEEDS;
    size_t size = (size_t)(__stop_subject - __start_subject), set = 0;
    memcpy(original, __start_subject, size);
    struct text text = {(uint64_t)__start_subject, original, size};
    struct planned planned = {.text = &text, .sites = sites};
    planned.site_count = make_sites(sites, &text, step, hook);
    struct tl_area *areas = areas_of(getpid(), &planned.area_count);
    planned.areas = areas;
    struct tl_plan_options options = {
        .tactics = tactics, .max_mappings = 60000, .guard_breakpoints = others != UNGUARDED};
    if (tl_plan_build(sites, planned.site_count, areas, planned.area_count, &options, &planned.plan))
        return 15;
    const char *message = check_plan(&planned);
    if (message) {
        fprintf(stderr, "%s\n", message);
        return 16;
    }
    size_t beyond = planned.plan.trampoline_count - planned.plan.planned;
    printf("%zu sites, %zu planned, %zu guarded, %zu come back behind their jumps, %zu mappings\n", planned.site_count,
           planned.plan.planned, planned.plan.guarded, beyond, planned.plan.map_count);
    fflush(stdout);
    if (others == UNGUARDED ? beyond != 0 : beyond < planned.plan.guarded / 8)
        return 23;
    if (text.addr < UINT32_MAX && !tactics && !jumps_by_pointer(&planned.plan))
        return 22;
    if (planned.plan.planned * 100 < planned.site_count * (tactics ? 100 : 90))
        return 17;
    int failed = live_map(&planned.plan);
    if (!failed)
        failed = live_open_text(text.addr, size);
    if (!failed)
        failed = live_traps(sites, planned.site_count, on_trap);
    if (failed)
        return failed;
    live_write(&planned.plan);
    if (others == BREAKPOINTS)
        set = set_breakpoints(&planned);
    if (run_all(seeds) != expected)
        return 19;
    if (tactics == traps_only && live_trap_count < 10000)
        return 24;
    if (others == BREAKPOINTS && (set < 100 || traps < set / 2))
        return 20;
    live_take_back(&planned.plan);
    return run_all(seeds) == expected ? 0 : 21;
}

static void in_child(unsigned step, enum tl_hook_kind hook, enum others others, uint32_t tactics)
{
    uint64_t expected = run_all(tactics == traps_only ? SEEDS_WITH_TRAPS : SEEDS);
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGILL, SIG_DFL);
        _exit(try(step, hook, others, tactics, expected));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void every_instruction_displaced(void **state)
{
    (void)state;
    in_child(1, TL_HOOK_NONE, UNGUARDED, 0);
}

static void every_instruction_with_a_hook_that_is_off(void **state)
{
    (void)state;
    in_child(1, TL_HOOK_ENTER, UNGUARDED, 0);
}

static void breakpoints_of_others_between(void **state)
{
    (void)state;
    in_child(2, TL_HOOK_NONE, BREAKPOINTS, 0);
    in_child(3, TL_HOOK_ENTER, BREAKPOINTS, 0);
    in_child(5, TL_HOOK_NONE, BREAKPOINTS, 0);
}

static void instructions_behind_copied(void **state)
{
    (void)state;
    in_child(4, TL_HOOK_NONE, GUARDED, 0);
    in_child(5, TL_HOOK_ENTER, GUARDED, 0);
    in_child(7, TL_HOOK_NONE, GUARDED, 0);
}

static void every_instruction_by_a_trap(void **state)
{
    (void)state;
    in_child(1, TL_HOOK_NONE, UNGUARDED, traps_only);
    in_child(1, TL_HOOK_ENTER, UNGUARDED, traps_only);
}

static void every_instruction_by_whatever_there_is(void **state)
{
    (void)state;
    in_child(1, TL_HOOK_ENTER, UNGUARDED, all_tactics);
    in_child(2, TL_HOOK_NONE, BREAKPOINTS, all_tactics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_displaced),   cmocka_unit_test(every_instruction_with_a_hook_that_is_off),
        cmocka_unit_test(breakpoints_of_others_between), cmocka_unit_test(instructions_behind_copied),
        cmocka_unit_test(every_instruction_by_a_trap),   cmocka_unit_test(every_instruction_by_whatever_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
