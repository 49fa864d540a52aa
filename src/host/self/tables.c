/* SPDX-License-Identifier: MIT
 *
 * The broker's tables: those of the guards and those that were published, in one image that is replaced by one store.
 * Making it costs time for everything that is in it; so what was told since is in a small image in front of it, up to
 * some number, and only that is made anew for each call.
 *
 * A thread that takes a trap in this moment may still read the image before. So that one is retired, and unmapped when
 * nobody has an address in it any more (inside.c). That look stops all threads, so it waits until there is something to
 * gain from it: images of a few times the size of the one in force; or, where nobody else is to be stopped, a few
 * images. A small image leads to the large one that was behind it: as long as anybody is in any, all stay.
 */
#include "host/self/internal.h"
#include "host/self/world.h"

#include "hit/broker.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { RETIRED_TIMES = 8, RETIRED_BYTES_LEAST = 4 << 20, RETIRED_MOST = 64, RECENT_MOST = 128 };

/* All code that is ours, by address: so is what map() has made. */
static struct tl_traps_memory *list_memory(const struct tl_self *self, size_t *count)
{
    struct tl_traps_memory *memory = calloc(self->own_count + self->made_count + 1, sizeof *memory);
    *count = 0;
    for (size_t i = 0; memory && i < self->made_count; i++) {
        if (!self->made[i].gate)
            memory[(*count)++] = (struct tl_traps_memory){self->made[i].addr, self->made[i].addr + self->made[i].size};
    }
    for (size_t i = 0; memory && i < self->own_count; i++) {
        size_t at = (*count)++;
        for (; at > 0 && memory[at - 1].start > self->own[i].start; at--)
            memory[at] = memory[at - 1];
        memory[at] = (struct tl_traps_memory){self->own[i].start, self->own[i].end};
    }
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

/* What is recent only; memory too, if there is more of it since. */
static int build_in_front(const struct tl_self *self, const struct tl_traps_part *const *recent, size_t count,
                          void **image, size_t *size)
{
    bool grown = self->made_ever != self->made_told;
    size_t memory_count = 0;
    struct tl_traps_memory *memory = grown ? list_memory(self, &memory_count) : NULL;
    int result = grown && !memory ? -ENOMEM : tl_traps_build(recent, count, memory, memory_count, image, size);
    if (result == 0)
        ((struct tl_broker_tables *)*image)->older = (uint64_t)self->tables.image;
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
    size_t count = self->retired_count;
    struct tl_self_range *ranges = calloc(count, sizeof *ranges);
    uint8_t *inside = calloc(1, count);
    for (size_t i = 0; ranges && i < count; i++) {
        ranges[i].start = (uint64_t)self->retired[i].image;
        ranges[i].end = ranges[i].start + self->retired[i].size;
    }
    if (ranges && inside && tl_inside(self, ranges, count, inside, NULL) == 0 && !memchr(inside, 1, count)) {
        for (size_t i = 0; i < count; i++)
            unmap(&self->retired[i]);
        self->retired_count = self->retired_bytes = 0;
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

/* A built image (which is freed) comes to where the broker can read it. */
static int put(void *image, size_t size, struct tl_tables *tables)
{
    tables->size = (size + PAGE - 1) & ~(size_t)(PAGE - 1);
    long got = CALL(SYS_mmap, NULL, tables->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!FAILED(got)) {
        tables->image = (void *)got;
        memcpy(tables->image, image, size);
    }
    free(image);
    return FAILED(got) ? (int)got : 0;
}

/* Room to retire what is in force. */
static int reserve_retired(struct tl_self *self)
{
    struct tl_tables *more = realloc(self->retired, (self->retired_count + 2) * sizeof *more);
    if (more)
        self->retired = more;
    return more ? 0 : -ENOMEM;
}

static int renew(struct tl_self *self)
{
    struct tl_tables next = {0}, last = self->tables, in_front = self->in_front;
    void *image = NULL;
    size_t size = 0;
    int result = reserve_retired(self);
    if (result == 0)
        result = build(self, &image, &size);
    if (result == 0)
        result = put(image, size, &next);
    if (result)
        return result;
    self->tables = next;
    self->in_front = (struct tl_tables){0};
    self->recent_count = 0;
    self->made_told = self->made_ever;
    tl_broker_publish(self->broker, (uint64_t)next.image);
    retire(self, &in_front);
    retire(self, &last);
    return 0;
}

static int renew_in_front(struct tl_self *self, const struct tl_traps_part *const *recent, size_t count)
{
    struct tl_tables next = {0}, last = self->in_front;
    void *image = NULL;
    size_t size = 0;
    int result = reserve_retired(self);
    if (result == 0)
        result = build_in_front(self, recent, count, &image, &size);
    if (result == 0)
        result = put(image, size, &next);
    if (result)
        return result;
    self->in_front = next;
    tl_broker_publish(self->broker, (uint64_t)next.image);
    retire(self, &last);
    return 0;
}

static int explain(struct tl_error *error, int result)
{
    return result ? tl_explain(error, result, "the tables of traps cannot be made") : 0;
}

int tl_tables_renew(struct tl_self *self, struct tl_error *error)
{
    return explain(error, renew(self));
}

void tl_tables_free(struct tl_self *self)
{
    tl_broker_publish(self->broker, 0);
    unmap(&self->tables);
    unmap(&self->in_front);
    for (size_t i = 0; i < self->retired_count; i++)
        unmap(&self->retired[i]);
    free(self->retired);
    self->retired = NULL;
    self->retired_count = self->retired_bytes = self->recent_count = 0;
    self->tables = self->in_front = (struct tl_tables){0};
}

/* ---- what is published ---- */

static int by_addr(const void *left, const void *right)
{
    uint64_t a = tl_traps_part_addr(*(const struct tl_traps_part *const *)left);
    uint64_t b = tl_traps_part_addr(*(const struct tl_traps_part *const *)right);
    return a < b ? -1 : a > b;
}

/* A copy in order of address, with room for one more than there are; NULL for want of memory. */
static const struct tl_traps_part **sorted(const struct tl_traps_part *const *parts, size_t count)
{
    const struct tl_traps_part **copy = calloc(count + 1, sizeof *copy);
    bool in_order = true;
    if (copy && count)
        memcpy(copy, parts, count * sizeof *copy);
    for (size_t i = 1; copy && i < count && in_order; i++)
        in_order = by_addr(&copy[i - 1], &copy[i]) <= 0;
    if (!in_order)
        qsort(copy, count, sizeof *copy, by_addr);
    return copy;
}

/* The first at or behind addr. */
static size_t first_at(const struct tl_traps_part *const *parts, size_t count, uint64_t addr)
{
    size_t low = 0;
    while (low < count) {
        size_t middle = low + (count - low) / 2;
        if (tl_traps_part_addr(parts[middle]) < addr)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

/* `more` into `parts`, both by address; in place of those of the same address. There is room. How many there are. */
static size_t merge(const struct tl_traps_part **parts, size_t count, const struct tl_traps_part *const *more,
                    size_t more_count)
{
    size_t fresh = 0, end = count;
    for (size_t i = 0; i < more_count; i++) {
        size_t at = first_at(parts, count, tl_traps_part_addr(more[i]));
        fresh += at == count || by_addr(&parts[at], &more[i]) != 0;
    }
    size_t all = count + fresh, to = all;
    for (size_t i = more_count; i-- > 0;) { /* from the end on: what lies behind each goes up as one block */
        size_t at = first_at(parts, end, tl_traps_part_addr(more[i]));
        bool there = at < end && by_addr(&parts[at], &more[i]) == 0;
        size_t behind = end - at - there;
        to -= behind + 1;
        memmove(parts + to + 1, parts + at + there, behind * sizeof *parts);
        parts[to] = more[i];
        end = at;
    }
    return all;
}

static int reserve(const struct tl_traps_part ***parts, size_t *room, size_t wanted)
{
    if (wanted <= *room)
        return 0;
    size_t larger = wanted + wanted / 2 + 64;
    const struct tl_traps_part **grown = realloc(*parts, larger * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    *parts = grown;
    *room = larger;
    return 0;
}

/* The others in force instead, for good only if that succeeds. */
static int publish_all(struct tl_self *self, const struct tl_traps_part **parts, size_t count, size_t room)
{
    const struct tl_traps_part **last = self->parts;
    size_t last_count = self->part_count;
    self->parts = parts;
    self->part_count = count;
    int result = renew(self);
    if (result) {
        self->parts = last;
        self->part_count = last_count;
        last = parts;
    } else {
        self->part_room = room;
    }
    free(last);
    return result;
}

int tl_self_publish(struct tl_self *self, const struct tl_traps_part *const *parts, size_t count,
                    struct tl_error *error)
{
    struct tl_entered entered;
    const struct tl_traps_part **copy = sorted(parts, count);
    int result = copy ? tl_enter(self, &entered) : -ENOMEM;
    if (result) {
        free(copy);
        return explain(error, result);
    }
    result = publish_all(self, copy, count, count + 1);
    tl_leave(&entered);
    return explain(error, result);
}

/* All that is known, and `more`, in a new array. */
static const struct tl_traps_part **joined(const struct tl_traps_part *const *parts, size_t *count, size_t room,
                                           const struct tl_traps_part *const *more, size_t more_count)
{
    const struct tl_traps_part **all = malloc(room * sizeof *all);
    if (all) {
        if (*count)
            memcpy(all, parts, *count * sizeof *all);
        *count = merge(all, *count, more, more_count);
    }
    return all;
}

static int publish_more(struct tl_self *self, const struct tl_traps_part *const *more, size_t count)
{
    size_t part_count = self->part_count, recent_count = self->recent_count, most = part_count + count;
    if (!self->tables.image || recent_count + count > RECENT_MOST) {
        size_t room = most + most / 2 + 1;
        const struct tl_traps_part **parts = joined(self->parts, &part_count, room, more, count);
        return parts ? publish_all(self, parts, part_count, room) : -ENOMEM;
    }
    const struct tl_traps_part **recent = joined(self->recent, &recent_count, recent_count + count + 1, more, count);
    int result = recent ? reserve(&self->parts, &self->part_room, most) : -ENOMEM;
    if (result == 0)
        result = renew_in_front(self, recent, recent_count);
    if (result) {
        free(recent);
        return result;
    }
    free(self->recent);
    self->recent = recent;
    self->recent_count = recent_count;
    self->part_count = merge(self->parts, part_count, more, count);
    return 0;
}

int tl_self_publish_more(struct tl_self *self, const struct tl_traps_part *const *parts, size_t count,
                         struct tl_error *error)
{
    struct tl_entered entered;
    const struct tl_traps_part **copy = sorted(parts, count);
    int result = copy ? tl_enter(self, &entered) : -ENOMEM;
    if (result == 0) {
        result = publish_more(self, copy, count);
        tl_leave(&entered);
    }
    free(copy);
    return explain(error, result);
}
