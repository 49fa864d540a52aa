/* SPDX-License-Identifier: MIT
 *
 * The debug registers that breakpoints of this process take. The kernel has the last word, since others use them too;
 * but here nothing has to be undone in many threads.
 *
 * A breakpoint of the whole process is in all of its threads, so wherever one of them runs: that is the same as if it
 * were pinned to every CPU. By that threads need not be followed.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "hwbp.h"

static struct tl_slots slots;
static unsigned cpus;

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static void relax(void *context)
{
    (void)context;
    sched_yield();
}

static int begin(void)
{
    if (slots.state)
        return 0;
    long count = sysconf(_SC_NPROCESSORS_CONF);
    cpus = count > 0 ? (unsigned)count : 1;
    const struct tl_slots_machine machine = {.cpus = cpus, .slots = {TL_HWBP_REGISTERS}, .shared = true};
    const struct tl_slots_host host = {.allocate = allocate, .release = release, .relax = relax};
    return tl_slots_init(&slots, &machine, &host);
}

static unsigned request_count(const struct tl_hwbp *hwbp)
{
    return hwbp->options.scope == TL_HWBP_PROCESS || hwbp->options.scope == TL_HWBP_WIDE ? cpus : 1;
}

/* Request `i` of those that stand for the breakpoint. */
static struct tl_slot_request request(const struct tl_hwbp *hwbp, unsigned i, uint32_t access)
{
    struct tl_slot_request request = {.type = access == TL_HWBP_EXECUTE ? TL_SLOT_INSTRUCTION : TL_SLOT_DATA,
                                      .weight = 1};
    if (hwbp->options.scope == TL_HWBP_THREAD) {
        request.task = hwbp->task;
        request.cpu = TL_ANY_CPU;
    } else {
        request.cpu = (int)(hwbp->options.scope == TL_HWBP_CPU ? hwbp->options.cpu : i);
    }
    return request;
}

static void release_first(struct tl_hwbp *hwbp, unsigned count)
{
    while (count--) {
        struct tl_slot_request one = request(hwbp, count, hwbp->options.access);
        tl_slots_release(&slots, &one);
    }
}

int hwbp_reserve(struct tl_hwbp *hwbp)
{
    int code = begin();
    unsigned count = request_count(hwbp);
    for (unsigned i = 0; !code && i < count; i++) {
        struct tl_slot_request one = request(hwbp, i, hwbp->options.access);
        code = tl_slots_reserve(&slots, &one);
        if (code)
            release_first(hwbp, i);
    }
    return code;
}

void hwbp_release(struct tl_hwbp *hwbp)
{
    release_first(hwbp, request_count(hwbp));
}

int hwbp_retype(struct tl_hwbp *hwbp, uint32_t access)
{
    int code = 0;
    unsigned count = request_count(hwbp), i = 0;
    for (; !code && i < count; i++) {
        struct tl_slot_request from = request(hwbp, i, hwbp->options.access), to = request(hwbp, i, access);
        code = tl_slots_modify(&slots, &from, &to);
    }
    for (i -= code != 0; code && i--;) {
        struct tl_slot_request from = request(hwbp, i, access), to = request(hwbp, i, hwbp->options.access);
        tl_slots_modify(&slots, &from, &to);
    }
    return code;
}
