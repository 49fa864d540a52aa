/* SPDX-License-Identifier: MIT
 *
 * How much of real programs can be probed, in the address spaces of live processes. Prints tables, and fails where less
 * is reached than is promised.
 *
 * - instructions, each taken alone; a sample of them also by planning
 * - all function entries of libc at once: probes, and what they cost in memory and mappings
 * - every instruction of a function at once, for 500 functions
 * - the same with int3: what is left out then is left out on purpose, and is at most one in a thousand
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../spec/chance.h"
#include "check.h"
#include "insn/sweep.h"
#include "probe/site.h"
#include "probe/tactic.h"
#include "process.h"
#include "symbol/symbol.h"

enum { SAMPLE = 400, FUNCTIONS = 500, PAGE = 4096, MAPPINGS = 60000, REGION = 2 << 20 };

/* A file mapped into a process. */
struct subject {
    const char *name, *file; /* `file`: how the name of the file that is mapped begins */
    double promised;         /* percent of its instructions */
    const struct tl_module *module;
    const struct tl_area *areas;
    size_t area_count;
};

static int failures, shortfalls;

static void expect(bool holds, const char *what, const char *name)
{
    if (!holds)
        fprintf(stderr, "FAILED: %s: %s\n", name, what);
    failures += !holds;
}

/* A share that depends on where chance has put the heap and the libraries: see main. */
static void promise(bool holds, const char *what, const char *name)
{
    if (!holds)
        fprintf(stderr, "%s: %s\n", name, what);
    shortfalls += !holds;
}

/* The text that holds a function's address, as it is in the process. */
static bool text_at(const struct subject *subject, uint64_t addr, struct text *text)
{
    size_t size;
    const uint8_t *bytes = tl_object_text(subject->module->object, addr, &size);
    *text = (struct text){addr + subject->module->bias, (uint8_t *)bytes, size};
    return bytes && size > 0;
}

/* Where instructions begin in a function; live addresses. */
static bool sweep(const struct subject *subject, const struct tl_function *function, struct text *text,
                  struct tl_sweep *swept)
{
    if (!text_at(subject, function->addr, text))
        return false;
    struct tl_range range = {text->addr, function->size < text->size ? function->size : text->size, text->bytes};
    return range.size && !tl_sweep_range(&range, NULL, 0, swept);
}

/* Plan for one site and say whether it is taken. */
static enum tl_why plan_one(const struct subject *subject, const struct text *text, struct tl_site *site)
{
    struct tl_plan_options options = {.max_mappings = MAPPINGS};
    struct planned planned = {text, site, 1, subject->areas, subject->area_count, {0}};
    if (tl_plan_build(site, 1, planned.areas, planned.area_count, &options, &planned.plan))
        return TL_WHY_COUNT;
    struct text near = {site->addr, site->text, site->text_length};
    planned.text = &near;
    const char *message = check_plan(&planned);
    expect(!message, message ? message : "", subject->name);
    tl_plan_free(&planned.plan);
    return (enum tl_why)site->why;
}

static size_t file_text(void *context, uint64_t addr, uint8_t *bytes, size_t size)
{
    const struct subject *subject = context;
    size_t available;
    const uint8_t *text = tl_object_text(subject->module->object, addr - subject->module->bias, &available);
    if (!text)
        return 0;
    memcpy(bytes, text, size < available ? size : available);
    return size < available ? size : available;
}

/* By whatever there is, and where the site may be a site at all. */
static enum tl_why by_all_tactics(struct subject *subject, const struct tl_function *function,
                                  const struct tl_space *space, uint64_t addr)
{
    struct tl_site site = {.addr = addr};
    enum tl_why why = tl_site_inspect(subject->module, function, file_text, subject, &site);
    return why == TL_WHY_NONE ? tl_tactic_alone(space, &site, UINT32_MAX) : why;
}

/* What is left out, and why. */
static void tell_refused(const struct subject *subject, const size_t refused[TL_WHY_COUNT], size_t total)
{
    size_t all = 0;
    for (unsigned why = TL_WHY_NONE + 1; why < TL_WHY_COUNT; why++)
        all += refused[why];
    printf("%-12s %9zu with int3: refused %zu (%.4f %%)", subject->name, total, all,
           100.0 * (double)all / (double)total);
    for (unsigned why = TL_WHY_NONE + 1; why < TL_WHY_COUNT; why++)
        if (refused[why])
            printf("; %zu %s", refused[why], tl_why_text((enum tl_why)why));
    putchar('\n');
    expect(all * 1000 <= total, "more than one in a thousand refused", subject->name);
    static const enum tl_why never[] = {TL_WHY_NO_ROOM, TL_WHY_CONFLICT, TL_WHY_PAGE_CROSSING, TL_WHY_TRAP_INSN,
                                        TL_WHY_TACTIC};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        expect(!refused[never[i]], tl_why_text(never[i]), subject->name);
}

static void instructions_alone(struct subject *subject)
{
    struct tl_space space;
    struct chance chance = {1};
    size_t count, total = 0, in_place = 0, punned = 0, sampled = 0, agree = 0;
    size_t refused[TL_WHY_COUNT] = {0};
    uint64_t seen = 0;
    const struct tl_function *functions = tl_object_functions(subject->module->object, &count);
    if (tl_space_init(&space, subject->areas, subject->area_count, TL_KEEP_YIELD, 0x10000, 0x7ffffffff000))
        abort();
    for (size_t i = 0; i < count; i++) {
        struct text text;
        struct tl_sweep swept = {0};
        if (functions[i].addr < seen || !sweep(subject, &functions[i], &text, &swept))
            continue;
        seen = functions[i].addr + functions[i].size;
        for (uint64_t at = tl_sweep_next(&swept, text.addr); at; at = tl_sweep_next(&swept, at + 1)) {
            struct tl_site site = {.addr = at, .boundaries = 1};
            size_t known = text.size - (at - text.addr);
            site.text_length = known < sizeof site.text ? (uint8_t)known : sizeof site.text;
            memcpy(site.text, text.bytes + (at - text.addr), site.text_length);
            bool whole = tl_tactic_alone(&space, &site, 1u << TL_TACTIC_JUMP) == TL_WHY_NONE;
            bool any = whole || tl_tactic_alone(&space, &site, 0) == TL_WHY_NONE;
            total++;
            refused[by_all_tactics(subject, &functions[i], &space, at)]++;
            in_place += whole;
            punned += any && !whole;
            if (sampled >= SAMPLE || chance_below(&chance, any ? 400 : 8))
                continue;
            enum tl_why why = plan_one(subject, &text, &site);
            sampled++;
            agree += (why == TL_WHY_NONE) == any || why == TL_WHY_NO_SCRATCH;
        }
        tl_sweep_free(&swept);
    }
    tl_space_free(&space);
    double percent = total ? 100.0 * (double)(in_place + punned) / (double)total : 0;
    printf("%-12s %9zu %8.2f %% %8.2f %% %8.2f %%   (promised %.0f)   %zu of %zu plans agree\n", subject->name, total,
           100.0 * (double)in_place / (double)total, 100.0 * (double)punned / (double)total, percent, subject->promised,
           agree, sampled);
    tell_refused(subject, refused, total);
    expect(total > 10000, "too few instructions found", subject->name);
    promise(percent >= subject->promised, "fewer instructions can be probed than promised", subject->name);
    expect(agree == sampled && sampled > 50, "the quick answer and the plan differ", subject->name);
}

/* What a plan costs. */
struct cost {
    size_t virtual_pages, pool_pages, mappings, regions;
};

static struct cost cost_of(const struct tl_plan *plan)
{
    struct cost cost = {.pool_pages = plan->pool_size / PAGE, .mappings = plan->map_count + plan->gate_count};
    uint64_t last = 0;
    for (size_t i = 0; i < plan->map_count; i++) {
        uint64_t addr = plan->maps[i].addr, end = addr + plan->maps[i].size;
        cost.virtual_pages += plan->maps[i].size / PAGE;
        for (uint64_t region = addr / REGION; region <= (end - 1) / REGION; region++) {
            cost.regions += region != last;
            last = region;
        }
    }
    return cost;
}

/* How a table is made: what is seen to about others' breakpoints, and whether int3 is allowed. */
enum manner { PLAIN, GUARDED, WITH_INT3 };
static const char *const manners[] = {"plain", "guarded", "with int3"};

static struct tl_plan_options options_for(enum manner manner)
{
    return (struct tl_plan_options){.max_mappings = MAPPINGS,
                                    .guard_breakpoints = manner == GUARDED,
                                    .tactics = manner == WITH_INT3 ? UINT32_MAX : 0};
}

static void entries_at_once(const struct subject *subject, enum manner manner)
{
    size_t count, sites = 0;
    const struct tl_function *functions = tl_object_functions(subject->module->object, &count);
    struct planned planned = {.areas = subject->areas, .area_count = subject->area_count};
    planned.sites = calloc(count, sizeof *planned.sites);
    struct text all = {0}, text;
    for (size_t i = 0; i < count && planned.sites; i++) {
        uint64_t addr = functions[i].addr + subject->module->bias;
        if ((sites && planned.sites[sites - 1].addr == addr) || !text_at(subject, functions[i].addr, &text))
            continue;
        all = sites ? all : text;
        site_at(&text, addr, &planned.sites[sites++]);
    }
    planned.text = &all;
    planned.site_count = sites;
    struct tl_plan_options options = options_for(manner);
    bool guard = manner == GUARDED;
    if (tl_plan_build(planned.sites, sites, planned.areas, planned.area_count, &options, &planned.plan))
        abort();
    const char *message = check_plan(&planned);
    expect(!message, message ? message : "", subject->name);
    struct cost cost = cost_of(&planned.plan);
    double share = 100.0 * (double)planned.plan.planned / (double)sites;
    double taken = (double)planned.plan.planned;
    printf(
        "%-12s %-9s %6zu of %6zu %6.2f %%  guarded %6zu  pool pages %5zu (%.3f a probe)  landing and other pages %5zu "
        "(%.3f)  mappings %5zu  2 MiB regions %4zu\n",
        subject->name, manners[manner], planned.plan.planned, sites, share, planned.plan.guarded, cost.pool_pages,
        (double)cost.pool_pages / taken, cost.virtual_pages, (double)cost.virtual_pages / taken, cost.mappings,
        cost.regions);
    promise(share >= (manner == WITH_INT3 ? 99.9 : 97), "fewer function entries at once than promised", subject->name);
    expect((double)cost.pool_pages <= 0.5 * taken, "more than half a page a probe", subject->name);
    expect(guard || (double)cost.virtual_pages <= 0.6 * taken, "landing pages are scattered", subject->name);
    expect(!guard || (double)planned.plan.guarded >= 0.97 * taken, "too few guarded", subject->name);
    tl_plan_free(&planned.plan);
    free(planned.sites);
}

/* Every instruction of functions, one function a plan. */
static void whole_functions(const struct subject *subject, enum manner manner)
{
    size_t count, planned_functions = 0, total = 0, taken = 0, complete = 0, pages = 0;
    const struct tl_function *functions = tl_object_functions(subject->module->object, &count);
    struct chance chance = {7};
    while (planned_functions < FUNCTIONS) {
        const struct tl_function *function = &functions[chance_below(&chance, (unsigned)count)];
        struct text text;
        struct tl_sweep swept = {0};
        if (function->size < 32 || !sweep(subject, function, &text, &swept))
            continue;
        struct planned planned = {.text = &text, .areas = subject->areas, .area_count = subject->area_count};
        planned.sites = calloc(swept.instructions + 1, sizeof *planned.sites);
        for (uint64_t at = tl_sweep_next(&swept, text.addr); at; at = tl_sweep_next(&swept, at + 1))
            site_at(&text, at, &planned.sites[planned.site_count++]);
        if (text.size > function->size + sizeof planned.sites->text)
            text.size = function->size + sizeof planned.sites->text;
        struct tl_plan_options options = options_for(manner);
        if (tl_plan_build(planned.sites, planned.site_count, planned.areas, planned.area_count, &options,
                          &planned.plan))
            abort();
        const char *message = check_plan(&planned);
        expect(!message, message ? message : "", subject->name);
        planned_functions++;
        total += planned.site_count;
        taken += planned.plan.planned;
        complete += planned.plan.refused == 0;
        pages += planned.plan.pool_size / PAGE;
        tl_plan_free(&planned.plan);
        tl_sweep_free(&swept);
        free(planned.sites);
    }
    double share = total ? 100.0 * (double)taken / (double)total : 0;
    printf("%-12s %-9s %d functions, %zu of %zu instructions %6.2f %%, %zu functions whole, pool pages %.3f a probe\n",
           subject->name, manners[manner], FUNCTIONS, taken, total, share, complete, (double)pages / (double)taken);
    promise(share >= (manner == WITH_INT3 ? 99.9 : subject->promised), "fewer instructions at once than promised",
            subject->name);
}

/* A process with some of the subjects in it. */
struct process {
    struct child child;
    struct tl_modules modules;
    struct tl_area *areas;
    size_t area_count;
};

static bool begin(struct process *process, const char *const argv[])
{
    struct tl_error error;
    memset(process, 0, sizeof *process);
    if (child_start(&process->child, argv) || tl_modules_read(process->child.pid, &process->modules, &error))
        return false;
    process->areas = areas_of(process->child.pid, &process->area_count);
    return process->areas;
}

static void find(struct subject *subject, const struct process *process)
{
    for (size_t i = 0; i < process->modules.count; i++) {
        const struct tl_module *module = &process->modules.modules[i];
        const char *slash = strrchr(module->path, '/');
        if (slash && !strncmp(slash + 1, subject->file, strlen(subject->file)) && module->object)
            subject->module = module;
    }
    subject->areas = process->areas;
    subject->area_count = process->area_count;
    expect(subject->module, "not mapped", subject->name);
}

static void measure(struct subject subjects[5])
{
    printf("instructions, each alone      in place     punned      taken\n");
    for (int i = 0; i < 5; i++)
        instructions_alone(&subjects[i]);
    printf("\nall function entries at once\n");
    for (enum manner manner = PLAIN; manner <= WITH_INT3; manner++)
        entries_at_once(&subjects[1], manner);
    printf("\nevery instruction of a function at once\n");
    for (int i = 0; i < 5; i++)
        whole_functions(&subjects[i], PLAIN);
    whole_functions(&subjects[1], GUARDED);
    for (int i = 0; i < 5; i++)
        whole_functions(&subjects[i], WITH_INT3);
}

/* In a fresh bash and a fresh python3. */
static void in_processes(void)
{
    static const char *const bash[] = {"/bin/bash", "-c", "echo; read x", NULL};
    static const char *const python[] = {"/usr/bin/python3", "-c",
                                         "import ssl, sqlite3, sys; print(flush=True); sys.stdin.read()", NULL};
    struct process processes[2];
    if (!begin(&processes[0], bash) || !begin(&processes[1], python)) {
        fprintf(stderr, "bash and python3 are needed\n");
        exit(1);
    }
    struct subject subjects[] = {{.name = "bash", .file = "bash", .promised = 99},
                                 {.name = "libc", .file = "libc.so", .promised = 99},
                                 {.name = "libcrypto", .file = "libcrypto.so", .promised = 98},
                                 {.name = "libsqlite3", .file = "libsqlite3.so", .promised = 98},
                                 {.name = "python3", .file = "python3", .promised = 93}};
    for (int i = 0; i < 5; i++)
        find(&subjects[i], &processes[i > 1]);
    if (!failures)
        measure(subjects);
    for (int i = 0; i < 2; i++) {
        tl_modules_free(&processes[i].modules);
        free(processes[i].areas);
        child_end(&processes[i].child);
    }
}

/* A heap that the kernel happens to put right where many jumps come down is bad luck, once in some dozens of processes;
 * twice in a row it is not. */
int main(void)
{
    in_processes();
    if (!failures && shortfalls) {
        printf("\nAgain, with other addresses\n\n");
        shortfalls = 0;
        in_processes();
    }
    return failures || shortfalls;
}
