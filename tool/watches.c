/* SPDX-License-Identifier: MIT
 *
 * From specs to what place_watches wants. It asks for that by a callback, as soon as it has looked at what the program
 * has mapped, and again should it have to look again.
 */
#include "watches.h"

#include "hwbp/attr.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain_of(const char *spec, const struct tl_error *error)
{
    char text[4096];
    tl_spec_complain(spec, error, text, sizeof text);
    fputs(text, stderr);
}

int watches_parse(struct watches *watches, const struct options *options)
{
    *watches = (struct watches){.options = options, .list = calloc(options->spec_count, sizeof *watches->list)};
    if (!watches->list) {
        complain("out of memory");
        return EXIT_FAILED;
    }
    for (; watches->count < options->spec_count; watches->count++) {
        const char *text = options->specs[watches->count];
        struct tl_error error;
        if (tl_watch_parse(text, &watches->list[watches->count], &error)) {
            complain_of(text, &error);
            return EXIT_USAGE;
        }
    }
    return 0;
}

void watches_free(struct watches *watches)
{
    for (size_t i = 0; i < watches->count; i++)
        tl_watch_free(watches->list[i]);
    free(watches->list);
    *watches = (struct watches){0};
}

static void drop(struct watched *watched)
{
    tl_variable_free(&watched->variable);
    free(watched->code);
    free(watched->strings);
    free(watched->places);
}

static void forget(struct program_watches *program)
{
    for (size_t i = 0; !program->is_lent && i < program->count; i++)
        drop(&program->list[i]);
    if (!program->is_lent) {
        free(program->list);
        free(program->place.wishes);
    }
    program->list = NULL;
    program->place.wishes = NULL;
    program->count = program->place.wish_count = 0;
}

/* The variable that a spec names: why it cannot be watched is an error's text. */
static int find_variable(const struct tl_watch *spec, const struct placed *placed, struct watched *watched,
                         struct tl_error *error)
{
    int result = tl_modules_variable(&placed->modules, &spec->symbol, &watched->variable, error);
    if (!result && watched->variable.is_thread_local)
        result = thread_variable_find(spec, placed, watched, error);
    return result;
}

/* Where it is, and how long. 0 or -errno. */
static int find_range(const struct tl_watch *spec, const struct placed *placed, struct watched *watched,
                      struct watch_wish *wish, struct tl_error *error)
{
    const struct tl_variable *variable = &watched->variable;
    if (!spec->is_address) {
        int result = find_variable(spec, placed, watched, error);
        if (result)
            return result;
    }
    wish->addr = (spec->is_address ? spec->addr : variable->addr) + spec->offset;
    wish->length = spec->length;
    if (spec->access & TL_WATCH_X)
        return 0;
    if (!wish->length && variable->size <= spec->offset)
        return tl_fail(error, -EINVAL,
                       variable->size ? "this is behind its end" : "how large it is, nothing tells: mem:%s/LENGTH does",
                       spec->name);
    if (!wish->length)
        wish->length = variable->size - spec->offset;
    if (variable->type && spec->offset + wish->length <= variable->type->size) {
        char path[256];
        watched->type = spec->offset || wish->length != variable->type->size
                            ? tl_datatype_at(variable->type, spec->offset, wish->length, path, sizeof path)
                            : variable->type;
    }
    return 0;
}

static bool is_kernel(const struct watch_wish *wish)
{
    return wish->addr >= TL_USER_SPACE_END || wish->length > TL_USER_SPACE_END - wish->addr;
}

static bool is_one_register(const struct watch_wish *wish)
{
    return wish->length <= sizeof(uint64_t) && !(wish->length & (wish->length - 1)) &&
           !(wish->addr & (wish->length - 1));
}

/* 0 or -errno. */
static int resolve_one(const struct watches *specs, const struct placed *placed, struct watched *watched,
                       struct watch_wish *wish, struct tl_error *error)
{
    const struct tl_watch *spec = specs->list[watched->spec];
    bool executes = spec->access & TL_WATCH_X;
    int result = find_range(spec, placed, watched, wish, error);
    if (result)
        return result;
    if (is_kernel(wish))
        return tl_fail(error, -EINVAL, "0x%" PRIx64 " is a kernel address: root can watch these with -a", wish->addr);
    /* The processor knows no watching of reads alone: writes are sorted out later. */
    wish->access = spec->access == TL_WATCH_R ? TL_SPOT_READS | TL_SPOT_WRITES : spec->access;
    wish->changes_only = spec->access == TL_WATCH_W && !specs->options->all_writes;
    struct tl_watch_value value = {.type = watched->type,
                                   .length = wish->length,
                                   .has_values = !executes && is_one_register(wish),
                                   .changes_only = wish->changes_only};
    result = tl_watch_compile(spec, &value, &watched->code, &wish->code_length, &watched->strings, &wish->strings_size,
                              error);
    wish->code = watched->code;
    wish->strings = watched->strings;
    return result;
}

/* A filter that cannot be is an error of the spec, with a place in it; that something is not there is none of these. */
static int refuse(const struct tl_watch *spec, const struct watched *watched, const struct tl_error *error,
                  bool is_filter)
{
    if (is_filter)
        complain_of(spec->text, error);
    else
        complain("%s: %s%s", spec->text, error->text, watched->places ? watched->places : "");
    return is_filter ? EXIT_USAGE : EXIT_FAILED;
}

/* One that is not to be here is passed by where programs are followed. */
static void pass_by(const struct program_watches *program, const struct placed *placed, const struct watched *watched,
                    const struct tl_error *error)
{
    const struct options *options = program->specs->options;
    if (options->verbose || (watched->places && !program->told && !options->quiet))
        complain("process %d: %s: %s%s", tl_remote_facts(placed->remote)->pid,
                 program->specs->list[watched->spec]->text, error->text, watched->places ? watched->places : "");
}

/* Once for a spec; of each program with -v. */
static void say_whose(const struct program_watches *program, const struct watched *watched)
{
    const struct options *options = program->specs->options;
    bool is_first = !program->fates || !program->fates[watched->spec].matched;
    if (watched->tid && !program->told && !options->quiet && (is_first || options->verbose))
        complain("%s: of thread %d; threads have copies of their own", program->specs->list[watched->spec]->text,
                 watched->tid);
}

static int resolve(struct place_watch *place, struct placed *placed)
{
    struct program_watches *program = place->context;
    const struct watches *specs = program->specs;
    forget(program);
    program->list = calloc(specs->count, sizeof *program->list);
    place->wishes = calloc(specs->count, sizeof *place->wishes);
    if (!program->list || !place->wishes) {
        complain("out of memory");
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < specs->count; i++) {
        const struct tl_watch *spec = specs->list[i];
        struct watched *watched = &program->list[program->count];
        struct watch_wish *wish = &place->wishes[program->count];
        struct tl_error error = {.column = -1};
        *watched = (struct watched){.spec = i};
        *wish = (struct watch_wish){.addr = 0};
        program->count++;
        int result = resolve_one(specs, placed, watched, wish, &error);
        bool is_filter = result && spec->filter_column && error.column >= (int)spec->filter_column;
        if (result && (!program->fates || is_filter))
            return refuse(spec, watched, &error, is_filter);
        if (result) {
            pass_by(program, placed, watched, &error);
            spec_fate_refused(&program->fates[i], &error);
            drop(watched);
            program->count--;
            continue;
        }
        say_whose(program, watched);
        if (program->fates)
            program->fates[i].matched = true;
    }
    place->wish_count = program->count;
    program->told = true;
    return 0;
}

static void set_place(struct program_watches *program)
{
    const struct options *options = program->specs->options;
    program->place.resolve = resolve;
    program->place.context = program;
    program->place.multiplex = options->multiplex;
    program->place.period_ns = options->period_ns;
}

void program_watches_begin(struct program_watches *program, const struct watches *specs, struct spec_fate *fates)
{
    *program = (struct program_watches){.specs = specs, .fates = fates};
    set_place(program);
}

bool program_watches_fit(const struct program_watches *parent, const struct placed *child)
{
    uint64_t fs_base = 0;
    for (size_t i = 0; i < parent->count && !fs_base; i++)
        fs_base = parent->list[i].tid ? parent->list[i].fs_base : 0;
    if (!fs_base)
        return true;
    struct tl_identity *threads;
    size_t count;
    struct tl_error error;
    if (tl_remote_threads(child->remote, &threads, &count, &error))
        return false;
    bool fits = count == 1 && threads[0].fs_base == fs_base;
    free(threads);
    return fits;
}

void program_watches_copy(struct program_watches *program, const struct program_watches *parent)
{
    *program = *parent;
    program->is_lent = true;
    set_place(program);
}

void program_watches_free(struct program_watches *program)
{
    forget(program);
}

void watches_no_room(const struct program_watches *program, char *text, size_t size)
{
    const struct tl_watching_room *room = &program->place.room;
    char holders[160] = "";
    int used = 0;
    if (room->by_ptrace)
        used += snprintf(holders + used, sizeof holders - (size_t)used, ", %u set by a debugger", room->by_ptrace);
    if (room->by_others)
        used += snprintf(holders + used, sizeof holders - (size_t)used, ", %u held by perf events of others",
                         room->by_others);
    snprintf(text, size,
             "%u debug registers are needed, and %u of thread %d are free%s: fewer watches, smaller ones, or "
             "--multiplex, with which they take turns",
             room->needed, room->free, room->tid, holders);
}
