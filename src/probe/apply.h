/* SPDX-License-Identifier: MIT
 *
 * Carrying out a plan on a host, and taking it back. Knows no host: everything goes through the port. For the thread
 * that may use the port; it sleeps and allocates, so not for signal handlers.
 */
#ifndef TRAPLINE_APPLY_H
#define TRAPLINE_APPLY_H

#include "probe/plan.h"
#include "trapline/port.h"

/* The runtime that the hooks enter: code of our own to map beside the trampolines. */
struct tl_runtime {
    const uint8_t *code;
    size_t size;
    uint64_t addr;       /* where to map it; whole pages of free address space */
    struct tl_gate gate; /* what every gate page is to hold */
    /* The signal broker, where it is to be armed: what is to stand at data_addr, struct tl_broker first; and where to
     * map the page that tells a fork child from its parent. Pages of free address space. No data: not armed. */
    const uint8_t *data;
    size_t data_size;
    uint64_t data_addr, marker_addr;
    /* What else is to happen in the same stop, when all is in place. NULL: nothing. */
    void (*then)(void *context);
    void *then_context;
};

/* What was applied, so that it can be removed. Refers to the plan and the sites, which must outlive it. */
struct tl_applied {
    const struct tl_port *port;
    const struct tl_site *sites;
    size_t site_count;
    const struct tl_plan *plan;
    struct tl_mapping *mappings;
    size_t mapping_count;
    struct tl_patch *patches;
    size_t patch_count, late_count; /* guards that are taken back last come first */
    uint64_t runtime_addr, runtime_size;
};

/* Pool bytes that applying takes: the plan's, then the runtime's, then its data's. */
size_t tl_apply_pool_size(const struct tl_plan *plan, const struct tl_runtime *runtime);

/* Map and fill the trampolines, open the gates, arm the broker, then write the text; all in one stop. On failure
 * everything done is undone and the error returned: -EEXIST (an address was taken meanwhile: plan again), -EBUSY (the
 * text has changed), -ENOSYS (the broker cannot be armed: plan without int3), -ENOMEM, -EAGAIN, -ESRCH. Waits a little
 * for threads that stand where a guard would come too late. */
int tl_apply(const struct tl_port *port, const struct tl_site *sites, size_t site_count, const struct tl_plan *plan,
             const struct tl_runtime *runtime, struct tl_applied *applied);

/* Put the text back, let every thread out of our code, disarm, unmap. 0; -EAGAIN when a thread is still inside, or a
 * signal frame leads back there, after `patience_ms`: the text is restored but for `late_count` guards, the code stays
 * mapped, and the call may be repeated. -EBUSY: somebody else has patched over some of our places; these stay, and with
 * them our code, switched off; all others but the guards are restored (a breakpoint on a place's first byte is no
 * obstacle: it stays, the rest is restored). -ESRCH. */
int tl_apply_remove(struct tl_applied *applied, unsigned patience_ms);

void tl_applied_free(struct tl_applied *applied); /* a zeroed one is allowed */

#endif
