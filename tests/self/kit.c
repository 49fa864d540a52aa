/* SPDX-License-Identifier: MIT */
#include "kit.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "insn/insn.h"

static int say(int code, const struct tl_error *error, const char *what)
{
    if (code)
        fprintf(stderr, "%s: %s (%d)\n", what, error ? error->text : "", code);
    return code;
}

static struct tl_self *kept;

int kit_open(struct kit *kit)
{
    struct tl_error error = {0};
    memset(kit, 0, sizeof *kit);
    int code = tl_modules_read(getpid(), &kit->modules, &error);
    if (code)
        return say(code, &error, "modules");
    kit->self = kept;
    if (kept)
        return code;
    struct tl_self_range own = {kit->modules.modules[0].start, kit->modules.modules[0].end};
    code = tl_self_open(&own, 1, &kit->self, &error);
    if (code)
        tl_modules_free(&kit->modules);
    return say(code, &error, "open");
}

static void make_site(struct tl_site *site, uint64_t addr)
{
    site->addr = addr;
    site->text_length = sizeof site->text;
    memcpy(site->text, (const void *)addr, sizeof site->text);
    struct tl_insn insn;
    for (unsigned at = 0; at < sizeof site->text; at += insn.length) {
        if (tl_insn_decode(site->text + at, sizeof site->text - at, addr + at, &insn))
            break;
        site->boundaries |= 1u << at;
    }
}

static int make_parts(struct kit *kit)
{
    kit->parts = calloc(kit->count + 1, sizeof *kit->parts);
    kit->in = calloc(kit->plan.write_count + 1, sizeof *kit->in);
    kit->out = calloc(kit->plan.write_count + 1, sizeof *kit->out);
    for (size_t i = 0; i < kit->plan.write_count; i++) {
        const struct tl_plan_write *write = &kit->plan.writes[i];
        struct tl_patch patch = {.addr = write->addr, .length = write->length}, back = patch;
        memcpy(patch.expect, write->old_bytes, write->length);
        memcpy(patch.bytes, write->new_bytes, write->length);
        memcpy(back.expect, write->new_bytes, write->length);
        memcpy(back.bytes, write->old_bytes, write->length);
        kit->in[kit->patch_count] = patch;
        kit->out[kit->patch_count++] = back;
    }
    for (size_t i = 0; i < kit->count; i++) {
        if (kit->sites[i].why == TL_WHY_NONE &&
            tl_traps_part_make(&kit->sites[i], (uint32_t)i, &kit->parts[kit->part_count++]))
            return -ENOMEM;
    }
    return 0;
}

int kit_plan(struct kit *kit, size_t first, size_t count, uint32_t tactics)
{
    struct tl_error error = {0};
    struct tl_area *areas;
    size_t area_count;
    struct tl_plan_options options = {.tactics = tactics};
    kit->sites = calloc(count, sizeof *kit->sites);
    kit->count = count;
    for (size_t i = 0; i < count; i++)
        make_site(&kit->sites[i], (uint64_t)subject_at(first + i));
    int code = tl_self_areas(kit->self, &areas, &area_count, &options.max_mappings, &error);
    if (code)
        return say(code, &error, "areas");
    code = tl_plan_build(kit->sites, count, areas, area_count, &options, &kit->plan);
    free(areas);
    if (code == 0 && kit->plan.refused) {
        code = -ENOTSUP;
        for (size_t i = 0; i < count; i++) {
            if (kit->sites[i].why)
                snprintf(error.text, sizeof error.text, "%s", tl_why_text(kit->sites[i].why));
        }
    }
    if (code)
        return say(code, &error, "plan");
    code = tl_self_map(kit->self, &kit->plan, &error);
    kit->mapped = code == 0;
    return code ? say(code, &error, "map") : make_parts(kit);
}

int kit_publish(struct kit *kit)
{
    struct tl_error error = {0};
    return say(tl_self_publish(kit->self, (const struct tl_traps_part *const *)kit->parts, kit->part_count, &error),
               &error, "publish");
}

int kit_in(struct kit *kit)
{
    struct tl_error error = {0};
    return say(tl_self_patch(kit->self, kit->in, kit->patch_count, NULL, &error), &error, "in");
}

int kit_out(struct kit *kit)
{
    struct tl_error error = {0};
    return say(tl_self_patch(kit->self, kit->out, kit->patch_count, NULL, &error), &error, "out");
}

int kit_unpublish(struct kit *kit)
{
    struct tl_error error = {0};
    return say(tl_self_publish(kit->self, NULL, 0, &error), &error, "unpublish");
}

int kit_wait_until_empty(struct kit *kit)
{
    struct tl_error error = {0};
    struct tl_self_range *ranges = calloc(kit->plan.map_count + 1, sizeof *ranges);
    uint8_t *inside = calloc(1, kit->plan.map_count + 1);
    int code;
    for (size_t i = 0; i < kit->plan.map_count; i++)
        ranges[i] = (struct tl_self_range){kit->plan.maps[i].addr, kit->plan.maps[i].addr + kit->plan.maps[i].size};
    while ((code = tl_self_inside(kit->self, ranges, kit->plan.map_count, inside, &error)) == 0 &&
           memchr(inside, 1, kit->plan.map_count))
        sched_yield();
    free(ranges);
    free(inside);
    return say(code, &error, "inside");
}

/* Where it is made to fail once, again. */
static void unmap(struct kit *kit, uint64_t addr, uint64_t size)
{
    if (tl_self_unmap(kit->self, addr, size))
        tl_self_unmap(kit->self, addr, size);
}

void kit_drop(struct kit *kit)
{
    for (size_t i = 0; i < kit->plan.map_count && kit->mapped; i++)
        unmap(kit, kit->plan.maps[i].addr, kit->plan.maps[i].size);
    for (size_t i = 0; i < kit->plan.gate_count && kit->mapped; i++)
        unmap(kit, kit->plan.gates[i].addr, 4096);
    for (size_t i = 0; i < kit->part_count; i++)
        tl_traps_part_free(kit->parts[i]);
    tl_plan_free(&kit->plan);
    free(kit->parts);
    free(kit->in);
    free(kit->out);
    free(kit->sites);
    kit->sites = NULL;
    kit->parts = NULL;
    kit->in = kit->out = NULL;
    kit->count = kit->part_count = kit->patch_count = 0;
    kit->mapped = false;
}

int kit_arm(struct kit *kit)
{
    struct tl_error error = {0};
    return say(tl_self_arm(kit->self, &kit->modules, &error), &error, "arm");
}

int kit_close(struct kit *kit)
{
    struct tl_error error = {0};
    int code = say(tl_self_disarm(kit->self, &error), &error, "disarm");
    if (code == 0) {
        kept = kit->self;
        tl_modules_free(&kit->modules);
    }
    return code;
}

int kit_end(struct kit *kit)
{
    struct tl_error error = {0};
    int code = say(tl_self_disarm(kit->self, &error), &error, "disarm");
    if (code == 0)
        code = say(tl_self_close(kit->self), NULL, "close");
    if (code == 0) {
        kept = NULL;
        tl_modules_free(&kit->modules);
    }
    return code;
}

bool text_is_original(void)
{
    for (size_t i = 0; i < SUBJECTS; i++) {
        const uint8_t expected[SUBJECT_BYTES] = {0xb8, (uint8_t)i, (uint8_t)(i >> 8), 0, 0, 0xc3, 0x66, 0x90};
        if (memcmp((const void *)(uintptr_t)subject_at(i), expected, sizeof expected))
            return false;
    }
    return true;
}

size_t count_lines(const char *path, const char *with)
{
    char line[4096];
    size_t count = 0;
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        count += strstr(line, with) != NULL;
    if (file)
        fclose(file);
    return count;
}

size_t count_descriptors(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}
