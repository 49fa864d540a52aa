/* SPDX-License-Identifier: MIT
 *
 * Our own memory. Text, and code of ours, is written through /proc/self/mem, which minds no page protection and makes a
 * private page the process's own: no page is ever writable and executable, not for a moment.
 *
 * The descriptor of /proc/self/mem belongs to the address space of the moment it was opened: a fork child that used its
 * parent's would write into the parent. And a program may close descriptors that it did not open. So it is opened for
 * each operation.
 */
#include "host/self/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { NO_EXEC_SEAL = 8, EXEC = 16 }; /* of memfd_create, from Linux 6.3 on */

long tl_mem_open(void)
{
    return CALL(SYS_openat, AT_CURRENT, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0);
}

int tl_mem_write(long mem, uint64_t addr, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        long n = CALL(SYS_pwrite64, mem, (const char *)bytes + done, size - done, addr + done);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n == 0 || n == -EIO ? -EFAULT : (int)n;
        done += (size_t)n;
    }
    return 0;
}

int tl_mem_read(long mem, uint64_t addr, void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        long n = CALL(SYS_pread64, mem, (char *)bytes + done, size - done, addr + done);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n == 0 || n == -EIO ? -EFAULT : (int)n;
        done += (size_t)n;
    }
    return 0;
}

size_t tl_peek(uint64_t addr, void *bytes, size_t size)
{
    struct iovec here = {bytes, size}, there = {(void *)addr, size};
    long n = CALL(SYS_process_vm_readv, CALL(SYS_getpid), &here, 1, &there, 1, 0);
    return n > 0 ? (size_t)n : 0;
}

int tl_self_read(struct tl_self *self, uint64_t addr, void *bytes, size_t size)
{
    (void)self;
    if (size == 0)
        return 0;
    if (addr > INT64_MAX - size)
        return -EFAULT;
    if (tl_peek(addr, bytes, size) == size)
        return 0;
    long mem = tl_mem_open(); /* not readable, or the call is forbidden */
    if (mem < 0)
        return (int)mem;
    int result = tl_mem_read(mem, addr, bytes, size);
    CALL(SYS_close, mem);
    return result;
}

/* In order of address again, but for those from `first` on it is. */
static void sort_made(struct tl_self *self, size_t first)
{
    for (size_t i = first; i < self->made_count; i++) {
        struct tl_made made = self->made[i];
        size_t at = i;
        for (; at > 0 && self->made[at - 1].addr > made.addr; at--)
            self->made[at] = self->made[at - 1];
        self->made[at] = made;
    }
    self->made_ever += self->made_count - first;
}

static int made_room(struct tl_self *self, size_t more)
{
    if (self->made_room - self->made_count >= more)
        return 0;
    size_t room = (self->made_count + more) * 2;
    struct tl_made *made = realloc(self->made, room * sizeof *made);
    if (!made)
        return -ENOMEM;
    self->made = made;
    self->made_room = room;
    return 0;
}

/* A file with the pool's bytes to map. Where there is no such thing as a memory file: -ENOSYS. */
static long code_file(const uint8_t *pool, size_t size)
{
    static const unsigned flags[] = {MFD_CLOEXEC | EXEC, MFD_CLOEXEC, MFD_CLOEXEC | NO_EXEC_SEAL};
    long fd = -EINVAL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags && (fd == -EINVAL || fd == -EACCES); i++)
        fd = CALL(SYS_memfd_create, "trapline", flags[i]);
    for (size_t done = 0; fd >= 0 && done < size;) {
        long n = CALL(SYS_pwrite64, fd, pool + done, size - done, done);
        if (n == -EINTR)
            continue;
        if (n <= 0) {
            CALL(SYS_close, fd);
            return n ? n : -EIO;
        }
        done += (size_t)n;
    }
    return fd;
}

static int map_one(uint64_t addr, uint64_t size, int protection, long fd, uint64_t offset)
{
    int flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_ANONYMOUS : 0);
    long got = CALL(SYS_mmap, addr, size, protection, flags, fd, offset);
    if (FAILED(got))
        return (int)got;
    if ((uint64_t)got == addr)
        return 0;
    CALL(SYS_munmap, got, size); /* kernels before 4.17 do not know NOREPLACE */
    return -EEXIST;
}

static int map_all(struct tl_self *self, const struct tl_plan *plan, long fd)
{
    int result = 0;
    for (size_t i = 0; i < plan->map_count + plan->gate_count && result == 0; i++) {
        bool gate = i >= plan->map_count;
        struct tl_made made = {.gate = gate};
        made.addr = gate ? plan->gates[i - plan->map_count].addr : plan->maps[i].addr;
        made.size = gate ? PAGE : plan->maps[i].size;
        result = gate ? map_one(made.addr, made.size, PROT_READ | PROT_WRITE, -1, 0)
                      : map_one(made.addr, made.size, PROT_READ | PROT_EXEC, fd, plan->maps[i].pool);
        if (result == 0)
            self->made[self->made_count++] = made;
    }
    return result;
}

int tl_map(struct tl_self *self, const struct tl_plan *plan, struct tl_error *error)
{
    int result = 0;
    size_t first = self->made_count;
    long fd = -1;
    for (size_t i = 0; i < plan->map_count && result == 0; i++) {
        if (plan->maps[i].pool > plan->pool_size || plan->maps[i].size > plan->pool_size - plan->maps[i].pool)
            result = -EINVAL;
    }
    if (result == 0)
        result = made_room(self, plan->map_count + plan->gate_count);
    if (result == 0 && plan->map_count) {
        fd = code_file(plan->pool, plan->pool_size);
        result = fd < 0 ? (int)fd : 0;
    }
    if (result == 0)
        result = map_all(self, plan, fd);
    if (fd >= 0)
        CALL(SYS_close, fd);
    if (result) {
        while (self->made_count > first) {
            self->made_count--;
            CALL(SYS_munmap, self->made[self->made_count].addr, self->made[self->made_count].size);
        }
    } else {
        sort_made(self, first);
    }
    switch (result) {
    case 0:
        return 0;
    case -EEXIST:
        return tl_fail(error, result, "an address for a trampoline is taken by now");
    case -ENOMEM:
        return tl_fail(error, result, "no trampoline can be mapped: out of memory, or of mappings (vm.max_map_count)");
    default:
        return tl_explain(error, result, "trampolines cannot be mapped");
    }
}

int tl_self_map(struct tl_self *self, const struct tl_plan *plan, struct tl_error *error)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    result = tl_map(self, plan, error);
    tl_leave(&entered);
    return result;
}

/* The mapping of ours that holds all of this, or NULL. */
static struct tl_made *made_at(struct tl_self *self, uint64_t addr, uint64_t size)
{
    for (size_t from = 0, to = self->made_count; from < to;) {
        size_t middle = from + (to - from) / 2;
        struct tl_made *made = &self->made[middle];
        if (addr < made->addr)
            to = middle;
        else if (addr - made->addr >= made->size)
            from = middle + 1;
        else
            return size <= made->size - (addr - made->addr) ? made : NULL;
    }
    return NULL;
}

int tl_self_fill(struct tl_self *self, uint64_t addr, const void *bytes, size_t size, struct tl_error *error)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    struct tl_made *made = size ? made_at(self, addr, size) : NULL;
    if (!made)
        result = size ? -EINVAL : 0;
    else if (made->gate)
        memcpy((void *)addr, bytes, size);
    else {
        long mem = tl_mem_open();
        result = mem < 0 ? (int)mem : tl_mem_write(mem, addr, bytes, size);
        if (mem >= 0)
            CALL(SYS_close, mem);
    }
    tl_leave(&entered);
    return result ? tl_explain(error, result, "a trampoline cannot be written") : 0;
}

static int unmap(struct tl_self *self, uint64_t addr, uint64_t size)
{
    if (size == 0 || (addr | size) % PAGE || !made_at(self, addr, size))
        return -EINVAL;
    int result = made_room(self, 1);
    if (result == 0)
        result = (int)CALL(SYS_munmap, addr, size);
    if (result)
        return result;
    /* What is left of it, on either side. */
    struct tl_made *made = made_at(self, addr, size);
    struct tl_made behind = {.addr = addr + size, .size = made->addr + made->size - addr - size, .gate = made->gate};
    size_t at = (size_t)(made - self->made);
    made->size = addr - made->addr;
    if (behind.size && made->size) {
        memmove(made + 2, made + 1, (self->made_count++ - at - 1) * sizeof *made);
        made[1] = behind;
    } else if (behind.size) {
        *made = behind;
    } else if (!made->size) {
        memmove(made, made + 1, (--self->made_count - at) * sizeof *made);
    }
    return 0;
}

int tl_self_unmap(struct tl_self *self, uint64_t addr, size_t size)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return result;
    result = unmap(self, addr, size);
    tl_leave(&entered);
    return result;
}

void tl_unmap_plan(struct tl_self *self, const struct tl_plan *plan)
{
    for (size_t i = 0; i < plan->map_count; i++)
        unmap(self, plan->maps[i].addr, plan->maps[i].size);
    for (size_t i = 0; i < plan->gate_count; i++)
        unmap(self, plan->gates[i].addr, PAGE);
}

void tl_unmap_all(struct tl_self *self)
{
    for (size_t i = 0; i < self->made_count; i++)
        CALL(SYS_munmap, self->made[i].addr, self->made[i].size);
    free(self->made);
    self->made = NULL;
    self->made_count = self->made_room = 0;
}
