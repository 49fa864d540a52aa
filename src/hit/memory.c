/* SPDX-License-Identifier: MIT
 *
 * The program's memory, wherever its pointers point.
 *
 * The kernel reads for us (process_vm_readv on our own process): memory that is not there gives an error instead of a
 * fault. This is the runtime's only system call. The range is cut where a page ends, because the kernel
 * promises to tell how much it could read only by whole pieces.
 */
#include "hit/runtime.h"

enum { PAGE = 4096, PROCESS_VM_READV = 310 };

struct piece {
    uint64_t base, length;
};

size_t tl_memory_read(const struct tl_hit_control *area, uint64_t addr, void *to, size_t size)
{
    if (area->flags & TL_HIT_NO_MEMORY)
        return 0;
    uint64_t first = PAGE - (addr & (PAGE - 1));
    if (first > size)
        first = size;
    struct piece local = {(uint64_t)(uintptr_t)to, size};
    struct piece remote[2] = {{addr, first}, {addr + first, size - first}};

    int64_t result = PROCESS_VM_READV;
    register uint64_t pieces __asm__("r10") = (uint64_t)(uintptr_t)remote;
    register uint64_t count __asm__("r8") = size > first ? 2 : 1;
    register uint64_t flags __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"((uint64_t)area->pid), "S"(&local), "d"(1ul), "r"(pieces), "r"(count), "r"(flags)
                     : "rcx", "r11", "memory");
    return result < 0 ? 0 : (size_t)result;
}
