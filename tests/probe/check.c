/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, STEPS = 4, BREAKPOINT = 0xcc };

static char wrong[200];

#define WRONG(...) (snprintf(wrong, sizeof wrong, __VA_ARGS__), wrong)

void site_at(const struct text *text, uint64_t addr, struct tl_site *site)
{
    struct tl_insn insn;
    size_t offset = addr - text->addr, known = text->size - offset;
    memset(site, 0, sizeof *site);
    site->addr = addr;
    site->text_length = known < sizeof site->text ? (uint8_t)known : sizeof site->text;
    memcpy(site->text, text->bytes + offset, site->text_length);
    for (size_t at = 0; at < site->text_length; at += insn.length) {
        site->boundaries |= 1u << at;
        if (tl_insn_decode(text->bytes + offset + at, known - at, addr + at, &insn))
            break;
    }
}

/* A byte of the process with the plan in force; -1: nothing there. */
static int byte_at(const struct planned *planned, const uint8_t *bytes, uint64_t addr)
{
    if (addr - planned->text->addr < planned->text->size)
        return bytes[addr - planned->text->addr];
    size_t low = 0, high = planned->plan.map_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct tl_plan_map *map = &planned->plan.maps[middle];
        if (addr - map->addr < map->size && addr >= map->addr)
            return planned->plan.pool[map->pool + (addr - map->addr)];
        if (addr < map->addr)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

static uint64_t pointer_at(const struct planned *planned, const uint8_t *bytes, uint64_t addr)
{
    uint64_t pointer = 0;
    for (unsigned i = 0; i < 8; i++)
        pointer |= (uint64_t)(byte_at(planned, bytes, addr + i) & 0xff) << 8 * i;
    return pointer;
}

/* jmp [eip + disp32], whose address is cut to 32 bits, behind any segment prefixes that mean nothing. */
static bool is_jump_by_pointer(const struct tl_insn *insn, uint64_t *addr)
{
    unsigned at = 0;
    uint32_t displacement;
    while (insn->bytes[at] == 0x2e)
        at++;
    if (insn->length != at + 7 || memcmp(insn->bytes + at, "\x67\xff\x25", 3))
        return false;
    memcpy(&displacement, insn->bytes + at + 3, sizeof displacement);
    *addr = (uint32_t)(insn->addr + insn->length + displacement);
    return true;
}

uint64_t follow(const struct planned *planned, const uint8_t *bytes, uint64_t pc, uint64_t until)
{
    for (int step = 0; step < STEPS && pc != until; step++) {
        uint8_t code[TL_INSN_MAX];
        struct tl_insn insn;
        struct tl_operand operand;
        size_t known = 0;
        for (int byte; known < sizeof code && (byte = byte_at(planned, bytes, pc + known)) >= 0; known++)
            code[known] = (uint8_t)byte;
        if (tl_insn_decode(code, known, pc, &insn))
            return 0;
        if (insn.flow == TL_FLOW_JUMP) {
            pc = insn.target;
            continue;
        }
        uint64_t at;
        if (is_jump_by_pointer(&insn, &at)) {
            pc = pointer_at(planned, bytes, at);
            continue;
        }
        if (insn.flow != TL_FLOW_JUMP_INDIRECT || tl_insn_indirect_target(&insn, &operand) ||
            operand.base != TL_NO_REG || operand.index != TL_NO_REG)
            return 0;
        pc = pointer_at(planned, bytes, (uint64_t)operand.displacement);
    }
    return pc;
}

static unsigned length_at(const struct tl_site *site)
{
    struct tl_insn insn;
    return tl_insn_decode(site->text, site->text_length, site->addr, &insn) ? 0 : insn.length;
}

/* What the program has at site + i, where a breakpoint stood when the plan was made. */
static uint8_t own_byte(const struct tl_site *site, unsigned i)
{
    return site->foreign >> i & 1 && site->text[i] == BREAKPOINT ? site->original[i] : site->text[i];
}

/* The second trampoline may be entered: the bytes behind the site that its jump runs into are the program's own. */
static bool is_undisturbed(const struct planned *planned, const uint8_t *bytes, const struct tl_site *site)
{
    const uint8_t *at = bytes + (site->addr - planned->text->addr);
    for (unsigned i = length_at(site); i < site->jump_length; i++)
        if (at[i] != own_byte(site, i))
            return false;
    return true;
}

static bool leads_home(const struct planned *planned, const uint8_t *bytes, const struct tl_site *site)
{
    if (site->tactic == TL_TACTIC_INT3)
        return site->trampoline && bytes[site->addr - planned->text->addr] == BREAKPOINT;
    uint64_t home = site->beyond && is_undisturbed(planned, bytes, site) ? site->beyond : site->trampoline;
    return follow(planned, bytes, site->addr, home) == home;
}

/* With breakpoints on each set of the instructions that begin behind a site's own bytes. */
static const char *check_guards(const struct planned *planned, uint8_t *bytes, const struct tl_site *site)
{
    uint64_t offset = site->addr - planned->text->addr;
    unsigned places[8], count = 0;
    for (unsigned i = length_at(site); i < 9; i++)
        if (site->boundaries >> i & 1 && count < 8 && offset + i < planned->text->size)
            places[count++] = i;
    uint8_t before[16];
    size_t known = planned->text->size - offset < sizeof before ? planned->text->size - offset : sizeof before;
    memcpy(before, bytes + offset, known);
    for (unsigned set = 1; set < 1u << count; set++) {
        for (unsigned i = 0; i < count; i++)
            if (set >> i & 1)
                bytes[offset + places[i]] = BREAKPOINT;
        bool home = leads_home(planned, bytes, site);
        memcpy(bytes + offset, before, known);
        if (!home)
            return WRONG("site %#llx: not guarded against breakpoints on set %#x behind it",
                         (unsigned long long)site->addr, set);
    }
    return NULL;
}

static const struct tl_site *site_of(const struct planned *planned, uint64_t addr)
{
    size_t low = 0, high = planned->site_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (planned->sites[middle].addr == addr)
            return &planned->sites[middle];
        if (planned->sites[middle].addr < addr)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The instruction of the plan's code at `at`. */
static bool code_at(const struct planned *planned, uint64_t at, struct tl_insn *insn)
{
    uint8_t code[TL_INSN_MAX];
    size_t known = 0;
    for (int byte; known < sizeof code && (byte = byte_at(planned, planned->text->bytes, at + known)) >= 0; known++)
        code[known] = (uint8_t)byte;
    return !tl_insn_decode(code, known, at, insn);
}

/* Both do the same, as far as can be told from outside. */
static bool is_copy(const struct tl_insn *insn, const struct tl_insn *copy)
{
    if (insn->flow != copy->flow)
        return false;
    if (insn->flow == TL_FLOW_JUMP || insn->flow == TL_FLOW_BRANCH)
        return insn->target == copy->target;
    if (insn->rip_relative)
        return copy->rip_relative && insn->memory == copy->memory && insn->length == copy->length;
    return insn->length == copy->length && !memcmp(insn->bytes, copy->bytes, insn->length);
}

/* `at` has a jump back to `to`, which is behind the site's jump. */
static bool comes_back(const struct planned *planned, const struct tl_site *site, uint64_t at, uint64_t to)
{
    return to >= site->addr + site->jump_length && follow(planned, planned->text->bytes, at, to) == to;
}

static const char *check_beyond(const struct planned *planned, const struct tl_site *site)
{
    unsigned long long addr = site->addr;
    uint8_t text[sizeof site->text];
    uint64_t at = site->beyond + site->copy_at, copies = 0;
    unsigned offset = 0, known = site->text_length;
    struct tl_insn insn, copy;
    for (unsigned i = 0; i < known; i++)
        text[i] = own_byte(site, i);
    if (!site->guarded || site->mode != TL_SITE_BEFORE || site->tactic != TL_TACTIC_PUNNED)
        return WRONG("site %#llx has a second trampoline without guards", addr);
    for (;; copies++) {
        if (offset && comes_back(planned, site, at, site->addr + offset))
            return copies > 1 ? NULL : WRONG("site %#llx: the second trampoline copies nothing", addr);
        if (offset && site_of(planned, site->addr + offset))
            return WRONG("site %#llx: another site is passed over", addr);
        if (offset >= site->jump_length || !(site->boundaries >> offset & 1) || (offset && site->pinned >> offset & 1))
            return WRONG("site %#llx: what stands at +%u is passed over", addr, offset);
        if (tl_insn_decode(text + offset, known - offset, site->addr + offset, &insn) || !code_at(planned, at, &copy) ||
            (offset && insn.is_syscall))
            return WRONG("site %#llx: no copy can be seen of +%u", addr, offset);
        if (insn.is_syscall || insn.flow == TL_FLOW_STOP || !is_copy(&insn, &copy))
            break;
        at += copy.length;
        offset += insn.length;
        if (insn.flow != TL_FLOW_NEXT && insn.flow != TL_FLOW_BRANCH)
            return NULL;
    }
    /* A system call, an operand out of reach or a counting jump is rebuilt: seen by running it only. */
    bool rebuilt = insn.is_syscall || insn.flow == TL_FLOW_BRANCH || insn.rip_relative;
    return rebuilt ? NULL : WRONG("site %#llx: +%u is not what is executed", addr, offset);
}

static const char *check_writes(const struct planned *planned, uint8_t *bytes)
{
    const struct text *text = planned->text;
    uint64_t above = UINT64_MAX;
    if (planned->plan.write_count != planned->plan.planned)
        return WRONG("%zu writes for %zu sites", planned->plan.write_count, planned->plan.planned);
    for (size_t i = 0; i < planned->plan.write_count; i++) {
        const struct tl_plan_write *write = &planned->plan.writes[i];
        const struct tl_site *site = site_of(planned, write->addr);
        unsigned long long addr = write->addr;
        if (!site || site->why != TL_WHY_NONE)
            return WRONG("write at %#llx is for no site", addr);
        if (write->addr + write->length > above)
            return WRONG("write at %#llx overlaps the one above, or is out of order", addr);
        above = write->addr;
        if (!write->length || write->length > length_at(site))
            return WRONG("write at %#llx leaves its instruction", addr);
        if (write->addr / PAGE != (write->addr + write->length - 1) / PAGE)
            return WRONG("write at %#llx crosses a page", addr);
        if (memcmp(bytes + (write->addr - text->addr), write->old_bytes, write->length))
            return WRONG("write at %#llx expects other bytes", addr);
        memcpy(bytes + (write->addr - text->addr), write->new_bytes, write->length);
        if (!leads_home(planned, bytes, site))
            return WRONG("site %#llx does not lead to its trampoline once written", addr);
        if (site->boundaries & ((1u << write->length) - 1) & ~1u)
            return WRONG("write at %#llx covers another instruction's start", addr);
    }
    return NULL;
}

static const char *check_sites(const struct planned *planned, uint8_t *bytes)
{
    size_t refused = 0;
    for (size_t i = 0; i < planned->site_count; i++) {
        const struct tl_site *site = &planned->sites[i];
        const char *message = NULL;
        refused += site->why != TL_WHY_NONE;
        if (site->why == TL_WHY_NONE && !leads_home(planned, bytes, site))
            return WRONG("site %#llx does not lead to its trampoline at the end", (unsigned long long)site->addr);
        if (site->why == TL_WHY_NONE && site->guarded)
            message = check_guards(planned, bytes, site);
        if (site->why == TL_WHY_NONE && site->beyond && !message)
            message = check_beyond(planned, site);
        if (message)
            return message;
    }
    return refused == planned->plan.refused ? NULL : WRONG("%zu refused, not %zu", refused, planned->plan.refused);
}

/* What lies in no site's instruction must be as it was; what does may have changed only in front of other starts, which
 * check_writes has seen to. */
static const char *check_rest(const struct planned *planned, const uint8_t *bytes)
{
    const struct text *text = planned->text;
    size_t at = 0;
    for (size_t i = 0; i <= planned->site_count; i++) {
        const struct tl_site *site = i < planned->site_count ? &planned->sites[i] : NULL;
        size_t end = site ? site->addr - text->addr : text->size;
        if (end > at && memcmp(bytes + at, text->bytes + at, end - at))
            return WRONG("bytes outside the sites' instructions have changed, before %#zx", end);
        if (site && site->why == TL_WHY_NONE)
            at = end + length_at(site);
        else if (site && end > at)
            at = end;
    }
    return NULL;
}

static const char *check_undo(const struct planned *planned, uint8_t *bytes)
{
    const struct text *text = planned->text;
    for (size_t i = planned->plan.write_count; i-- > 0;) {
        const struct tl_plan_write *write = &planned->plan.writes[i];
        memcpy(bytes + (write->addr - text->addr), write->old_bytes, write->length);
        /* What is still written has to work on. */
        if (i > 0 && !leads_home(planned, bytes, site_of(planned, planned->plan.writes[i - 1].addr)))
            return WRONG("site %#llx fails while the plan is taken back",
                         (unsigned long long)planned->plan.writes[i - 1].addr);
    }
    return memcmp(bytes, text->bytes, text->size) ? WRONG("taking back does not restore the text") : NULL;
}

static const char *check_range(const struct planned *planned, uint64_t addr, uint64_t size)
{
    if (!size || addr % PAGE || size % PAGE || addr < 0x10000 || addr + size > 0x7ffffffff000)
        return WRONG("mapping at %#llx is not possible", (unsigned long long)addr);
    for (size_t i = 0; i < planned->area_count; i++) {
        const struct tl_area *area = &planned->areas[i];
        uint64_t taken = area->start - area->keep_below / TL_KEEP_YIELD;
        uint64_t end = area->end + area->keep_above / TL_KEEP_YIELD;
        if (taken < end && addr < end && taken < addr + size)
            return WRONG("mapping at %#llx hits what is there, or room it needs", (unsigned long long)addr);
    }
    return NULL;
}

static const char *check_maps(const struct planned *planned)
{
    const struct tl_plan *plan = &planned->plan;
    for (size_t i = 0; i < plan->map_count; i++) {
        const struct tl_plan_map *map = &plan->maps[i];
        const char *message = check_range(planned, map->addr, map->size);
        if (message)
            return message;
        if (i && map->addr < plan->maps[i - 1].addr + plan->maps[i - 1].size)
            return WRONG("mappings at %#llx overlap", (unsigned long long)map->addr);
        if (map->pool % PAGE || map->size > plan->pool_size || map->pool > plan->pool_size - map->size)
            return WRONG("mapping at %#llx shows what is not in the pool", (unsigned long long)map->addr);
    }
    for (size_t i = 0; i < plan->gate_count; i++) {
        const char *message = check_range(planned, plan->gates[i].addr, PAGE);
        if (message)
            return message;
        for (size_t k = 0; k < plan->map_count; k++)
            if (plan->gates[i].addr - plan->maps[k].addr < plan->maps[k].size)
                return WRONG("a gate lies in a mapping");
    }
    return NULL;
}

static const char *check_trampolines(const struct planned *planned)
{
    const struct tl_plan *plan = &planned->plan;
    uint64_t end = 0;
    for (size_t i = 0; i < plan->trampoline_count; i++) {
        const struct tl_plan_trampoline *trampoline = &plan->trampolines[i];
        const struct tl_site *site = &planned->sites[trampoline->site];
        bool first = site->trampoline == trampoline->addr;
        if ((!first && site->beyond != trampoline->addr) || trampoline->addr < end)
            return WRONG("trampolines at %#llx overlap", (unsigned long long)trampoline->addr);
        end = trampoline->addr + (first ? site->trampoline_size : site->beyond_size);
        if (byte_at(planned, planned->text->bytes, trampoline->addr) < 0 ||
            byte_at(planned, planned->text->bytes, end - 1) < 0)
            return WRONG("trampoline %#llx is not mapped", (unsigned long long)trampoline->addr);
    }
    return NULL;
}

const char *check_plan(const struct planned *planned)
{
    uint8_t *bytes = malloc(planned->text->size + 1);
    if (!bytes)
        return "out of memory";
    memcpy(bytes, planned->text->bytes, planned->text->size);
    const char *message = check_maps(planned);
    if (!message)
        message = check_trampolines(planned);
    if (!message)
        message = check_writes(planned, bytes);
    if (!message)
        message = check_sites(planned, bytes);
    if (!message)
        message = check_rest(planned, bytes);
    if (!message)
        message = check_undo(planned, bytes);
    free(bytes);
    return message;
}
