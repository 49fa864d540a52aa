/* SPDX-License-Identifier: MIT */
#include "armed.h"

#include "hit/blob.h"
#include "probe/traps.h"

#include <stdio.h>

enum { POOL = 1 << 22, REMOVE_PATIENCE_MS = 20000 };

static int read_target(void *host, uint64_t addr, void *bytes, size_t size)
{
    return tl_remote_read(host, addr, bytes, size);
}

static size_t tables_at(void)
{
    return (sizeof(struct tl_broker) + 63) & ~(size_t)63;
}

static void find_sites(struct armed *a, uint64_t probe, unsigned length)
{
    assert_int_equal(tl_guards_find(&a->modules, read_target, a->remote, &a->guards), 0);
    assert_int_equal(a->guards.refused, TL_WHY_NONE);
    a->sites = calloc(1, sizeof *a->sites);
    assert_non_null(a->sites);
    if (probe) {
        struct tl_site *site = &a->sites[a->site_count++];
        site->addr = probe;
        site->text_length = sizeof site->text;
        site->boundaries = 1 | 1u << length;
        assert_int_equal(tl_remote_read(a->remote, probe, site->text, sizeof site->text), 0);
    }
    assert_int_equal(tl_guards_merge(&a->guards, &a->sites, &a->site_count), 0);
}

static struct tl_area *areas_of(struct armed *a, size_t *count)
{
    struct tl_remote_area *maps;
    assert_int_equal(tl_remote_areas(a->remote, &maps, count, NULL), 0);
    struct tl_area *areas = calloc(*count + 1, sizeof *areas);
    assert_non_null(areas);
    size_t n = 0;
    bool added = false;
    for (size_t i = 0; i < *count; i++) {
        if (!added && maps[i].start > ARMED_RUNTIME) {
            areas[n++] = (struct tl_area){.start = ARMED_RUNTIME, .end = ARMED_RUNTIME + (1 << 24)};
            added = true;
        }
        areas[n++] = (struct tl_area){.start = maps[i].start, .end = maps[i].end};
    }
    tl_remote_areas_free(maps);
    assert_true(added);
    *count = n;
    return areas;
}

static void plan(struct armed *a)
{
    struct tl_plan_options options = {
        .max_mappings = 1000,
        .tactics = 1u << TL_TACTIC_INT3, /* of guards they are jumps nevertheless */
        .guard = {.routine = ARMED_RUNTIME + tl_blob_guard_entry(), .context = ARMED_BROKER}};
    uint64_t addr;
    size_t count;
    struct tl_area *areas = areas_of(a, &count);
    for (;;) {
        assert_int_equal(tl_plan_build(a->sites, a->site_count, areas, count, &options, &a->plan), 0);
        if (!tl_guards_retreat(&a->guards, a->sites, a->site_count))
            break;
        /* Only where there are no probes beside them. */
        tl_plan_free(&a->plan);
        memcpy(a->sites, a->guards.sites, a->site_count * sizeof *a->sites);
    }
    assert_int_equal(tl_guards_missing(a->sites, a->site_count, &addr), TL_WHY_NONE);
    free(areas);
}

void armed_plan(struct armed *a, struct target *t, uint64_t probe, unsigned probe_length)
{
    memset(a, 0, sizeof *a);
    a->remote = open_target(t);
    assert_int_equal(tl_modules_read(t->pid, &a->modules, NULL), 0);
    assert_int_equal(tl_remote_region(a->remote, ARMED_AREA, POOL, &a->region, NULL), 0);
    find_sites(a, probe, probe_length);
    plan(a);
}

/* The broker, and the tables behind it. */
static uint8_t *make_data(struct armed *a, size_t *size)
{
    struct tl_traps_memory *memory = calloc(a->plan.map_count + 1, sizeof *memory);
    size_t tables_size;
    assert_non_null(memory);
    memory[0] = (struct tl_traps_memory){ARMED_RUNTIME, ARMED_RUNTIME + tl_page_up(tl_blob_size)};
    for (size_t i = 0; i < a->plan.map_count; i++)
        memory[i + 1] = (struct tl_traps_memory){a->plan.maps[i].addr, a->plan.maps[i].addr + a->plan.maps[i].size};
    assert_int_equal(
        tl_traps_of_sites(a->sites, a->site_count, memory, a->plan.map_count + 1, &a->tables, &tables_size), 0);
    free(memory);
    *size = tables_at() + tables_size;
    uint8_t *data = calloc(1, *size);
    assert_non_null(data);
    struct tl_broker *broker = (struct tl_broker *)(void *)data;
    bool has_watches = a->watches != 0;
    tl_broker_init(broker, &(struct tl_broker_setup){.notify = has_watches ? ARMED_RUNTIME + tl_blob_watch() : 0,
                                                     .notify_context = a->region.area_addr + a->watches,
                                                     .flags = TL_BROKER_DORMANT | TL_BROKER_FSGSBASE,
                                                     .pid = (uint32_t)tl_remote_facts(a->remote)->ns_pid,
                                                     .marker = ARMED_RUNTIME + (1 << 19),
                                                     .entry = ARMED_RUNTIME + tl_blob_broker_entry(),
                                                     .pass = ARMED_RUNTIME + tl_blob_broker_pass(),
                                                     .restorer = ARMED_RUNTIME + tl_blob_broker_restorer()});
    tl_broker_publish(broker, ARMED_BROKER + tables_at());
    memcpy(data + tables_at(), a->tables, tables_size);
    return data;
}

int armed_apply(struct armed *a)
{
    uint8_t *blob = malloc(tl_blob_size);
    struct tl_runtime runtime = {.code = blob,
                                 .size = tl_blob_size,
                                 .addr = ARMED_RUNTIME,
                                 .data_addr = ARMED_BROKER,
                                 .marker_addr = ARMED_RUNTIME + (1 << 19)};
    uint8_t *data = make_data(a, &runtime.data_size);
    assert_non_null(blob);
    memcpy(blob, tl_blob, tl_blob_size);
    tl_blob_prepare(blob, a->region.area_addr);
    tl_blob_set_broker(blob, ARMED_BROKER);
    runtime.data = data;
    int result = tl_apply(tl_remote_port(a->remote), a->sites, a->site_count, &a->plan, &runtime, &a->applied);
    free(a->tables);
    free(data);
    free(blob);
    return result;
}

void armed_end(struct armed *a)
{
    struct tl_error error = {0};
    int result = tl_apply_remove(&a->applied, REMOVE_PATIENCE_MS);
    if (result)
        fail_msg("take out: %d %s", result, tl_remote_last_error(a->remote));
    if (tl_remote_remove(a->remote, &error))
        fail_msg("remove: %s", error.text);
    armed_free(a);
}

void armed_free(struct armed *a)
{
    tl_remote_close(a->remote);
    tl_applied_free(&a->applied);
    tl_plan_free(&a->plan);
    tl_guards_free(&a->guards);
    free(a->sites);
    tl_modules_free(&a->modules);
}

bool armed_holds(const struct armed *a, uint64_t pc)
{
    if (pc - ARMED_RUNTIME < tl_blob_size)
        return true;
    for (size_t i = 0; i < a->plan.map_count; i++)
        if (pc - a->plan.maps[i].addr < a->plan.maps[i].size)
            return true;
    return false;
}
