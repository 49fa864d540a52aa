/* SPDX-License-Identifier: MIT
 *
 * Guards on the system calls of all modules that have none yet: found, planned, mapped; not yet in force.
 *
 * What was mapped for guards stays when they are out of force, for the next time: a thread may still be in there, and a
 * system call has only few bytes, so that its jump has few places to go to, perhaps this one alone.
 */
#include "host/self/internal.h"

#include "hit/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PLAN_TRIES = 6 };

static int read_self(void *host, uint64_t addr, void *bytes, size_t size)
{
    return tl_self_read(host, addr, bytes, size);
}

static bool has_guards(const struct tl_self *self, const struct tl_module *module)
{
    for (const struct tl_guarding *g = self->guarding; g; g = g->next) {
        for (size_t i = 0; i < g->module_count; i++) {
            if (g->modules[i].start == module->start && g->modules[i].end == module->end)
                return true;
        }
    }
    return false;
}

bool tl_is_own(const struct tl_self *self, uint64_t addr)
{
    for (size_t i = 0; i < self->own_count; i++) {
        if (addr >= self->own[i].start && addr < self->own[i].end)
            return true;
    }
    return false;
}

static int refuse(const struct tl_modules *modules, uint64_t addr, enum tl_why why, struct tl_error *error)
{
    char name[200];
    tl_modules_describe(modules, addr, name, sizeof name);
    return tl_fail(error, -ENOTSUP, "signals cannot be kept for probes: the system call at %s cannot be guarded: %s",
                   name, tl_why_text(why));
}

static int find(struct tl_self *self, const struct tl_modules *modules, struct tl_guarding *g, struct tl_error *error)
{
    struct tl_guards *guards = &g->guards;
    guards->stacks = true;
    g->modules = calloc(modules->count + 1, sizeof *g->modules);
    int result = g->modules ? 0 : -ENOMEM;
    for (size_t i = 0; i < modules->count && result == 0; i++) {
        const struct tl_module *module = &modules->modules[i];
        if (module->is_vdso || has_guards(self, module))
            continue;
        g->modules[g->module_count++] = (struct tl_self_range){module->start, module->end};
        result = tl_guards_of_module(module, read_self, self, guards);
        if (result == 0 && guards->refused) {
            if (!tl_is_own(self, guards->refused_addr))
                return refuse(modules, guards->refused_addr, guards->refused, error);
            guards->refused = TL_WHY_NONE;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < guards->count; i++) {
        if (!tl_is_own(self, guards->sites[i].addr))
            guards->sites[kept++] = guards->sites[i];
    }
    guards->count = kept;
    return result ? tl_fail(error, result, "out of memory") : 0;
}

static int plan(struct tl_self *self, const struct tl_modules *modules, struct tl_guarding *g, struct tl_error *error)
{
    for (int tries = 0;;) {
        struct tl_area *areas;
        size_t area_count;
        struct tl_plan_options options = {
            .guard = {.routine = (uint64_t)tl_guard_entry, .context = (uint64_t)self->broker}};
        int result = tl_self_areas(self, &areas, &area_count, &options.max_mappings, error);
        if (result)
            return result;
        tl_plan_free(&g->plan);
        result = tl_plan_build(g->guards.sites, g->guards.count, areas, area_count, &options, &g->plan);
        free(areas);
        if (result)
            return tl_fail(error, result, "guards cannot be planned: %s", tl_errno_name(-result));
        if (tl_guards_retreat(&g->guards, g->guards.sites, g->guards.count))
            continue;
        uint64_t addr;
        enum tl_why why = tl_guards_missing(g->guards.sites, g->guards.count, &addr);
        if (why)
            return refuse(modules, addr, why, error);
        result = tl_map(self, &g->plan, error);
        if (result != -EEXIST || ++tries > PLAN_TRIES)
            return result;
    }
}

static int describe(struct tl_guarding *g, struct tl_error *error)
{
    const struct tl_plan *p = &g->plan;
    g->parts = calloc(g->guards.count + 1, sizeof *g->parts);
    g->patches = calloc(p->write_count + 1, sizeof *g->patches);
    int result = g->parts && g->patches ? 0 : -ENOMEM;
    for (size_t i = 0; i < p->write_count && result == 0; i++) {
        struct tl_patch *patch = &g->patches[g->patch_count++];
        patch->addr = p->writes[i].addr;
        patch->length = p->writes[i].length;
        memcpy(patch->expect, p->writes[i].old_bytes, patch->length);
        memcpy(patch->bytes, p->writes[i].new_bytes, patch->length);
    }
    for (size_t i = 0; i < g->guards.count && result == 0; i++) {
        if (g->guards.sites[i].why == TL_WHY_NONE)
            result = tl_traps_part_make(&g->guards.sites[i], (uint32_t)i, &g->parts[i]);
    }
    return result ? tl_fail(error, result, "out of memory") : 0;
}

int tl_guarding_make(struct tl_self *self, const struct tl_modules *modules, struct tl_guarding **out,
                     struct tl_error *error)
{
    struct tl_guarding *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result = find(self, modules, g, error);
    bool mapped = false;
    if (result == 0 && g->guards.count) {
        result = plan(self, modules, g, error);
        mapped = result == 0;
        if (result == 0)
            result = describe(g, error);
    }
    if (result || g->module_count == 0)
        tl_guarding_free(self, g, mapped);
    else
        *out = g;
    return result;
}

void tl_guarding_free(struct tl_self *self, struct tl_guarding *g, bool unmap)
{
    if (!g)
        return;
    if (unmap)
        tl_unmap_plan(self, &g->plan);
    for (size_t i = 0; g->parts && i < g->guards.count; i++)
        tl_traps_part_free(g->parts[i]);
    free(g->parts);
    free(g->patches);
    free(g->modules);
    tl_plan_free(&g->plan);
    tl_guards_free(&g->guards);
    free(g);
}

static bool is_loaded(const struct tl_modules *modules, const struct tl_self_range *range)
{
    for (size_t i = 0; i < modules->count; i++) {
        if (modules->modules[i].start == range->start && modules->modules[i].end == range->end)
            return true;
    }
    return false;
}

static bool is_as_it_was(struct tl_self *self, const struct tl_modules *modules, const struct tl_guarding *g)
{
    for (size_t i = 0; i < g->module_count; i++) {
        if (!is_loaded(modules, &g->modules[i]))
            return false;
    }
    for (size_t i = 0; i < g->patch_count; i++) {
        uint8_t now[sizeof g->patches[i].expect];
        if (tl_self_read(self, g->patches[i].addr, now, g->patches[i].length) ||
            memcmp(now, g->patches[i].expect, g->patches[i].length) != 0)
            return false;
    }
    return true;
}

void tl_guardings_revive(struct tl_self *self, const struct tl_modules *modules)
{
    while (self->dormant) {
        struct tl_guarding *g = self->dormant;
        self->dormant = g->next;
        if (is_as_it_was(self, modules, g)) {
            g->next = self->guarding;
            self->guarding = g;
        } else {
            tl_guarding_free(self, g, tl_nobody_inside(self, &g->plan));
        }
    }
}

void tl_guardings_retire(struct tl_self *self)
{
    while (self->guarding) {
        struct tl_guarding *g = self->guarding;
        self->guarding = g->next;
        g->next = self->dormant;
        self->dormant = g;
    }
}

static int by_addr(const void *a, const void *b)
{
    const struct tl_site *x = *(const struct tl_site *const *)a, *y = *(const struct tl_site *const *)b;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

int tl_self_guards(struct tl_self *self, const struct tl_site ***sites, size_t *count)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return result;
    *count = 0;
    for (const struct tl_guarding *g = self->guarding; g; g = g->next)
        *count += g->guards.count;
    const struct tl_site **list = calloc(*count + 1, sizeof *list);
    size_t n = 0;
    for (const struct tl_guarding *g = self->guarding; g && list; g = g->next) {
        for (size_t i = 0; i < g->guards.count; i++)
            list[n++] = &g->guards.sites[i];
    }
    tl_leave(&entered);
    if (!list)
        return -ENOMEM;
    if (n)
        qsort(list, n, sizeof *list, by_addr);
    *sites = list;
    return 0;
}
