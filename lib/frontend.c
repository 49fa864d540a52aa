/* SPDX-License-Identifier: MIT */
#include "frontend.h"

#include <errno.h>
#include <stdlib.h>

int frontend_check_flags(uint64_t flags, uint64_t known, struct tl_error *error)
{
    if (flags & ~known)
        return tl_fail(error, -EINVAL, "unknown flags 0x%llx", (unsigned long long)(flags & ~known));
    if (flags & TL_PROBE_INT3 && flags & TL_PROBE_JUMP)
        return tl_fail(error, -EINVAL, "by a trap only, and by a jump only: one of them");
    return 0;
}

/* An entry for each struct; or which one is not sound. */
static int make_entries(const struct frontend *frontend, void *const *structs, size_t count, struct entry **entries,
                        size_t *failed, struct tl_error *error)
{
    for (size_t i = 0; i < count; i++) {
        entries[i] = entry_new(structs[i], frontend->kind);
        if (!entries[i])
            return tl_fail(error, -ENOMEM, "out of memory");
        int code = frontend->check(structs[i], entries[i], error);
        if (code) {
            *failed = i;
            return code;
        }
    }
    return 0;
}

int frontend_register(const struct frontend *frontend, void *const *structs, size_t count, size_t *failed,
                      struct tl_error *error)
{
    size_t bad = count;
    if (failed)
        *failed = count;
    if (!structs && count)
        return tl_fail(error, -EINVAL, "no list: NULL");
    struct entry **entries = calloc(count + 1, sizeof(struct entry *));
    int code = entries ? make_entries(frontend, structs, count, entries, &bad, error)
                       : tl_fail(error, -ENOMEM, "out of memory");
    if (!code && count) {
        code = engine_begin(error);
        if (!code) {
            code = batch_register(entries, count, &bad, error);
            engine_end();
        }
    }
    for (size_t i = 0; code && entries && i < count; i++)
        entry_free(entries[i]);
    free(entries);
    if (failed)
        *failed = bad;
    return code;
}

int frontend_unregister(const struct frontend *frontend, void *const *structs, size_t count, size_t *failed)
{
    size_t bad = count;
    if (failed)
        *failed = count;
    if (!structs && count)
        return -EINVAL;
    int code = engine_enter();
    if (code)
        return code;
    code = batch_unregister((const void *const *)structs, count, frontend->kind, &bad);
    if (!code)
        reclaim(false);
    engine_end();
    if (failed)
        *failed = bad;
    return code;
}

int frontend_switch(const struct frontend *frontend, const void *key, bool on)
{
    int code = engine_enter();
    if (code)
        return code;
    code = batch_switch(key, frontend->kind, on);
    engine_end();
    return code;
}

int frontend_missed(const struct frontend *frontend, const void *key, uint64_t *missed)
{
    int code = engine_enter();
    if (code)
        return code;
    const struct entry *entry = entry_find(key, frontend->kind);
    if (entry && missed)
        *missed = entry_missed(entry);
    engine_end();
    return entry ? 0 : -ENOENT;
}

int frontend_place(const struct frontend *frontend, const void *key, void **address, const char **tactic)
{
    int code = engine_enter();
    if (code)
        return code;
    const struct entry *entry = entry_find(key, frontend->kind);
    if (entry && address)
        *address = (void *)(uintptr_t)entry->sites[0]->plan.addr; /* NOLINT: an address */
    if (entry && tactic)
        *tactic = tl_tactic_name(entry->sites[0]->plan.tactic);
    engine_end();
    return entry ? 0 : -ENOENT;
}
