/* SPDX-License-Identifier: MIT
 *
 * The log of what has to be undone, in memory of the target that outlives us. A record is complete before its `live` is
 * set, and live before what it describes happens; so at each instant the log covers at least all that stands.
 * It is also our own index: which place was patched, and what stood there first.
 */
#include "host/remote/internal.h"

#include <stdlib.h>

static uint64_t free_records(struct tl_remote *r)
{
    const struct tl_segment *last = &r->core.segments[r->core.segment_count - 1];
    return (last->size - sizeof *last->log) / sizeof(struct tl_record) - last->used;
}

int tl_log_room(struct tl_remote *r, size_t records, struct tl_error *error)
{
    if (free_records(r) >= records)
        return 0;
    if (r->core.segment_count == TL_SEGMENTS)
        return tl_fail(error, -ENOSPC, "too many changes to process %d", r->pid);
    size_t least = r->core.segments[r->core.segment_count - 1].size * 2;
    size_t size = tl_page_up(sizeof(struct tl_log) + records * sizeof(struct tl_record));
    struct tl_segment segment = {.size = size > least ? size : least};
    int result = tl_share(r, segment.size, (void **)&segment.log, &segment.addr, error);
    if (result)
        return result;
    segment.log->capacity = (segment.size - sizeof *segment.log) / sizeof(struct tl_record);
    segment.log->magic = TL_LOG_MAGIC;
    struct tl_core_page *page = r->core.page;
    page->segments[r->core.segment_count].addr = segment.addr;
    page->segments[r->core.segment_count].size = segment.size;
    r->core.segments[r->core.segment_count++] = segment;
    __atomic_store_n(&page->segment_count, (uint32_t)r->core.segment_count, __ATOMIC_RELEASE);
    tl_remote_step("log grown");
    return 0;
}

/* The room has been made sure of. */
struct tl_record *tl_log_add(struct tl_remote *r, const struct tl_record *record)
{
    struct tl_segment *last = &r->core.segments[r->core.segment_count - 1];
    if (free_records(r) == 0)
        return NULL;
    struct tl_record *to = &last->log->records[last->used];
    *to = *record;
    to->live = 0;
    __atomic_store_n(&last->log->used, ++last->used, __ATOMIC_RELEASE);
    __atomic_store_n(&to->live, 1, __ATOMIC_RELEASE);
    return to;
}

void tl_each_own_record(struct tl_remote *r, uint32_t kind, void (*visit)(struct tl_remote *, const struct tl_record *))
{
    for (size_t i = 0; i < r->core.segment_count; i++) {
        const struct tl_segment *segment = &r->core.segments[i];
        for (uint64_t k = 0; k < segment->used; k++) {
            struct tl_record record = segment->log->records[k];
            if (record.live == 1 && record.kind == kind)
                visit(r, &record);
        }
    }
}

static struct tl_undo *place(const struct tl_remote *r, uint64_t addr)
{
    size_t i = (size_t)(addr * 0x9e3779b97f4a7c15ull >> 20) & (r->undo_room - 1);
    while (r->undo[i].addr && r->undo[i].addr != addr)
        i = (i + 1) & (r->undo_room - 1);
    return &r->undo[i];
}

struct tl_undo *tl_undo_find(struct tl_remote *r, uint64_t addr)
{
    struct tl_undo *undo = r->undo_room ? place(r, addr) : NULL;
    return undo && undo->record ? undo : NULL;
}

int tl_undo_room(struct tl_remote *r, size_t more)
{
    size_t old_room = r->undo_room, room = old_room ? old_room : 1024;
    while ((r->undo_count + more) * 2 > room)
        room *= 2;
    if (room == old_room)
        return 0;
    struct tl_undo *old = r->undo, *fresh = calloc(room, sizeof *fresh);
    if (!fresh)
        return -ENOMEM;
    r->undo = fresh;
    r->undo_room = room;
    for (size_t i = 0; i < old_room; i++) {
        if (old[i].addr)
            *place(r, old[i].addr) = old[i];
    }
    free(old);
    return 0;
}

struct tl_undo *tl_undo_put(struct tl_remote *r, uint64_t addr)
{
    struct tl_undo *undo = place(r, addr);
    r->undo_count += undo->addr == 0;
    undo->addr = addr;
    return undo;
}
