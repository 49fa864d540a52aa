/* SPDX-License-Identifier: MIT
 *
 * A trampoline has to be within reach of its site, of what the displaced instruction refers to, and of the gate page.
 * All of that is in one module as a rule, so the arena is opened as close to it as there is room. Address space is
 * taken generously, as nothing is mapped but the pages used.
 */
#include "probe/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/trampoline.h"

enum { ALIGN = 16, LEAST = 32 /* less room is not looked at */, BREAKPOINT = 0xcc };
/* How many rooms are tried for one trampoline. */
enum { ROOM_TRIES = 16 };
static const uint64_t smallest = 4 * TL_PAGE, largest = 16 << 20;
/* How far a new arena may be from its site, and from there on another instruction of the same module. */
static const uint64_t reach_new = 1536ull << 20, reach_most = (2048ull << 20) - (1 << 20);

void tl_arenas_free(struct tl_arenas *arenas)
{
    for (size_t i = 0; i < arenas->count; i++)
        free(arenas->arenas[i].code);
    free(arenas->arenas);
    free(arenas->rooms);
    free(arenas->fills);
    free(arenas->bytes);
    memset(arenas, 0, sizeof *arenas);
}

static bool is_near(const struct tl_arena *arena, uint64_t addr)
{
    uint64_t start = arena->gate, end = arena->gate + TL_PAGE + arena->size;
    return (addr > start ? addr - start : start - addr) <= reach_most &&
           (addr > end ? addr - end : end - addr) <= reach_most;
}

static bool is_near_all(const struct tl_arena *arena, const struct tl_insn *insn)
{
    return is_near(arena, insn->addr) && (!insn->rip_relative || is_near(arena, insn->memory)) &&
           (!insn->target || is_near(arena, insn->target));
}

static bool has_room(const struct tl_arena *arena)
{
    return arena->size - arena->used >= TL_TRAMPOLINE_MAX + ALIGN;
}

static struct tl_arena *open_arena(struct tl_arenas *arenas, uint64_t near, size_t expected, int *error)
{
    if (arenas->count == arenas->most)
        return NULL;
    struct tl_arena *grown = realloc(arenas->arenas, (arenas->count + 1) * sizeof *grown);
    if (!grown) {
        *error = -ENOMEM;
        return NULL;
    }
    arenas->arenas = grown;
    uint64_t size = expected < largest / arenas->site_bytes ? expected * arenas->site_bytes : largest;
    if (size < arenas->least)
        size = arenas->least;
    size = (size < smallest ? smallest : size + TL_PAGE - 1) & ~(uint64_t)(TL_PAGE - 1);
    for (; size >= smallest; size = size / 2 & ~(uint64_t)(TL_PAGE - 1)) {
        uint64_t addr;
        int taken = tl_space_take_near(arenas->space, near, TL_PAGE + size, reach_new, &addr);
        if (!taken)
            taken = tl_space_take(arenas->also, addr, addr + TL_PAGE + size);
        if (!taken) {
            grown[arenas->count] = (struct tl_arena){.gate = addr, .size = size};
            return &grown[arenas->count++];
        }
        if (taken != -ENOSPC) {
            *error = taken;
            return NULL;
        }
    }
    return NULL;
}

/* The arena for an instruction: one that reaches all that it needs, or else the site at least. */
static struct tl_arena *arena_for(struct tl_arenas *arenas, const struct tl_insn *insn, size_t expected, int *error)
{
    struct tl_arena *second = NULL;
    for (size_t i = arenas->count; i-- > 0;) {
        struct tl_arena *arena = &arenas->arenas[i];
        if (!has_room(arena) || !is_near(arena, insn->addr))
            continue;
        if (is_near_all(arena, insn))
            return arena;
        second = second ? second : arena;
    }
    return second ? second : open_arena(arenas, insn->addr, expected, error);
}

static uint64_t align(uint64_t addr)
{
    return (addr + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

static bool append(struct tl_arena *arena, const struct tl_trampoline *made)
{
    uint64_t start = align(arena->used), end = start + made->length;
    if (end > arena->room) {
        uint64_t room = arena->room ? arena->room : 16 * TL_PAGE;
        while (room < end)
            room *= 2;
        uint8_t *code = realloc(arena->code, room);
        if (!code)
            return false;
        arena->code = code;
        arena->room = room;
    }
    memset(arena->code + arena->used, BREAKPOINT, start - arena->used);
    memcpy(arena->code + start, made->code, made->length);
    arena->used = end;
    return true;
}

static uint64_t next_free(const struct tl_arena *arena)
{
    return arena->gate + TL_PAGE + align(arena->used);
}

/* Note the bytes for a room, from which they are taken. */
static bool fill(struct tl_arenas *arenas, struct tl_plan_room *room, const struct tl_trampoline *made, size_t number)
{
    if (arenas->fill_count == arenas->fills_most) {
        size_t most = arenas->fills_most ? 2 * arenas->fills_most : 64;
        struct tl_room_fill *fills = realloc(arenas->fills, most * sizeof *fills);
        if (!fills)
            return false;
        arenas->fills = fills;
        arenas->fills_most = most;
    }
    if (arenas->byte_count + made->length > arenas->bytes_most) {
        size_t most = 2 * arenas->bytes_most + TL_PAGE;
        uint8_t *bytes = realloc(arenas->bytes, most);
        if (!bytes)
            return false;
        arenas->bytes = bytes;
        arenas->bytes_most = most;
    }
    uint64_t at = align(room->addr), end = room->addr + room->size;
    arenas->fills[arenas->fill_count++] =
        (struct tl_room_fill){at, (uint32_t)arenas->byte_count, (uint32_t)made->length, (uint32_t)number};
    memcpy(arenas->bytes + arenas->byte_count, made->code, made->length);
    arenas->byte_count += made->length;
    room->addr = at + made->length;
    room->size = end - room->addr;
    return true;
}

static bool is_reachable_room(const struct tl_plan_room *room, const struct tl_insn *insn)
{
    struct tl_arena as_arena = {.gate = room->gate, .size = room->addr + room->size - room->gate - TL_PAGE};
    return room->size >= LEAST && is_near_all(&as_arena, insn);
}

static bool fits(const struct tl_plan_room *room, const struct tl_trampoline *made)
{
    return align(room->addr) + made->length <= room->addr + room->size;
}

static struct tl_guard_hook guard_of(const struct tl_arenas *arenas)
{
    return (struct tl_guard_hook){.routine = arenas->guard_routine, .context = arenas->guard_context};
}

/* Rooms are used in order, and may be as many as sites: those used up at the front are looked at once. */
static size_t first_room(struct tl_arenas *arenas)
{
    while (arenas->rooms_spent < arenas->room_count && arenas->rooms[arenas->rooms_spent].size < LEAST)
        arenas->rooms_spent++;
    return arenas->rooms_spent;
}

/* In a room that is there already. */
static bool emit_in_room(struct tl_arenas *arenas, struct tl_job *job, size_t number, struct tl_trampoline *made,
                         uint64_t *at, int *error)
{
    struct tl_guard_hook guard = guard_of(arenas);
    unsigned tries = 0;
    for (size_t i = first_room(arenas); i < arenas->room_count && tries < ROOM_TRIES; i++) {
        struct tl_plan_room *room = &arenas->rooms[i];
        if (!is_reachable_room(room, &job->insn))
            continue;
        tries++;
        *at = align(room->addr);
        job->site->hook.gate = room->gate;
        if (tl_trampoline_make(made, job->site, &job->insn, job->steps, &guard, *at) != TL_WHY_NONE ||
            !fits(room, made))
            continue;
        if (fill(arenas, room, made, number))
            return true;
        *error = -ENOMEM;
        return false;
    }
    return false;
}

static enum tl_why emit_in_arena(struct tl_arenas *arenas, struct tl_job *job, size_t expected,
                                 struct tl_trampoline *made, uint64_t *at, int *error)
{
    struct tl_guard_hook guard = guard_of(arenas);
    struct tl_arena *arena = arena_for(arenas, &job->insn, expected, error);
    if (!arena)
        return arenas->count == arenas->most ? TL_WHY_MAPPINGS : TL_WHY_NO_ROOM;
    *at = next_free(arena);
    job->site->hook.gate = arena->gate;
    enum tl_why why = tl_trampoline_make(made, job->site, &job->insn, job->steps, &guard, *at);
    if (why == TL_WHY_NONE && !append(arena, made)) {
        *error = -ENOMEM;
        return TL_WHY_NO_ROOM;
    }
    return why;
}

enum tl_why tl_arena_emit(struct tl_arenas *arenas, struct tl_job *job, size_t number, size_t expected, int *error)
{
    struct tl_trampoline made;
    uint64_t at;
    struct tl_site *site = job->site;
    if (!emit_in_room(arenas, job, number, &made, &at, error)) {
        enum tl_why why = *error ? TL_WHY_NO_ROOM : emit_in_arena(arenas, job, expected, &made, &at, error);
        if (why != TL_WHY_NONE)
            return why;
    }
    site->after.gate = site->hook.gate;
    site->trampoline = at;
    site->trampoline_size = (uint32_t)made.length;
    site->copy_at = (uint32_t)made.copy_at;
    site->step_at = made.step_at;
    return TL_WHY_NONE;
}

static bool beyond_in_arena(struct tl_arenas *arenas, const struct tl_site *site, struct tl_trampoline *made,
                            uint64_t *at, int *error)
{
    struct tl_guard_hook guard = guard_of(arenas);
    size_t number = 0;
    while (number < arenas->count && arenas->arenas[number].gate != site->hook.gate)
        number++;
    struct tl_arena *arena = &arenas->arenas[number];
    if (number == arenas->count || !has_room(arena))
        return false;
    *at = next_free(arena);
    if (!tl_trampoline_make_beyond(made, site, &guard, *at))
        return false;
    if (append(arena, made))
        return true;
    *error = -ENOMEM;
    return false;
}

static bool beyond_in_room(struct tl_arenas *arenas, const struct tl_site *site, size_t number,
                           struct tl_trampoline *made, uint64_t *at, int *error)
{
    struct tl_guard_hook guard = guard_of(arenas);
    unsigned tries = 0;
    for (size_t i = first_room(arenas); i < arenas->room_count && tries < ROOM_TRIES; i++) {
        struct tl_plan_room *room = &arenas->rooms[i];
        if (room->gate != site->hook.gate || room->size < LEAST)
            continue;
        tries++;
        *at = align(room->addr);
        if (!tl_trampoline_make_beyond(made, site, &guard, *at) || !fits(room, made))
            continue;
        if (fill(arenas, room, made, number))
            return true;
        *error = -ENOMEM;
        return false;
    }
    return false;
}

bool tl_arena_emit_beyond(struct tl_arenas *arenas, const struct tl_job *job, size_t number, int *error)
{
    struct tl_trampoline made;
    struct tl_site *site = job->site;
    uint64_t at;
    if (!beyond_in_room(arenas, site, number, &made, &at, error) &&
        (*error || !beyond_in_arena(arenas, site, &made, &at, error)))
        return false;
    site->beyond = at;
    site->beyond_size = (uint32_t)made.length;
    return true;
}
