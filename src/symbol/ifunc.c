/* SPDX-License-Identifier: MIT
 *
 * What an indirect function became. The loader ran the resolver and stored its answer in a slot, wherever one was
 * relocated: in the defining module itself an IRELATIVE relocation names the resolver's address; in others a relocation
 * names the symbol. The answers all agree, so the first slot is taken that holds an address of the defining module's
 * code (and not of a stub that still waits to be bound), or of the vdso, which is what libc's clock functions become.
 */
#include "symbol/object.h"

struct search {
    const struct tl_modules *modules;
    const struct tl_module *module; /* the defining one */
    const char *name;               /* of the function */
    uint64_t resolver;
    int (*read)(void *host, uint64_t addr, void *bytes, size_t size);
    void *host;
};

/* Whether the address is an ordinary function of the same name: another version of it, to which an old program is
 * bound. */
static bool is_other_version(const struct search *search, uint64_t there)
{
    const struct table *table = &search->module->object->functions;
    const struct tl_function *f = search->name ? table_named(table, search->name, NULL) : NULL;
    while (f && f->addr != there)
        f = table_named(table, search->name, f);
    return f != NULL;
}

static bool is_answer(const struct search *search, uint64_t value)
{
    const struct tl_module *module = tl_modules_at(search->modules, value);
    if (!module || !module->object || (module != search->module && !module->is_vdso))
        return false;
    uint64_t there = value - module->bias;
    if (!object_segment(module->object, there, true) || object_in_plt(module->object, there))
        return false;
    return module->is_vdso || !is_other_version(search, there);
}

static bool bound(const struct search *search, const struct tl_module *holder, const char *name, uint64_t *addr)
{
    size_t count;
    const struct relocation *relocations = object_relocations(holder->object, name, search->resolver, &count);
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        if (search->read(search->host, holder->bias + relocations[i].slot, &value, sizeof value) == 0 &&
            is_answer(search, value)) {
            *addr = value;
            return true;
        }
    }
    return false;
}

int tl_modules_resolve_ifunc(const struct tl_modules *modules, const struct tl_module *module,
                             const struct tl_function *function,
                             int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host,
                             uint64_t *addr)
{
    struct search search = {.modules = modules,
                            .module = module,
                            .name = function->name,
                            .resolver = function->addr,
                            .read = read,
                            .host = host};
    if (!module->object || function->kind != TL_FUNCTION_IFUNC)
        return -EINVAL;
    if (bound(&search, module, NULL, addr))
        return 0;
    for (size_t i = 0; i < modules->count && function->name; i++)
        if (modules->modules[i].object && bound(&search, &modules->modules[i], function->name, addr))
            return 0;
    return -ENOENT;
}
