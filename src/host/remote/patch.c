/* SPDX-License-Identifier: MIT
 *
 * Changes of the target's text. First everything is looked at: all bytes are as expected, all pages private (a write to
 * a shared one would change the file). Then the log, then the bytes, one write a patch: a kernel probe that is set
 * beside ours at this very moment keeps its byte.
 */
#include "host/remote/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct look {
    uint64_t page;
    bool valid;
    uint8_t bytes[TL_PAGE];
    const struct tl_remote_area *area;
};

static int look_at(struct tl_remote *r, struct look *look, const struct tl_remote_area *areas, size_t count,
                   const struct tl_patch *p, struct tl_error *error)
{
    uint64_t page = p->addr & ~(uint64_t)(TL_PAGE - 1), at = p->addr - page;
    if (p->length < 1 || p->length > sizeof p->bytes || at + p->length > TL_PAGE)
        return tl_fail(error, -EINVAL, "a patch at 0x%llx of %u bytes", (unsigned long long)p->addr, p->length);
    if (!look->valid || look->page != page) {
        look->area = tl_area_at(areas, count, page);
        look->page = page;
        look->valid = look->area && tl_mem_read(r, page, look->bytes, TL_PAGE) == 0;
        if (!look->valid)
            return tl_fail(error, -EFAULT, "nothing is mapped at 0x%llx", (unsigned long long)p->addr);
        if (look->area->shared)
            return tl_fail(error, -ENOTSUP,
                           "the code at 0x%llx is a shared mapping of %s: a change would reach the file",
                           (unsigned long long)p->addr, look->area->path);
    }
    if (memcmp(look->bytes + at, p->expect, p->length) != 0)
        return tl_fail(error, -EBUSY, "the code at 0x%llx was changed by somebody else", (unsigned long long)p->addr);
    return 0;
}

/* The earlier change that this patch takes back but for its first bytes, on which somebody else has a breakpoint by
 * now; or NULL. */
static struct tl_undo *taken_back_behind(struct tl_remote *r, const struct tl_patch *p)
{
    for (unsigned before = 1; before + p->length <= sizeof p->bytes; before++) {
        struct tl_undo *undo = tl_undo_find(r, p->addr - before);
        if (undo && undo->length == before + p->length && memcmp(undo->old_bytes + before, p->bytes, p->length) == 0)
            return undo;
    }
    return NULL;
}

/* Before: a live record with the bytes to come, unless they are those that stood there first. */
static struct tl_record *announce(struct tl_remote *r, const struct tl_patch *p)
{
    struct tl_undo *undo = tl_undo_find(r, p->addr);
    uint32_t kind = p->late ? TL_RECORD_LATE : TL_RECORD_PATCH;
    struct tl_record record = {.kind = kind, .addr = p->addr, .size = p->length};
    if (undo && undo->length == p->length && memcmp(undo->old_bytes, p->bytes, p->length) == 0)
        return NULL;
    if (!undo && taken_back_behind(r, p))
        return NULL;
    memcpy(record.old_bytes, undo && undo->length == p->length ? undo->old_bytes : p->expect, p->length);
    memcpy(record.new_bytes, p->bytes, p->length);
    return tl_log_add(r, &record);
}

/* After: the record that no longer says what stands there dies. */
static void settle(struct tl_remote *r, const struct tl_patch *p, struct tl_record *record)
{
    struct tl_undo *undo = tl_undo_find(r, p->addr), *outer = undo ? NULL : taken_back_behind(r, p);
    if (outer) {
        outer->record->live = 0;
        outer->record = NULL;
        return;
    }
    if (undo) {
        undo->record->live = 0;
        if (undo->length != p->length)
            memcpy(undo->old_bytes, p->expect, p->length);
    } else {
        if (!record)
            return;
        undo = tl_undo_put(r, p->addr);
        memcpy(undo->old_bytes, p->expect, p->length);
    }
    undo->record = record;
    undo->length = p->length;
}

static int write_all(struct tl_remote *r, const struct tl_patch *patches, size_t count, struct tl_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const struct tl_patch *p = &patches[i];
        struct tl_record *record = announce(r, p);
        tl_remote_step("patch");
        int result = tl_mem_write(r, p->addr, p->bytes, p->length);
        tl_remote_step("patched");
        if (result == 0) {
            settle(r, p, record);
            continue;
        }
        if (record)
            record->live = 0;
        for (size_t j = i; j-- > 0;) { /* all or none */
            struct tl_patch back = {.addr = patches[j].addr, .length = patches[j].length, .late = patches[j].late};
            memcpy(back.expect, patches[j].bytes, back.length);
            memcpy(back.bytes, patches[j].expect, back.length);
            record = announce(r, &back);
            tl_mem_write(r, back.addr, back.bytes, back.length);
            settle(r, &back, record);
        }
        return tl_fail(error, result,
                       "the code at 0x%llx cannot be written (%s): is proc_mem.force_override set to never?",
                       (unsigned long long)p->addr, tl_errno_name(-result));
    }
    return 0;
}

int tl_port_patch(struct tl_remote *r, const struct tl_patch *patches, size_t count, struct tl_error *error)
{
    if (r->stops == 0 || !r->core.page)
        return tl_fail(error, -EINVAL, "patching without a stop or a region");
    struct tl_remote_area *areas;
    size_t area_count;
    int result = tl_read_areas(r->pid, &areas, &area_count);
    if (result)
        return tl_fail(error, result, "process %d has ended", r->pid);
    struct look *look = calloc(1, sizeof *look);
    if (!look)
        result = -ENOMEM;
    for (size_t i = 0; i < count && result == 0; i++)
        result = look_at(r, look, areas, area_count, &patches[i], error);
    free(look);
    free(areas);
    /* Twice: room for taking everything back. */
    if (result == 0)
        result = tl_log_room(r, 2 * count, error);
    if (result == 0)
        result = tl_undo_room(r, 2 * count);
    return result ? result : write_all(r, patches, count, error);
}
