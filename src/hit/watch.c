/* SPDX-License-Identifier: MIT
 *
 * A debug register was hit: see watch.h for what is said of it, and what cannot be. Data breakpoints trap behind the
 * instruction, so rip is the next one's; in a displaced copy it is where the program would be.
 *
 * The look itself must not be an access: memory that is watched for reads is read by the kernel, whose accesses do not
 * count. Where the runtime comes to a watched place all the same (hooks save registers on the program's stack), the
 * signal is swallowed before anything is looked at, so that nothing goes round in circles.
 */
#include "hit/brokering.h"
#include "hit/runtime.h"
#include "hit/watch.h"

/* One instruction writes at most so many bytes in one place. */
enum { NEAR = 64, WORD = 8, PERF_FLAG_ASYNC = 1, CLAIM_TURNS = 1 << 10 };

struct look {
    struct tl_watch_table *table;
    struct tl_hit_control *area;
    bool by_kernel; /* how to read memory */
    struct tl_hit_regs regs;
};

static void add(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* A spot is aligned, and so lies in one word: read at once, as whoever writes it does. */
static bool read_spot(const struct look *look, const struct tl_watch_spot *spot, uint64_t *value)
{
    uint64_t from = spot->addr & ~(uint64_t)(WORD - 1), word = 0;
    bool is_there =
        look->by_kernel ? tl_memory_read_by_kernel(look->area, from, &word, WORD) == WORD : tl_fault_load(from, &word);
    word >>= 8 * (spot->addr - from);
    *value = spot->length < WORD ? word & (((uint64_t)1 << 8 * spot->length) - 1) : word;
    return is_there;
}

/* The shadow is read before the memory and exchanged behind it: whoever comes in between makes us look again, so that
 * the shadow never goes back to what was before. Whether there is a change, or may be. */
static bool take_value(const struct look *look, struct tl_watch_spot *spot, struct tl_watched *watched)
{
    watched->old = __atomic_load_n(&spot->shadow, __ATOMIC_ACQUIRE);
    do {
        watched->no_new = !read_spot(look, spot, &watched->new);
    } while (!watched->no_new && !__atomic_compare_exchange_n(&spot->shadow, &watched->old, watched->new, false,
                                                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    watched->no_old = !__atomic_load_n(&spot->known, __ATOMIC_RELAXED);
    if (watched->no_old && !watched->no_new)
        __atomic_store_n(&spot->known, 1, __ATOMIC_RELAXED);
    return watched->no_old || watched->no_new || watched->old != watched->new;
}

static void report(struct look *look, struct tl_watch_spot *spot, const struct tl_watched *watched)
{
    add(&spot->reports);
    tl_hit_watched(look->area, &look->regs, spot->site, watched);
}

/* What a look beside has taken is kept, for whoever's signal is about it: it may have been his. */
static void keep_for_claim(struct tl_watch_spot *spot, const struct tl_watched *watched)
{
    __atomic_store_n(&spot->taken_old, watched->old, __ATOMIC_RELAXED);
    __atomic_store_n(&spot->taken_new, watched->new, __ATOMIC_RELAXED);
    __atomic_store_n(&spot->taken, watched->no_old || watched->no_new ? 0 : 1, __ATOMIC_RELEASE);
}

static bool claim(struct tl_watch_spot *spot, struct tl_watched *watched)
{
    if (!spot->taken || !__atomic_exchange_n(&spot->taken, 0, __ATOMIC_ACQUIRE))
        return false;
    watched->old = __atomic_load_n(&spot->taken_old, __ATOMIC_RELAXED);
    watched->new = __atomic_load_n(&spot->taken_new, __ATOMIC_RELAXED);
    watched->how |= TL_WATCHED_CLAIM;
    return true;
}

/* The same, while others may be about to keep something: they have seen the change, and not said so yet. Not for long,
 * since they may be off the processor; then the claim goes without what it is about. */
static bool claim_soon(struct tl_watch_spot *spot, struct tl_watched *watched)
{
    for (unsigned turns = CLAIM_TURNS; turns; turns--) {
        bool is_last = !__atomic_load_n(&spot->taking, __ATOMIC_ACQUIRE);
        if (claim(spot, watched))
            return true;
        if (is_last)
            return false;
        __builtin_ia32_pause();
    }
    watched->how |= TL_WATCHED_CLAIM;
    return true;
}

/* `is_certain`: this spot it was. Whether the value has changed. */
static bool look_at(struct look *look, struct tl_watch_spot *spot, uint32_t how, bool is_certain)
{
    struct tl_watched watched = {.how = how};
    bool is_beside = how & TL_WATCHED_BESIDE;
    if (is_beside)
        add(&spot->taking);
    bool has_changed = take_value(look, spot, &watched);
    if (has_changed || (is_certain && (claim_soon(spot, &watched) || !spot->changes_only)))
        report(look, spot, &watched);
    /* Behind the report: a claim's comes later than what it is about, so that who reads knows that. */
    if (has_changed && is_beside)
        keep_for_claim(spot, &watched);
    if (is_beside)
        __atomic_fetch_sub(&spot->taking, 1, __ATOMIC_RELEASE);
    return has_changed;
}

static void executed(struct look *look, struct tl_watch_spot *spot, uint32_t how)
{
    const struct tl_watched watched = {.no_old = true, .no_new = true, .how = how};
    report(look, spot, &watched);
}

static bool is_armed_data(const struct tl_watch_spot *spot)
{
    return spot->tag && !(spot->access & TL_SPOT_EXECUTES);
}

static uint32_t spot_count(const struct tl_watch_table *table)
{
    return table->count < TL_WATCH_SPOTS ? table->count : TL_WATCH_SPOTS;
}

/* Spots that the same instruction may have written. */
static void look_beside(struct look *look, const struct tl_watch_spot *hit, uint32_t how)
{
    for (uint32_t i = 0; i < spot_count(look->table); i++) {
        struct tl_watch_spot *spot = &look->table->spots[i];
        if (spot != hit && is_armed_data(spot) && spot->addr - hit->addr + NEAR < 2 * NEAR)
            look_at(look, spot, how | TL_WATCHED_BESIDE, false);
    }
}

static void hit_by_event(struct look *look, struct tl_watch_spot *spot, bool late)
{
    uint32_t how = late ? TL_WATCHED_LATE : 0;
    if (late)
        add(&spot->late);
    if (spot->access & TL_SPOT_EXECUTES) {
        executed(look, spot, how);
        return;
    }
    look_at(look, spot, how, true);
    look_beside(look, spot, how);
}

/* Nothing has changed: somebody else may have told of it already; or it was one of these. */
static void guess(struct look *look, struct tl_watch_spot *spot)
{
    struct tl_watched watched = {.how = TL_WATCHED_GUESS};
    if (claim(spot, &watched) || (!take_value(look, spot, &watched) && !spot->changes_only))
        report(look, spot, &watched);
}

/* The registers do not tell which of them it was. One that is executed is known by the address, and the only one that
 * is not by that; otherwise all that have changed are told, or all that may have been accessed, and whoever reads tells
 * by the instruction which it was. */
static void hit_by_register(struct look *look, uint64_t rip)
{
    struct tl_watch_table *table = look->table;
    struct tl_watch_spot *only = NULL;
    unsigned data = 0;
    bool has_changed = false;
    for (uint32_t i = 0; i < spot_count(table); i++) {
        struct tl_watch_spot *spot = &table->spots[i];
        if (spot->tag && spot->access & TL_SPOT_EXECUTES && spot->addr == rip) {
            add(&spot->hits);
            executed(look, spot, 0);
            return;
        }
        data += is_armed_data(spot);
        only = is_armed_data(spot) ? spot : only;
    }
    if (data == 1) {
        add(&only->hits);
        look_at(look, only, 0, true);
        return;
    }
    add(&table->vague);
    for (uint32_t i = 0; i < spot_count(table); i++)
        if (is_armed_data(&table->spots[i]))
            has_changed |= look_at(look, &table->spots[i], TL_WATCHED_BESIDE, false);
    for (uint32_t i = 0; i < spot_count(table) && !has_changed; i++)
        if (is_armed_data(&table->spots[i]))
            guess(look, &table->spots[i]);
}

/* Where the program is, with its registers there. Outside of our memory: as it says. */
static void map_back(const struct tl_broker_tables *tables, const struct tl_trap_range *range,
                     struct tl_context *context)
{
    uint64_t rip = context->rip;
    if (!range) {
        const struct tl_trap_range *before = tl_trap_range_find(tables, rip - 1);
        if (before && before->end == rip)
            context->rip = before->addr + before->length;
    } else if (!tl_trap_map_back(tables, range, context))
        context->rip = range->addr + range->length;
}

static void take_registers(struct tl_hit_regs *regs, const struct tl_context *context)
{
    uint64_t *r = regs->r;
    r[TL_RAX] = context->rax;
    r[TL_RCX] = context->rcx;
    r[TL_RDX] = context->rdx;
    r[TL_RBX] = context->rbx;
    r[TL_RSP] = context->rsp;
    r[TL_RBP] = context->rbp;
    r[TL_RSI] = context->rsi;
    r[TL_RDI] = context->rdi;
    r[TL_R8] = context->r8;
    r[TL_R9] = context->r9;
    r[TL_R10] = context->r10;
    r[TL_R11] = context->r11;
    r[TL_R12] = context->r12;
    r[TL_R13] = context->r13;
    r[TL_R14] = context->r14;
    r[TL_R15] = context->r15;
    r[TL_RIP] = context->rip;
    r[TL_RFLAGS] = 0;
}

/* Whether the thread is in code of ours that stands for none of the program's. */
static bool is_own_access(const struct tl_broker_tables *tables, const struct tl_trap_range *range, uint64_t rip)
{
    if (range || !tl_trap_is_ours(tables, rip))
        return false;
    const struct tl_trap_range *before = tl_trap_range_find(tables, rip - 1);
    return !before || before->end != rip;
}

/* In a function of its own: the copy is gone when the rest takes its own share of the program's stack. */
static __attribute__((noinline)) void take_mapped(struct tl_hit_regs *regs, const struct tl_broker_tables *tables,
                                                  const struct tl_notification *note)
{
    struct tl_context mapped;
    TL_COPY(&mapped, &note->frame->context);
    map_back(tables, note->range, &mapped);
    take_registers(regs, &mapped);
}

static __attribute__((noinline)) void tell_hit(struct tl_watch_table *table, struct tl_watch_spot *spot, bool late,
                                               const struct tl_broker_tables *tables,
                                               const struct tl_notification *note)
{
    const struct tl_context *context = &note->frame->context;
    struct look look;
    look.table = table;
    look.area = (struct tl_hit_control *)((char *)table - table->offset);
    look.by_kernel = (table->reads && tl_hit_may(look.area, TL_OWN_VM_READV)) || context->mask & TL_LOAD_BITS;
    if (tl_trap_is_ours(tables, context->rip))
        take_mapped(&look.regs, tables, note);
    else
        take_registers(&look.regs, context);
    if (spot)
        hit_by_event(&look, spot, late);
    else
        hit_by_register(&look, context->rip);
}

/* While a register is moved from one spot to another the kernel may send a signal of the old one with the tag of the
 * new one. The address is right always. NULL: nobody's turn is it now. */
static struct tl_watch_spot *spot_of(struct tl_watch_table *table, uint64_t tag, uint64_t addr)
{
    uint64_t index = tag & 0xff;
    if (index >= spot_count(table) || __atomic_load_n(&table->spots[index].tag, __ATOMIC_ACQUIRE) != tag)
        return NULL;
    if (table->spots[index].addr == addr)
        return &table->spots[index];
    for (uint32_t i = 0; i < spot_count(table); i++)
        if (table->spots[i].addr == addr && table->spots[i].tag)
            return &table->spots[i];
    return NULL;
}

static bool by_event(struct tl_watch_table *table, const struct tl_notification *note)
{
    const struct tl_broker_tables *tables = tl_broker_tables(tl_broker_here);
    const struct tl_siginfo *info = &note->frame->info;
    uint64_t tag = info->rest[0];
    if (tag >> 24 != TL_WATCH_TAG_MAGIC)
        return false;
    struct tl_watch_spot *spot = spot_of(table, tag, info->addr);
    if (!spot) {
        add(&table->stale);
        return true;
    }
    add(&spot->hits);
    if (is_own_access(tables, note->range, note->frame->context.rip))
        add(&spot->own);
    else
        tell_hit(table, spot, info->rest[1] >> 32 & PERF_FLAG_ASYNC, tables, note);
    return true;
}

bool tl_watch_notify(void *context, const struct tl_notification *note)
{
    struct tl_watch_table *table = context;
    if (note->exception != TL_EXCEPTION_DEBUG)
        return false;
    if (note->frame->info.code == TL_TRAP_PERF)
        return by_event(table, note);
    if (note->frame->info.code != TL_TRAP_HWBKPT || table->means != TL_WATCH_BY_REGISTERS)
        return false;
    const struct tl_broker_tables *tables = tl_broker_tables(tl_broker_here);
    if (!is_own_access(tables, note->range, note->frame->context.rip))
        tell_hit(table, NULL, false, tables, note);
    return true;
}
