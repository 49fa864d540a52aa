/* SPDX-License-Identifier: MIT
 *
 * The tool makes large tables for a short time, and a page that it touches for the first time costs a microsecond or
 * two: much of what it takes to place ten thousand probes, or one. So freed memory is kept, all blocks come out of one
 * heap, and that is asked for in pages of two megabytes, where the kernel has some.
 */
#include "commands.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

void heap_prepare(void)
{
    enum { HEAP = 256 << 20, KEPT = 1 << 30, LARGE_PAGE = 2 << 20 };
    if (!mallopt(M_MMAP_MAX, 0) || !mallopt(M_TRIM_THRESHOLD, KEPT))
        return; /* a sanitizer's heap */
    /* The heap's top goes up and stays there; not a page of it is touched yet. */
    char *heap = malloc(HEAP);
    if (!heap)
        return;
    uintptr_t start = ((uintptr_t)heap + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1);
    madvise((void *)start, (uintptr_t)heap + HEAP - start, MADV_HUGEPAGE);
    free(heap);
}
