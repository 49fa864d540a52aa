/* SPDX-License-Identifier: MIT */
#include "host/fake/fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Every call that may fail passes here first. */
static bool fails(struct tl_fake *fake)
{
    return ++fake->calls == fake->fail_at;
}

static void require(struct tl_fake *fake, bool held, const char *rule)
{
    if (!held && !fake->broken)
        fake->broken = rule;
}

static bool overlaps(const struct tl_fake *fake, uint64_t addr, uint64_t size)
{
    for (size_t i = 0; i < fake->area_count; i++)
        if (addr < fake->areas[i].addr + fake->areas[i].size && fake->areas[i].addr < addr + size)
            return true;
    return false;
}

static int add(struct tl_fake *fake, uint64_t addr, const void *bytes, size_t size, bool ours)
{
    if (overlaps(fake, addr, size))
        return -EEXIST;
    uint8_t *copy = fake->area_count < TL_FAKE_AREAS ? calloc(1, size) : NULL;
    if (!copy)
        return -ENOMEM;
    if (bytes)
        memcpy(copy, bytes, size);
    fake->areas[fake->area_count++] = (struct tl_fake_area){addr, size, copy, ours};
    return 0;
}

uint8_t *tl_fake_at(struct tl_fake *fake, uint64_t addr, size_t size)
{
    for (size_t i = 0; i < fake->area_count; i++) {
        const struct tl_fake_area *area = &fake->areas[i];
        if (addr >= area->addr && addr - area->addr < area->size && area->size - (addr - area->addr) >= size)
            return area->bytes + (addr - area->addr);
    }
    return NULL;
}

static int fake_read(void *host, uint64_t addr, void *bytes, size_t size)
{
    const uint8_t *from = tl_fake_at(host, addr, size);
    if (!from)
        return -EFAULT;
    memcpy(bytes, from, size);
    return 0;
}

static int fake_stop(void *host)
{
    struct tl_fake *fake = host;
    if (fails(fake))
        return fake->fail_with;
    fake->stops++;
    return 0;
}

static void fake_resume(void *host)
{
    struct tl_fake *fake = host;
    require(fake, fake->stops > 0, "resume without stop");
    fake->stops--;
}

static int fake_fill(void *host, uint64_t pool, const void *bytes, size_t size)
{
    struct tl_fake *fake = host;
    if (fails(fake))
        return fake->fail_with;
    if (pool > fake->pool_size || size > fake->pool_size - pool)
        return -EINVAL;
    memcpy(fake->pool + pool, bytes, size);
    return 0;
}

static void take_out(struct tl_fake *fake, const struct tl_mapping *mapping)
{
    for (size_t i = 0; i < fake->area_count; i++)
        if (fake->areas[i].ours && fake->areas[i].addr == mapping->addr) {
            free(fake->areas[i].bytes);
            fake->areas[i] = fake->areas[--fake->area_count];
            return;
        }
}

static int fake_map(void *host, const struct tl_mapping *mappings, size_t count)
{
    struct tl_fake *fake = host;
    require(fake, fake->stops > 0, "map while running");
    if (fails(fake))
        return fake->fail_with;
    for (size_t i = 0; i < count; i++) {
        bool code = mappings[i].kind != TL_MAPPING_GATE;
        int error =
            code && (mappings[i].pool > fake->pool_size || mappings[i].size > fake->pool_size - mappings[i].pool)
                ? -EINVAL
                : 0;
        if (!error)
            error = add(fake, mappings[i].addr, code ? fake->pool + mappings[i].pool : NULL, mappings[i].size, true);
        if (error) {
            while (i--)
                take_out(fake, &mappings[i]);
            return error;
        }
    }
    return 0;
}

static int fake_unmap(void *host, const struct tl_mapping *mappings, size_t count)
{
    struct tl_fake *fake = host;
    require(fake, fake->stops > 0, "unmap while running");
    for (size_t i = 0; i < count; i++)
        take_out(fake, &mappings[i]);
    return 0;
}

static int fake_set(void *host, uint64_t addr, uint64_t value)
{
    struct tl_fake *fake = host;
    uint8_t *at = tl_fake_at(fake, addr, sizeof value);
    if (fails(fake))
        return fake->fail_with;
    if (!at)
        return -EFAULT;
    memcpy(at, &value, sizeof value);
    return 0;
}

static int fake_patch(void *host, const struct tl_patch *patches, size_t count)
{
    struct tl_fake *fake = host;
    require(fake, fake->stops > 0, "patch while running");
    if (fails(fake))
        return fake->fail_with;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = tl_fake_at(fake, patches[i].addr, patches[i].length);
        require(fake, (patches[i].addr & 4095) + patches[i].length <= 4096, "patch across a page");
        if (!at || memcmp(at, patches[i].expect, patches[i].length))
            return at ? -EBUSY : -EFAULT;
    }
    for (size_t i = 0; i < count; i++)
        memcpy(tl_fake_at(fake, patches[i].addr, patches[i].length), patches[i].bytes, patches[i].length);
    return 0;
}

static int fake_evacuate(void *host, int (*locate)(void *context, uint64_t pc, uint64_t *original, int *fix_rcx),
                         void *context)
{
    struct tl_fake *fake = host;
    uint64_t original;
    int fix_rcx;
    require(fake, fake->stops > 0, "evacuate while running");
    fake->evacuations++;
    for (size_t i = 0; i < fake->area_count; i++)
        if (!fake->areas[i].ours)
            require(fake, locate(context, fake->areas[i].addr, &original, &fix_rcx) == -ENOENT,
                    "the program's code taken for ours");
    if (fails(fake))
        return fake->fail_with;
    if (fake->busy_rounds) {
        fake->busy_rounds--;
        return -EAGAIN;
    }
    return 0;
}

int tl_fake_open(struct tl_fake *fake, size_t pool_size)
{
    memset(fake, 0, sizeof *fake);
    fake->pool = calloc(1, pool_size ? pool_size : 1);
    if (!fake->pool)
        return -ENOMEM;
    fake->pool_size = pool_size;
    fake->port = (struct tl_port){.host = fake,
                                  .read = fake_read,
                                  .stop = fake_stop,
                                  .resume = fake_resume,
                                  .fill = fake_fill,
                                  .map = fake_map,
                                  .unmap = fake_unmap,
                                  .set = fake_set,
                                  .patch = fake_patch,
                                  .evacuate = fake_evacuate};
    return 0;
}

void tl_fake_close(struct tl_fake *fake)
{
    for (size_t i = 0; i < fake->area_count; i++)
        free(fake->areas[i].bytes);
    free(fake->pool);
    memset(fake, 0, sizeof *fake);
}

int tl_fake_load(struct tl_fake *fake, uint64_t addr, const void *bytes, size_t size)
{
    return add(fake, addr, bytes, size, false);
}
