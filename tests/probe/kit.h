/* SPDX-License-Identifier: MIT
 *
 * A small made-up process for tests of plans: a few bytes of text in a few pages, and areas around them.
 */
#ifndef TESTS_PROBE_KIT_H
#define TESTS_PROBE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"

enum { KIT_BYTES = 3 * 4096, KIT_SITES = 64, KIT_AREAS = 8, PAGE_BYTES = 4096 };

struct kit {
    uint8_t bytes[KIT_BYTES];
    struct text text;
    struct tl_site sites[KIT_SITES];
    struct tl_area areas[KIT_AREAS];
    struct tl_plan_options options;
    struct planned planned;
};

/* `hex` (blanks allowed) at `addr`, the rest of its pages filled with int3; nothing else is mapped. */
void kit_begin(struct kit *kit, uint64_t addr, const char *hex);
void kit_end(struct kit *kit);
void kit_area(struct kit *kit, uint64_t start, uint64_t end, uint64_t keep_below, uint64_t keep_above);
/* A site `offset` bytes behind the first. */
struct tl_site *kit_site(struct kit *kit, uint64_t offset);
/* A site on each instruction of the text. */
void kit_sites(struct kit *kit);
/* Plan, and see that all is as it must be. */
void kit_plan(struct kit *kit);
/* What the plan writes for a site, or NULL. */
const struct tl_plan_write *kit_write(const struct kit *kit, const struct tl_site *site);
/* Where the jump of a site comes down first. */
uint64_t kit_landing(const struct kit *kit, const struct tl_site *site);

#endif
