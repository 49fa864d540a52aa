/* SPDX-License-Identifier: MIT */
#include "kit.h"

#include <stdlib.h>
#include <string.h>

void kit_begin(struct kit *kit, uint64_t addr, const char *hex)
{
    memset(kit, 0, sizeof *kit);
    memset(kit->bytes, 0xcc, sizeof kit->bytes);
    kit->text = (struct text){.addr = addr, .bytes = kit->bytes};
    for (const char *at = hex; *at;) {
        if (*at == ' ') {
            at++;
            continue;
        }
        char digits[3] = {at[0], at[1], 0};
        kit->bytes[kit->text.size++] = (uint8_t)strtoul(digits, NULL, 16);
        at += 2;
    }
    uint64_t first = addr / PAGE_BYTES * PAGE_BYTES, last = addr + kit->text.size - 1;
    kit->planned = (struct planned){.text = &kit->text, .sites = kit->sites, .areas = kit->areas};
    kit_area(kit, first, last / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES, 0, 0);
    kit->options = (struct tl_plan_options){.max_mappings = 1000};
}

void kit_end(struct kit *kit)
{
    tl_plan_free(&kit->planned.plan);
}

void kit_area(struct kit *kit, uint64_t start, uint64_t end, uint64_t keep_below, uint64_t keep_above)
{
    assert_true(kit->planned.area_count < KIT_AREAS);
    kit->areas[kit->planned.area_count++] = (struct tl_area){start, end, keep_below, keep_above};
}

struct tl_site *kit_site(struct kit *kit, uint64_t offset)
{
    assert_true(kit->planned.site_count < KIT_SITES);
    struct tl_site *site = &kit->sites[kit->planned.site_count++];
    site_at(&kit->text, kit->text.addr + offset, site);
    return site;
}

void kit_sites(struct kit *kit)
{
    struct tl_insn insn;
    for (size_t at = 0; at < kit->text.size; at += insn.length) {
        kit_site(kit, at);
        assert_int_equal(tl_insn_decode(kit->bytes + at, kit->text.size - at, kit->text.addr + at, &insn), 0);
    }
}

void kit_plan(struct kit *kit)
{
    struct planned *planned = &kit->planned;
    tl_plan_free(&planned->plan);
    assert_int_equal(tl_plan_build(planned->sites, planned->site_count, planned->areas, planned->area_count,
                                   &kit->options, &planned->plan),
                     0);
    const char *message = check_plan(planned);
    if (message)
        fail_msg("%s", message);
}

const struct tl_plan_write *kit_write(const struct kit *kit, const struct tl_site *site)
{
    const struct tl_plan *plan = &kit->planned.plan;
    for (size_t i = 0; i < plan->write_count; i++)
        if (plan->writes[i].addr == site->addr)
            return &plan->writes[i];
    return NULL;
}

uint64_t kit_landing(const struct kit *kit, const struct tl_site *site)
{
    uint8_t bytes[KIT_BYTES];
    struct tl_insn insn;
    memcpy(bytes, kit->bytes, kit->text.size);
    for (size_t i = 0; i < kit->planned.plan.write_count; i++) {
        const struct tl_plan_write *write = &kit->planned.plan.writes[i];
        memcpy(bytes + (write->addr - kit->text.addr), write->new_bytes, write->length);
    }
    uint64_t offset = site->addr - kit->text.addr;
    assert_int_equal(tl_insn_decode(bytes + offset, kit->text.size - offset, site->addr, &insn), 0);
    assert_int_equal(insn.flow, TL_FLOW_JUMP);
    return insn.target;
}
