/* SPDX-License-Identifier: MIT */
#include "changes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LOOK_EVERY_NS = 1000000000 };

bool changes_exec(struct changes *changes)
{
    const struct placed *placed = changes->placed;
    uint64_t word;
    int pid = tl_remote_facts(placed->remote)->pid;
    if (tl_remote_read(placed->remote, placed->region.area_addr, &word, sizeof word) != -ESRCH)
        return false;
    /* The memory is gone. A process that is about to end has no program either. */
    char path[64], program[4096];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t length = readlink(path, program, sizeof program);
    if (length < 0)
        return false;
    if (!changes->options->quiet)
        complain("process %d has become another program (%.*s): the %s went with the old one", pid, (int)length,
                 program, placed->watches ? "watches" : "probes");
    return true;
}

/* Note a file of which code is mapped now and was not when the probes were placed. */
static void note_if_new(struct changes *changes, const struct tl_remote_area *area)
{
    if (!(area->prot & PROT_EXEC) || area->path[0] != '/' || !strncmp(area->path, "/memfd:trapline", 15))
        return;
    const struct tl_module *module = tl_modules_at(&changes->placed->modules, area->start);
    if (module && !strcmp(module->path, area->path))
        return;
    for (size_t i = 0; i < changes->seen_count; i++)
        if (!strcmp(changes->seen[i], area->path))
            return;
    char **grown = realloc(changes->seen, (changes->seen_count + 1) * sizeof *grown);
    if (!grown)
        return;
    changes->seen = grown;
    char *path = strdup(area->path);
    if (path)
        changes->seen[changes->seen_count++] = path;
}

static int found(void *context, const struct tl_function *function)
{
    (void)context, (void)function;
    return 1;
}

static bool is_meant(const struct tl_spec *spec, const struct tl_modules *modules, int index)
{
    const struct tl_module *module = &modules->modules[index];
    return tl_modules_find(modules, spec->module, (size_t)index) == index &&
           (spec->where != TL_WHERE_SYMBOL || tl_object_match(module->object, spec->symbol, found, NULL) != 0);
}

/* Which of the files seen from `first` on do the specs mean? */
static void tell(const struct changes *changes, size_t first)
{
    struct tl_modules modules;
    struct tl_error error;
    if (tl_modules_read(tl_remote_facts(changes->placed->remote)->pid, &modules, &error))
        return;
    for (size_t i = first; i < changes->seen_count; i++) {
        bool meant = false;
        for (size_t m = 0; m < modules.count; m++)
            if (modules.modules[m].object && !strcmp(modules.modules[m].path, changes->seen[i]))
                for (size_t s = 0; s < changes->options->spec_count; s++)
                    meant |= is_meant(changes->specs[s], &modules, (int)m);
        if (meant && !changes->options->quiet)
            complain("%s was loaded after the probes were placed: not covered", tl_base_name(changes->seen[i]));
    }
    tl_modules_free(&modules);
}

void changes_libraries(struct changes *changes, uint64_t now_ns)
{
    struct tl_remote_area *areas;
    size_t count, first = changes->seen_count;
    if (!changes->next_ns)
        changes->next_ns = now_ns + LOOK_EVERY_NS;
    if (now_ns < changes->next_ns || tl_remote_areas(changes->placed->remote, &areas, &count, NULL))
        return;
    changes->next_ns = now_ns + LOOK_EVERY_NS;
    for (size_t i = 0; i < count; i++)
        note_if_new(changes, &areas[i]);
    tl_remote_areas_free(areas);
    if (changes->seen_count > first)
        tell(changes, first);
}

void changes_free(struct changes *changes)
{
    for (size_t i = 0; i < changes->seen_count; i++)
        free(changes->seen[i]);
    free(changes->seen);
    memset(changes, 0, sizeof *changes);
}
