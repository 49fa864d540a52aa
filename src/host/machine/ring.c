/* SPDX-License-Identifier: MIT */
#include "host/machine/ring.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RING_BYTES = 1 << 20, RECORD_MAX = 1 << 16 };

int tl_ring_map(int fd, struct tl_ring *ring)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ring->size = RING_BYTES;
    ring->memory = mmap(NULL, page + ring->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring->memory == MAP_FAILED) {
        ring->memory = NULL;
        return -errno;
    }
    return 0;
}

void tl_ring_unmap(struct tl_ring *ring)
{
    if (ring->memory)
        munmap(ring->memory, (size_t)sysconf(_SC_PAGESIZE) + ring->size);
    ring->memory = NULL;
}

static void copy_out(const struct tl_ring *ring, uint64_t at, void *bytes, size_t size)
{
    const uint8_t *data = (const uint8_t *)ring->memory + sysconf(_SC_PAGESIZE);
    uint64_t from = at & (ring->size - 1), first = ring->size - from < size ? ring->size - from : size;
    memcpy(bytes, data + from, first);
    memcpy((uint8_t *)bytes + first, data, size - first);
}

int tl_ring_read(struct tl_ring *ring, tl_ring_fn *fn, void *context)
{
    static _Alignas(8) uint8_t record[RECORD_MAX];
    struct perf_event_mmap_page *control = ring->memory;
    uint64_t head = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE), tail = control->data_tail;
    int result = 0;
    while (head - tail >= sizeof(struct perf_event_header) && !result) {
        struct perf_event_header header;
        copy_out(ring, tail, &header, sizeof header);
        if (header.size < sizeof header || header.size > head - tail)
            break;
        copy_out(ring, tail, record, header.size);
        result = fn(context, header.type, record, header.size);
        if (!result)
            tail += header.size;
    }
    __atomic_store_n(&control->data_tail, tail, __ATOMIC_RELEASE);
    return result;
}
