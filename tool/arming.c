/* SPDX-License-Identifier: MIT */
#include "arming.h"
#include "place.h"

#include "hit/blob.h"
#include "hit/broker.h"
#include "probe/traps.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TABLE_BYTES_A_SITE: address space only, kept free for tables whose size the plan will tell. */
enum { PAGE = 4096, TABLE_BYTES_A_SITE = 2048, TABLE_BYTES_SPARE = 1 << 16 };
static const uint32_t breakpoints = 1u << TL_TACTIC_INT3;
static const uint32_t jumps = 1u << TL_TACTIC_NOP | 1u << TL_TACTIC_JUMP | 1u << TL_TACTIC_PUNNED;

static uint64_t round_up(uint64_t size)
{
    return (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

/* Where the tables stand behind the broker. */
static size_t tables_at(void)
{
    return (sizeof(struct tl_broker) + 63) & ~(size_t)63;
}

void arming_refuse(struct placed *placed, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(placed->arming.why, sizeof placed->arming.why, format, arguments);
    va_end(arguments);
    placed->arming.refused = true;
}

static int read_target(void *host, uint64_t addr, void *bytes, size_t size)
{
    return tl_remote_read(host, addr, bytes, size);
}

static void refuse_guard(struct placed *placed, uint64_t addr, enum tl_why why)
{
    char place[128];
    tl_modules_describe(&placed->modules, addr, place, sizeof place);
    arming_refuse(placed, "the system call at %s cannot be watched: %s", place, tl_why_text(why));
}

static int find_guards(struct placed *placed)
{
    struct arming *arming = &placed->arming;
    if (arming->looked)
        return 0;
    arming->looked = true;
    if (tl_remote_facts(placed->remote)->no_syscalls) {
        arming_refuse(placed, "it confines itself with seccomp");
        return 0;
    }
    int error = tl_guards_find(&placed->modules, read_target, placed->remote, &arming->guards);
    if (!error && arming->guards.refused != TL_WHY_NONE)
        refuse_guard(placed, arming->guards.refused_addr, arming->guards.refused);
    return error;
}

int arming_sites(struct placed *placed)
{
    struct arming *arming = &placed->arming;
    const struct tl_selection *selection = &placed->selection;
    int error = find_guards(placed);
    if (error)
        return error;
    free(arming->sites);
    arming->site_count = selection->site_count;
    arming->sites = calloc(selection->site_count + 1, sizeof *arming->sites);
    if (!arming->sites)
        return -ENOMEM;
    if (selection->site_count)
        memcpy(arming->sites, selection->sites, selection->site_count * sizeof *arming->sites);
    return arming->refused ? 0 : tl_guards_merge(&arming->guards, &arming->sites, &arming->site_count);
}

uint64_t arming_room(const struct placed *placed)
{
    uint64_t tables = placed->arming.site_count * TABLE_BYTES_A_SITE + TABLE_BYTES_SPARE;
    return round_up(tl_blob_size) + (placed->arming.refused ? 0 : round_up(tables_at() + tables) + PAGE);
}

void arming_place(struct placed *placed, uint64_t addr)
{
    struct arming *arming = &placed->arming;
    uint64_t end = addr + arming_room(placed);
    arming->runtime = addr;
    arming->data = addr + round_up(tl_blob_size);
    arming->marker = end - PAGE;
    arming->data_room = arming->refused ? 0 : arming->marker - arming->data;
}

void arming_plan_options(const struct placed *placed, uint32_t tactics, struct tl_plan_options *plan)
{
    const struct arming *arming = &placed->arming;
    plan->tactics = tactics ? tactics : jumps | breakpoints;
    if (arming->refused)
        plan->tactics &= ~breakpoints;
    /* 0 would mean all that jump; a window is never chosen. */
    if (!plan->tactics)
        plan->tactics = 1u << TL_TACTIC_WINDOW;
    plan->guard.routine = arming->runtime + tl_blob_guard_entry();
    plan->guard.context = arming->data;
}

/* Sites of both are in order of address. */
static void note_results(struct placed *placed, uint32_t tactics)
{
    struct arming *arming = &placed->arming;
    arming->places = 0;
    for (size_t i = 0, k = 0; i < placed->selection.site_count; i++) {
        struct tl_site *site = &placed->selection.sites[i];
        while (k < arming->site_count && arming->sites[k].addr < site->addr)
            k++;
        if (k == arming->site_count || arming->sites[k].addr != site->addr)
            continue;
        *site = arming->sites[k];
        arming->places += site->why == TL_WHY_NONE;
        if (arming->refused && site->why == TL_WHY_TACTIC && (!tactics || tactics & breakpoints))
            site->why = TL_WHY_SIGNALS;
    }
}

bool arming_planned(struct placed *placed, uint32_t tactics)
{
    struct arming *arming = &placed->arming;
    uint64_t addr;
    if (!arming->refused && tl_guards_retreat(&arming->guards, arming->sites, arming->site_count))
        return false;
    enum tl_why why = arming->refused ? TL_WHY_NONE : tl_guards_missing(arming->sites, arming->site_count, &addr);
    if (why != TL_WHY_NONE) {
        refuse_guard(placed, addr, why);
        return false;
    }
    note_results(placed, tactics);
    return true;
}

int arming_tables(struct placed *placed)
{
    struct arming *arming = &placed->arming;
    const struct tl_plan *plan = &placed->plan;
    if (arming->refused)
        return 0;
    free(arming->tables);
    arming->tables = NULL;
    struct tl_traps_memory *memory = calloc(plan->map_count + 1, sizeof *memory);
    if (!memory)
        return -ENOMEM;
    memory[0] = (struct tl_traps_memory){arming->runtime, arming->runtime + round_up(tl_blob_size)};
    for (size_t i = 0; i < plan->map_count; i++)
        memory[i + 1] = (struct tl_traps_memory){plan->maps[i].addr, plan->maps[i].addr + plan->maps[i].size};
    int error = tl_traps_of_sites(arming->sites, arming->site_count, memory, plan->map_count + 1, &arming->tables,
                                  &arming->tables_size);
    free(memory);
    if (!error && tables_at() + arming->tables_size > arming->data_room)
        error = -ENOMEM;
    return error;
}

size_t arming_data_size(const struct arming *arming)
{
    return arming->refused ? 0 : tables_at() + arming->tables_size;
}

uint8_t *arming_data(const struct placed *placed, size_t *size)
{
    const struct arming *arming = &placed->arming;
    const struct tl_remote_facts *facts = tl_remote_facts(placed->remote);
    *size = arming_data_size(arming);
    uint8_t *data = calloc(1, *size);
    if (!data)
        return NULL;
    struct tl_broker *broker = (struct tl_broker *)(void *)data;
    struct tl_broker_setup setup = {.flags = TL_BROKER_DORMANT | (facts->fsgsbase ? TL_BROKER_FSGSBASE : 0u) |
                                             (facts->fs_self && !facts->fsgsbase ? TL_BROKER_FS_SELF : 0u),
                                    .pid = (uint32_t)facts->ns_pid,
                                    .marker = arming->marker,
                                    .area = placed->region.area_addr,
                                    .entry = arming->runtime + tl_blob_broker_entry(),
                                    .pass = arming->runtime + tl_blob_broker_pass(),
                                    .restorer = arming->runtime + tl_blob_broker_restorer()};
    if (placed->watches) {
        setup.notify = arming->runtime + tl_blob_watch();
        setup.notify_context = placed->region.area_addr + placed->assembly.layout->watches;
    }
    tl_broker_init(broker, &setup);
    tl_broker_publish(broker, arming->data + tables_at());
    memcpy(data + tables_at(), arming->tables, arming->tables_size);
    return data;
}

void arming_free(struct arming *arming)
{
    tl_guards_free(&arming->guards);
    free(arming->sites);
    free(arming->tables);
    memset(arming, 0, sizeof *arming);
}
