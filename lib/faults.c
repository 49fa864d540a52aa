/* SPDX-License-Identifier: MIT
 *
 * Fault and break handlers of probes. What handles them runs in the broker's signal handler, as a notifier does.
 *
 * A fault in a handler is that of the action which runs on this thread. A fault at a probed instruction, in its copy,
 * is told to the probes of its site, in order, until one repairs it. Sites are under a lock that the interrupted thread
 * may hold; so who has a fault handler stands in a table of its own, replaced as a whole. There are two of them, so
 * that taking a handler out needs no memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine.h"
#include "hit/broker.h"
#include "notifiers.h"
#include "readers.h"

struct faults {
    size_t count, room;
    struct faulty {
        uint32_t index; /* of the site */
        struct tl_probe *probe;
        tl_fault_handler *fault;
    } probes[];
};

static struct faults *current, *other; /* other: for the next update, as large as current */
static struct faults *larger[2];       /* to take their places */

/* ---- under the lock ---- */

static struct faults *make(size_t room)
{
    struct faults *faults = malloc(sizeof *faults + room * sizeof faults->probes[0]);
    if (faults) {
        faults->count = 0;
        faults->room = room;
    }
    return faults;
}

static size_t count_all(void)
{
    size_t count = 0;
    for (size_t i = 0; i < engine.site_count; i++)
        for (size_t k = 0; k < engine.sites[i]->user_count; k++)
            count += engine.sites[i]->users[k].role == ROLE_PROBE && engine.sites[i]->users[k].entry->probe.fault;
    return count;
}

int faults_reserve(size_t more)
{
    size_t wanted = more ? count_all() + more : 0, room = current ? current->room : 0;
    if (wanted <= room || (larger[0] && wanted <= larger[0]->room))
        return 0;
    struct faults *first = make(wanted * 2), *second = make(wanted * 2);
    if (!first || !second) {
        free(first);
        free(second);
        return -ENOMEM;
    }
    free(larger[0]);
    free(larger[1]);
    larger[0] = first;
    larger[1] = second;
    return 0;
}

static void add(struct faults *faults, const struct site *site)
{
    for (size_t i = 0; i < site->user_count; i++) {
        const struct entry *entry = site->users[i].entry;
        if (site->users[i].role == ROLE_PROBE && entry->enabled && entry->probe.fault)
            faults->probes[faults->count++] = (struct faulty){
                site->before.index, (struct tl_probe *)(uintptr_t)entry->key, entry->probe.fault}; /* NOLINT */
    }
}

void faults_update(struct site *const *fresh, size_t count)
{
    struct faults *next = larger[0] ? larger[0] : other, *old = current;
    if (!next)
        return; /* there never was one */
    next->count = 0;
    for (size_t i = 0; i < engine.site_count; i++)
        add(next, engine.sites[i]);
    for (size_t i = 0; i < count; i++)
        add(next, fresh[i]);
    __atomic_store_n(&current, next, __ATOMIC_SEQ_CST);
    readers_wait();
    if (larger[0]) {
        free(old);
        free(other);
        other = larger[1];
        larger[0] = larger[1] = NULL;
    } else {
        other = old;
    }
}

/* ---- on a fault ---- */

static bool told_to_site(uint32_t index, struct tl_regs *regs, const struct tl_fault *fault)
{
    const struct faults *faults = __atomic_load_n(&current, __ATOMIC_SEQ_CST);
    for (size_t i = 0; faults && i < faults->count; i++)
        if (faults->probes[i].index == index && faults->probes[i].fault(faults->probes[i].probe, regs, fault))
            return true;
    return false;
}

bool faults_handle(const struct tl_notification *notification, const struct tl_notice_info *info, struct tl_regs *regs)
{
    const struct tl_context *context = &notification->frame->context;
    const struct tl_call_action *running = tl_call_current(context->rsp, context->rbp);
    const struct tl_siginfo *signal = &notification->frame->info;
    struct tl_fault fault = {.signal = signal->number,
                             .code = signal->code,
                             .address = signal->addr,
                             .where = running ? TL_FAULT_IN_HANDLER : TL_FAULT_IN_INSTRUCTION};
    if (info->notice == TL_NOTICE_BREAKPOINT)
        return running && running->break_handler && running->break_handler(running->probe, regs);
    if (info->notice == TL_NOTICE_DEBUG)
        return false;
    if (running)
        return running->fault && running->fault(running->probe, regs, &fault);
    return notification->range && !(notification->range->flags & TL_RANGE_BEHIND) &&
           told_to_site(notification->range->index, regs, &fault);
}
