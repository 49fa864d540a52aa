/* SPDX-License-Identifier: MIT
 *
 * Registration: all that can fail comes first, and what cannot is done when the text has been changed.
 *
 *   draft     which sites, of which some are there
 *   reserve   memory for lists, tables, return probes
 *   planning  trampolines for fresh sites, mapped
 *   lists     of sites that are not in the text yet: from here on a hit would be seen
 *   text      the broker knows their traps, and one patch operation. Here it is decided
 *   lists     of sites that are in the text already
 *   keep      what was replaced is retired, tables know the entries
 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "draft.h"
#include "planning.h"
#include "stubs.h"

/* ---- users ---- */

static void add_user(struct site *site, struct entry *entry, enum role role)
{
    site->users[site->user_count++] = (struct user){entry, role};
}

static void drop_users(struct site *site, const struct entry *entry)
{
    size_t kept = 0;
    for (size_t i = 0; i < site->user_count; i++)
        if (site->users[i].entry != entry)
            site->users[kept++] = site->users[i];
    site->user_count = kept;
}

/* A site and the others of its kind want to be in the text if anybody who is switched on uses them. */
static void want(struct site *const *sites, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sites[i]->wanted = site_is_used(sites[i]);
}

/* ---- return probes ---- */

static int make_calls(struct entry *entry, struct planning *planning)
{
    const struct tl_return_probe *probe = &entry->returns;
    struct tl_call_return_shape shape = {.probe = (struct tl_return_probe *)(uintptr_t)entry->key,
                                         .entry = probe->entry,
                                         .handler = probe->handler,
                                         .data_size = (uint32_t)probe->data_size,
                                         .max_active =
                                             probe->max_active ? probe->max_active : TL_RETURN_ACTIVE_DEFAULT};
    if (probe->flags & TL_RETURN_REWRITE) {
        entry->stub = stub_take(planning);
        if (!entry->stub)
            return -ENOMEM;
        shape.stub = entry->stub->addr;
    }
    size_t size = (tl_call_return_size(&shape) + 15) & ~(size_t)15;
    entry->calls = aligned_alloc(16, size);
    if (!entry->calls)
        return -ENOMEM;
    memset(entry->calls, 0, size);
    tl_call_return_init(entry->calls, &shape);
    if (entry->stub)
        stub_start(entry->stub, entry->calls);
    return 0;
}

/* ---- registration ---- */

static size_t count_faults(struct entry *const *entries, size_t count)
{
    size_t faults = 0;
    for (size_t i = 0; i < count; i++)
        faults += entries[i]->kind == ENTRY_PROBE && entries[i]->probe.fault;
    return faults;
}

/* Entries' own memory, and room in what the engine keeps of them. */
static int reserve(struct draft *draft)
{
    for (size_t i = 0, part = 0; i < draft->count; i++) {
        struct entry *entry = draft->entries[i];
        size_t first = part;
        while (part < draft->part_count && draft->parts[part].entry == i)
            part++;
        entry->sites = calloc(part - first + 1, sizeof(struct site *));
        if (!entry->sites)
            return -ENOMEM;
        for (entry->site_count = 0; first < part; first++) /* a function's entry may be an exit as well */
            if (!entry->site_count || draft->parts[first].site != entry->sites[0])
                entry->sites[entry->site_count++] = draft->parts[first].site;
    }
    /* How many users each site gets: counted in its own `more`. */
    for (size_t i = 0; i < draft->part_count; i++)
        draft->parts[i].site->more++;
    int code = 0;
    for (size_t i = 0; i < draft->part_count; i++) {
        struct site *site = draft->parts[i].site;
        size_t users = site->user_count + site->more + (site->replaces ? site->replaces->user_count : 0);
        if (site->more && !code)
            code = lists_reserve(site, users);
        site->more = 0;
    }
    if (!code)
        code = faults_reserve(count_faults(draft->entries, draft->count));
    return code ? code : keys_reserve(&engine.entries, draft->count);
}

/* Jumps into whose bytes a new site comes become an int3. Done at once: it is right in any case. */
static int demote(const struct planning *planning, struct tl_error *error)
{
    int code = 0;
    for (size_t i = 0; i < planning->demoted_count && !code; i++) {
        struct site *site = planning->demoted[i], before = *site;
        struct tl_traps_part *part = NULL;
        if (site->plan.tactic == TL_TACTIC_INT3)
            continue;
        site->plan.tactic = TL_TACTIC_INT3;
        site->plan.jump_length = 0;
        if (site->plan.beyond)
            site->left_beyond = site->plan.beyond;
        site->plan.beyond = 0;
        if (tl_traps_part_make(&site->plan, site->before.index, &part)) {
            site->plan = before.plan;
            return tl_fail(error, -ENOMEM, "out of memory");
        }
        site->part = part;
        site->bytes[0] = 0xcc;
        memcpy(site->bytes + 1, site->plan.text + 1, site->plan.own_length - 1u);
        code = engine_tell(&site, 1, error);
        if (!code && site->patched) {
            struct tl_patch patch = {.addr = site->plan.addr, .length = site->plan.own_length};
            memcpy(patch.expect, before.bytes, patch.length);
            memcpy(patch.bytes, site->bytes, patch.length);
            code = tl_self_patch(engine.self, &patch, 1, NULL, error);
        }
        if (code) {
            site->plan = before.plan;
            site->part = before.part;
            site->left_beyond = before.left_beyond;
            memcpy(site->bytes, before.bytes, sizeof site->bytes);
            if (!engine_tell(&site, 1, NULL)) /* else the host may know it still: it stays */
                tl_traps_part_free(part);
        } else {
            tl_traps_part_free(before.part);
        }
    }
    return code;
}

/* The users that sites will have; those of a site that is replaced move to the new one. */
static void add_users(struct draft *draft)
{
    for (size_t i = 0; i < draft->fresh_count; i++) {
        struct site *site = draft->fresh[i], *old = site->replaces;
        for (size_t k = 0; old && k < old->user_count; k++)
            add_user(site, old->users[k].entry, old->users[k].role);
    }
    for (size_t i = 0; i < draft->part_count; i++)
        add_user(draft->parts[i].site, draft->entries[draft->parts[i].entry], draft->parts[i].role);
}

static void take_users_back(struct draft *draft)
{
    for (size_t i = 0; i < draft->part_count; i++)
        drop_users(draft->parts[i].site, draft->entries[draft->parts[i].entry]);
    for (size_t i = 0; i < draft->fresh_count; i++)
        draft->fresh[i]->user_count = 0;
    lists_update(draft->fresh, draft->fresh_count);
    lists_update(draft->idle, draft->idle_count);
    if (count_faults(draft->entries, draft->count))
        faults_update(NULL, 0);
    want(draft->idle, draft->idle_count);
}

/* From here on it counts what is missed. */
static void start_counting(struct entry *entry)
{
    entry->missed_base = site_missed(entry->sites[0]);
}

static int change_text(struct draft *draft)
{
    size_t count = draft->fresh_count + draft->idle_count, failed;
    struct site **sites = calloc(count + 1, sizeof(struct site *));
    if (!sites)
        return tl_fail(draft->error, -ENOMEM, "out of memory");
    memcpy(sites, draft->fresh, draft->fresh_count * sizeof *sites);
    memcpy(sites + draft->fresh_count, draft->idle, draft->idle_count * sizeof *sites);
    want(sites, count);
    int code = text_update(sites, count, &failed, draft->error);
    for (size_t i = 0; code && failed < count && i < draft->part_count; i++)
        if (draft->parts[i].site == sites[failed] && draft->parts[i].entry < draft->failed)
            draft->failed = draft->parts[i].entry;
    free(sites);
    return code;
}

/* `site` has replaced another: whoever acted there acts here, and both count what they miss. */
static void replace(struct site *site)
{
    struct site *old = site->replaces;
    uint64_t old_missed = site_missed(old);
    for (size_t k = 0; k < site->user_count; k++) {
        struct entry *entry = site->users[k].entry;
        bool moved = false;
        for (size_t i = 0; i < entry->site_count; i++) {
            moved = moved || entry->sites[i] == old;
            entry->sites[i] = entry->sites[i] == old ? site : entry->sites[i];
        }
        if (entry->sites[0] == site && (k == 0 || site->users[k - 1].entry != entry))
            entry->missed_base += moved ? site->missed_at_start : old_missed;
    }
    old->user_count = 0;
    old->patched = old->is_replaced = false;
    sites_remove(old);
    engine.replaced[engine.replaced_count++] = old;
    engine.dormant++;
    site->older = old;
    old->newer = site;
    site->replaces = NULL;
}

static void keep(struct draft *draft, struct planning *planning)
{
    for (size_t i = 0; i < draft->fresh_count; i++)
        if (draft->fresh[i]->replaces)
            replace(draft->fresh[i]);
    lists_update(draft->live, draft->live_count);
    sites_insert(draft->fresh, draft->fresh_count);
    draft->fresh_count = 0;
    planning_keep(planning);
    for (size_t i = 0; i < draft->count; i++)
        keys_put(&engine.entries, (uintptr_t)draft->entries[i]->key, draft->entries[i]);
}

static void stop_replacing(const struct draft *draft)
{
    for (size_t i = 0; i < draft->fresh_count; i++)
        if (draft->fresh[i]->replaces)
            draft->fresh[i]->replaces->is_replaced = false;
}

static int carry_out(struct draft *draft)
{
    struct planning planning;
    size_t refused;
    int code = reserve(draft) ? tl_fail(draft->error, -ENOMEM, "out of memory") : 0;
    if (code)
        return code;
    for (size_t i = 0; i < draft->fresh_count; i++)
        if (draft->fresh[i]->replaces)
            draft->fresh[i]->replaces->is_replaced = true;
    code = planning_make(&planning, draft->fresh, draft->fresh_count, &refused, draft->error);
    if (code) {
        for (size_t i = 0; refused < draft->fresh_count && i < draft->part_count; i++)
            if (draft->parts[i].site == draft->fresh[refused])
                return draft_refuse(draft, draft->parts[i].entry, draft->fresh[refused]->plan.addr,
                                    draft->fresh[refused]->plan.why);
        return code;
    }
    code = demote(&planning, draft->error);
    for (size_t i = 0; i < draft->count && !code; i++)
        if (draft->entries[i]->kind == ENTRY_RETURN && make_calls(draft->entries[i], &planning))
            code = tl_fail(draft->error, -ENOMEM, "out of memory");
    if (!code) {
        for (size_t i = 0; i < draft->fresh_count; i++)
            draft->fresh[i]->missed_at_start = tl_call_missed(draft->fresh[i]->before.index);
        for (size_t i = 0; i < draft->count; i++) {
            struct entry *entry = draft->entries[i];
            entry->enabled = !(entry_flags(entry) & TL_PROBE_DISABLED);
            start_counting(entry);
        }
        add_users(draft);
        if (count_faults(draft->entries, draft->count))
            faults_update(draft->fresh, draft->fresh_count);
        lists_update(draft->fresh, draft->fresh_count);
        lists_update(draft->idle, draft->idle_count);
        code = change_text(draft);
        if (code)
            take_users_back(draft);
    }
    if (!code) {
        keep(draft, &planning);
        return 0;
    }
    stop_replacing(draft);
    if (engine_publish(NULL)) /* the host knows their parts still: they stay */
        draft->fresh_count = 0;
    planning_drop(&planning);
    return code;
}

/* Neither registered already, nor twice in this batch. */
static int refuse_doubles(struct entry *const *entries, size_t count, size_t *failed, struct tl_error *error)
{
    struct keys seen = {0};
    int code = keys_reserve(&seen, count) ? tl_fail(error, -ENOMEM, "out of memory") : 0;
    for (size_t i = 0; i < count && !code; i++) {
        uint64_t key = (uintptr_t)entries[i]->key;
        if (keys_get(&engine.entries, key) || keys_get(&seen, key)) {
            *failed = i;
            code = tl_fail(error, -EEXIST, "this struct is registered already");
        } else {
            keys_put(&seen, key, entries[i]);
        }
    }
    keys_free(&seen);
    return code;
}

int batch_register(struct entry **entries, size_t count, size_t *failed, struct tl_error *error)
{
    *failed = count;
    int code = refuse_doubles(entries, count, failed, error);
    if (code || !count)
        return code;
    struct draft draft;
    code = draft_make(&draft, entries, count, error);
    if (draft.in_the_way) { /* rare: somebody has changed the flags */
        draft_free(&draft);
        reclaim(true);
        code = draft_make(&draft, entries, count, error);
    }
    if (!code)
        code = carry_out(&draft);
    *failed = draft.failed;
    stop_replacing(&draft);
    draft_free(&draft);
    return code;
}

/* ---- switching, and taking out ---- */

/* The sites at which these entries act, each once. Or NULL. */
static struct site **sites_of(struct entry *const *entries, size_t count, size_t *site_count)
{
    size_t most = 0, used = 0;
    for (size_t i = 0; i < count; i++)
        most += entries[i]->site_count;
    struct site **sites = calloc(most + 1, sizeof(struct site *));
    for (size_t i = 0; i < count && sites; i++)
        for (size_t k = 0; k < entries[i]->site_count; k++) {
            struct site *site = entries[i]->sites[k];
            if (!site->more)
                sites[used++] = site;
            site->more = 1;
        }
    for (size_t i = 0; i < used; i++)
        sites[i]->more = 0;
    *site_count = used;
    return sites;
}

/* Lists and text as the entries' `enabled` say. Taking bytes out of the text may fail for want of memory: they are
 * harmless there, without lists, and come out another time. */
static int settle(struct site *const *sites, size_t count, bool on)
{
    size_t failed;
    want(sites, count);
    lists_update(sites, count);
    int code = text_update(sites, count, &failed, NULL);
    return on ? code : 0;
}

/* Entries whose calls under way return through us: their memory stays until these are over. */
static struct entry *buried;

static void bury(struct entry *entry)
{
    for (struct entry **at = &buried; *at;) {
        struct entry *dead = *at;
        if (tl_call_return_rewritten(dead->calls)) {
            at = &dead->next;
        } else {
            *at = dead->next;
            entry_free(dead);
        }
    }
    if (entry->calls && tl_call_return_rewritten(entry->calls)) {
        entry->next = buried;
        buried = entry;
    } else {
        entry_free(entry);
    }
}

/* What an entry that has just been switched off has missed. */
static void stop_counting(struct entry *entry)
{
    entry->missed += site_missed(entry->sites[0]) - entry->missed_base;
    if (entry->calls)
        tl_call_return_give_up(entry->calls);
}

int batch_switch(const void *key, enum entry_kind kind, bool on)
{
    struct entry *entry = entry_find(key, kind);
    if (!entry)
        return -ENOENT;
    if (entry->enabled == on)
        return 0;
    entry->enabled = on;
    if (on)
        start_counting(entry);
    int code = settle(entry->sites, entry->site_count, on);
    if (count_faults(&entry, 1))
        faults_update(NULL, 0);
    if (code) {
        entry->enabled = false;
        settle(entry->sites, entry->site_count, false);
    }
    if (!entry->enabled)
        stop_counting(entry);
    return code;
}

/* Out of everything but its sites' trampolines. */
static void take_out(struct entry *const *entries, size_t count, struct site *const *sites, size_t site_count)
{
    for (size_t i = 0; i < count; i++) {
        entries[i]->leaves = entries[i]->enabled;
        entries[i]->enabled = false;
    }
    settle(sites, site_count, false);
    if (count_faults(entries, count))
        faults_update(NULL, 0);
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = entries[i];
        if (entry->leaves)
            stop_counting(entry);
        for (size_t k = 0; k < entry->site_count; k++) {
            drop_users(entry->sites[k], entry);
            engine.dormant += !entry->sites[k]->user_count;
        }
        keys_remove(&engine.entries, (uintptr_t)entry->key);
        bury(entry);
    }
}

/* All are there, and none twice; or which one is not. */
static size_t find_all(const void *const *keys, size_t count, enum entry_kind kind)
{
    size_t bad = count;
    for (size_t i = 0; i < count && bad == count; i++) {
        struct entry *entry = entry_find(keys[i], kind);
        if (!entry || entry->leaves)
            bad = i;
        else
            entry->leaves = true;
    }
    for (size_t i = 0; i < bad; i++)
        entry_find(keys[i], kind)->leaves = false;
    return bad;
}

int batch_unregister(const void *const *keys, size_t count, enum entry_kind kind, size_t *failed)
{
    *failed = find_all(keys, count, kind);
    if (*failed < count)
        return -ENOENT;
    size_t site_count = 0;
    struct entry **entries = calloc(count + 1, sizeof(struct entry *));
    for (size_t i = 0; i < count && entries; i++)
        entries[i] = entry_find(keys[i], kind);
    struct site **sites = entries ? sites_of(entries, count, &site_count) : NULL;
    if (sites)
        take_out(entries, count, sites, site_count);
    else /* no memory to do it at once */
        for (size_t i = 0; i < count; i++) {
            struct entry *entry = entry_find(keys[i], kind);
            take_out(&entry, 1, entry->sites, entry->site_count);
        }
    free(entries);
    free(sites);
    return 0;
}
