/* SPDX-License-Identifier: MIT
 *
 * Stubs lie in the arenas, at the end of what is left of them. They are never unmapped, so a stub that is over is kept
 * for the next return probe that rewrites.
 */
#include "stubs.h"

#include <sched.h>
#include <stdlib.h>

enum { STUB_ROOM = 32 };

static bool place(struct stub *stub, struct planning *planning)
{
    uint8_t code[TL_CALL_STUB_BYTES];
    struct tl_plan_room *rooms = planning->count ? planning->rooms : engine.rooms;
    size_t count = planning->count ? planning->room_count : engine.room_count;
    if (engine.next_index >= TL_CALL_INDEX_MAX - 1)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (rooms[i].size < STUB_ROOM)
            continue;
        stub->index = engine.next_index + 1;
        stub->addr = rooms[i].addr + rooms[i].size - STUB_ROOM;
        tl_call_return_stub(stub->index, code);
        if (tl_self_fill(engine.self, stub->addr, code, sizeof code, NULL))
            return false;
        engine.next_index++;
        rooms[i].size -= STUB_ROOM;
        return true;
    }
    return false;
}

struct stub *stub_take(struct planning *planning)
{
    for (struct stub *stub = engine.stubs; stub; stub = stub->next)
        if (!stub->taken) {
            stub->taken = true;
            return stub;
        }
    struct stub *stub = calloc(1, sizeof *stub);
    if (!stub)
        return NULL;
    stub->list = aligned_alloc(16, (tl_call_list_size(1) + 15) & ~(size_t)15);
    if (!stub->list || !place(stub, planning)) {
        free(stub->list);
        free(stub);
        return NULL;
    }
    planning->pinned = true;
    stub->taken = true;
    stub->next = engine.stubs;
    engine.stubs = stub;
    return stub;
}

void stub_start(struct stub *stub, struct tl_call_return *calls)
{
    struct tl_call_place at = {.index = stub->index, .address = stub->addr};
    struct tl_call_action action = {.kind = TL_CALL_BACK, .calls = calls};
    tl_call_list_init(stub->list, &at, &action, 1);
    tl_call_swap(stub->index, stub->list);
}

void stub_free(struct stub *stub)
{
    const struct tl_call_list *old = tl_call_swap(stub->index, NULL);
    while (old && tl_self_barrier(engine.self, NULL))
        sched_yield();
    lists_wait(old);
    stub->taken = false;
}
