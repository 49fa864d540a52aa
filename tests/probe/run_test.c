/* SPDX-License-Identifier: MIT
 *
 * Plans carried out in a process of our own, and the probed functions run: they must do what they did.
 *
 * - every instruction displaced, with nothing in front and with a hook that is switched off
 * - every other instruction displaced, and somebody's breakpoint on each of those between that a jump runs into: each
 *   site still gets to its trampoline, and the breakpoints trap where they stand
 * - sites far enough apart for the instructions behind to be copied with them
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

#include "process.h"

enum { SITES_MAX = 8000, SEEDS = 40, BREAKPOINT = 0xcc };

/* What is seen to about others' breakpoints: nothing; room for them; or they are there. */
enum others { UNGUARDED, GUARDED, BREAKPOINTS };

uint64_t subject_fast(uint64_t seed);
uint64_t subject_small(uint64_t seed);
uint64_t subject_plain(uint64_t seed);
extern uint8_t __start_subject[], __stop_subject[];

static uint8_t original[1 << 16];
static volatile size_t traps;

static uint64_t run_all(void)
{
    uint64_t sum = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        sum = sum * 31 + subject_fast(seed) + subject_small(seed) * 3 + subject_plain(seed) * 7;
    return sum;
}

/* A breakpoint of somebody's: take it out and go on. */
static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
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

static int map_plan(const struct tl_plan *plan)
{
    const int fixed = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
    int pool = memfd_create("pool", MFD_CLOEXEC);
    if (pool < 0 || write(pool, plan->pool, plan->pool_size) != (ssize_t)plan->pool_size)
        return 12;
    for (size_t i = 0; i < plan->map_count; i++) {
        const struct tl_plan_map *map = &plan->maps[i];
        if (mmap((void *)map->addr, map->size, PROT_READ | PROT_EXEC, fixed, pool, (off_t)map->pool) !=
            (void *)map->addr)
            return 13;
    }
    for (size_t i = 0; i < plan->gate_count; i++)
        if (mmap((void *)plan->gates[i].addr, PAGE_BYTES, PROT_READ | PROT_WRITE, fixed | MAP_ANONYMOUS, -1, 0) !=
            (void *)plan->gates[i].addr)
            return 14;
    return 0;
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
static int try(unsigned step, enum tl_hook_kind hook, enum others others, uint64_t expected)
{
    static struct tl_site sites[SITES_MAX];
    size_t size = (size_t)(__stop_subject - __start_subject), set = 0;
    memcpy(original, __start_subject, size);
    struct text text = {(uint64_t)__start_subject, original, size};
    struct planned planned = {.text = &text, .sites = sites};
    planned.site_count = make_sites(sites, &text, step, hook);
    struct tl_area *areas = areas_of(getpid(), &planned.area_count);
    planned.areas = areas;
    struct tl_plan_options options = {.max_mappings = 60000, .guard_breakpoints = others != UNGUARDED};
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
    if (text.addr < UINT32_MAX && !jumps_by_pointer(&planned.plan))
        return 22;
    if (planned.plan.planned * 100 < planned.site_count * 90)
        return 17;
    int failed = map_plan(&planned.plan);
    uint64_t page = text.addr / PAGE_BYTES * PAGE_BYTES;
    if (failed || mprotect((void *)page, text.addr + size - page, PROT_READ | PROT_WRITE | PROT_EXEC))
        return failed ? failed : 18;
    for (size_t i = 0; i < planned.plan.write_count; i++)
        memcpy((void *)planned.plan.writes[i].addr, planned.plan.writes[i].new_bytes, planned.plan.writes[i].length);
    if (others == BREAKPOINTS)
        set = set_breakpoints(&planned);
    if (run_all() != expected)
        return 19;
    if (others == BREAKPOINTS && (set < 100 || traps < set / 2))
        return 20;
    for (size_t i = planned.plan.write_count; i-- > 0;)
        memcpy((void *)planned.plan.writes[i].addr, planned.plan.writes[i].old_bytes, planned.plan.writes[i].length);
    return run_all() == expected ? 0 : 21;
}

static void in_child(unsigned step, enum tl_hook_kind hook, enum others others)
{
    uint64_t expected = run_all();
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
        signal(SIGSEGV, SIG_DFL);
        signal(SIGILL, SIG_DFL);
        sigaction(SIGTRAP, &action, NULL);
        _exit(try(step, hook, others, expected));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void every_instruction_displaced(void **state)
{
    (void)state;
    in_child(1, TL_HOOK_NONE, UNGUARDED);
}

static void every_instruction_with_a_hook_that_is_off(void **state)
{
    (void)state;
    in_child(1, TL_HOOK_ENTER, UNGUARDED);
}

static void breakpoints_of_others_between(void **state)
{
    (void)state;
    in_child(2, TL_HOOK_NONE, BREAKPOINTS);
    in_child(3, TL_HOOK_ENTER, BREAKPOINTS);
    in_child(5, TL_HOOK_NONE, BREAKPOINTS);
}

static void instructions_behind_copied(void **state)
{
    (void)state;
    in_child(4, TL_HOOK_NONE, GUARDED);
    in_child(5, TL_HOOK_ENTER, GUARDED);
    in_child(7, TL_HOOK_NONE, GUARDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_displaced),
        cmocka_unit_test(every_instruction_with_a_hook_that_is_off),
        cmocka_unit_test(breakpoints_of_others_between),
        cmocka_unit_test(instructions_behind_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
