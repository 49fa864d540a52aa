/* SPDX-License-Identifier: MIT
 *
 * The tool plans outside and lets go: symbols, decoding and planning happen here, while the target runs (or, just
 * launched, is held); it is stopped only while a finished plan is carried out. If meanwhile the target has mapped
 * something where the plan wanted to, the plan is made again; if code has gone or changed, all begins anew with a look
 * at what is loaded. A program that leaves no time for that is held from the look to the deed in the end.
 */
#include "placing.h"
#include "stacks.h"

#include "base/now.h"
#include "hit/blob.h"
#include "trace/clock.h"

#include <cpuid.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PLAN_TRIES = 6,
    LOOK_TRIES = 6,
    TRIES_RUNNING = 3, /* of either; then it is held */
    RING_BYTES_TRACE = 1 << 21,
    RING_BYTES_STACKS = 1 << 23, /* a thousand events with a stack */
    RING_BYTES_COUNT = 4096,
    POOL_BYTES_A_SITE = 256,
    POOL_BYTES_SPARE = 1 << 18,
    REMOVE_PATIENCE_MS = 2000,
    MAPPINGS_SPARE = 1000,    /* left to the program */
    GUARDED_SITES_MAX = 20000 /* room for debuggers, without which hits are slower, costs mappings: twice as many */
};
/* Room that the heap and the stack may still want to grow into. */
static const uint64_t heap_growth = 256ull << 20, stack_growth = 128ull << 20;
static const uint64_t lowest_address = 0x10000, highest_address = 0x7ffffffff000;

/* With --block: how long the program waits for a reader that shows no life. About three seconds at 3 GHz. */
static const uint64_t reader_dead_ticks = 1ull << 33;

/* What is to be placed. */
struct wish {
    const struct options *options;
    const struct tl_spec *const *specs;
    size_t spec_count;
    bool count;
    struct spec_fate *fates; /* by spec; NULL: each has to name something here */
    bool again;              /* not the first try: what there is to say was said */
};

static int read_target(void *host, uint64_t addr, void *bytes, size_t size)
{
    return tl_remote_read(host, addr, bytes, size);
}

static void say_notice(void *context, bool detail, const char *text)
{
    const struct options *options = context;
    if (!options->quiet && (options->verbose || !detail))
        complain("%s", text);
}

void place_trouble(struct placed *placed, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(placed->trouble, sizeof placed->trouble, format, args);
    va_end(args);
}

static int read_modules(struct placed *placed)
{
    struct tl_error error;
    if (tl_modules_read(tl_remote_facts(placed->remote)->pid, &placed->modules, &error)) {
        place_trouble(placed, "%s", error.text);
        return EXIT_FAILED;
    }
    return 0;
}

/* 0 or -errno, with the reason and the spec that is to blame. */
static int select_probes(struct placed *placed, const struct wish *wish, const struct tl_spec *const *specs,
                         size_t spec_count, size_t *failed, struct tl_error *error)
{
    const struct options *options = wish->options;
    struct tl_select_options select = {.every_instruction = options->every_instruction,
                                       .read = read_target,
                                       .host = placed->remote,
                                       .notice = wish->again ? NULL : say_notice,
                                       .notice_context = (void *)(uintptr_t)options};
    return tl_select(specs, spec_count, &placed->modules, &select, &placed->selection, failed, error);
}

static uint32_t processors(void)
{
    long configured = sysconf(_SC_NPROCESSORS_CONF);
    return configured > 0 ? (uint32_t)configured : 1;
}

/* Intel SDM vol. 2A, CPUID: leaf 7, ECX bit 22. */
static bool has_rdpid(void)
{
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx >> 22 & 1);
}

static int assemble(struct placed *placed, const struct options *options, bool count)
{
    const struct tl_remote_facts *facts = tl_remote_facts(placed->remote);
    struct tl_assemble_options assemble = {.count = count,
                                           .pid = (uint32_t)facts->ns_pid,
                                           .tid_offset = facts->tid_offset,
                                           .fs_self = facts->fs_self && !facts->fsgsbase,
                                           .cpus = processors(),
                                           .stack_bytes = options->stacks ? STACKS_BYTES : 0,
                                           .ring_bytes = count             ? RING_BYTES_COUNT
                                                         : options->stacks ? RING_BYTES_STACKS
                                                                           : RING_BYTES_TRACE};
    assemble.flags = (options->block ? TL_HIT_BLOCK : 0u) | (facts->no_syscalls ? TL_HIT_NO_MEMORY : 0u) |
                     (facts->no_clock ? TL_HIT_NO_CLOCK : 0u) | (facts->fsgsbase ? TL_HIT_FSGSBASE : 0u) |
                     (assemble.fs_self ? TL_HIT_FS_SELF : 0u) | (has_rdpid() ? TL_HIT_RDPID : 0u);
    const struct tl_spec *failed;
    struct tl_error error;
    tl_assembly_free(&placed->assembly);
    if (placed->watches)
        return place_assemble_watches(placed, &assemble);
    if (tl_assemble(&placed->selection, &placed->modules, &assemble, &placed->assembly, &failed, &error)) {
        char text[4096];
        if (failed) {
            tl_spec_complain(failed->text, &error, text, sizeof text);
            fputs(text, stderr);
        } else
            place_trouble(placed, "%s", error.text);
        return failed ? EXIT_USAGE : EXIT_FAILED;
    }
    return 0;
}

/* The target's mappings as areas to keep out of, with room to grow for the heap and the stacks. */
static int read_areas(struct placed *placed, struct tl_area **areas, size_t *count)
{
    struct tl_remote_area *maps;
    struct tl_error error;
    if (tl_remote_areas(placed->remote, &maps, count, &error)) {
        place_trouble(placed, "%s", error.text);
        return EXIT_FAILED;
    }
    *areas = calloc(*count + 1, sizeof **areas); /* one more for the runtime */
    for (size_t i = 0; *areas && i < *count; i++) {
        struct tl_area area = {.start = maps[i].start, .end = maps[i].end};
        /* A program that has not asked for a heap yet will get it behind its own data. */
        if (!strcmp(maps[i].path, "[heap]") ||
            (placed->modules.count && !strcmp(maps[i].path, placed->modules.modules[0].path)))
            area.keep_above = heap_growth;
        else if (!strncmp(maps[i].path, "[stack", 6))
            area.keep_below = stack_growth;
        (*areas)[i] = area;
    }
    tl_remote_areas_free(maps);
    if (!*areas) {
        place_trouble(placed, "out of memory");
        return EXIT_FAILED;
    }
    return 0;
}

/* A free place for the runtime and what goes with it: in the middle of the largest gap, where no jump of a module needs
 * the room. It is added to the areas. */
static uint64_t place_runtime(struct tl_area *areas, size_t *count, uint64_t size)
{
    uint64_t largest = size + 2 * PAGE, addr = 0;
    size_t at = 0;
    for (size_t i = 0; i < *count; i++) {
        uint64_t floor = i ? areas[i - 1].end + areas[i - 1].keep_above : lowest_address;
        uint64_t ceiling = areas[i].start > areas[i].keep_below ? areas[i].start - areas[i].keep_below : 0;
        if (areas[i].end > highest_address || ceiling < floor || ceiling - floor < largest)
            continue;
        largest = ceiling - floor;
        addr = (floor + (largest - size) / 2) & ~(uint64_t)(PAGE - 1);
        at = i;
    }
    if (!addr)
        return 0;
    memmove(&areas[at + 1], &areas[at], (*count - at) * sizeof *areas);
    areas[at] = (struct tl_area){.start = addr, .end = addr + size};
    ++*count;
    return addr;
}

static size_t mappings_left(size_t used)
{
    size_t limit = (size_t)tl_kernel_setting("vm/max_map_count", 65530);
    return limit > used + MAPPINGS_SPARE ? limit - used - MAPPINGS_SPARE : 0;
}

static int make_region(struct placed *placed, struct tl_error *error)
{
    size_t pool = placed->selection.site_count * POOL_BYTES_A_SITE + POOL_BYTES_SPARE + tl_blob_size;
    return tl_remote_region(placed->remote, placed->assembly.layout->area_size, pool, &placed->region, error);
}

/* Room for all that is to be mapped. */
static int grow_pool(struct placed *placed, struct tl_error *error)
{
    struct tl_runtime runtime = {.size = tl_blob_size, .data_size = arming_data_size(&placed->arming)};
    size_t pool = tl_apply_pool_size(&placed->plan, &runtime);
    return pool > placed->region.pool_size ? tl_remote_grow_pool(placed->remote, pool, &placed->region, error) : 0;
}

/* The plan is made and there is room for it: into the target with it. */
static int carry_out(struct placed *placed)
{
    const struct arming *arming = &placed->arming;
    struct tl_runtime runtime = {.code = placed->blob, .size = tl_blob_size, .addr = arming->runtime};
    uint8_t *data = NULL;
    if (!arming->refused && !(data = arming_data(placed, &runtime.data_size)))
        return -ENOMEM;
    runtime.data = data;
    runtime.data_addr = arming->data;
    runtime.marker_addr = arming->marker;
    placed->assembly.layout->heartbeat = tl_clock_tsc();
    placed->assembly.layout->heartbeat_max = reader_dead_ticks;
    memcpy(placed->region.area, placed->assembly.image, placed->assembly.image_size);
    ((struct tl_hit_control *)placed->region.area)->pid = (uint32_t)tl_remote_facts(placed->remote)->ns_pid;
    if (placed->watches) {
        place_fill_table(placed);
        runtime.then = place_begin_watches;
        runtime.then_context = placed;
    }
    memcpy(placed->blob, tl_blob, tl_blob_size);
    tl_blob_prepare(placed->blob, placed->region.area_addr);
    if (data)
        tl_blob_set_broker(placed->blob, arming->data);
    runtime.gate = (struct tl_gate){.enter = runtime.addr + tl_blob_enter(),
                                    .counts = placed->region.area_addr + placed->assembly.layout->blocks,
                                    .claim = runtime.addr + tl_blob_claim()};
    int error = tl_apply(tl_remote_port(placed->remote), arming->sites, arming->site_count, &placed->plan, &runtime,
                         &placed->applied);
    placed->in_place = error == 0;
    free(data);
    return error;
}

/* Whether it may have been an unloaded library, and not somebody who has something against probes. */
static bool is_overtaken(int error)
{
    return error == -EBUSY || error == -EFAULT || error == -ENOTSUP;
}

/* One try: 0; an exit status; or -EEXIST, to try again, -ERESTART when probes had to be refused after all, and -ESTALE
 * (the reason is tl_remote_last_error) to begin again with what is loaded. */
static int try_plan(struct placed *placed, const struct options *options)
{
    struct tl_area *areas;
    size_t area_count;
    int status = read_areas(placed, &areas, &area_count);
    if (status)
        return status;
    struct tl_plan_options plan_options = {.max_mappings = mappings_left(area_count),
                                           .guard_breakpoints = placed->selection.site_count <= GUARDED_SITES_MAX,
                                           .lowest = lowest_address,
                                           .highest = highest_address};
    int error = arming_sites(placed);
    uint64_t addr = error ? 0 : place_runtime(areas, &area_count, arming_room(placed));
    arming_place(placed, addr);
    arming_plan_options(placed, options->tactics, &plan_options);
    tl_plan_free(&placed->plan);
    if (!error)
        error = addr ? tl_plan_build(placed->arming.sites, placed->arming.site_count, areas, area_count, &plan_options,
                                     &placed->plan)
                     : -ENOMEM;
    free(areas);
    if (!error && !arming_planned(placed, options->tactics))
        return -EEXIST;
    if (!error)
        error = arming_tables(placed);
    if (error) {
        place_trouble(placed, "the probes cannot be planned: %s", strerror(-error));
        return EXIT_FAILED;
    }
    error = tl_selection_settle(&placed->selection);
    if (error)
        return error > 0 ? -ERESTART : EXIT_FAILED;
    if (placed->watches ? placed->arming.refused : !placed->arming.places)
        return 0;

    struct tl_error why;
    if (grow_pool(placed, &why)) {
        place_trouble(placed, "%s", why.text);
        return EXIT_FAILED;
    }
    error = carry_out(placed);
    if (!error || error == -EEXIST)
        return error;
    if (error == -ENOSYS) {
        arming_refuse(placed, "%s", tl_remote_last_error(placed->remote));
        return -EEXIST;
    }
    if (is_overtaken(error))
        return -ESTALE;
    place_trouble(placed, "the probes cannot be placed: %s", tl_remote_last_error(placed->remote));
    return EXIT_FAILED;
}

/* What was selected goes into the target. As try_plan, but for -EEXIST. */
static int place_selected(struct placed *placed, const struct wish *wish)
{
    const struct options *options = wish->options;
    struct tl_error error;
    placed->blob = malloc(tl_blob_size);
    if (!placed->blob) {
        place_trouble(placed, "out of memory");
        return EXIT_FAILED;
    }
    int status = assemble(placed, options, wish->count);
    if (!status && make_region(placed, &error)) {
        place_trouble(placed, "%s", error.text);
        status = EXIT_FAILED;
    }
    for (int tries = 0; !status && tries < PLAN_TRIES; tries++) {
        const struct tl_port *port = tl_remote_port(placed->remote);
        bool held = tries >= TRIES_RUNNING && !port->stop(port->host);
        status = try_plan(placed, options);
        if (held)
            port->resume(port->host);
        if (status == -ERESTART)
            status = assemble(placed, options, wish->count);
        else if (status == -EEXIST)
            status = 0;
        else
            return status;
    }
    if (!status) {
        place_trouble(placed, "the probes cannot be placed: the program keeps mapping memory where they would go");
        status = EXIT_FAILED;
    }
    return status;
}

void spec_fate_refused(struct spec_fate *fate, const struct tl_error *error)
{
    if (error->code != -ENOENT && !*fate->why)
        snprintf(fate->why, sizeof fate->why, "%.199s", error->text);
}

/* What of the wish names something here: 0 or an exit status. */
static int select_matching(struct placed *placed, const struct wish *wish, size_t *used)
{
    const struct tl_spec **left = calloc(wish->spec_count, sizeof *left);
    size_t *index = calloc(wish->spec_count, sizeof *index), failed = 0;
    struct tl_error error;
    if (!left || !index) {
        place_trouble(placed, "out of memory");
        free(left);
        free(index);
        return EXIT_FAILED;
    }
    for (*used = 0; *used < wish->spec_count; ++*used) {
        left[*used] = wish->specs[*used];
        index[*used] = *used;
    }
    while (*used && select_probes(placed, wish, left, *used, &failed, &error)) {
        if (wish->options->verbose && !wish->again)
            complain("process %d: %s: %s", tl_remote_facts(placed->remote)->pid, left[failed]->text, error.text);
        spec_fate_refused(&wish->fates[index[failed]], &error);
        tl_selection_free(&placed->selection);
        --*used;
        memmove(&left[failed], &left[failed + 1], (*used - failed) * sizeof *left);
        memmove(&index[failed], &index[failed + 1], (*used - failed) * sizeof *index);
    }
    for (size_t i = 0; i < *used; i++)
        wish->fates[index[i]].matched = true;
    free(left);
    free(index);
    return 0;
}

static int select_all(struct placed *placed, const struct wish *wish)
{
    size_t failed = 0;
    struct tl_error error;
    if (!select_probes(placed, wish, wish->specs, wish->spec_count, &failed, &error))
        return 0;
    const char *path = wish->specs[failed]->module;
    bool is_path = path && strchr(path, '/') && !strpbrk(path, "*?[");
    if (error.code == -ENOENT && is_path && access(path, F_OK)) /* not merely not in use */
        tl_fail(&error, -errno, "%s: %s", path, strerror(errno));
    place_trouble(placed, "%s: %s", wish->specs[failed]->text, error.text);
    return EXIT_FAILED;
}

/* From the look at what is loaded to the deed; as try_plan. */
static int look_and_place(struct placed *placed, const struct wish *wish)
{
    size_t used = wish->spec_count;
    int status = read_modules(placed);
    if (!status && placed->watches)
        return (status = place_resolve(placed)) ? status : place_selected(placed, wish);
    if (!status)
        status = wish->fates ? select_matching(placed, wish, &used) : select_all(placed, wish);
    return status || !used ? status : place_selected(placed, wish);
}

/* Forget all that was made of the last look. 0 or -errno: what is in the target cannot be taken out now. */
static int start_over(struct placed *placed)
{
    struct tl_remote *remote = placed->remote;
    struct place_watch *watches = placed->watches;
    int error = placed->region.area ? tl_remote_remove(remote, NULL) : 0;
    if (!error) {
        place_free(placed);
        placed->remote = remote;
        placed->watches = watches;
    }
    return error;
}

static int place(struct placed *placed, struct wish *wish)
{
    const struct tl_port *port = tl_remote_port(placed->remote);
    uint64_t began = tl_now();
    for (int tries = 0;; tries++) {
        bool held = tries >= TRIES_RUNNING && !port->stop(port->host);
        int status = look_and_place(placed, wish);
        struct tl_error why;
        if (status == -ESTALE)
            tl_fail(&why, status, "the probes cannot be placed: %s", tl_remote_last_error(placed->remote));
        if (held)
            port->resume(port->host);
        placed->placing_ns = tl_now() - began;
        if (status != -ESTALE)
            return status;
        if (tries + 1 == LOOK_TRIES || start_over(placed)) {
            place_trouble(placed, "%s", why.text);
            return EXIT_FAILED;
        }
        wish->again = true;
    }
}

int place_probes(struct placed *placed, const struct options *options, const struct tl_spec *const *specs,
                 size_t spec_count, bool count)
{
    return place(placed, &(struct wish){.options = options, .specs = specs, .spec_count = spec_count, .count = count});
}

int place_all(struct placed *placed, const struct options *options)
{
    return place(placed, &(struct wish){.options = options});
}

int place_probes_followed(struct placed *placed, const struct options *options, const struct tl_spec *const *specs,
                          size_t spec_count, bool count, struct spec_fate *fates)
{
    return place(
        placed,
        &(struct wish){.options = options, .specs = specs, .spec_count = spec_count, .count = count, .fates = fates});
}

/* What was assembled for the one is right for the other. */
static bool is_alike(const struct tl_remote_facts *a, const struct tl_remote_facts *b)
{
    return a->no_syscalls == b->no_syscalls && a->no_clock == b->no_clock && a->fsgsbase == b->fsgsbase &&
           a->fs_self == b->fs_self && a->tid_offset == b->tid_offset;
}

int place_copy(struct placed *placed, struct placed *parent)
{
    struct placed *lender = parent->lender ? parent->lender : parent;
    struct tl_remote *remote = placed->remote;
    struct tl_error error;
    if (!parent->in_place || !is_alike(tl_remote_facts(remote), tl_remote_facts(parent->remote)) ||
        !(placed->blob = malloc(tl_blob_size)))
        return -EINVAL;
    placed->modules = lender->modules;
    placed->selection = lender->selection;
    placed->assembly = lender->assembly;
    placed->plan = lender->plan;
    placed->arming = lender->arming;
    int result = make_region(placed, &error);
    if (!result)
        result = grow_pool(placed, &error);
    if (!result)
        result = carry_out(placed);
    if (!result) {
        placed->lender = lender;
        lender->borrowers++;
        return 0;
    }
    if (placed->region.area)
        tl_remote_remove(remote, NULL);
    free(placed->blob);
    *placed = (struct placed){.remote = remote};
    return result;
}

int place_remove(struct placed *placed)
{
    if (!placed->in_place)
        return 0;
    place_end_watches(placed);
    placed->in_place = false;
    int error = tl_apply_remove(&placed->applied, REMOVE_PATIENCE_MS);
    size_t left = placed->applied.patch_count - placed->applied.late_count;
    if (error == -EAGAIN && left == 0)
        complain("a thread is still inside a probe: the text is restored, some memory of ours stays in the program");
    else if (error == -EBUSY)
        complain("somebody else has patched over %zu of our places: they stay, switched off, and our memory with them",
                 left);
    else if (error && error != -ESRCH)
        complain("the probes could not be taken out, the next trapline will try again: %s",
                 tl_remote_last_error(placed->remote));
    placed->stuck = error && error != -ESRCH;
    return error;
}

int place_withdraw(struct placed *placed)
{
    place_end_watches(placed);
    int error = placed->in_place ? tl_apply_remove(&placed->applied, 0) : 0;
    if (!error) {
        placed->in_place = false;
        error = tl_remote_remove(placed->remote, NULL);
    }
    return error;
}

/* Another tracer may be at work just now, or (EPERM) may have been when we came: most are done in a moment. */
static int remove_patiently(struct tl_remote *remote, struct tl_error *error)
{
    for (unsigned waited = 0, wait = 1;; waited += wait, wait = wait < 50 ? wait * 2 : wait) {
        int result = tl_remote_remove(remote, error);
        bool may_pass = result == -EBUSY || result == -EPERM || result == -EAGAIN;
        if (!may_pass || waited >= REMOVE_PATIENCE_MS)
            return result;
        nanosleep(&(struct timespec){.tv_nsec = wait * 1000000l}, NULL);
    }
}

void place_leave(struct placed *placed)
{
    struct tl_error error;
    place_end_watches(placed);
    place_remove(placed);
    if (placed->remote && !placed->stuck && remove_patiently(placed->remote, &error))
        complain("%s", error.text);
    memset(&placed->region, 0, sizeof placed->region);
}

void place_free(struct placed *placed)
{
    tl_applied_free(&placed->applied);
    tl_watching_free(placed->watching);
    free(placed->blob);
    if (placed->lender) {
        placed->lender->borrowers--;
        memset(placed, 0, sizeof *placed);
        return;
    }
    tl_plan_free(&placed->plan);
    arming_free(&placed->arming);
    tl_assembly_free(&placed->assembly);
    tl_selection_free(&placed->selection);
    tl_modules_free(&placed->modules);
    memset(placed, 0, sizeof *placed);
}
