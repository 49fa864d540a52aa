/* SPDX-License-Identifier: MIT
 *
 * How many instructions of real programs cannot be copied, and why: at most one in a thousand of each file, data aside.
 * Every copy is made twice: near, as trampolines are placed, and further than 2 GiB away; only the near ones count
 * against the limit.
 */
#include <stdio.h>

#include "subject.h"

struct table {
    size_t instructions, unknown_bytes;
    size_t near[TL_WHY_COUNT], far[TL_WHY_COUNT];
};

static void count_range(const struct tl_range *range, const struct tl_sweep *sweep, struct table *table)
{
    struct tl_insn insn;
    struct tl_copy copy;
    for (uint64_t at = 0; at < range->size; at++) {
        uint64_t addr = range->addr + at;
        enum tl_why why = tl_sweep_check(sweep, addr);
        table->unknown_bytes += why == TL_WHY_NOT_CODE;
        if (why != TL_WHY_NONE)
            continue;
        table->instructions++;
        if (tl_insn_decode(range->bytes + at, range->size - at, addr, &insn) != 0) {
            table->near[TL_WHY_UNDECODABLE]++;
            continue;
        }
        tl_insn_relocate(&insn, addr + (64 << 20), &copy);
        table->near[copy.why]++;
        tl_insn_relocate(&insn, addr + (1ull << 44), &copy);
        table->far[copy.why]++;
    }
}

static bool print_table(const char *name, const struct table *table)
{
    size_t refused = table->instructions - table->near[TL_WHY_NONE];
    printf("%-16s %7zu instructions, %zu bytes that are not code; refused %zu (%.4f %%)\n", name, table->instructions,
           table->unknown_bytes, refused, 100.0 * (double)refused / (double)table->instructions);
    for (size_t why = TL_WHY_NONE + 1; why < TL_WHY_COUNT; why++)
        if (table->near[why] || table->far[why])
            printf("    %7zu near %7zu far  %s\n", table->near[why], table->far[why], tl_why_text((enum tl_why)why));
    return table->instructions > 0 && refused * 1000 <= table->instructions;
}

int main(void)
{
    bool good = true;
    for (const char *const *name = tl_subjects; *name; name++) {
        struct tl_subject subject;
        struct table table = {0};
        tl_subject_open(*name, &subject);
        for (size_t i = 0; i < subject.range_count; i++) {
            struct tl_sweep sweep;
            tl_subject_sweep(&subject, &subject.ranges[i], &sweep);
            count_range(&subject.ranges[i], &sweep, &table);
            tl_sweep_free(&sweep);
        }
        good &= print_table(*name, &table);
        tl_subject_close(&subject);
    }
    return good ? 0 : 1;
}
