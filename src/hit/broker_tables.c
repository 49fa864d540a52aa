/* SPDX-License-Identifier: MIT
 *
 * Look-ups in the broker's tables: sorted arrays, so that an image is made by sorting and read by halving. What was
 * told last may be in a small image of its own, in front of an older one.
 */
#include "hit/brokering.h"

const struct tl_broker_tables *tl_broker_tables(const struct tl_broker *broker)
{
    return (const struct tl_broker_tables *)__atomic_load_n(&broker->tables, __ATOMIC_ACQUIRE);
}

static inline const struct tl_broker_tables *older(const struct tl_broker_tables *tables)
{
    return (const struct tl_broker_tables *)tables->older;
}

static inline const void *at(const struct tl_broker_tables *tables, uint64_t offset)
{
    return (const char *)tables + offset;
}

/* All kinds of entries begin with the address by which they are sorted: the last one at or below `addr`. */
static inline const void *last_not_above(const void *entries, uint32_t count, size_t size, uint64_t addr)
{
    const char *first = entries;
    if (!count || *(const uint64_t *)entries > addr)
        return NULL;
    while (count > 1) {
        uint32_t half = count / 2;
        const char *middle = first + half * size;
        if (*(const uint64_t *)(const void *)middle <= addr)
            first = middle;
        count -= half;
    }
    return first;
}

const struct tl_trap *tl_trap_find(const struct tl_broker_tables *tables, uint64_t addr)
{
    for (; tables; tables = older(tables)) {
        const struct tl_trap *trap =
            last_not_above(at(tables, tables->traps), tables->trap_count, sizeof(struct tl_trap), addr);
        if (trap && trap->addr == addr)
            return trap;
    }
    return NULL;
}

const struct tl_trap_range *tl_trap_range_find(const struct tl_broker_tables *tables, uint64_t addr)
{
    for (; tables; tables = older(tables)) {
        const struct tl_trap_range *range =
            last_not_above(at(tables, tables->ranges), tables->range_count, sizeof(struct tl_trap_range), addr);
        if (range && addr < range->end)
            return range;
    }
    return NULL;
}

bool tl_trap_is_ours(const struct tl_broker_tables *tables, uint64_t addr)
{
    for (; tables; tables = older(tables)) {
        const struct tl_trap_memory *memory =
            last_not_above(at(tables, tables->memory), tables->memory_count, sizeof(struct tl_trap_memory), addr);
        if (memory && addr < memory->end)
            return true;
    }
    return false;
}

bool tl_return_is_seen(const struct tl_broker_tables *tables, uint64_t restorer)
{
    enum { LOAD_BYTES = 7 };
    for (; tables; tables = older(tables)) {
        const uint64_t *call = last_not_above(at(tables, tables->returns), (uint32_t)tables->return_count, sizeof *call,
                                              restorer + LOAD_BYTES);
        if (call && restorer < *call)
            return true;
    }
    return false;
}

/* Where the context keeps each register, by its number in encodings. */
static uint64_t *register_of(struct tl_context *context, unsigned number)
{
    switch (number) {
    case TL_RAX:
        return &context->rax;
    case TL_RCX:
        return &context->rcx;
    case TL_RDX:
        return &context->rdx;
    case TL_RBX:
        return &context->rbx;
    case TL_RSP:
        return &context->rsp;
    case TL_RBP:
        return &context->rbp;
    case TL_RSI:
        return &context->rsi;
    case TL_RDI:
        return &context->rdi;
    case TL_R8:
        return &context->r8;
    case TL_R9:
        return &context->r9;
    case TL_R10:
        return &context->r10;
    case TL_R11:
        return &context->r11;
    case TL_R12:
        return &context->r12;
    case TL_R13:
        return &context->r13;
    case TL_R14:
        return &context->r14;
    case TL_R15:
        return &context->r15;
    default:
        return NULL;
    }
}

bool tl_trap_map_back(const struct tl_broker_tables *tables, const struct tl_trap_range *range,
                      struct tl_context *context)
{
    while ((uint64_t)range - (uint64_t)tables >= tables->size && tables->older)
        tables = older(tables); /* whose range it is */
    const struct tl_mark *marks = at(tables, tables->marks);
    const struct tl_mark *mark = NULL;
    for (uint32_t i = 0; i < range->mark_count; i++)
        if (range->start + marks[range->first_mark + i].at == context->rip)
            mark = &marks[range->first_mark + i];
    if (!mark)
        return false;
    if (mark->state == TL_MARK_WITHIN) {
        uint64_t *borrowed = register_of(context, mark->borrowed);
        if (!mark->unwind)
            return false;
        if (borrowed && tl_fault_copy(borrowed, context->rsp, 8) != 8)
            return false;
        context->rsp += mark->unwind;
    }
    if (mark->state == TL_MARK_AFTER && range->flags & TL_RANGE_SYSCALL)
        context->rcx = mark->addr;
    context->rip = mark->addr;
    return true;
}
