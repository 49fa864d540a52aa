/* SPDX-License-Identifier: MIT
 *
 * Every boundary and every length of the functions of real programs, against objdump.
 *
 * Every instruction that a sweep trusts has to begin and end where objdump says; and in a range that is nothing but
 * code, objdump must not know of any other. One difference is no fault of ours: objdump reads on through constants that
 * no symbol announces, and comes out of them in the middle of an instruction of the next function. A range where the
 * two differ is therefore given to objdump again, alone; the number of these is printed, and then there must be no
 * difference.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "subject.h"

/* objdump's reading of some addresses: a bit for each at which it begins an instruction. */
struct listing {
    uint64_t low, high;
    uint8_t *starts;
};

static bool starts_at(const struct listing *listing, uint64_t addr)
{
    uint64_t at = addr - listing->low;
    return addr >= listing->low && addr <= listing->high && listing->starts[at / 8] >> at % 8 & 1;
}

static void set_start(struct listing *listing, uint64_t addr)
{
    uint64_t at = addr - listing->low;
    if (addr >= listing->low && addr <= listing->high)
        listing->starts[at / 8] = (uint8_t)(listing->starts[at / 8] | 1u << at % 8);
}

/* Lines of instructions look like "  26380:\tpush   %rbp". */
static struct listing read_listing(const struct tl_subject *subject, uint64_t low, uint64_t high)
{
    char command[700], *line = NULL, *end;
    size_t room = 0;
    struct listing listing = {low, high, calloc(1, (high - low) / 8 + 1)};
    snprintf(command, sizeof command,
             "objdump -d -w -z --no-show-raw-insn --start-address=%#llx --stop-address=%#llx '%s'",
             (unsigned long long)low, (unsigned long long)high, subject->path);
    FILE *pipe = popen(command, "r");
    if (!pipe || !listing.starts)
        err(1, "objdump");
    while (getline(&line, &room, pipe) > 0) {
        uint64_t addr = strtoull(line, &end, 16);
        if (line[0] == ' ' && end[0] == ':' && end[1] == '\t')
            set_start(&listing, addr);
    }
    free(line);
    if (pclose(pipe) != 0)
        errx(1, "objdump failed on %s", subject->path);
    set_start(&listing, high);
    for (size_t i = 0; i < subject->section_count; i++)
        set_start(&listing, subject->sections[i].addr + subject->sections[i].size);
    return listing;
}

struct comparison {
    const struct tl_range *range;
    const struct tl_sweep *sweep;
    const struct listing *listing;
    bool tell;
    size_t differences;
};

static void differ(struct comparison *comparison, const char *what, uint64_t addr)
{
    comparison->differences++;
    if (!comparison->tell)
        return;
    printf("  %s at %#llx:", what, (unsigned long long)addr);
    for (uint64_t at = addr - comparison->range->addr, i = 0; i < 15 && at + i < comparison->range->size; i++)
        printf(" %02x", comparison->range->bytes[at + i]);
    printf("\n");
}

static void compare_instruction(struct comparison *comparison, uint64_t addr)
{
    struct tl_insn insn;
    const struct tl_range *range = comparison->range;
    uint64_t at = addr - range->addr;
    if (tl_insn_decode(range->bytes + at, range->size - at, addr, &insn) != 0)
        differ(comparison, "trusted, but does not decode", addr);
    else if (!starts_at(comparison->listing, addr))
        differ(comparison, "objdump does not begin", addr);
    else if (!starts_at(comparison->listing, addr + insn.length))
        differ(comparison, "objdump does not end", addr);
}

/* What stands at a beginning of objdump's that is none of ours: the second life of a locked instruction, or zeros that
 * fill up. */
static bool may_be_left_out(const struct tl_range *range, uint64_t at)
{
    bool zeros = true;
    for (uint64_t i = at; i < range->size; i++)
        zeros = zeros && range->bytes[i] == 0;
    return zeros || range->bytes[at] == 0xf0;
}

static size_t compare(struct comparison *comparison)
{
    const struct tl_range *range = comparison->range;
    for (uint64_t addr = range->addr; addr < range->addr + range->size; addr++)
        if (tl_sweep_check(comparison->sweep, addr) == TL_WHY_NONE)
            compare_instruction(comparison, addr);
        else if (!comparison->sweep->mixed && starts_at(comparison->listing, addr) &&
                 !may_be_left_out(range, addr - range->addr))
            differ(comparison, "only objdump begins", addr);
    return comparison->differences;
}

static size_t compare_range(const struct tl_subject *subject, const struct tl_range *range,
                            const struct listing *listing, size_t *instructions, size_t *repeated)
{
    struct tl_sweep sweep;
    tl_subject_sweep(subject, range, &sweep);
    *instructions += sweep.instructions;
    struct comparison comparison = {.range = range, .sweep = &sweep, .listing = listing};
    if (compare(&comparison) != 0) {
        struct listing alone = read_listing(subject, range->addr, range->addr + range->size);
        comparison = (struct comparison){.range = range, .sweep = &sweep, .listing = &alone, .tell = true};
        compare(&comparison);
        free(alone.starts);
        ++*repeated;
    }
    tl_sweep_free(&sweep);
    return comparison.differences;
}

static size_t compare_subject(const char *name)
{
    struct tl_subject subject;
    uint64_t low = UINT64_MAX, high = 0;
    size_t instructions = 0, repeated = 0, differences = 0;
    tl_subject_open(name, &subject);
    for (size_t i = 0; i < subject.section_count; i++) {
        const struct tl_section *section = &subject.sections[i];
        low = section->addr < low ? section->addr : low;
        high = section->addr + section->size > high ? section->addr + section->size : high;
    }
    struct listing listing = read_listing(&subject, low, high);
    for (size_t i = 0; i < subject.range_count; i++)
        differences += compare_range(&subject, &subject.ranges[i], &listing, &instructions, &repeated);
    printf("%-16s %7zu instructions in %5zu ranges; %zu ranges read again, alone; %zu differences\n", name,
           instructions, subject.range_count, repeated, differences);
    free(listing.starts);
    tl_subject_close(&subject);
    return differences + (instructions == 0) + (repeated > 10);
}

int main(void)
{
    size_t faults = 0;
    for (const char *const *name = tl_subjects; *name; name++)
        faults += compare_subject(*name);
    return faults != 0;
}
