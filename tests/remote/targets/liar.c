/* SPDX-License-Identifier: MIT
 *
 * Shows memory of trapline's name, in which nothing is true, and sees that its own is left alone.
 */
#include "progress.h"

#include "host/remote/layout.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t seed;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A number that somebody might have forgotten to check. */
static uint64_t evil(uint64_t base)
{
    static const uint64_t pool[] = {0, 1, 15, 16, 4095, 4096, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 1ull << 47};
    switch (chance() % 4) {
    case 0:
        return pool[chance() % (sizeof pool / sizeof pool[0])];
    case 1:
        return base + chance() % TL_CORE_SIZE;
    case 2:
        return base + pool[chance() % (sizeof pool / sizeof pool[0])];
    default:
        return chance();
    }
}

int main(void)
{
    static uint64_t precious[512] __attribute__((aligned(4096)));
    struct progress *p = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    if (p == MAP_FAILED)
        return 1;
    seed = p->value;
    int fd = memfd_create(TL_CORE_NAME, 0);
    uint64_t size = chance() % 8 ? TL_CORE_SIZE : 4096 * (1 + chance() % 8);
    uint8_t *base = ftruncate(fd, (off_t)size) == 0
                        ? mmap(NULL, size, PROT_READ | PROT_WRITE, chance() % 8 ? MAP_SHARED : MAP_PRIVATE, fd, 0)
                        : NULL;
    uint64_t addr = (uintptr_t)base;
    if (chance() % 2)
        close(fd);
    for (uint64_t at = 0; at + 8 <= size && chance() % 4 == 0; at += 8 * (chance() % 64))
        memcpy(base + at, &(uint64_t){evil(addr)}, 8);
    if (size == TL_CORE_SIZE) {
        struct tl_core_page *page = (struct tl_core_page *)(base + TL_CORE_DATA);
        struct tl_log *log = (struct tl_log *)(base + TL_CORE_LOG);
        page->magic = TL_CORE_MAGIC;
        page->version = TL_CORE_VERSION;
        page->size = TL_CORE_SIZE;
        page->addr = addr;
        page->owner.pid = evil(addr);
        page->owner.start_time = evil(0);
        page->target = evil(0);
        page->entry.word = chance() % 16 ? 0 : evil(addr);
        page->entry.reached = 1;
        page->segment_count = (uint32_t)evil(0);
        for (int i = 0; i < TL_SEGMENTS; i++) {
            page->segments[i].addr = i ? evil(addr) : addr + TL_CORE_LOG;
            page->segments[i].size = i ? evil(0) : 65536;
        }
        log->magic = TL_LOG_MAGIC;
        log->capacity = evil(0);
        log->used = chance() % 2 ? 1000 : evil(0);
        for (int i = 0; i < 1000; i++) {
            struct tl_record *record = &log->records[i];
            record->live = 1;
            record->kind = 1 + chance() % 2;
            record->addr = chance() % 2 ? (uintptr_t)precious : chance() % 2 ? (uintptr_t)main : evil(addr);
            record->size = chance() % 2 ? 4096 : evil(0);
            memset(record->old_bytes, 0xcc, 16);
            if (chance() % 2)
                memset(record->new_bytes, 0, 16); /* as precious stands there */
        }
    }
    for (uint64_t i = 0; i < 512; i++)
        precious[i] = 0;
    p->ready = 1;
    for (;;) {
        for (uint64_t i = 0; i < 512; i++) {
            if (precious[i] != 0)
                p->errors++;
        }
        p->loops[0]++;
        usleep(200);
    }
}
