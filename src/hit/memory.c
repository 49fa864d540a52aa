/* SPDX-License-Identifier: MIT
 *
 * The program's memory, wherever its pointers point.
 *
 * Where the signal broker is armed, a fault is nothing but a signal, and memory is simply read. Otherwise, and for
 * threads that have blocked these signals, the kernel reads for us (process_vm_readv on our own process): memory that
 * is not there gives an error instead of a fault. The range is cut where a page ends, because the kernel promises to
 * tell how much it could read only by whole pieces.
 */
#include "hit/brokering.h"
#include "hit/runtime.h"

enum { PAGE = 4096, STACK_PIECES = TL_STACK_BYTES_MAX / PAGE + 1, PROCESS_VM_READV = 310 };

struct piece {
    uint64_t base, length;
};

/* From pieces of the program's memory to pieces of the area's, or of our stack; how many bytes. */
static __attribute__((noinline)) size_t copy(const struct tl_hit_control *area, const struct piece *to,
                                             uint64_t to_count, const struct piece *from, uint64_t from_count)
{
    int64_t result = PROCESS_VM_READV;
    register const struct piece *pieces __asm__("r10") = from;
    register uint64_t count __asm__("r8") = from_count;
    register uint64_t flags __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"((uint64_t)area->pid), "S"(to), "d"(to_count), "r"(pieces), "r"(count), "r"(flags)
                     : "rcx", "r11", "memory");
    return (size_t)(result & ~(result >> 63)); /* 0 for an error */
}

/* Cut a range where pages end; how many pieces that makes. */
static inline uint64_t cut(uint64_t addr, uint64_t size, struct piece *pieces)
{
    uint64_t count = 0;
    for (uint64_t length = PAGE - (addr & (PAGE - 1)); size; size -= length, addr += length, length = PAGE) {
        if (length > size)
            length = size;
        pieces[count++] = (struct piece){addr, length};
    }
    return count;
}

bool tl_memory_is_direct(const struct tl_hit_control *area, uint64_t fs_base)
{
    struct tl_broker *broker = (struct tl_broker *)area->broker;
    return broker && tl_broker_may_load(broker, fs_base, !(area->flags & TL_HIT_NO_MEMORY));
}

__attribute__((noinline)) size_t tl_memory_read_by_kernel(const struct tl_hit_control *area, uint64_t addr, void *to,
                                                          size_t size)
{
    if (!tl_hit_may(area, TL_OWN_VM_READV))
        return 0;
    struct piece local = {(uint64_t)(uintptr_t)to, size};
    struct piece remote[2];
    return copy(area, &local, 1, remote, cut(addr, size, remote));
}

size_t tl_memory_read(const struct tl_hit_control *area, uint64_t fs_base, uint64_t addr, void *to, size_t size)
{
    return tl_memory_is_direct(area, fs_base) ? tl_fault_copy(to, addr, size)
                                              : tl_memory_read_by_kernel(area, addr, to, size);
}

static __attribute__((noinline)) size_t read_directly(const struct tl_hit *hit, uint64_t addr, uint64_t at, size_t size)
{
    const struct tl_hit_control *area = hit->area;
    uint64_t ring = (uint64_t)(uintptr_t)tl_lane_ring(area, hit->lane);
    uint64_t start = 8 * at & (area->lane_bytes - 1), first = area->lane_bytes - start;
    if (!tl_memory_is_direct(area, hit->fs_base))
        return 0;
    if (first > size)
        first = size;
    size_t read = tl_fault_copy((void *)(ring + start), addr, first);
    return read < first ? read : first + tl_fault_copy((void *)ring, addr + first, size - first);
}

size_t tl_memory_read_to_ring(const struct tl_hit *hit, uint64_t addr, uint64_t at, size_t size)
{
    const struct tl_hit_control *area = hit->area;
    if (!tl_hit_may(area, TL_OWN_VM_READV))
        return read_directly(hit, addr, at, size);
    uint64_t ring = (uint64_t)(uintptr_t)tl_lane_ring(area, hit->lane);
    uint64_t start = 8 * at & (area->lane_bytes - 1), first = area->lane_bytes - start;
    if (first > size)
        first = size;
    struct piece local[2] = {{ring + start, first}, {ring, size - first}};
    /* Many pieces do not lie on a stack that may be short, but where the program's stack was that has been run. */
    struct piece *remote = (struct piece *)(void *)hit->lane->stack;
    _Static_assert(STACK_PIECES * sizeof *remote <= sizeof hit->lane->stack, "");
    return copy(area, local, 2, remote, cut(addr, size, remote));
}
