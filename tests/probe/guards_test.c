/* SPDX-License-Identifier: MIT
 *
 * Guards of system calls, found in whole files.
 *
 *     guards_test LIBRARY PROGRAM...
 *
 * - every system call that objdump sees is seen, and no others (the return from signal handlers excepted, whose unwind
 *   information may begin in the middle of an instruction)
 * - what is told of a system call by a look at what is in front is what following the whole function tells
 * - what objdump shows to have a number of interest right in front of it is guarded, and what has another is not
 * - in live processes (the programs, bash, python3) all guards get their jumps, and what follows them stays right when
 *   breakpoints are set there
 * - where all that a guard's jump may come down on is taken, it goes to the instruction in front, if there is one
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "check.h"
#include "probe/constants.h"
#include "probe/guards.h"
#include "process.h"

enum { CALLS_MAX = 20000 };

static int failures;

static void expect(bool good, const char *what, const char *file, uint64_t addr)
{
    if (good)
        return;
    printf("FAILED %s: %s at %#" PRIx64 "\n", file, what, addr);
    failures++;
}

static int read_file_text(void *host, uint64_t addr, void *bytes, size_t size)
{
    size_t available;
    const uint8_t *text = tl_object_text(host, addr, &available);
    if (!text || available < size)
        return -EFAULT;
    memcpy(bytes, text, size);
    return 0;
}

struct call {
    uint64_t addr;
    long number; /* -1: not right in front */
};

/* "  401000:\tmov    $0xd,%eax", "syscall" */
static size_t objdump(const char *path, struct call calls[CALLS_MAX])
{
    char command[600], line[600];
    snprintf(command, sizeof command, "objdump -d --no-show-raw-insn '%s'", path);
    FILE *pipe = popen(command, "r");
    size_t count = 0;
    long number = -1;
    while (pipe && fgets(line, sizeof line, pipe)) {
        char *tab = strchr(line, '\t'), *rest;
        uint64_t addr = strtoull(line, &rest, 16);
        unsigned value;
        if (!tab || rest == line || *rest != ':')
            continue;
        if (!strncmp(tab + 1, "syscall", 7) && count < CALLS_MAX)
            calls[count++] = (struct call){addr, number};
        number = sscanf(tab + 1, "mov $%x,%%", &value) == 1 && (strstr(tab, ",%eax") || strstr(tab, ",%rax"))
                     ? (long)value
                     : -1;
    }
    if (!pipe || pclose(pipe)) {
        printf("FAILED: objdump of %s\n", path);
        failures++;
    }
    return count;
}

static bool is_wanted(long number)
{
    return number < TL_GUARDED_END && tl_guarded_numbers[number / 64] >> number % 64 & 1;
}

/* Whether the file's unwind tables know signal frames. Where they do not, the restorer's bytes have to stay. */
static bool has_signal_frames(const char *path)
{
    char command[512], line[256];
    bool found = false;
    snprintf(command, sizeof command, "readelf --debug-dump=frames '%s' 2>/dev/null", path);
    FILE *pipe = popen(command, "re");
    while (pipe && fgets(line, sizeof line, pipe))
        found |= strstr(line, "Augmentation:") && strstr(line, "\"zRS\"");
    expect(pipe, "readelf", path, 0);
    if (pipe)
        pclose(pipe);
    return found;
}

static void compare(const char *path)
{
    static struct call calls[CALLS_MAX];
    struct tl_module module = {.path = (char *)path};
    struct tl_guards guards = {.stacks = true};
    struct tl_error error;
    size_t count = objdump(path, calls), found = 0, asking = 0, unguarded = 0, restorers = 0;
    if (tl_object_open(path, NULL, &module.object, &error)) {
        expect(false, error.text, path, 0);
        return;
    }
    bool has_frames = has_signal_frames(path);
    module.end = count ? calls[count - 1].addr + 2 : 0;
    expect(!tl_guards_of_module(&module, read_file_text, module.object, &guards), "out of memory", path, 0);
    expect(guards.refused == TL_WHY_NONE, tl_why_text((enum tl_why)guards.refused), path, guards.refused_addr);
    for (size_t i = 0; i < count; i++) {
        const struct tl_site *site = NULL;
        for (size_t k = 0; k < guards.count && !site; k++)
            site = guards.sites[k].addr + guards.sites[k].guard_at == calls[i].addr ? &guards.sites[k] : NULL;
        found += site != NULL;
        asking += site && site->guard == TL_GUARD_ASK;
        restorers += calls[i].number == SYS_rt_sigreturn;
        if (calls[i].number == SYS_rt_sigreturn) {
            expect((site && site->guard == TL_GUARD_RETURN) == has_frames, "a restorer", path, calls[i].addr);
            continue;
        }
        if (calls[i].number < 0)
            continue;
        if (is_wanted(calls[i].number))
            expect(site, "no guard", path, calls[i].addr);
        else
            unguarded += site == NULL;
    }
    expect(guards.seen == count && restorers == 1, "another number of system calls", path, guards.seen);
    expect(found == guards.count, "guards where objdump sees no system call", path, found);
    expect(count > 5 && guards.count > 0, "next to nothing found", path, 0);
    printf("%-28s %4zu system calls, %3zu guarded, %3zu of them ask; %zu of no interest\n", path, count, guards.count,
           asking, unguarded);
    tl_guards_free(&guards);
    tl_object_close(module.object);
}

/* Both ways of finding numbers, on one function; how many calls the shorter one tells. */
static size_t compare_ways(const char *path, const struct tl_object *object, const struct tl_function *function)
{
    enum { PARTS_MAX = 8, NEAR = 48 };
    struct tl_part parts[PARTS_MAX];
    struct tl_range ranges[PARTS_MAX];
    struct tl_sweep sweeps[PARTS_MAX];
    struct tl_system_call *calls;
    size_t count = tl_object_parts(object, function, parts, PARTS_MAX), call_count, available, told = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes = tl_object_text(object, parts[i].addr, &available);
        ranges[i] = (struct tl_range){parts[i].addr, parts[i].size < available ? parts[i].size : available, bytes};
        expect(bytes && !tl_sweep_range(&ranges[i], NULL, 0, &sweeps[i]), "cannot be swept", path, parts[i].addr);
    }
    expect(!tl_system_calls(ranges, sweeps, count, &calls, &call_count), "out of memory", path, function->addr);
    for (size_t i = 0; i < call_count; i++) {
        struct tl_system_call straight, *whole = &calls[i];
        expect(tl_is_system_call(ranges, sweeps, count, whole->addr + whole->prefixes), "none", path, whole->addr);
        if (!tl_straight_system_call(ranges, sweeps, count, whole->addr, &straight))
            continue;
        tl_straight_beginning(ranges, sweeps, count, &straight);
        expect(whole->known && whole->number == straight.number, "two numbers", path, whole->addr);
        expect(straight.entered == whole->entered ||
                   (straight.entered > whole->entered && whole->addr - straight.entered >= NEAR),
               "two beginnings", path, whole->addr);
        told++;
    }
    for (size_t i = 0; i < count; i++)
        tl_sweep_free(&sweeps[i]);
    free(calls);
    return told;
}

static void compare_all_ways(const char *path)
{
    struct tl_object *object;
    struct tl_error error;
    size_t count, told = 0;
    if (tl_object_open(path, NULL, &object, &error)) {
        expect(false, error.text, path, 0);
        return;
    }
    const struct tl_function *functions = tl_object_functions(object, &count);
    for (size_t i = 0; i < count; i++)
        told += compare_ways(path, object, &functions[i]);
    expect(told > 5 || count < 100, "next to nothing told", path, told);
    tl_object_close(object);
}

static int read_process(void *host, uint64_t addr, void *bytes, size_t size)
{
    FILE *memory = host;
    return fseeko(memory, (off_t)addr, SEEK_SET) || fread(bytes, 1, size, memory) != size ? -EFAULT : 0;
}

static int by_start(const void *left, const void *right)
{
    const struct tl_area *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Nothing between is free any more. */
static void occupy(struct tl_area *areas, size_t *count, uint64_t start, uint64_t end)
{
    uint64_t at = start & ~4095ull;
    size_t before = *count;
    for (size_t i = 0; i < before && at < end; i++) {
        if (areas[i].end <= at)
            continue;
        if (areas[i].start > at)
            areas[(*count)++] = (struct tl_area){.start = at, .end = areas[i].start < end ? areas[i].start : end};
        at = areas[i].end;
    }
    if (at < end)
        areas[(*count)++] = (struct tl_area){.start = at, .end = end};
    for (size_t i = before; i < *count; i++)
        areas[i].end = (areas[i].end + 4095) & ~4095ull;
    qsort(areas, *count, sizeof *areas, by_start);
}

/* All that a jump on the system call may come down on: e9 xx and the three bytes behind; with prefixes, one byte less
 * to choose. */
static void occupy_landings(struct tl_area *areas, size_t *count, const struct tl_site *site)
{
    int32_t rel;
    memcpy(&rel, site->text + 1, 4);
    uint64_t target = site->addr + 5 + (uint64_t)(int64_t)(rel & ~0xff);
    occupy(areas, count, target, target + 256 + 16);
    memcpy(&rel, site->text + 2, 4);
    target = site->addr + 6 + (uint64_t)(int64_t)rel;
    occupy(areas, count, target, target + 16);
}

/* The guards that can go elsewhere have to. */
static void crowd_out(const char *const argv[], struct tl_guards *guards, const struct tl_area *free_areas,
                      size_t area_count)
{
    struct tl_plan_options options = {.max_mappings = 30000};
    struct tl_plan plan;
    uint64_t missing = 0;
    struct tl_area *areas = calloc(area_count + 8 * guards->lead_count + 1, sizeof *areas);
    memcpy(areas, free_areas, area_count * sizeof *areas);
    for (size_t i = 0; i < guards->lead_count; i++) {
        for (size_t k = 0; k < guards->count; k++) {
            if (guards->sites[k].addr == guards->leads[i].addr + guards->leads[i].guard_at)
                occupy_landings(areas, &area_count, &guards->sites[k]);
        }
    }
    size_t leads = guards->lead_count, in_front = 0, rounds = 0;
    for (;; rounds++) {
        expect(!tl_plan_build(guards->sites, guards->count, areas, area_count, &options, &plan), "no plan", argv[0], 0);
        if (!tl_guards_retreat(guards, guards->sites, guards->count))
            break;
        tl_plan_free(&plan);
    }
    enum tl_why why = tl_guards_missing(guards->sites, guards->count, &missing);
    for (size_t i = 0; i < guards->count; i++)
        in_front += guards->sites[i].guard_at != 0;
    expect(why == TL_WHY_NONE, tl_why_text(why), argv[0], missing);
    expect(leads == 0 || (rounds > 0 && in_front > 0), "no guard had to go", argv[0], 0);
    printf("%-28s %4zu guards, %zu of them in front of their system call, as nothing else is free\n", argv[0],
           guards->count, in_front);
    tl_plan_free(&plan);
    free(areas);
}

/* All modules of a process: found, planned, and none missing. */
static void place(const char *const argv[], bool with_neighbours)
{
    struct child child;
    struct tl_modules modules;
    struct tl_guards guards = {0};
    struct tl_error error;
    char path[64];
    if (child_start(&child, argv)) {
        expect(false, "cannot be started", argv[0], 0);
        return;
    }
    snprintf(path, sizeof path, "/proc/%d/mem", (int)child.pid);
    FILE *memory = fopen(path, "re");
    size_t area_count;
    struct tl_area *areas = areas_of(child.pid, &area_count);
    if (!memory || !areas || tl_modules_read(child.pid, &modules, &error)) {
        expect(false, "cannot be read", argv[0], 0);
        return;
    }
    setvbuf(memory, NULL, _IONBF, 0);
    expect(!tl_guards_find(&modules, read_process, memory, &guards), "out of memory", argv[0], 0);
    expect(guards.refused == TL_WHY_NONE, tl_why_text((enum tl_why)guards.refused), argv[0], guards.refused_addr);
    struct tl_plan_options options = {.max_mappings = 30000, .tactics = UINT32_MAX};
    struct tl_plan plan;
    size_t count = 0, guarded = 0, punned = 0, traps = 0, leads = 0, conflicts = 0;
    struct tl_site *sites = calloc(2 * guards.count + 1, sizeof *sites);
    for (size_t i = 0; i < guards.count && with_neighbours; i++) { /* what follows each is probed too */
        unsigned at = guards.sites[i].guard_at + 2u;
        if (guards.sites[i].addr % 4096 + at >= 4096)
            continue;
        sites[count].addr = guards.sites[i].addr + at;
        sites[count].text_length = (uint8_t)(guards.sites[i].text_length - at);
        memcpy(sites[count].text, guards.sites[i].text + at, sites[count].text_length);
        sites[count].boundaries = guards.sites[i].boundaries >> at;
        sites[count++].hook.kind = TL_HOOK_ENTER;
    }
    expect(!tl_guards_merge(&guards, &sites, &count), "out of memory", argv[0], 0);
    expect(!tl_plan_build(sites, count, areas, area_count, &options, &plan), "no plan", argv[0], 0);
    uint64_t missing = 0;
    enum tl_why why = tl_guards_missing(sites, count, &missing);
    expect(why == TL_WHY_NONE, tl_why_text(why), argv[0], missing);
    for (size_t i = 0; i < count; i++) {
        if (sites[i].why == TL_WHY_CONFLICT && !sites[i].guard) /* behind one that is not safe from breakpoints */
            conflicts++;
        else
            expect(sites[i].why == TL_WHY_NONE, tl_why_text((enum tl_why)sites[i].why), argv[0], sites[i].addr);
        expect(!sites[i].guard || sites[i].tactic != TL_TACTIC_INT3, "a guard that is an int3", argv[0], sites[i].addr);
        guarded += sites[i].guard && (sites[i].guarded || sites[i].guard_at);
        leads += sites[i].guard_at != 0;
        punned += sites[i].guard && sites[i].beyond;
        traps += sites[i].tactic == TL_TACTIC_INT3;
    }
    printf("%-28s %4zu system calls, %3zu guards in place, %zu safe from breakpoints, %zu come back behind, "
           "%zu in front; %zu int3\n",
           argv[0], guards.seen, guards.count, guarded, punned, leads, traps);
    expect(guarded >= guards.count - guards.count / 20 && conflicts <= guards.count - guarded,
           "not all safe from breakpoints", argv[0], 0);
    tl_plan_free(&plan);
    free(sites);
    if (!with_neighbours)
        crowd_out(argv, &guards, areas, area_count);
    free(areas);
    fclose(memory);
    tl_guards_free(&guards);
    tl_modules_free(&modules);
    child_end(&child);
}

int main(int argc, char **argv)
{
    static const char *const bash[] = {"/bin/bash", "-c", "echo; read x", NULL};
    static const char *const python[] = {"/usr/bin/python3", "-c",
                                         "import ssl, sqlite3, sys; print(flush=True); sys.stdin.read()", NULL};
    for (int i = 1; i < argc; i++) {
        const char *const program[] = {argv[i], NULL};
        compare(argv[i]);
        compare_all_ways(argv[i]);
        if (i == 1)
            continue;
        place(program, false);
        place(program, true);
    }
    place(bash, false);
    place(python, false);
    place(bash, true);
    place(python, true);
    return failures != 0;
}
