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

#include "probe/beyond.h"

enum { ALIGN = 16, BREAKPOINT = 0xcc };
static const uint64_t smallest = 4 * TL_PAGE, largest = 16 << 20;
/* How far a new arena may be from its site, and from there on another instruction of the same module. */
static const uint64_t reach_new = 1536ull << 20, reach_most = (2048ull << 20) - (1 << 20);

struct trampoline {
    uint8_t code[2 * TL_HOOK_BYTES_MAX + TL_PIECES_MAX * TL_COPY_MAX];
    size_t length, copy_at;
};

void tl_arenas_free(struct tl_arenas *arenas)
{
    for (size_t i = 0; i < arenas->count; i++)
        free(arenas->arenas[i].code);
    free(arenas->arenas);
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
    return arena->size - arena->used >= sizeof((struct trampoline *)NULL)->code + ALIGN;
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

static enum tl_why append_hook(struct trampoline *made, const struct tl_hook *hook, uint64_t at)
{
    size_t length = 0;
    if (hook->kind != TL_HOOK_NONE && tl_hook_emit(hook, at + made->length, made->code + made->length, &length))
        return TL_WHY_NO_ROOM;
    made->length += length;
    return TL_WHY_NONE;
}

/* TL_SITE_BEFORE: hook, copy with its ways out. TL_SITE_TAKEN: copy, hook, jump to the branch's target. */
static enum tl_why make(struct trampoline *made, const struct tl_job *job, uint64_t at)
{
    struct tl_copy copy;
    bool taken = job->site->mode == TL_SITE_TAKEN;
    made->length = made->copy_at = 0;
    enum tl_why why = taken ? TL_WHY_NONE : append_hook(made, &job->site->hook, at);
    if (why != TL_WHY_NONE)
        return why;
    made->copy_at = made->length;
    uint64_t copy_addr = at + made->copy_at;
    if (taken ? tl_insn_relocate_taken(&job->insn, copy_addr, &copy) : tl_insn_relocate(&job->insn, copy_addr, &copy))
        return copy.why;
    memcpy(made->code + made->length, copy.code, copy.length);
    made->length += copy.length;
    if (!taken)
        return TL_WHY_NONE;
    why = append_hook(made, &job->site->hook, at);
    if (why == TL_WHY_NONE && tl_emit_jump(made->code + made->length, at + made->length, job->insn.target))
        why = TL_WHY_NO_ROOM;
    made->length += TL_JUMP_BYTES;
    return why;
}

static bool append(struct tl_arena *arena, const struct trampoline *made)
{
    uint64_t start = (arena->used + ALIGN - 1) & ~(uint64_t)(ALIGN - 1), end = start + made->length;
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
    return arena->gate + TL_PAGE + ((arena->used + ALIGN - 1) & ~(uint64_t)(ALIGN - 1));
}

enum tl_why tl_arena_emit(struct tl_arenas *arenas, struct tl_job *job, size_t expected, int *error)
{
    struct trampoline made;
    struct tl_arena *arena = arena_for(arenas, &job->insn, expected, error);
    if (!arena)
        return arenas->count == arenas->most ? TL_WHY_MAPPINGS : TL_WHY_NO_ROOM;
    uint64_t at = next_free(arena);
    job->site->hook.gate = arena->gate;
    enum tl_why why = make(&made, job, at);
    if (why != TL_WHY_NONE)
        return why;
    if (!append(arena, &made)) {
        *error = -ENOMEM;
        return TL_WHY_NO_ROOM;
    }
    job->site->trampoline = at;
    job->site->trampoline_size = (uint32_t)made.length;
    job->site->copy_at = (uint32_t)made.copy_at;
    return TL_WHY_NONE;
}

bool tl_arena_emit_beyond(struct tl_arenas *arenas, const struct tl_job *job, int *error)
{
    struct trampoline made = {.length = 0};
    struct tl_piece pieces[TL_PIECES_MAX];
    struct tl_site *site = job->site;
    size_t number = 0;
    while (number < arenas->count && arenas->arenas[number].gate != site->hook.gate)
        number++;
    struct tl_arena *arena = &arenas->arenas[number];
    if (number == arenas->count || !has_room(arena))
        return false;
    uint64_t at = next_free(arena);
    if (append_hook(&made, &site->hook, at) != TL_WHY_NONE || made.length != site->copy_at)
        return false;
    unsigned count = tl_beyond_pieces(site, at + made.length, pieces);
    for (unsigned i = 0; i < count; i++) {
        memcpy(made.code + made.length, pieces[i].copy.code, pieces[i].length);
        made.length += pieces[i].length;
    }
    if (!count)
        return false;
    if (!append(arena, &made)) {
        *error = -ENOMEM;
        return false;
    }
    site->beyond = at;
    site->beyond_size = (uint32_t)made.length;
    return true;
}
