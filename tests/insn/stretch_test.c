/* SPDX-License-Identifier: MIT
 *
 * Functions whose ends are not known, so that their ranges take in all that lies before the next one: padding,
 * constants, strings, functions without a name. What a sweep trusts of such a range has to be code all the same.
 *
 * For the function's own part there is its own sweep to compare with. Behind it, real programs have padding and little
 * else, and code that nothing refers to is as good as padding: the mnemonics found there are counted, and data that was
 * taken for code would show as thousands of others.
 */
#include <stdio.h>

#include "subject.h"

struct tally {
    size_t mixed, beyond, padding, wrong;
};

static bool is_padding(const struct tl_range *range, uint64_t addr)
{
    const uint8_t *bytes = range->bytes + (addr - range->addr);
    uint64_t left = range->size - (addr - range->addr);
    while (left > 1 && (*bytes == 0x66 || *bytes == 0x2e)) {
        bytes++;
        left--;
    }
    return *bytes == 0x90 || *bytes == 0xcc || (left > 1 && bytes[0] == 0x0f && bytes[1] == 0x1f);
}

/* The end of the section, or where the next function begins. */
static uint64_t stretched_end(const struct tl_subject *subject, size_t index)
{
    const struct tl_range *range = &subject->ranges[index];
    uint64_t end = range->addr + range->size;
    for (size_t i = 0; i < subject->section_count; i++)
        if (range->addr - subject->sections[i].addr < subject->sections[i].size)
            end = subject->sections[i].addr + subject->sections[i].size;
    return index + 1 < subject->range_count && range[1].addr < end ? range[1].addr : end;
}

static void stretch(const struct tl_subject *subject, size_t index, struct tally *tally)
{
    const struct tl_range *own = &subject->ranges[index];
    struct tl_range range = *own;
    struct tl_sweep sweep, own_sweep;
    range.size = stretched_end(subject, index) - range.addr;
    tl_subject_sweep(subject, &range, &sweep);
    tl_subject_sweep(subject, own, &own_sweep);
    tally->mixed += sweep.mixed;
    for (uint64_t addr = tl_sweep_next(&sweep, 0); addr; addr = tl_sweep_next(&sweep, addr + 1)) {
        if (addr - own->addr < own->size) {
            tally->wrong += tl_sweep_check(&own_sweep, addr) != TL_WHY_NONE;
            continue;
        }
        tally->beyond++;
        tally->padding += is_padding(&range, addr);
    }
    tl_sweep_free(&own_sweep);
    tl_sweep_free(&sweep);
}

int main(void)
{
    bool good = true;
    for (const char *const *name = tl_subjects; *name; name++) {
        struct tl_subject subject;
        struct tally tally = {0};
        tl_subject_open(*name, &subject);
        for (size_t i = 0; i < subject.range_count; i++)
            stretch(&subject, i, &tally);
        printf("%-16s %zu ranges with data; beyond the ends %zu instructions, %zu of them padding; %zu wrong\n", *name,
               tally.mixed, tally.beyond, tally.padding, tally.wrong);
        good &= tally.wrong == 0 && (tally.beyond - tally.padding) * 50 <= tally.beyond;
        tl_subject_close(&subject);
    }
    return good ? 0 : 1;
}
