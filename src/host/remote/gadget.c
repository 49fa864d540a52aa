/* SPDX-License-Identifier: MIT
 *
 * Two things an injected call borrows from the target: code and a piece of stack.
 *
 * Code: `syscall; ret` and, for the ret to return to, `mov $15, rax; syscall`. Every libc has both, and so has ld.so. A
 * static program may lack them; then they are written over the zeros that end the last page of the vdso (or of any
 * other code), for as long as the call takes. A later run knows those bytes at that place and puts the zeros back.
 *
 * Stack: below the red zone of a thread on a real stack (the process's own, or one with a guard page below), with room
 * for a signal handler's frames below that; or, where no thread is on such a stack (goroutines), the never used low end
 * of the process's own stack. Other memory below some stack pointer may be anybody's.
 */
#include "host/remote/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK = 65536, SCAN_MAX = 64 << 20, ROOM_BELOW = 16384, RED_ZONE = 128, STUB = 16 };

static const uint8_t call_code[] = {0x0f, 0x05, 0xc3};
static const uint8_t restorer_code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
static const uint8_t stub_code[STUB] = {0x0f, 0x05, 0xc3, 0x48, 0xc7, 0xc0, 0x0f, 0,
                                        0,    0,    0x0f, 0x05, 0xcc, 0xcc, 0xcc, 0xcc};
enum { STUB_RESTORER = 3 };

static bool code_of_program(const struct tl_remote_area *area)
{
    return (area->prot & (PROT_EXEC | PROT_READ)) == (PROT_EXEC | PROT_READ) && !tl_is_ours(area) &&
           area->end <= INT64_MAX;
}

static void scan(struct tl_remote *r, const struct tl_remote_area *area, uint8_t *chunk, size_t *budget)
{
    for (uint64_t at = area->start; at<area->end && * budget> CHUNK; at += CHUNK - 16) {
        size_t size = area->end - at < CHUNK ? area->end - at : CHUNK;
        *budget -= size;
        if (tl_mem_read(r, at, chunk, size))
            return;
        uint8_t *found = r->gadgets.call ? NULL : memmem(chunk, size, call_code, sizeof call_code);
        if (found)
            r->gadgets.call = at + (size_t)(found - chunk);
        found = r->gadgets.restorer ? NULL : memmem(chunk, size, restorer_code, sizeof restorer_code);
        if (found)
            r->gadgets.restorer = at + (size_t)(found - chunk);
        if (r->gadgets.call && r->gadgets.restorer)
            return;
    }
}

static bool still_there(struct tl_remote *r)
{
    uint8_t a[sizeof call_code], b[sizeof restorer_code];
    return r->gadgets.call && r->gadgets.restorer && tl_mem_read(r, r->gadgets.call, a, sizeof a) == 0 &&
           tl_mem_read(r, r->gadgets.restorer, b, sizeof b) == 0 && memcmp(a, call_code, sizeof a) == 0 &&
           memcmp(b, restorer_code, sizeof b) == 0;
}

/* The last bytes of a private mapping of code: free when they are zero, left by one of us when they are the stub. */
static int try_stub(struct tl_remote *r, const struct tl_remote_area *area)
{
    uint8_t bytes[STUB];
    static const uint8_t zeros[STUB];
    uint64_t at = area->end - STUB;
    if (area->shared || tl_mem_read(r, at, bytes, STUB) ||
        (memcmp(bytes, zeros, STUB) != 0 && memcmp(bytes, stub_code, STUB) != 0))
        return -ENOENT;
    tl_remote_step("stub");
    int result = tl_mem_write(r, at, stub_code, STUB);
    if (result == 0)
        r->gadgets = (struct tl_gadgets){.call = at, .restorer = at + STUB_RESTORER, .stub = at};
    return result;
}

int tl_gadgets_find(struct tl_remote *r, struct tl_error *error)
{
    if (still_there(r))
        return 0;
    r->gadgets = (struct tl_gadgets){0};
    struct tl_remote_area *areas;
    size_t count, budget = SCAN_MAX;
    int result = tl_read_areas(r->pid, &areas, &count);
    uint8_t *chunk = malloc(CHUNK);
    if (result || !chunk) {
        free(areas);
        free(chunk);
        return tl_fail(error, result ? result : -ENOMEM, "the maps of process %d cannot be read", r->pid);
    }
    for (size_t i = 0; i < count && !still_there(r); i++) {
        if (code_of_program(&areas[i]))
            scan(r, &areas[i], chunk, &budget);
    }
    free(chunk);
    result = r->gadgets.call && r->gadgets.restorer ? 0 : -ENOENT;
    for (size_t i = 0; i < count && result; i++) {
        if (strcmp(areas[i].path, "[vdso]") == 0 && code_of_program(&areas[i]))
            result = try_stub(r, &areas[i]);
    }
    for (size_t i = 0; i < count && result; i++) {
        if (code_of_program(&areas[i]))
            result = try_stub(r, &areas[i]);
    }
    free(areas);
    return result ? tl_fail(error, -ENOTSUP, "process %d has no place for a system call instruction", r->pid) : 0;
}

void tl_gadgets_drop(struct tl_remote *r)
{
    static const uint8_t zeros[STUB];
    if (!r->gadgets.stub)
        return;
    tl_mem_write(r, r->gadgets.stub, zeros, STUB);
    r->gadgets = (struct tl_gadgets){0};
    tl_remote_step("stub gone");
}

/* Visit the places where a stub may have been left by a run that was killed. */
static bool left_stubs(struct tl_remote *r, bool clear)
{
    static const uint8_t zeros[STUB];
    struct tl_remote_area *areas;
    uint8_t bytes[STUB];
    size_t count;
    bool found = false;
    if (tl_read_areas(r->pid, &areas, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        uint64_t at = areas[i].end - STUB;
        if (!code_of_program(&areas[i]) || areas[i].shared || at == r->gadgets.stub ||
            tl_mem_read(r, at, bytes, STUB) || memcmp(bytes, stub_code, STUB) != 0)
            continue;
        found = true;
        if (clear)
            tl_mem_write(r, at, zeros, STUB);
    }
    free(areas);
    return found;
}

bool tl_stub_left(struct tl_remote *r)
{
    return left_stubs(r, false);
}

void tl_stub_clear(struct tl_remote *r)
{
    left_stubs(r, true);
}

/* Bytes from below the red zone down to the start of the thread's stack. */
static uint64_t below(const struct tl_task *task, const struct tl_remote_area *area)
{
    uint64_t top = task->regs.rsp - RED_ZONE;
    return top > area->start ? top - area->start : 0;
}

/* Never used: zero throughout, or but for a frame that a killed run left where we would put ours. */
static bool is_unused(struct tl_remote *r, uint64_t addr, size_t size)
{
    uint8_t *bytes = malloc(size);
    bool unused = bytes && tl_mem_read(r, addr, bytes, size) == 0;
    if (unused && tl_frame_is(bytes + ROOM_BELOW))
        memset(bytes + ROOM_BELOW, 0, size - ROOM_BELOW);
    for (size_t i = 0; unused && i < size; i++)
        unused = bytes[i] == 0;
    free(bytes);
    return unused;
}

static bool is_stack(const struct tl_remote_area *areas, const struct tl_remote_area *area)
{
    if ((area->prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE) || area->shared || area->inode != 0)
        return false;
    if (strcmp(area->path, "[stack]") == 0)
        return true;
    return area > areas && area[-1].end == area->start && area[-1].prot == PROT_NONE && area[-1].inode == 0;
}

/* The stack that the worker itself runs on is preferred: should another run find the worker on its way back from a call
 * of ours, it will look below the frame. */
int tl_scratch_find(struct tl_remote *r, size_t size, struct tl_task **worker, uint64_t *addr, struct tl_error *error)
{
    struct tl_remote_area *areas;
    size_t count, need = size + 128;
    int result = tl_read_areas(r->pid, &areas, &count);
    if (result)
        return tl_fail(error, result, "process %d has ended", r->pid);
    *addr = 0;
    *worker = NULL;
    for (size_t i = 0; i < r->task_count; i++) {
        struct tl_task *task = &r->tasks[i];
        const struct tl_remote_area *area = task->outside ? NULL : tl_area_at(areas, count, task->regs.rsp);
        if (!area || !is_stack(areas, area) || below(task, area) < need + ROOM_BELOW)
            continue;
        if (*worker && (tl_in_restartable_call(&task->regs) || !tl_in_restartable_call(&(*worker)->regs)))
            continue;
        *worker = task;
        *addr = (task->regs.rsp - RED_ZONE - need) & ~63ull;
    }
    if (!*worker)
        *worker = tl_worker(r);
    for (size_t i = 0; i < count && !*addr; i++) {
        const struct tl_remote_area *area = &areas[i];
        if (strcmp(area->path, "[stack]") != 0)
            continue;
        uint64_t middle = area->start + (area->end - area->start) / 2;
        for (uint64_t at = area->start; !*addr && at + ROOM_BELOW + need <= middle; at += TL_PAGE) {
            if (is_unused(r, at, ROOM_BELOW + need))
                *addr = at + ROOM_BELOW;
        }
    }
    free(areas);
    if (*addr && *worker)
        return 0;
    return tl_fail(error, -EAGAIN, "no thread of process %d has room on its stack now; try again", r->pid);
}

/* A task that a killed run sent into a call: it goes back by itself, but has to be let. */
bool tl_in_flight(struct tl_remote *r)
{
    for (size_t i = 0; i < r->task_count; i++) {
        const struct user_regs_struct *regs = &r->tasks[i].regs;
        uint8_t code[4], there[sizeof restorer_code];
        uint64_t back;
        if (tl_mem_read(r, regs->rip - 2, code, sizeof code) || tl_mem_read(r, regs->rsp, &back, sizeof back) ||
            tl_mem_read(r, back, there, sizeof there) || memcmp(there, restorer_code, sizeof there) != 0)
            continue;
        if (memcmp(code, "\x0f\x05\xc3", 3) == 0 || memcmp(code + 2, "\x0f\x05", 2) == 0)
            return true;
    }
    return false;
}
