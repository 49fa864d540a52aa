/* SPDX-License-Identifier: MIT */
#include "hwbp_kit.h"

#include <stdio.h>
#include <stdlib.h>

enum { SKIPPED = 77 };

void kit_note(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    struct seen *seen = hit->context;
    seen->hits++;
    seen->hit = *hit;
    seen->regs = *regs;
    seen->hwbp = hwbp;
}

struct tl_hwbp_options kit_watch(const volatile void *address, uint64_t length, uint32_t access, struct seen *seen)
{
    return (struct tl_hwbp_options){.size = sizeof(struct tl_hwbp_options),
                                    .access = access,
                                    .address = (void *)(uintptr_t)address, /* NOLINT */
                                    .length = length,
                                    .handler = seen ? kit_note : NULL,
                                    .context = seen};
}

struct tl_hwbp *kit_create(const struct tl_hwbp_options *options)
{
    struct tl_error error = {.text = ""};
    struct tl_hwbp *hwbp = NULL;
    int code = tl_hwbp_create(options, &hwbp, &error);
    if (code || !hwbp)
        fail_msg("create: %d %s", code, error.text);
    return hwbp;
}

void kit_destroy(struct tl_hwbp *hwbp)
{
    assert_int_equal(tl_hwbp_destroy(hwbp), 0);
}

struct tl_hwbp_counts kit_counts(const struct tl_hwbp *hwbp)
{
    struct tl_hwbp_counts counts = {.size = sizeof counts};
    assert_int_equal(tl_hwbp_read(hwbp, &counts), 0);
    return counts;
}

void kit_expect(const struct tl_hwbp *hwbp, uint64_t hits, uint64_t handled, uint64_t missed)
{
    struct tl_hwbp_counts counts = kit_counts(hwbp);
    if (counts.hits != hits || counts.handled != handled || counts.missed != missed || counts.late)
        fail_msg("%lu hits, %lu handled, %lu missed, %lu late; not %lu, %lu, %lu", counts.hits, counts.handled,
                 counts.missed, counts.late, hits, handled, missed);
}

void kit_skip_without_events(void)
{
    static volatile uint64_t word;
    struct seen seen = {0};
    struct tl_hwbp_options options = kit_watch(&word, 8, TL_HWBP_WRITE, &seen);
    struct tl_error error = {.text = ""};
    struct tl_hwbp *hwbp = NULL;
    int code = tl_hwbp_create(&options, &hwbp, &error);
    if (code == -EACCES || code == -ENOSYS || code == -ENOTSUP) {
        printf("skipped: %s\n", error.text);
        exit(SKIPPED);
    }
    tl_hwbp_destroy(hwbp);
}
