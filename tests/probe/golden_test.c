/* SPDX-License-Identifier: MIT
 *
 * A few small plans, written out whole, against what they were.
 *
 *     golden_test FILE              compare
 *     golden_test --rebase FILE     write it anew
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"

enum { SIZE = 1 << 16, TRAPS_ONLY = 1 << TL_TACTIC_INT3 };

struct example {
    const char *title;
    uint64_t addr;
    const char *hex;
    bool guard, entry; /* room for breakpoints of others; only the first instruction is a site */
    struct tl_area areas[2];
    uint32_t tactics;
};

static const struct example examples[] = {
    {"a prologue in a library",
     0x7ffff7c28000,
     "55 48 89 e5 41 57 41 56 41 55 53 48 83 ec 18 48 89 fb",
     false,
     false,
     {{0}},
     0},
    {"every instruction of a small function",
     0x555555555120,
     "55 48 89 e5 53 48 83 ec 08 48 8b 05 10 2f 00 00 48 85 c0 74 02 ff d0 48 83 c4 08 5b 5d c3 0f 1f 44 00 00",
     false,
     false,
     {{0}},
     0},
    {"the same, and others may set breakpoints",
     0x555555555120,
     "55 48 89 e5 53 48 83 ec 08 48 8b 05 10 2f 00 00 48 85 c0 74 02 ff d0 48 83 c4 08 5b 5d c3 0f 1f 44 00 00",
     true,
     false,
     {{0}},
     0},
    {"its entry alone, and others may set breakpoints",
     0x555555555120,
     "55 48 89 e5 53 48 83 ec 08 48 8b 05 10 2f 00 00 48 85 c0 74 02 ff d0 48 83 c4 08 5b 5d c3 0f 1f 44 00 00",
     true,
     true,
     {{0}},
     0},
    {"no room below, a heap above",
     0x401126,
     "55 48 89 e5 89 7d fc 8b 45 fc 85 c0 75 05 b8 01 00 00 00 5d c3 0f 1f 44 00 00",
     false,
     false,
     {{0x404000, 0x500000, 0, 1 << 30}},
     0},
    {"across two pages", 0x7ffff7c28ffe, "48 8b 05 10 2f 00 00 0f 05 c3 90 90 90 90", false, false, {{0}}, 0},
    {"all tactics, no room below",
     0x401126,
     "55 48 89 e5 89 7d fc 8b 45 fc 85 c0 75 05 b8 01 00 00 00 5d c3 cc 66 ff d0 cb 0f 1f 44 00 00",
     false,
     false,
     {{0x404000, 0x500000, 0, 1 << 30}},
     UINT32_MAX},
    {"int3 alone", 0x401126, "55 48 89 e5 75 05 ff 15 00 01 00 00 0f 05 c3 90 90", false, false, {{0}}, TRAPS_ONLY},
};

static void show_bytes(FILE *out, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        fprintf(out, " %02x", bytes[i]);
}

static void show_sites(FILE *out, const struct kit *kit)
{
    for (size_t i = 0; i < kit->planned.site_count; i++) {
        const struct tl_site *site = &kit->sites[i];
        const struct tl_plan_write *write = kit_write(kit, site);
        fprintf(out, "  %#lx ", (unsigned long)site->addr);
        if (!write) {
            fprintf(out, "refused: %s\n", tl_why_text((enum tl_why)site->why));
            continue;
        }
        fprintf(out, "%s%s", tl_tactic_name((enum tl_tactic)site->tactic), site->guarded ? ", guarded:" : ":");
        show_bytes(out, write->old_bytes, write->length);
        fputs(" ->", out);
        show_bytes(out, write->new_bytes, write->length);
        if (site->tactic != TL_TACTIC_INT3)
            fprintf(out, ", to %#lx", (unsigned long)kit_landing(kit, site));
        fprintf(out, ", trampoline %#lx", (unsigned long)site->trampoline);
        if (site->step_at)
            fprintf(out, ", steps %#lx", (unsigned long)(site->trampoline + site->copy_at + site->step_at));
        if (site->beyond)
            fprintf(out, ", beyond %#lx", (unsigned long)site->beyond);
        if (site->not_better)
            fprintf(out, "; %s", tl_why_text((enum tl_why)site->not_better));
        fputc('\n', out);
    }
}

/* What is not filler. */
static void show_pool(FILE *out, const struct tl_plan *plan)
{
    for (size_t at = 0, end; at < plan->pool_size; at = end + 1) {
        end = at;
        while (end < plan->pool_size && plan->pool[end] != 0xcc)
            end++;
        if (end == at)
            continue;
        fprintf(out, "  pool %#6lx:", (unsigned long)at);
        show_bytes(out, plan->pool + at, end - at);
        fputc('\n', out);
    }
}

static void show(FILE *out, const struct example *example)
{
    struct kit kit;
    kit_begin(&kit, example->addr, example->hex);
    for (int i = 0; i < 2 && example->areas[i].end; i++)
        kit_area(&kit, example->areas[i].start, example->areas[i].end, example->areas[i].keep_below,
                 example->areas[i].keep_above);
    if (example->entry)
        kit_site(&kit, 0);
    else
        kit_sites(&kit);
    kit.options.guard_breakpoints = example->guard;
    kit.options.tactics = example->tactics;
    kit_plan(&kit);
    const struct tl_plan *plan = &kit.planned.plan;
    fprintf(out, "%s\n", example->title);
    show_sites(out, &kit);
    for (size_t i = 0; i < plan->gate_count; i++)
        fprintf(out, "  gate %#lx\n", (unsigned long)plan->gates[i].addr);
    for (size_t i = 0; i < plan->map_count; i++)
        fprintf(out, "  map %#lx, %lu pages, pool %#lx\n", (unsigned long)plan->maps[i].addr,
                (unsigned long)(plan->maps[i].size / PAGE_BYTES), (unsigned long)plan->maps[i].pool);
    show_pool(out, plan);
    fputc('\n', out);
    kit_end(&kit);
}

static const char *golden;
static bool rebase;

static void plans_are_what_they_were(void **state)
{
    (void)state;
    static char now[SIZE], then[SIZE];
    FILE *memory = fmemopen(now, sizeof now, "w");
    assert_non_null(memory);
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
        show(memory, &examples[i]);
    size_t size = (size_t)ftell(memory);
    fclose(memory);
    FILE *file = fopen(golden, rebase ? "w" : "r");
    assert_non_null(file);
    size_t length = rebase ? fwrite(now, 1, size, file) : fread(then, 1, sizeof then, file);
    fclose(file);
    if (length != size || (!rebase && memcmp(now, then, size)))
        fail_msg("%s differs; this is what is planned now:\n%.*s", golden, (int)size, now);
}

int main(int argc, char **argv)
{
    rebase = argc == 3 && !strcmp(argv[1], "--rebase");
    if (argc != 2 && !rebase)
        return 2;
    golden = argv[argc - 1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(plans_are_what_they_were)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
