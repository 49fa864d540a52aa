/* SPDX-License-Identifier: MIT
 *
 * Mappings in the target. The code of one call of map() goes into a memory file of its own, made for it, filled by us,
 * sealed against writing, mapped in pieces and closed, all while the target is stopped: no descriptor of ours stays in
 * it. Gates are anonymous, since only such memory can be wiped on fork; the log knows where they are.
 */
#include "host/remote/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int by_addr(const void *a, const void *b)
{
    const struct tl_made *x = a, *y = b;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static struct tl_made *find_made(struct tl_remote *r, uint64_t addr)
{
    struct tl_made key = {.addr = addr};
    return r->made_count ? bsearch(&key, r->made, r->made_count, sizeof key, by_addr) : NULL;
}

static int check(struct tl_remote *r, const struct tl_mapping *mappings, size_t count, uint64_t *low, uint64_t *high,
                 size_t *gates)
{
    *low = UINT64_MAX;
    *high = *gates = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tl_mapping *m = &mappings[i];
        if (m->size == 0 || (m->addr | m->size | m->pool) % TL_PAGE || m->addr > INT64_MAX - m->size)
            return -EINVAL;
        if (m->kind == TL_MAPPING_GATE) {
            ++*gates;
            continue;
        }
        if (m->pool > r->pool_size || m->size > r->pool_size - m->pool)
            return -EINVAL;
        *low = m->pool < *low ? m->pool : *low;
        *high = m->pool + m->size > *high ? m->pool + m->size : *high;
    }
    return 0;
}

/* The file with the pool's bytes from `low` to `high`, as a descriptor of the target. */
static int code_file(struct tl_remote *r, uint64_t low, uint64_t high, uint64_t *fd)
{
    size_t done;
    int file, result = tl_batch_file(r, fd, &file);
    if (result)
        return result;
    for (uint64_t at = low; result == 0 && at < high;) {
        ssize_t n = pwrite(file, (const uint8_t *)r->pool + at, high - at, (off_t)(at - low));
        if (n < 0 && errno != EINTR)
            result = -errno;
        at += n > 0 ? (uint64_t)n : 0;
    }
    tl_remote_step("code filled");
    if (result == 0 && fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        result = -errno;
    close(file);
    if (result) {
        struct tl_call close_it = {SYS_close, {*fd}, 0};
        tl_batch(r, &close_it, 1, false, &done);
    }
    return result;
}

static int explain(struct tl_remote *r, int result, struct tl_error *error)
{
    if (result == -EEXIST)
        return tl_fail(error, result, "an address for a trampoline in process %d is taken by now", r->pid);
    return tl_explain_limit(r, result, "map trampolines", error);
}

static int room_for(struct tl_remote *r, size_t more)
{
    if (r->made_room - r->made_count >= more)
        return 0;
    size_t room = (r->made_count + more) * 2;
    struct tl_made *made = realloc(r->made, room * sizeof *made);
    if (!made)
        return -ENOMEM;
    r->made = made;
    r->made_room = room;
    return 0;
}

static bool failed_at(const struct tl_call *call)
{
    return call->result < 0 && call->result > -TL_PAGE;
}

/* The calls for all mappings, closing the file last. Returns how many. */
static size_t plan_calls(const struct tl_mapping *mappings, size_t count, uint64_t fd, uint64_t low, bool file,
                         struct tl_call *calls)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tl_mapping *m = &mappings[i];
        if (m->kind == TL_MAPPING_GATE) {
            calls[n++] = (struct tl_call){SYS_mmap,
                                          {m->addr, m->size, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0},
                                          -ECANCELED};
            calls[n++] = (struct tl_call){SYS_madvise, {m->addr, m->size, MADV_WIPEONFORK}, -ECANCELED};
        } else {
            uint64_t prot = PROT_READ | (m->kind == TL_MAPPING_DATA ? PROT_WRITE : PROT_EXEC);
            calls[n++] = (struct tl_call){
                SYS_mmap, {m->addr, m->size, prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, m->pool - low}, -ECANCELED};
        }
    }
    if (file)
        calls[n++] = (struct tl_call){SYS_close, {fd}, -ECANCELED};
    return n;
}

/* What of the calls was done is undone. */
static void take_back(struct tl_remote *r, struct tl_call *calls, size_t count)
{
    size_t n = 0, done;
    bool closed = false;
    uint64_t fd = 0;
    for (size_t i = 0; i < count; i++) {
        struct tl_call call = calls[i];
        if (call.number == SYS_mmap && !failed_at(&call))
            calls[n++] = (struct tl_call){SYS_munmap, {(uint64_t)call.result, call.arguments[1]}, 0};
        if (call.number == SYS_close) {
            fd = call.arguments[0];
            closed = call.result != 0;
        }
    }
    if (closed)
        calls[n++] = (struct tl_call){SYS_close, {fd}, 0};
    tl_batch(r, calls, n, false, &done);
}

int tl_port_map(struct tl_remote *r, const struct tl_mapping *mappings, size_t count, struct tl_error *error)
{
    uint64_t low, high, fd = 0;
    size_t gates, done = 0, n = 0;
    if (r->stops == 0 || !r->core.page || check(r, mappings, count, &low, &high, &gates))
        return tl_fail(error, -EINVAL, "mapping without a stop, a region or pages");
    int result = room_for(r, count);
    struct tl_call *calls = malloc((2 * count + 1) * sizeof *calls);
    if (result == 0)
        result = calls ? tl_log_room(r, gates, error) : -ENOMEM;
    if (result == 0 && high > 0) {
        result = code_file(r, low, high, &fd);
        if (result)
            result = explain(r, result, error);
    }
    size_t first = r->made_count;
    if (result == 0) {
        for (size_t i = 0; i < count; i++) {
            const struct tl_mapping *m = &mappings[i];
            struct tl_made made = {.addr = m->addr, .size = m->size, .gate = m->kind == TL_MAPPING_GATE};
            if (made.gate)
                made.record =
                    tl_log_add(r, &(struct tl_record){.kind = TL_RECORD_GATE, .addr = m->addr, .size = m->size});
            r->made[r->made_count++] = made;
        }
        n = plan_calls(mappings, count, fd, low, high > 0, calls);
        tl_remote_step("map");
        result = tl_batch(r, calls, n, true, &done);
        for (size_t i = 0; i < done && result == 0; i++) { /* kernels before 4.17 do not know NOREPLACE */
            if (calls[i].number == SYS_mmap && (uint64_t)calls[i].result != calls[i].arguments[0])
                result = -EEXIST;
        }
        if (result) {
            take_back(r, calls, n);
            for (size_t i = first; i < r->made_count; i++) {
                if (r->made[i].record)
                    r->made[i].record->live = 0;
            }
            r->made_count = first;
            result = explain(r, result, error);
        }
    }
    free(calls);
    if (result == 0)
        qsort(r->made, r->made_count, sizeof *r->made, by_addr);
    tl_remote_step("mapped");
    return result;
}

int tl_port_unmap(struct tl_remote *r, const struct tl_mapping *mappings, size_t count, struct tl_error *error)
{
    if (r->stops == 0)
        return tl_fail(error, -EINVAL, "unmapping without a stop");
    struct tl_remote_area *areas;
    size_t area_count, n = 0, done;
    int result = tl_read_areas(r->pid, &areas, &area_count);
    if (result)
        return tl_fail(error, result, "process %d has ended", r->pid);
    struct tl_call *calls = malloc((count + 1) * sizeof *calls);
    for (size_t i = 0; calls && i < count; i++) {
        struct tl_made *made = find_made(r, mappings[i].addr);
        const struct tl_remote_area *area = tl_area_at(areas, area_count, mappings[i].addr);
        if (made && area && made->size > 0 && (made->gate ? area->inode == 0 && !area->shared : tl_is_ours(area)))
            calls[n++] = (struct tl_call){SYS_munmap, {made->addr, made->size}, 0};
    }
    free(areas);
    tl_remote_step("unmap");
    result = !calls ? -ENOMEM : n ? tl_batch(r, calls, n, false, &done) : 0;
    for (size_t i = 0; result == 0 && i < n; i++) {
        struct tl_made *made = find_made(r, calls[i].arguments[0]);
        if (made->record)
            made->record->live = 0;
        made->size = 0;
    }
    free(calls);
    if (result)
        return tl_fail(error, result, "process %d cannot unmap trampolines (%s)", r->pid, tl_errno_name(-result));
    size_t kept = 0;
    for (size_t i = 0; i < r->made_count; i++) {
        if (r->made[i].size)
            r->made[kept++] = r->made[i];
    }
    r->made_count = kept;
    tl_remote_step("unmapped");
    return 0;
}
