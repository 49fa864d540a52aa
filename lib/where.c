/* SPDX-License-Identifier: MIT
 *
 * Reading what is loaded costs a look at each file. The dynamic linker counts what it loads and unloads, so that is
 * asked first. Code that is mapped behind its back is in no module, and so refused.
 */
#include "where.h"

#include <errno.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "symbol/maps.h"

/* The first address that is not a program's. */
#define USER_END 0x7ffffffff000ull

static int count_loads(struct dl_phdr_info *info, size_t size, void *context)
{
    struct modules *modules = context;
    if (size < offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs)
        return -1;
    modules->adds = info->dlpi_adds;
    modules->subs = info->dlpi_subs;
    return 1;
}

int modules_refresh(struct modules *modules, struct tl_error *error)
{
    struct modules now = {0};
    bool counted = dl_iterate_phdr(count_loads, &now) == 1;
    if (modules->known && counted && now.adds == modules->adds && now.subs == modules->subs)
        return 0;
    int code = tl_modules_read(getpid(), &now.loaded, error);
    if (code)
        return code;
    for (size_t i = 0; i < now.loaded.count && !code; i++)
        if (now.loaded.modules[i].refused.code == -ENOMEM)
            code = tl_fail(error, -ENOMEM, "out of memory");
    if (code) {
        tl_modules_free(&now.loaded);
        return code;
    }
    modules_forget(modules);
    *modules = now;
    modules->known = true;
    return 0;
}

void modules_forget(struct modules *modules)
{
    if (modules->known)
        tl_modules_free(&modules->loaded);
    memset(modules, 0, sizeof *modules);
}

/* Why nothing of a file's code is at addr. */
static int no_code(uint64_t addr, struct tl_error *error)
{
    struct maps maps;
    int code = maps_read(getpid(), &maps, error);
    if (code)
        return code;
    code = -EFAULT;
    for (size_t i = 0; i < maps.count; i++)
        if (addr >= maps.mappings[i].start && addr < maps.mappings[i].end)
            code = maps.mappings[i].executable ? -EILSEQ : -EACCES;
    maps_free(&maps);
    unsigned long long shown = addr;
    if (code == -EFAULT)
        return tl_fail(error, code, "0x%llx: not mapped", shown);
    if (code == -EACCES)
        return tl_fail(error, code, "0x%llx: not executable", shown);
    return tl_fail(error, code, "0x%llx: code, but of no file that is known", shown);
}

static int by_address(const struct modules *modules, uint64_t addr, struct where *where, struct tl_error *error)
{
    if (addr >= USER_END)
        return tl_fail(error, -EFAULT, "0x%llx: not an address of the program", (unsigned long long)addr);
    const struct tl_module *module = tl_modules_at(&modules->loaded, addr);
    size_t available = 0;
    if (!module || !module->object || !tl_object_text(module->object, addr - module->bias, &available) || !available)
        return no_code(addr, error);
    where->addr = addr;
    where->module = module;
    where->function = tl_object_function_at(module->object, addr - module->bias);
    return 0;
}

struct search {
    const char *symbol;
    uint64_t bias;
    const struct tl_function *found;
};

/* A global one before a local one; of equals the first. What the library calls its own functions is nobody's matter: in
 * a program that it is linked into statically, its `accept` would come before the C library's. */
static int choose(void *context, const struct tl_function *function)
{
    struct search *search = context;
    if (!function->name || strcmp(function->name, search->symbol) != 0 || function->kind == TL_FUNCTION_PART)
        return 0;
    if (!function->global && is_own(function->addr + search->bias))
        return 0;
    if (!search->found || (function->global && !search->found->global))
        search->found = function;
    return 0;
}

static int by_symbol(const struct modules *modules, const struct wanted *wanted,
                     int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host, struct where *where,
                     struct tl_error *error)
{
    int at = tl_modules_find(&modules->loaded, wanted->module, 0);
    if (at < 0)
        return tl_fail(error, -ENOENT, "no module %s is loaded", wanted->module ? wanted->module : "at all");
    struct search search = {.symbol = wanted->symbol};
    const struct tl_module *module = NULL;
    for (; at >= 0 && !search.found; at = tl_modules_find(&modules->loaded, wanted->module, (size_t)at + 1)) {
        module = &modules->loaded.modules[at];
        search.bias = module->bias;
        if (module->object)
            tl_object_match(module->object, wanted->symbol, choose, &search);
    }
    if (!search.found)
        return tl_fail(error, -ENOENT, "no function %s in %s", wanted->symbol,
                       wanted->module ? wanted->module : "any module");
    if (search.found->kind != TL_FUNCTION_IFUNC && wanted->offset && wanted->offset >= search.found->size)
        return tl_fail(error, -EINVAL, "%s: the offset %llu lies beyond its %llu bytes", wanted->symbol,
                       (unsigned long long)wanted->offset, (unsigned long long)search.found->size);
    if (search.found->kind != TL_FUNCTION_IFUNC)
        return by_address(modules, search.found->addr + module->bias + wanted->offset, where, error);
    uint64_t chosen;
    if (tl_modules_resolve_ifunc(&modules->loaded, module, search.found, read, host, &chosen))
        return tl_fail(error, -tl_why_errno(TL_WHY_IFUNC), "%s: %s", wanted->symbol, tl_why_text(TL_WHY_IFUNC));
    return by_address(modules, chosen + wanted->offset, where, error);
}

int where_find(const struct modules *modules, const struct wanted *wanted,
               int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host, struct where *where,
               struct tl_error *error)
{
    memset(where, 0, sizeof *where);
    if (!wanted->address == !wanted->symbol)
        return tl_fail(error, -EINVAL,
                       wanted->address ? "an address and a symbol, of which one is needed"
                                       : "neither an address nor a symbol");
    if (wanted->address && (wanted->offset || wanted->module))
        return tl_fail(error, -EINVAL, "an offset or a module goes with a symbol, not with an address");
    return wanted->address ? by_address(modules, wanted->address, where, error)
                           : by_symbol(modules, wanted, read, host, where, error);
}
