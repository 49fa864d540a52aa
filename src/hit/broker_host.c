/* SPDX-License-Identifier: MIT
 *
 * The broker's state as hosts make it and take it apart; they work on the memory itself, or on a copy of it. Hosted.
 */
#include "hit/brokering.h"

#include <errno.h>
#include <string.h>

struct tl_broker *tl_broker_here;

void tl_broker_init(struct tl_broker *broker, const struct tl_broker_setup *setup)
{
    memset(broker, 0, sizeof *broker);
    broker->flags = setup->flags;
    broker->marker = setup->marker;
    broker->entry = setup->entry;
    broker->pass = setup->pass;
    broker->restorer = setup->restorer;
    broker->notify = setup->notify;
    broker->area = setup->area;
    broker->notify_context = setup->notify_context;
    broker->process.pid = setup->pid;
}

void tl_broker_publish(struct tl_broker *broker, uint64_t image)
{
    __atomic_store_n(&broker->tables, image, __ATOMIC_RELEASE);
}

static bool has_array(size_t size, uint64_t offset, uint64_t count, uint64_t entry)
{
    return offset % 8 == 0 && offset <= size && count <= (size - offset) / entry;
}

static bool traps_are_sane(const struct tl_broker_tables *tables)
{
    const struct tl_trap *traps = (const struct tl_trap *)((const char *)tables + tables->traps);
    for (uint32_t i = 0; i < tables->trap_count; i++)
        if (traps[i].how > TL_TRAP_GONE || (i && traps[i].addr <= traps[i - 1].addr))
            return false;
    return true;
}

static bool ranges_are_sane(const struct tl_broker_tables *tables)
{
    const struct tl_trap_range *ranges = (const struct tl_trap_range *)((const char *)tables + tables->ranges);
    for (uint32_t i = 0; i < tables->range_count; i++) {
        if (ranges[i].end <= ranges[i].start || (i && ranges[i].start < ranges[i - 1].end))
            return false;
        if (ranges[i].mark_count > tables->mark_count ||
            ranges[i].first_mark > tables->mark_count - ranges[i].mark_count)
            return false;
    }
    return true;
}

static bool memory_is_sane(const struct tl_broker_tables *tables)
{
    const struct tl_trap_memory *memory = (const struct tl_trap_memory *)((const char *)tables + tables->memory);
    for (uint32_t i = 0; i < tables->memory_count; i++)
        if (memory[i].end <= memory[i].start || (i && memory[i].start < memory[i - 1].end))
            return false;
    return true;
}

int tl_broker_tables_verify(const void *image, size_t size)
{
    const struct tl_broker_tables *tables = image;
    if (size < sizeof *tables || tables->magic != TL_BROKER_TABLES_MAGIC || tables->size != size || tables->older ||
        !has_array(size, tables->traps, tables->trap_count, sizeof(struct tl_trap)) ||
        !has_array(size, tables->ranges, tables->range_count, sizeof(struct tl_trap_range)) ||
        !has_array(size, tables->marks, tables->mark_count, sizeof(struct tl_mark)) ||
        !has_array(size, tables->memory, tables->memory_count, sizeof(struct tl_trap_memory)) ||
        tables->return_count > UINT32_MAX || !has_array(size, tables->returns, tables->return_count, sizeof(uint64_t)))
        return -EINVAL;
    return traps_are_sane(tables) && ranges_are_sane(tables) && memory_is_sane(tables) ? 0 : -EINVAL;
}

bool tl_broker_adopt_action(struct tl_broker *broker, int number, const struct tl_sigaction *old,
                            struct tl_sigaction *kernels)
{
    if (!tl_action_for_kernel(broker, number, old, kernels))
        return false;
    tl_action_set(&broker->process, number, old);
    broker->process.changed |= TL_SIGNAL_BIT(number);
    return true;
}

bool tl_broker_restore_action(const struct tl_broker *broker, int number, const struct tl_sigaction *kernels,
                              struct tl_sigaction *programs)
{
    return tl_action_for_program(&broker->process, number, kernels, programs);
}

int tl_broker_adopt_thread(struct tl_broker *broker, uint64_t fs_base, uint32_t tid, bool trap_blocked)
{
    struct tl_broker_thread *thread;
    if (!fs_base)
        return -EINVAL;
    thread = tl_thread_claim(broker, fs_base);
    if (!thread)
        return -ENOSPC;
    memset(thread, 0, sizeof *thread);
    thread->tid = tid;
    thread->trap_blocked = trap_blocked;
    return 0;
}

static const struct tl_broker_thread *find(const struct tl_broker *broker, uint64_t fs_base)
{
    return tl_broker_thread((struct tl_broker *)(uintptr_t)broker, fs_base);
}

/* The mask is the broker's own, and the frame that the kernel has pushed for it is near. */
bool tl_broker_is_inside(const struct tl_broker *broker, uint64_t mask, const void *stack, size_t size)
{
    const uint64_t *words = stack;
    if ((mask | TL_NEVER_BLOCKED) != ~TL_THE_FIVE)
        return false;
    for (size_t i = 0; i < size / sizeof *words; i++)
        if (words[i] == broker->restorer)
            return true;
    return false;
}

bool tl_broker_blocks_trap(const struct tl_broker *broker, uint64_t fs_base)
{
    const struct tl_broker_thread *thread = find(broker, fs_base);
    return thread && thread->trap_blocked;
}

bool tl_broker_pending(const struct tl_broker *broker, uint64_t fs_base, struct tl_siginfo *info)
{
    const struct tl_broker_thread *thread = find(broker, fs_base);
    const struct tl_broker_process *process = &broker->process;
    if (fs_base ? !thread || !thread->pending : !process->pending)
        return false;
    *info = fs_base ? thread->info : process->info;
    return true;
}
