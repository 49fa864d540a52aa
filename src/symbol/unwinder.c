/* SPDX-License-Identifier: MIT
 *
 * The files that an unwinder works with.
 *
 * libdwfl is given the files as this room has opened them, so that it sees what the process has mapped and not what now
 * has the name. It reads them through descriptors: a mapped file that is cut off would fault. Nothing is ever fetched
 * from elsewhere.
 */
#include "symbol/unwinder.h"

#include <libelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/now.h"
#include "symbol/object.h"

enum { REFRESH_NS = 50000000 }; /* a program that makes its code itself has many addresses in no file */

static int find_elf(Dwfl_Module *dwfl_module, void **data, const char *name, Dwarf_Addr base, char **file_name,
                    Elf **elf)
{
    const struct tl_object *object = *data;
    (void)dwfl_module;
    (void)name;
    (void)base;
    *elf = NULL;
    if (object && object->memory)
        *elf = elf_memory((char *)object->memory, object->size);
    else if (object)
        *elf = elf_begin(object->fd, ELF_C_READ, NULL);
    if (*elf)
        *file_name = strdup(object->display);
    return -1; /* no descriptor that libdwfl should close */
}

static int find_debug_file(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, const char *file_name,
                           const char *link, GElf_Word checksum, char **debug_file_name)
{
    (void)module;
    (void)data;
    (void)name;
    (void)base;
    (void)file_name;
    (void)link;
    (void)checksum;
    (void)debug_file_name;
    return -1; /* unwind tables are loaded with the program, and stand in its own file */
}

/* Where libdwfl expects the first segment to begin: aligned as the segment asks for. */
static uint64_t aligned_start(const struct tl_module *module)
{
    const struct tl_object *object = module->object;
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        if (p->p_type == PT_LOAD)
            return module->bias + (p->p_align > 1 ? p->p_vaddr & -p->p_align : p->p_vaddr);
    }
    return module->start;
}

static Dwfl *make_dwfl(struct tl_unwinder *unwinder)
{
    const struct tl_modules *modules = &unwinder->modules;
    static const Dwfl_Callbacks callbacks = {.find_elf = find_elf, .find_debuginfo = find_debug_file};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    for (size_t i = 0; dwfl && i < modules->count; i++) {
        const struct tl_module *module = &modules->modules[i];
        if (!module->object)
            continue;
        void **data;
        Dwfl_Module *reported = dwfl_report_module(dwfl, "module", aligned_start(module), module->end);
        if (reported && dwfl_module_info(reported, &data, NULL, NULL, NULL, NULL, NULL, NULL))
            *data = module->object;
    }
    if (dwfl && (dwfl_report_end(dwfl, NULL, NULL) || !unwind_attach(dwfl, unwinder))) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

static bool same_module(const struct tl_module *a, const struct tl_module *b)
{
    return a->start == b->start && a->end == b->end && a->bias == b->bias && !a->object == !b->object &&
           strcmp(a->path, b->path) == 0;
}

/* Modules that were known keep their object, for what it has read by now. Whether all were, and none has gone. */
static bool keep_objects(struct tl_modules *old, struct tl_modules *new)
{
    size_t kept = 0;
    for (size_t i = 0; i < new->count; i++) {
        for (size_t j = 0; j < old->count; j++) {
            if (!same_module(&new->modules[i], &old->modules[j]))
                continue;
            struct tl_object *object = new->modules[i].object;
            new->modules[i].object = old->modules[j].object;
            old->modules[j].object = object;
            kept++;
            break;
        }
    }
    return kept == new->count &&kept == old->count;
}

/* Debug files have to be found while the process lives, since it may see other directories than we. */
static void open_debug_files(const struct tl_modules *modules)
{
    for (size_t i = 0; i < modules->count; i++)
        if (modules->modules[i].object)
            object_need_debug(modules->modules[i].object);
}

bool unwinder_refresh(struct tl_unwinder *unwinder)
{
    struct tl_modules modules;
    uint64_t now = tl_now();
    if ((unwinder->refreshed_ns && now - unwinder->refreshed_ns < REFRESH_NS) ||
        tl_modules_read(unwinder->pid, &modules, NULL))
        return false;
    unwinder->refreshed_ns = now;
    bool same = keep_objects(&unwinder->modules, &modules);
    /* libdwfl uses the objects' files, and may not have them a moment longer than they are. */
    if (!same && unwinder->dwfl)
        dwfl_end(unwinder->dwfl);
    if (!same)
        unwinder_forget_sources(unwinder);
    tl_modules_free(&unwinder->modules);
    unwinder->modules = modules;
    if (same)
        return false;
    open_debug_files(&modules);
    unwinder->dwfl = make_dwfl(unwinder);
    return true;
}

int tl_unwinder_open(pid_t pid, struct tl_unwinder **out, struct tl_error *error)
{
    struct tl_unwinder *unwinder = calloc(1, sizeof *unwinder);
    if (!unwinder)
        return tl_fail(error, -ENOMEM, "out of memory");
    unwinder->pid = pid;
    int result = tl_modules_read(pid, &unwinder->modules, error);
    if (result) {
        free(unwinder);
        return result;
    }
    elf_version(EV_CURRENT);
    open_debug_files(&unwinder->modules);
    unwinder->dwfl = make_dwfl(unwinder);
    *out = unwinder;
    return 0;
}

void tl_unwinder_close(struct tl_unwinder *unwinder)
{
    if (!unwinder)
        return;
    if (unwinder->dwfl)
        dwfl_end(unwinder->dwfl);
    unwinder_forget_sources(unwinder);
    tl_modules_free(&unwinder->modules);
    free(unwinder);
}

void tl_unwinder_describe(const struct tl_unwinder *unwinder, const struct tl_frame *frame, char *text, size_t size)
{
    tl_modules_describe_within(&unwinder->modules, frame->addr, frame->addr - frame->is_return, text, size);
}
