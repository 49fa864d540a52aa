/* SPDX-License-Identifier: MIT
 *
 * Plans for text, sites and address spaces that the input makes up: sites in the middle of instructions or of each
 * other, odd boundaries, breakpoints of others, text that ends, areas that overlap, addresses at the ends of the number
 * line. Whatever comes, the plan keeps what tests/probe/check.h says.
 *
 * The tables for the signal broker that are made of it are in order.
 *
 * with: tests/probe/check.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/probe/check.h"
#include "hit/broker.h"
#include "probe/traps.h"
#include "input.h"

enum { TEXT = 2048, SITES = 200, AREAS = 16 };

static void make_site(struct input *input, const struct text *text, uint64_t offset, struct tl_site *site)
{
    site_at(text, text->addr + offset, site);
    uint64_t odd = number(input, 1);
    site->mode = odd & 1 ? TL_SITE_TAKEN : TL_SITE_BEFORE;
    site->hook.kind = odd & 2 ? TL_HOOK_ENTER : TL_HOOK_NONE;
    if (odd & 4)
        site->text_length = site->text_length < 5 ? site->text_length : 5;
    if (odd & 8)
        site->boundaries |= (uint32_t)number(input, 2) | 1;
    if (odd & 32)
        site->guard = odd & 64 ? TL_GUARD_ASK : TL_GUARD_KNOWN;
    if ((odd & 96) == 96)
        site->guard_at = (uint8_t)number(input, 1);
    if (odd & 128)
        site->after.kind = TL_HOOK_CALL;
    if (odd & 16) {
        site->foreign = (uint32_t)number(input, 1) << 1;
        memset(site->original, (int)number(input, 1), sizeof site->original);
    }
}

static size_t make_sites(struct input *input, const struct text *text, struct tl_site *sites)
{
    size_t count = 0;
    for (uint64_t offset = number(input, 1); offset < text->size && count < SITES; count++) {
        make_site(input, text, offset, &sites[count]);
        offset += 1 + (number(input, 1) & 15);
    }
    return count;
}

static size_t make_areas(struct input *input, const struct text *text, struct tl_area *areas)
{
    size_t count = 1 + number(input, 1) % (AREAS - 1);
    areas[0] = (struct tl_area){.start = text->addr & ~4095ull, .end = text->addr + text->size};
    for (size_t i = 1; i < count; i++) {
        areas[i].start =
            (text->addr & ~4095ull) + (uint64_t)((int64_t)(int32_t)number(input, 4) * (int64_t)(1 + i % 2));
        areas[i].end = areas[i].start + (number(input, 2) << (4 + i));
        areas[i].keep_below = number(input, 1) << 24;
        areas[i].keep_above = number(input, 1) << 24;
        if (areas[i].end < areas[i].start)
            areas[i].end = areas[i].start;
        if (areas[i].start < areas[i].keep_below)
            areas[i].keep_below = 0;
    }
    return count;
}

/* The broker's tables for whatever has come out are in order. */
static void check_traps(const struct planned *planned)
{
    void *image;
    size_t size;
    if (tl_traps_of_sites(planned->sites, planned->site_count, NULL, 0, &image, &size))
        abort();
    const struct tl_broker_tables *tables = image;
    const struct tl_trap *traps = (const void *)((const uint8_t *)image + tables->traps);
    const struct tl_trap_range *ranges = (const void *)((const uint8_t *)image + tables->ranges);
    for (uint32_t i = 1; i < tables->trap_count; i++)
        if (traps[i].addr <= traps[i - 1].addr)
            abort();
    for (uint32_t i = 0; i < tables->range_count; i++)
        if (ranges[i].end <= ranges[i].start || (i && ranges[i].start < ranges[i - 1].end) ||
            ranges[i].first_mark + ranges[i].mark_count > tables->mark_count)
            abort();
    free(image);
}

static void locate_all(const struct planned *planned, struct input *input)
{
    const struct tl_plan *plan = &planned->plan;
    uint64_t original;
    int fix_rcx;
    for (size_t i = 0; i < plan->map_count; i++)
        for (int k = 0; k < 4; k++)
            tl_plan_locate(planned->sites, planned->site_count, plan, plan->maps[i].addr + number(input, 2), &original,
                           &fix_rcx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t bases[] = {0, 0x10000, 0x401000, 0x555555555000, 0x7fffffff0000, 0xfffffffffffff000};
    static uint8_t bytes[TEXT];
    static struct tl_site sites[SITES];
    struct tl_area areas[AREAS] = {{0}};
    struct input input = {data, size};
    struct text text = {.addr = bases[number(&input, 1) % 6] + number(&input, 2) % 4096, .bytes = bytes};
    struct tl_plan_options options = {.tactics = (uint32_t)number(&input, 1), .max_mappings = number(&input, 2)};
    options.guard_breakpoints = options.max_mappings & 1;
    options.independent = options.max_mappings & 4;
    if (!(options.max_mappings & 2))
        options.tactics = 0;
    struct planned planned = {.text = &text, .sites = sites, .areas = areas};
    text.size = input.left / 2 < TEXT ? input.left / 2 : TEXT;
    memcpy(bytes, input.bytes + input.left - text.size, text.size);
    if (text.addr + text.size < text.addr)
        text.size = (size_t)(0 - text.addr);
    planned.site_count = make_sites(&input, &text, sites);
    planned.area_count = make_areas(&input, &text, areas);
    if (tl_plan_build(sites, planned.site_count, areas, planned.area_count, &options, &planned.plan))
        abort();
    const char *message = check_plan(&planned);
    if (!message && planned.plan.map_count + planned.plan.gate_count > options.max_mappings)
        message = "more mappings than allowed";
    if (message) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    locate_all(&planned, &input);
    check_traps(&planned);
    tl_plan_free(&planned.plan);
    return 0;
}
