/* SPDX-License-Identifier: MIT */
#include "draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"

int draft_refuse(struct draft *draft, uint32_t entry, uint64_t addr, enum tl_why why)
{
    char where[200];
    tl_modules_describe(&engine.modules.loaded, addr, where, sizeof where);
    draft->failed = entry;
    return tl_fail(draft->error, -tl_why_errno(why), "%s: %s", where, tl_why_text(why));
}

static int out_of_memory(struct draft *draft)
{
    return tl_fail(draft->error, -ENOMEM, "out of memory");
}

static bool by_exits(const struct entry *entry)
{
    return entry->kind == ENTRY_RETURN && !(entry->returns.flags & TL_RETURN_REWRITE);
}

/* ---- what is wanted ---- */

static int ask(struct draft *draft)
{
    draft->requests = calloc(2 * draft->count + 1, sizeof *draft->requests);
    draft->asked_by = calloc(2 * draft->count + 1, sizeof *draft->asked_by);
    if (!draft->requests || !draft->asked_by)
        return out_of_memory(draft);
    for (size_t i = 0; i < draft->count; i++) {
        const struct entry *entry = draft->entries[i];
        struct wanted wanted = entry_wanted(entry);
        struct where where;
        int code = where_find(&engine.modules, &wanted, engine_read, NULL, &where, draft->error);
        if (code) {
            draft->failed = i;
            return code;
        }
        enum tl_why why = forbidden(&where);
        if (why == TL_WHY_NONE && entry->kind != ENTRY_PROBE &&
            (!where.function || where.function->addr + where.module->bias != where.addr))
            why = where.function ? TL_WHY_NOT_BOUNDARY : TL_WHY_NOT_CODE;
        if (why != TL_WHY_NONE)
            return draft_refuse(draft, (uint32_t)i, where.addr, why);
        draft->asked_by[draft->request_count] = (uint32_t)i;
        draft->requests[draft->request_count++].where = where;
        if (by_exits(entry)) {
            draft->asked_by[draft->request_count] = (uint32_t)i;
            draft->requests[draft->request_count].exits = true;
            draft->requests[draft->request_count++].where = where;
        }
    }
    if (places_find(draft->requests, draft->request_count, &engine.modules, engine_read, NULL, &draft->places))
        return out_of_memory(draft);
    for (size_t i = 0; i < draft->request_count; i++)
        if (draft->requests[i].why != TL_WHY_NONE)
            return draft_refuse(draft, draft->asked_by[i], draft->requests[i].where.addr, draft->requests[i].why);
    return 0;
}

/* ---- the sites for it ---- */

/* What the places at one address want, all together. */
struct demand {
    uint64_t addr;
    uint32_t tactics;
    bool post, may_stay;
    const struct place_request *request; /* of an exit */
};

static enum role role_of(const struct entry *entry, const struct place *place)
{
    switch ((enum place_exit)place->exit) {
    case PLACE_EXIT_RET:
        return ROLE_EXIT;
    case PLACE_EXIT_TAIL:
        return ROLE_TAIL;
    case PLACE_EXIT_MAYBE:
        return ROLE_TAIL_IF;
    default:
        return entry->kind == ENTRY_PROBE ? ROLE_PROBE : entry->kind == ENTRY_RETURN ? ROLE_ENTRY : ROLE_JUMP;
    }
}

static uint32_t tactics_of(const struct entry *entry)
{
    uint32_t trap = 1u << TL_TACTIC_INT3;
    uint32_t jumps = 1u << TL_TACTIC_NOP | 1u << TL_TACTIC_JUMP | 1u << TL_TACTIC_PUNNED;
    uint64_t flags = entry_flags(entry);
    return flags & TL_PROBE_INT3 ? trap : flags & TL_PROBE_JUMP ? jumps : jumps | trap;
}

/* What the instruction is, and what is needed for it. */
static enum tl_why study(struct site *site, const struct demand *demand)
{
    struct tl_insn insn;
    if (tl_insn_decode(site->plan.text, site->plan.text_length, site->plan.addr, &insn))
        return TL_WHY_UNDECODABLE;
    site->next = site->plan.addr + insn.length;
    site->transfers = !tl_insn_emulation(&insn, &site->emulation);
    site->has_after = demand->post && insn.flow == TL_FLOW_NEXT;
    site->lacks_traps = !engine.traps && demand->tactics & 1u << TL_TACTIC_INT3;
    site->tactics = demand->tactics & (engine.traps ? ~0u : ~(1u << TL_TACTIC_INT3));
    site->plan.mode = TL_SITE_BEFORE;
    if (!site->tactics)
        return site->lacks_traps ? TL_WHY_SIGNALS : TL_WHY_TACTIC;
    if (demand->may_stay && !site->transfers)
        return TL_WHY_NO_EXIT;
    if (demand->post && !site->has_after && !site->transfers && insn.flow != TL_FLOW_STOP)
        return TL_WHY_FAR;
    return demand->post && demand->may_stay ? TL_WHY_CONFLICT : TL_WHY_NONE;
}

static bool add_stay(struct site *site, const struct demand *demand)
{
    if (!demand->may_stay || site->stay)
        return true;
    site->stay = calloc(1, sizeof *site->stay);
    if (!site->stay)
        return false;
    site->stay->probe.context = site->stay;
    site->stay->emulation = site->emulation;
    site->stay->part_count = demand->request->part_count;
    memcpy(site->stay->parts, demand->request->parts, sizeof site->stay->parts);
    return true;
}

static bool uses(const struct site *site, enum role role, bool post)
{
    for (size_t i = 0; i < site->user_count; i++)
        if (site->users[i].role == role && (!post || site->users[i].entry->probe.post))
            return true;
    return false;
}

/* May an idle site's bytes come into the text as they are? Others may have come near since nobody uses it. */
static bool has_room(const struct site *site)
{
    if (site->user_count)
        return true; /* nobody was allowed near */
    for (size_t i = 0; i < engine.guard_count; i++)
        if (engine.guards[i]->addr + 2 * TL_INSN_MAX - site->plan.addr < 4 * TL_INSN_MAX)
            return false;
    for (size_t i = sites_at(site->plan.addr - 2 * TL_INSN_MAX);
         i < engine.site_count && engine.sites[i]->plan.addr < site->plan.addr + 2 * TL_INSN_MAX; i++)
        if (engine.sites[i] != site && (engine.sites[i]->user_count || engine.sites[i]->patched))
            return false;
    return true;
}

/* Whether a site that nobody uses is reached as it is wanted now: by no trap where it was planned for one only. */
static bool is_reached_well(const struct site *site, uint32_t tactics)
{
    bool might_be_better = site->plan.tactic == TL_TACTIC_INT3 && tactics & ~site->tactics && !site->plan.step_at;
    return 1u << site->plan.tactic & tactics && !might_be_better;
}

/* Whether a site that is there serves. */
static enum tl_why serves(const struct site *site, const struct site *studied, const struct demand *demand,
                          const struct tl_site *now, bool *serves)
{
    bool conflict =
        (demand->post && uses(site, ROLE_TAIL_IF, false)) || (demand->may_stay && uses(site, ROLE_PROBE, true));
    *serves = !(studied->has_after && !site->has_after) && now->text_length == site->plan.text_length &&
              !memcmp(now->text, site->plan.text, site->plan.jump_length ? TL_INSN_MAX : site->plan.own_length) &&
              has_room(site) && (site->user_count || is_reached_well(site, studied->tactics));
    /* One with a breakpoint in its trampoline cannot be replaced: its traps have to stay known. */
    if (conflict || (!*serves && site->plan.step_at))
        return TL_WHY_CONFLICT;
    /* A shared site is reached as it is; but nobody who has forbidden it is reached by a trap. */
    return *serves && !(1u << site->plan.tactic & studied->tactics) && site->plan.tactic == TL_TACTIC_INT3
               ? TL_WHY_TACTIC
               : TL_WHY_NONE;
}

/* A library was unloaded with a probe in it, and it or another one has come to the same place: what is there is as its
 * file has it. */
static void note_reload(struct site *site, const struct tl_site *text)
{
    uint8_t now[TL_INSN_MAX];
    if (site->patched && !tl_self_read(engine.self, site->plan.addr, now, site->plan.own_length) &&
        text->text_length >= site->plan.own_length && !memcmp(now, text->text, site->plan.own_length))
        site->patched = false;
}

/* The site for one address: one that is there, or a fresh one. NULL: see *why, TL_WHY_NONE for want of memory. */
static struct site *provide(struct draft *draft, const struct tl_site *text, const struct demand *demand,
                            enum tl_why *why)
{
    struct site *fresh = calloc(1, sizeof *fresh), *old = sites_find(demand->addr);
    bool there = false;
    *why = TL_WHY_NONE;
    if (!fresh)
        return NULL;
    if (old)
        note_reload(old, text);
    fresh->plan = *text;
    *why = study(fresh, demand);
    if (*why == TL_WHY_NONE && old)
        *why = serves(old, fresh, demand, text, &there);
    if (old && !old->user_count && !is_reached_well(old, fresh->tactics))
        draft->in_the_way = true;
    if (*why != TL_WHY_NONE || (there && !add_stay(old, demand)) || (!there && !add_stay(fresh, demand))) {
        site_free(fresh);
        return NULL;
    }
    if (there) {
        site_free(fresh);
        if (old->patched)
            draft->live[draft->live_count++] = old;
        else
            draft->idle[draft->idle_count++] = old;
        return old;
    }
    if (old) { /* its users move, and their posts with them */
        fresh->replaces = old;
        fresh->has_after = fresh->has_after || old->has_after;
        if (old->user_count) /* a shared site is reached as its first user wanted it */
            fresh->tactics = old->tactics & fresh->tactics ? old->tactics & fresh->tactics : old->tactics;
        if (old->stay && !fresh->stay) {
            fresh->stay = calloc(1, sizeof *fresh->stay);
            if (fresh->stay) {
                *fresh->stay = *old->stay;
                fresh->stay->probe.context = fresh->stay;
            }
        }
    }
    if ((old && old->stay && !fresh->stay) || site_indices(fresh)) {
        site_free(fresh);
        return NULL;
    }
    fresh->plan.hook = (struct tl_hook){.kind = TL_HOOK_CALL, .index = fresh->before.index};
    if (fresh->has_after)
        fresh->plan.after = (struct tl_hook){.kind = TL_HOOK_CALL, .index = fresh->behind.index};
    draft->fresh[draft->fresh_count++] = fresh;
    return fresh;
}

/* The text of a place that has no site only because src/probe would not share one between a conditional exit and
 * others. Ours can. */
static const struct tl_site *text_of(const struct draft *draft, const struct place *place)
{
    const struct places *places = &draft->places;
    if (place->site != UINT32_MAX)
        return &places->sites[place->site];
    for (size_t low = 0, high = places->site_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (places->sites[middle].addr == place->addr)
            return &places->sites[middle];
        if (places->sites[middle].addr < place->addr)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int choose_sites(struct draft *draft)
{
    const struct places *places = &draft->places;
    for (size_t i = 0, end; i < places->count; i = end) {
        struct demand demand = {.addr = places->places[i].addr, .tactics = ~0u};
        const struct tl_site *text = NULL;
        for (end = i; end < places->count && places->places[end].addr == demand.addr; end++) {
            const struct place *place = &places->places[end];
            const struct entry *entry = draft->entries[draft->asked_by[place->request]];
            enum role role = role_of(entry, place);
            text = text_of(draft, place);
            if (!text)
                return draft_refuse(draft, draft->asked_by[place->request], place->addr, place->why);
            demand.tactics &= tactics_of(entry);
            demand.post = demand.post || (role == ROLE_PROBE && entry->probe.post);
            demand.may_stay = demand.may_stay || role == ROLE_TAIL_IF;
            demand.request = role == ROLE_TAIL_IF ? &draft->requests[place->request] : demand.request;
        }
        enum tl_why why;
        struct site *site = provide(draft, text, &demand, &why);
        if (!site && why == TL_WHY_NONE)
            return out_of_memory(draft);
        if (!site)
            return draft_refuse(draft, draft->asked_by[places->places[i].request], demand.addr, why);
        for (size_t k = i; k < end; k++) {
            uint32_t entry = draft->asked_by[places->places[k].request];
            draft->parts[draft->part_count++] =
                (struct part_of_draft){site, entry, role_of(draft->entries[entry], &places->places[k])};
        }
    }
    return 0;
}

static int by_entry(const void *left, const void *right)
{
    const struct part_of_draft *a = left, *b = right;
    if (a->entry != b->entry)
        return a->entry < b->entry ? -1 : 1;
    bool first = a->role == ROLE_PROBE || a->role == ROLE_ENTRY || a->role == ROLE_JUMP;
    bool second = b->role == ROLE_PROBE || b->role == ROLE_ENTRY || b->role == ROLE_JUMP;
    if (first != second)
        return first ? -1 : 1;
    return a->site->plan.addr < b->site->plan.addr ? -1 : a->site->plan.addr > b->site->plan.addr;
}

int draft_make(struct draft *draft, struct entry *const *entries, size_t count, struct tl_error *error)
{
    memset(draft, 0, sizeof *draft);
    draft->entries = entries;
    draft->count = draft->failed = count;
    draft->error = error;
    int code = ask(draft);
    if (code)
        return code;
    size_t most = draft->places.count + 1;
    draft->parts = calloc(most, sizeof *draft->parts);
    draft->fresh = calloc(most, sizeof(struct site *));
    draft->idle = calloc(most, sizeof(struct site *));
    draft->live = calloc(most, sizeof(struct site *));
    if (!draft->parts || !draft->fresh || !draft->idle || !draft->live || sites_reserve(most))
        return out_of_memory(draft);
    code = choose_sites(draft);
    bool sorted = true;
    for (size_t i = 1; i < draft->part_count && sorted; i++)
        sorted = by_entry(&draft->parts[i - 1], &draft->parts[i]) <= 0;
    if (!code && !sorted)
        qsort(draft->parts, draft->part_count, sizeof *draft->parts, by_entry);
    return code;
}

void draft_free(struct draft *draft)
{
    for (size_t i = 0; i < draft->fresh_count; i++)
        site_free(draft->fresh[i]);
    places_free(&draft->places);
    free(draft->requests);
    free(draft->asked_by);
    free(draft->parts);
    free(draft->fresh);
    free(draft->idle);
    free(draft->live);
    memset(draft, 0, sizeof *draft);
}
