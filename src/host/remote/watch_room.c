/* SPDX-License-Identifier: MIT
 *
 * Whether there is room for all spots in a thread that has so many registers free, and what to say if there is not.
 * Spots that take turns are flexible: they get by with one register.
 */
#include "host/remote/watching.h"

#include "hwbp/slots.h"

#include <errno.h>
#include <stdlib.h>

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void let_go(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

bool tl_watching_are_admitted(const struct tl_watching *w, unsigned free)
{
    const struct tl_slots_machine machine = {
        .cpus = 1, .slots = {TL_HWBP_REGISTERS, TL_HWBP_REGISTERS}, .shared = true};
    const struct tl_slots_host host = {.allocate = allocate, .release = let_go};
    const struct tl_slot_request others = {.task = 1, .cpu = TL_ANY_CPU, .weight = TL_HWBP_REGISTERS - free};
    const struct tl_slot_request ours = {.task = 1, .cpu = TL_ANY_CPU, .weight = 1, .flexible = w->options.multiplex};
    struct tl_slots slots;
    bool admitted = tl_slots_init(&slots, &machine, &host) == 0;
    if (others.weight)
        admitted = admitted && tl_slots_reserve(&slots, &others) == 0;
    for (uint32_t i = 0; i < w->spot_count && admitted; i++)
        admitted = tl_slots_reserve(&slots, &ours) == 0;
    tl_slots_destroy(&slots);
    return admitted;
}

int tl_watching_tell_room(struct tl_watching *w, pid_t tid, unsigned free, struct tl_watching_room *room,
                          struct tl_error *error)
{
    unsigned left, by_ptrace = tl_watching_set_by_ptrace(w, tid, &left), taken = TL_HWBP_REGISTERS - free;
    if (w->means->kind == TL_WATCH_BY_REGISTERS)
        left = 0; /* these are free */
    by_ptrace += left;
    *room = (struct tl_watching_room){.needed = w->spot_count,
                                      .free = free,
                                      .by_ptrace = by_ptrace < taken ? by_ptrace : taken,
                                      .left_behind = left < taken ? left : taken,
                                      .by_others = by_ptrace < taken ? taken - by_ptrace : 0,
                                      .tid = tid};
    return tl_fail(error, -ENOSPC, "%u debug registers are needed, and %u of %u are free in thread %d", room->needed,
                   free, TL_HWBP_REGISTERS, tid);
}
