/* SPDX-License-Identifier: MIT
 *
 * The broker's tables: those of the guards and those that were published, in one image that is replaced by one store.
 *
 * A thread that takes a trap in this moment may still read the image before. So that one is retired, and unmapped when
 * nobody has an address in it any more (inside.c). That look stops all threads, so it waits until there is something to
 * gain from it: images of a few times the size of the one in force; or, where nobody else is to be stopped, a few
 * images.
 */
#include "host/self/internal.h"
#include "host/self/world.h"

#include "hit/broker.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { RETIRED_TIMES = 8, RETIRED_BYTES_LEAST = 4 << 20, RETIRED_MOST = 64 };

static int by_start(const void *a, const void *b)
{
    const struct tl_traps_memory *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* All code that is ours. */
static struct tl_traps_memory *list_memory(const struct tl_self *self, size_t *count)
{
    struct tl_traps_memory *memory = calloc(self->own_count + self->made_count + 1, sizeof *memory);
    *count = 0;
    for (size_t i = 0; memory && i < self->own_count; i++)
        memory[(*count)++] = (struct tl_traps_memory){self->own[i].start, self->own[i].end};
    for (size_t i = 0; memory && i < self->made_count; i++) {
        if (!self->made[i].gate)
            memory[(*count)++] = (struct tl_traps_memory){self->made[i].addr, self->made[i].addr + self->made[i].size};
    }
    if (memory && *count)
        qsort(memory, *count, sizeof *memory, by_start);
    return memory;
}

static int build(const struct tl_self *self, void **image, size_t *size)
{
    size_t count = self->part_count, memory_count;
    for (const struct tl_guarding *g = self->guarding; g; g = g->next)
        count += g->guards.count;
    const struct tl_traps_part **parts = calloc(count + 1, sizeof *parts);
    struct tl_traps_memory *memory = list_memory(self, &memory_count);
    int result = parts && memory ? 0 : -ENOMEM;
    count = 0;
    for (const struct tl_guarding *g = self->guarding; g && result == 0; g = g->next) {
        for (size_t i = 0; i < g->guards.count; i++) {
            if (g->parts[i])
                parts[count++] = g->parts[i];
        }
    }
    if (result == 0 && self->part_count)
        memcpy(parts + count, self->parts, self->part_count * sizeof *parts);
    if (result == 0)
        result = tl_traps_build(parts, count + self->part_count, memory, memory_count, image, size);
    free(parts);
    free(memory);
    return result;
}

static void unmap(const struct tl_tables *tables)
{
    if (tables->image)
        CALL(SYS_munmap, tables->image, tables->size);
}

/* Unmap those retired images that nobody reads. */
static void reclaim(struct tl_self *self)
{
    size_t count = self->retired_count, kept = 0;
    struct tl_self_range *ranges = calloc(count, sizeof *ranges);
    uint8_t *inside = calloc(1, count);
    for (size_t i = 0; ranges && i < count; i++) {
        ranges[i].start = (uint64_t)self->retired[i].image;
        ranges[i].end = ranges[i].start + self->retired[i].size;
    }
    if (ranges && inside && tl_inside(self, ranges, count, inside, NULL) == 0) {
        self->retired_bytes = 0;
        for (size_t i = 0; i < count; i++) {
            if (inside[i]) {
                self->retired_bytes += self->retired[i].size;
                self->retired[kept++] = self->retired[i];
            } else {
                unmap(&self->retired[i]);
            }
        }
        self->retired_count = kept;
    }
    free(ranges);
    free(inside);
}

static void retire(struct tl_self *self, const struct tl_tables *tables)
{
    if (!tables->image)
        return;
    self->retired[self->retired_count++] = *tables; /* there is room: see tl_tables_renew */
    self->retired_bytes += tables->size;
    size_t most = RETIRED_TIMES * self->tables.size;
    bool many = self->retired_bytes > (most > RETIRED_BYTES_LEAST ? most : RETIRED_BYTES_LEAST);
    if (!self->armed || many || (self->retired_count >= RETIRED_MOST && tl_world_threads() == 1))
        reclaim(self);
}

int tl_tables_renew(struct tl_self *self, struct tl_error *error)
{
    struct tl_tables next = {0}, last = self->tables;
    void *image = NULL;
    size_t size = 0;
    struct tl_tables *more = realloc(self->retired, (self->retired_count + 1) * sizeof *more);
    if (more)
        self->retired = more;
    int result = more ? build(self, &image, &size) : -ENOMEM;
    if (result == 0) {
        next.size = (size + PAGE - 1) & ~(size_t)(PAGE - 1);
        long got = CALL(SYS_mmap, NULL, next.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        result = FAILED(got) ? (int)got : 0;
        next.image = result ? NULL : (void *)got;
    }
    if (result == 0) {
        memcpy(next.image, image, size);
        self->tables = next;
        tl_broker_publish(self->broker, (uint64_t)next.image);
        retire(self, &last);
    }
    free(image);
    return result ? tl_explain(error, result, "the tables of traps cannot be made") : 0;
}

void tl_tables_free(struct tl_self *self)
{
    tl_broker_publish(self->broker, 0);
    unmap(&self->tables);
    for (size_t i = 0; i < self->retired_count; i++)
        unmap(&self->retired[i]);
    free(self->retired);
    self->retired = NULL;
    self->retired_count = self->retired_bytes = 0;
    self->tables = (struct tl_tables){0};
}

int tl_self_publish(struct tl_self *self, const struct tl_traps_part *const *parts, size_t count,
                    struct tl_error *error)
{
    struct tl_entered entered;
    const struct tl_traps_part **copy = calloc(count + 1, sizeof *copy), **last = NULL;
    int result = copy ? tl_enter(self, &entered) : -ENOMEM;
    if (result) {
        free(copy);
        return tl_explain(error, result, "the tables of traps cannot be made");
    }
    size_t last_count = self->part_count;
    last = self->parts;
    if (count)
        memcpy(copy, parts, count * sizeof *copy);
    self->parts = copy;
    self->part_count = count;
    result = tl_tables_renew(self, error);
    if (result) {
        self->parts = last;
        self->part_count = last_count;
        last = copy;
    }
    free(last);
    tl_leave(&entered);
    return result;
}
