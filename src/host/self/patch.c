/* SPDX-License-Identifier: MIT
 *
 * Changes of the text of this process. First everything is looked at: all bytes are as expected, all pages private (a
 * write to a shared one would change the file). Then they are written in the order of protocol.c, if the broker is
 * there to receive who meets a breakpoint; else while all other threads stand still. Where there is no other thread
 * they are just written.
 */
#include "host/self/internal.h"
#include "host/self/protocol.h"
#include "host/self/world.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static const char cannot_write[] = "the text cannot be written (is proc_mem.force_override set to never?)";

enum { READS = 1024, PATCH_BYTES = sizeof((struct tl_patch *)0)->bytes };

void tl_serialize(void)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    __asm__ volatile("" ::"r"(a), "r"(b), "r"(c), "r"(d));
}

int tl_barrier(struct tl_self *self)
{
    if (self->membarrier && CALL(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0)
        return 0;
    if (tl_world_threads() != 1) {
        struct tl_world *world;
        int result = tl_world_stop(&world);
        if (result)
            return result;
        tl_world_resume(world);
    }
    tl_serialize();
    return 0;
}

int tl_self_barrier(struct tl_self *self, struct tl_error *error)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    result = tl_barrier(self);
    tl_leave(&entered);
    return result ? tl_explain_stop(error, result) : 0;
}

/* What stands at up to READS places now, PATCH_BYTES for each. */
static int read_places(long mem, const struct tl_patch *patches, size_t count, uint8_t *bytes)
{
    struct iovec here[READS], there[READS];
    long whole = 0;
    for (size_t i = 0; i < count; i++) {
        here[i] = (struct iovec){bytes + i * PATCH_BYTES, patches[i].length};
        there[i] = (struct iovec){(void *)patches[i].addr, patches[i].length};
        whole += patches[i].length;
    }
    if (CALL(SYS_process_vm_readv, CALL(SYS_getpid), here, count, there, count, 0) == whole)
        return 0;
    for (size_t i = 0; i < count; i++) {
        int result = tl_mem_read(mem, patches[i].addr, bytes + i * PATCH_BYTES, patches[i].length);
        if (result)
            return result;
    }
    return 0;
}

static int check_bytes(long mem, const struct tl_patch *patches, size_t count, size_t *failed, struct tl_error *error)
{
    uint8_t *bytes = malloc((count < READS ? count : READS) * PATCH_BYTES);
    int result = bytes ? 0 : tl_fail(error, -ENOMEM, "out of memory");
    for (size_t done = 0; done < count && result == 0;) {
        size_t part = count - done < READS ? count - done : READS;
        result = read_places(mem, patches + done, part, bytes);
        if (result)
            tl_explain(error, result, "the text cannot be read");
        for (size_t i = 0; i < part && result == 0; i++) {
            const struct tl_patch *p = &patches[done + i];
            if (memcmp(bytes + i * PATCH_BYTES, p->expect, p->length) == 0)
                continue;
            *failed = done + i;
            result =
                tl_fail(error, -EBUSY, "the code at 0x%llx was changed by somebody else", (unsigned long long)p->addr);
        }
        done += part;
    }
    free(bytes);
    return result;
}

/* What the kernel is asked about one address (Linux 6.11), as linux/fs.h has it. */
struct query {
    uint64_t size, asked, addr, start, end, flags, page_size, offset, inode;
    uint32_t device[2], name_size, build_id_size;
    uint64_t name, build_id;
};
enum { QUERIES_MOST = 16, SHARED = 8 };
static const unsigned long query_request = 0xc0686611;

/* A few places need not cost a line for each mapping of the process. false: not known that way, or not all right. */
static bool are_private(const struct tl_patch *patches, size_t count)
{
    if (count > QUERIES_MOST)
        return false;
    long maps = CALL(SYS_openat, AT_CURRENT, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    bool good = maps >= 0;
    for (size_t i = 0; i < count && good; i++) {
        struct query query = {.size = sizeof query, .addr = patches[i].addr};
        good = CALL(SYS_ioctl, maps, query_request, &query) == 0 && query.start <= patches[i].addr &&
               patches[i].addr < query.end && !(query.flags & SHARED);
    }
    if (maps >= 0)
        CALL(SYS_close, maps);
    return good;
}

static int check_mappings(const struct tl_patch *patches, size_t count, size_t *failed, struct tl_error *error)
{
    struct tl_line *lines;
    size_t line_count;
    if (are_private(patches, count))
        return 0;
    int result = tl_lines_read(&lines, &line_count);
    if (result)
        return tl_explain(error, result, "/proc/self/maps cannot be read");
    const struct tl_line *line = NULL;
    for (size_t i = 0; i < count && result == 0; i++) {
        const struct tl_patch *p = &patches[i];
        if (!line || p->addr < line->start || p->addr >= line->end)
            line = tl_line_at(lines, line_count, p->addr);
        *failed = i;
        if (!line)
            result = tl_fail(error, -EFAULT, "nothing is mapped at 0x%llx", (unsigned long long)p->addr);
        else if (line->shared)
            result = tl_fail(error, -ENOTSUP, "the code at 0x%llx is a shared mapping: a change would reach the file",
                             (unsigned long long)p->addr);
    }
    free(lines);
    return result;
}

static int write_text(void *context, uint64_t addr, const uint8_t *bytes, size_t length)
{
    const struct tl_writing *w = context;
    return tl_mem_write(w->mem, addr, bytes, length);
}

static int wait_for_all(void *context)
{
    const struct tl_writing *w = context;
    return tl_barrier(w->self);
}

static const struct tl_change_port port = {write_text, wait_for_all};

int tl_writing_begin(struct tl_writing *w, struct tl_self *self, const struct tl_patch *patches, size_t count,
                     size_t *failed, struct tl_error *error)
{
    *w = (struct tl_writing){.self = self, .changes = calloc(count + 1, sizeof *w->changes), .count = count};
    if (!w->changes)
        return tl_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        w->changes[i] = (struct tl_change){.patch = &patches[i], .index = i};
    int result = tl_protocol_prepare(w->changes, count);
    w->mem = tl_mem_open();
    if (result)
        tl_fail(error, result, "changes that overlap, cross a page, or are too long");
    else if (w->mem < 0)
        result = tl_explain(error, (int)w->mem, "/proc/self/mem cannot be opened");
    if (result == 0)
        result = check_mappings(patches, count, failed, error);
    if (result == 0)
        result = check_bytes(w->mem, patches, count, failed, error);
    if (result)
        tl_writing_end(w);
    return result;
}

void tl_writing_end(struct tl_writing *w)
{
    if (w->mem >= 0)
        CALL(SYS_close, w->mem);
    free(w->changes);
}

int tl_writing_stopped(struct tl_writing *w)
{
    return tl_protocol_run_stopped(w->changes, w->count, &port, w);
}

static int write_stopped(struct tl_writing *w, struct tl_error *error)
{
    struct tl_world *world = NULL;
    int result = tl_world_threads() == 1 ? 0 : tl_world_stop(&world);
    if (result)
        return tl_explain_stop(error, result);
    result = tl_writing_stopped(w);
    if (world)
        tl_world_resume(world);
    tl_serialize();
    return result ? tl_explain(error, result, cannot_write) : 0;
}

int tl_patch(struct tl_self *self, const struct tl_patch *patches, size_t count, size_t *failed, struct tl_error *error)
{
    struct tl_writing w;
    int result = tl_writing_begin(&w, self, patches, count, failed, error);
    if (result)
        return result;
    if (!self->armed || tl_world_threads() == 1) {
        result = write_stopped(&w, error);
    } else {
        result = tl_protocol_run(w.changes, count, &port, &w);
        if (result)
            tl_explain(error, result, cannot_write);
    }
    tl_writing_end(&w);
    return result;
}

int tl_self_patch(struct tl_self *self, const struct tl_patch *patches, size_t count, size_t *failed,
                  struct tl_error *error)
{
    size_t ignored;
    struct tl_entered entered;
    if (count == 0)
        return 0;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    result = tl_patch(self, patches, count, failed ? failed : &ignored, error);
    tl_leave(&entered);
    return result;
}
