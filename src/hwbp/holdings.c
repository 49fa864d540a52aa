/* SPDX-License-Identifier: MIT
 *
 * Open addressing with linear probing; a holding that goes is filled up from behind, so that no tombstones gather and
 * a look-up stays as short as the table is full.
 */
#include "hwbp/holdings.h"

enum { ROOM_FIRST = 8 };

uint64_t tl_holdings_hash(uint64_t task)
{
    task = (task ^ task >> 32) * 0x9e3779b97f4a7c15ull;
    return task ^ task >> 29;
}

/* Where a task is, or the empty place where it would be. */
static size_t place_of(const struct tl_holdings *tasks, uint64_t task)
{
    size_t place = tl_holdings_hash(task) & (tasks->room - 1);
    while (tasks->places[place].task && tasks->places[place].task != task)
        place = (place + 1) & (tasks->room - 1);
    return place;
}

struct tl_holding *tl_holdings_find(const struct tl_holdings *tasks, uint64_t task)
{
    if (!tasks->room)
        return NULL;
    struct tl_holding *holding = &tasks->places[place_of(tasks, task)];
    return holding->task ? holding : NULL;
}

static bool grow(struct tl_holdings *tasks, const struct tl_slots_host *host)
{
    struct tl_holdings larger = {.room = tasks->room ? 2 * tasks->room : ROOM_FIRST, .used = tasks->used};
    larger.places = host->allocate(host->context, larger.room * sizeof *larger.places);
    if (!larger.places)
        return false;
    for (size_t i = 0; i < larger.room; i++)
        larger.places[i] = (struct tl_holding){0};
    for (size_t i = 0; i < tasks->room; i++)
        if (tasks->places[i].task)
            larger.places[place_of(&larger, tasks->places[i].task)] = tasks->places[i];
    if (tasks->places)
        host->release(host->context, tasks->places, tasks->room * sizeof *tasks->places);
    *tasks = larger;
    return true;
}

struct tl_holding *tl_holdings_add(struct tl_holdings *tasks, uint64_t task, const struct tl_slots_host *host)
{
    struct tl_holding *holding = tl_holdings_find(tasks, task);
    if (holding)
        return holding;
    if (2 * (tasks->used + 1) > tasks->room && !grow(tasks, host))
        return NULL;
    holding = &tasks->places[place_of(tasks, task)];
    *holding = (struct tl_holding){.task = task};
    tasks->used++;
    return holding;
}

void tl_holdings_drop(struct tl_holdings *tasks, struct tl_holding *holding)
{
    size_t mask = tasks->room - 1, hole = (size_t)(holding - tasks->places);
    for (size_t next = (hole + 1) & mask; tasks->places[next].task; next = (next + 1) & mask) {
        /* One that is at home between the hole and its place may not move in front of its home. */
        size_t home = tl_holdings_hash(tasks->places[next].task) & mask;
        if (((next - home) & mask) < ((next - hole) & mask))
            continue;
        tasks->places[hole] = tasks->places[next];
        hole = next;
    }
    tasks->places[hole] = (struct tl_holding){0};
    tasks->used--;
}

void tl_holdings_free(struct tl_holdings *tasks, unsigned cpus, const struct tl_slots_host *host)
{
    for (size_t i = 0; i < tasks->room; i++)
        if (tasks->places[i].on_cpu)
            host->release(host->context, tasks->places[i].on_cpu, TL_SLOT_TYPES * cpus * sizeof(uint16_t));
    if (tasks->places)
        host->release(host->context, tasks->places, tasks->room * sizeof *tasks->places);
    *tasks = (struct tl_holdings){0};
}
