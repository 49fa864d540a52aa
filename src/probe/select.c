/* SPDX-License-Identifier: MIT
 *
 * Which functions a spec means. A name may stand for several functions (local copies, several modules), several names
 * for one (aliases), and for an ifunc the symbol is only the resolver: each of these is followed to what really runs,
 * and said.
 */
#include "probe/selecting.h"

#include "base/array.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((format(printf, 3, 4)))
notice(const struct tl_selecting *selecting, const struct tl_spec *spec, const char *format, ...)
{
    if (!selecting->options->notice)
        return;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    selecting->options->notice(selecting->options->notice_context, spec->is_glob, text);
}

struct tl_probe *tl_selecting_probe(struct tl_selecting *selecting)
{
    struct tl_selection *selection = selecting->selection;
    struct tl_probe *grown =
        tl_array_grown(selection->probes, selection->probe_count, &selecting->probe_room, sizeof *grown);
    if (!grown)
        return NULL;
    selection->probes = grown;
    struct tl_probe *probe = &selection->probes[selection->probe_count++];
    memset(probe, 0, sizeof *probe);
    return probe;
}

/* What one spec matched in one module: where it runs, and by which name. For an ifunc that is where its resolver led.
 */
struct match {
    const struct tl_module *module;
    const struct tl_function *function; /* NULL: no function is known there */
    const char *name;
    uint64_t addr; /* live */
    bool unresolved;
};

struct matches {
    struct tl_selecting *selecting;
    const struct tl_spec *spec;
    const struct tl_module *module;
    struct match *items;
    size_t count, room;
};

/* An ifunc's symbol is its resolver; probe what the resolver chose, wherever that lies. */
static void follow_ifunc(const struct matches *matches, struct match *match)
{
    const struct tl_selecting *selecting = matches->selecting;
    uint64_t live;
    int error = tl_modules_resolve_ifunc(selecting->modules, match->module, match->function, selecting->options->read,
                                         selecting->options->host, &live);
    const struct tl_module *target = error ? NULL : tl_modules_at(selecting->modules, live);
    if (!target || !target->object) {
        match->unresolved = true;
        return;
    }
    char where[256];
    tl_modules_describe(selecting->modules, live, where, sizeof where);
    char *offset = strstr(where, "+0x0");
    if (offset && !offset[4])
        *offset = '\0';
    notice(selecting, matches->spec, "%s is an indirect function of %s; here it runs %s", match->name,
           tl_base_name(match->module->path), where);
    const struct tl_function *chosen = tl_object_function_at(target->object, live - target->bias);
    match->module = target;
    match->function = chosen && chosen->addr == live - target->bias ? chosen : NULL;
    match->addr = live;
}

static int collect(void *context, const struct tl_function *function)
{
    struct matches *matches = context;
    if (!function->name)
        return 0;
    struct match *grown = tl_array_grown(matches->items, matches->count, &matches->room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    matches->items = grown;
    struct match *match = &matches->items[matches->count++];
    *match = (struct match){.module = matches->module,
                            .function = function,
                            .name = function->name,
                            .addr = function->addr + matches->module->bias};
    if (function->kind == TL_FUNCTION_IFUNC)
        follow_ifunc(matches, match);
    return 0;
}

static size_t underscores(const char *name)
{
    return strspn(name, "_");
}

/* By address; of several names for one address the one that a person would use first: global, fewer leading
 * underscores, shorter. */
static int by_address_then_name(const void *left, const void *right)
{
    const struct match *a = left, *b = right;
    if (a->addr != b->addr)
        return a->addr < b->addr ? -1 : 1;
    bool global_a = a->function && a->function->global, global_b = b->function && b->function->global;
    if (global_a != global_b)
        return global_a ? -1 : 1;
    size_t ua = underscores(a->name), ub = underscores(b->name);
    if (ua != ub)
        return ua < ub ? -1 : 1;
    size_t la = strlen(a->name), lb = strlen(b->name);
    if (la != lb)
        return la < lb ? -1 : 1;
    return strcmp(a->name, b->name);
}

static char *event_name(const struct tl_spec *spec, const struct tl_module *module, const char *function,
                        uint64_t offset)
{
    char name[512];
    const char *suffix = spec->is_return ? "%return" : "";
    if (spec->event && !spec->is_glob)
        snprintf(name, sizeof name, "%s", spec->event);
    else if (!function)
        snprintf(name, sizeof name, "%s+0x%llx%s", tl_base_name(module->path), (unsigned long long)offset, suffix);
    else if (offset)
        snprintf(name, sizeof name, "%s+0x%llx%s", function, (unsigned long long)offset, suffix);
    else
        snprintf(name, sizeof name, "%s%s", function, suffix);
    return strdup(name);
}

static int add(struct tl_selecting *selecting, const struct tl_spec *spec, const struct tl_module *module,
               const struct tl_function *function, const char *name, uint64_t file_addr, uint8_t why)
{
    if (selecting->options->every_instruction && function && why == TL_WHY_NONE && !spec->is_return)
        return tl_places_every_instruction(selecting, spec, module, function);
    struct tl_probe *probe = tl_selecting_probe(selecting);
    if (!probe)
        return -ENOMEM;
    probe->spec = spec;
    probe->module = module;
    probe->function = function;
    probe->addr = file_addr + module->bias;
    probe->is_return = spec->is_return;
    probe->at_entry = function && file_addr == function->addr && !spec->is_return;
    probe->why = why;
    probe->name = event_name(spec, module, name, name && function ? file_addr - function->addr : file_addr);
    if (!probe->name)
        return -ENOMEM;
    if (why != TL_WHY_NONE)
        return 0;
    uint32_t index = (uint32_t)(selecting->selection->probe_count - 1);
    return spec->is_return ? tl_places_of_exits(selecting, index) : tl_places_at(selecting, index);
}

static int add_match(struct matches *matches, const struct match *match)
{
    enum tl_why why = match->unresolved ? TL_WHY_IFUNC : match->function ? TL_WHY_NONE : TL_WHY_NOT_CODE;
    return add(matches->selecting, matches->spec, match->module, match->function, match->name,
               match->addr - match->module->bias + matches->spec->offset, why);
}

static int add_matches(struct matches *matches)
{
    const struct tl_spec *spec = matches->spec;
    qsort(matches->items, matches->count, sizeof *matches->items, by_address_then_name);
    size_t distinct = 0;
    const char *probed = "";
    for (size_t i = 0; i < matches->count; i++) {
        const struct match *match = &matches->items[i];
        if (i && match->addr == match[-1].addr) {
            /* An alias: one probe serves all names. Versions of one name are not worth a word. */
            if (strcmp(match->name, match[-1].name))
                notice(matches->selecting, spec, "%s is another name of %s", match->name, probed);
            continue;
        }
        distinct++;
        probed = match->name;
        int error = add_match(matches, match);
        if (error)
            return error;
    }
    if (distinct > 1 && !spec->is_glob)
        notice(matches->selecting, spec, "%s has %zu functions named %s: all are probed",
               tl_base_name(matches->module->path), distinct, spec->symbol);
    return 0;
}

/* "*" in a file that has no names at all (stripped) means the functions that its unwind tables tell of. */
static int select_unnamed(struct tl_selecting *selecting, const struct tl_spec *spec, const struct tl_module *module,
                          size_t *found)
{
    size_t count;
    const struct tl_function *functions = tl_object_functions(module->object, &count);
    for (size_t i = 0; i < count; i++) {
        if (functions[i].kind == TL_FUNCTION_PART)
            continue;
        ++*found;
        int error = add(selecting, spec, module, &functions[i], NULL, functions[i].addr, TL_WHY_NONE);
        if (error)
            return error;
    }
    return 0;
}

static int select_symbol(struct tl_selecting *selecting, const struct tl_spec *spec, const struct tl_module *module,
                         size_t *found)
{
    struct matches matches = {.selecting = selecting, .spec = spec, .module = module};
    int error = tl_object_match(module->object, spec->symbol, collect, &matches);
    if (!error && !matches.count && !strcmp(spec->symbol, "*"))
        return select_unnamed(selecting, spec, module, found);
    if (!error && matches.count) {
        *found += matches.count;
        error = add_matches(&matches);
    }
    free(matches.items);
    return error;
}

static int select_offset(struct tl_selecting *selecting, const struct tl_spec *spec, const struct tl_module *module,
                         size_t *found)
{
    uint64_t file_addr = spec->offset;
    if (spec->where == TL_WHERE_FILE_OFFSET && tl_object_offset_to_addr(module->object, spec->offset, true, &file_addr))
        return 0;
    if (spec->where == TL_WHERE_MODULE_OFFSET)
        file_addr += module->start - module->bias;
    size_t available;
    if (!tl_object_text(module->object, file_addr, &available))
        return 0;
    ++*found;
    const struct tl_function *function = tl_object_function_at(module->object, file_addr);
    return add(selecting, spec, module, function, function ? function->name : NULL, file_addr,
               function ? TL_WHY_NONE : TL_WHY_NOT_CODE);
}

static int nothing_found(const struct tl_spec *spec, const struct tl_modules *modules, size_t matched,
                         struct tl_error *error)
{
    if (!matched)
        return tl_fail(error, -ENOENT, "no file like \"%s\" is mapped in process %d", spec->module ? spec->module : "*",
                       (int)modules->pid);
    if (spec->where != TL_WHERE_SYMBOL)
        return tl_fail(error, -ENOENT, "offset 0x%llx is not in the code of \"%s\"", (unsigned long long)spec->offset,
                       spec->module ? spec->module : "*");
    const struct tl_module *program = modules->count ? &modules->modules[0] : NULL;
    if (!spec->module && program && !program->object) /* it would have had it, most likely */
        return tl_fail(error, -ENOENT, "no function %s \"%s\" in the libraries; %s", spec->is_glob ? "like" : "named",
                       spec->symbol, program->refused.text);
    return tl_fail(error, -ENOENT, "no function %s \"%s\" in %s", spec->is_glob ? "like" : "named", spec->symbol,
                   spec->module ? spec->module : "the program or its libraries");
}

static int select_spec(struct tl_selecting *selecting, const struct tl_spec *spec, struct tl_error *error)
{
    if (spec->pid && spec->pid != selecting->modules->pid)
        return tl_fail(error, -ESRCH, "the probe is for process %d, this is process %d", spec->pid,
                       (int)selecting->modules->pid);
    size_t found = 0, matched = 0;
    for (int i = tl_modules_find(selecting->modules, spec->module, 0); i >= 0;
         i = tl_modules_find(selecting->modules, spec->module, (size_t)i + 1)) {
        const struct tl_module *module = &selecting->modules->modules[i];
        if (!module->object) {
            if (spec->module && !module->is_vdso)
                return tl_fail(error, module->refused.code ? module->refused.code : -ENOEXEC, "%s",
                               module->refused.text);
            continue;
        }
        matched++;
        int result = spec->where == TL_WHERE_SYMBOL ? select_symbol(selecting, spec, module, &found)
                                                    : select_offset(selecting, spec, module, &found);
        if (result)
            return tl_fail(error, result, "out of memory");
    }
    return found ? 0 : nothing_found(spec, selecting->modules, matched, error);
}

int tl_select(const struct tl_spec *const *specs, size_t count, const struct tl_modules *modules,
              const struct tl_select_options *options, struct tl_selection *selection, size_t *failed,
              struct tl_error *error)
{
    memset(selection, 0, sizeof *selection);
    struct tl_selecting *selecting = calloc(1, sizeof *selecting);
    if (!selecting)
        return tl_fail(error, -ENOMEM, "out of memory");
    selecting->options = options;
    selecting->modules = modules;
    selecting->selection = selection;
    int result = 0;
    for (size_t i = 0; i < count && !result; i++) {
        *failed = i;
        result = select_spec(selecting, specs[i], error);
    }
    if (!result) {
        result = tl_places_to_sites(selecting);
        if (result)
            tl_fail(error, result, "out of memory");
    }
    free(selecting);
    if (result)
        tl_selection_free(selection);
    return result;
}

void tl_selection_free(struct tl_selection *selection)
{
    for (size_t i = 0; i < selection->probe_count; i++)
        free(selection->probes[i].name);
    free(selection->probes);
    free(selection->places);
    free(selection->sites);
    memset(selection, 0, sizeof *selection);
}
