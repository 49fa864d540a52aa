/* SPDX-License-Identifier: MIT
 *
 * Return probes: calls under way, in a fixed array that needs no lock.
 *
 * A call is known by its stack pointer at entry, where its return address lies: no two calls under way have the same
 * one, in whatever thread or coroutine, and at its ret it is there again. So a key is that stack pointer and, lest
 * somebody take a later call for the one that he has looked at, a number that changes with each call at the place; or
 * FREE, or taken by a thread, while that fills in or reports an instance. A key is looked for from its place by hash
 * on, as far as any key has ever been put (`reach`).
 *
 * The dead. A call that longjmp, an exception or its thread's end has cut off leaves its instance behind. If a new call
 * has the same key, that proves it dead, and it is overwritten. When the array is full, those are dropped whose return
 * address no longer lies where they say. What a thread has taken, its record says; so when it takes another one, or the
 * array goes, it has left the earlier one by a jump out of a handler.
 *
 * Rewriting. The return address is replaced by that of a stub, which comes to tl_call_returned. The call has been
 * popped by then, so that its key is 8 below the stack pointer, or further if the ret has released arguments: then it
 * is the nearest one below. Somewhere this call has to go on, so here an instance is found even if its handler may not
 * run.
 */
#include <string.h>

#include "hit/call_state.h"

enum { FREE = 0, ALIGNMENT = 16, TURN_BITS = 16 };
#define TAKEN ((uint64_t)1 << TURN_BITS) /* no key: stack pointers are even */

#define GIVING_BACK ((uint64_t)1) /* in tl_call_record.taken: its thread is about to */

struct instance {
    struct tl_return_instance shown; /* to handlers */
    uint64_t thread;                 /* fs base */
    uint32_t given_up;               /* its end is nobody's business */
    uint32_t turn;
    uint8_t data[] __attribute__((aligned(ALIGNMENT)));
};

struct tl_call_return {
    struct tl_call_return_shape shape;
    uint64_t missed;
    uint64_t stride;
    uint8_t *instances;
    uint32_t reach;
    uint64_t keys[];
};

static size_t round_up(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static size_t stride(const struct tl_call_return_shape *shape)
{
    return round_up(sizeof(struct instance) + shape->data_size);
}

static size_t head(const struct tl_call_return_shape *shape)
{
    return round_up(sizeof(struct tl_call_return) + shape->max_active * sizeof(uint64_t));
}

size_t tl_call_return_size(const struct tl_call_return_shape *shape)
{
    return head(shape) + shape->max_active * stride(shape);
}

void tl_call_return_init(struct tl_call_return *calls, const struct tl_call_return_shape *shape)
{
    calls->shape = *shape;
    calls->stride = stride(shape);
    calls->instances = (uint8_t *)calls + head(shape);
}

void tl_call_return_stub(uint32_t index, uint8_t out[TL_CALL_STUB_BYTES])
{
    static const uint8_t code[TL_CALL_STUB_BYTES] = {
        0x48, 0x8d, 0x64, 0x24, 0x80,         /* lea rsp, [rsp - 128] */
        0x68, 0,    0,    0,    0,            /* push index */
        0xff, 0x15, 2,    0,    0,    0,      /* call [rip + 2] */
        0x0f, 0x0b,                           /* ud2: it never comes back */
        0,    0,    0,    0,    0,    0, 0, 0 /* tl_call_returned */
    };
    uint64_t target = (uint64_t)(uintptr_t)tl_call_returned;
    memcpy(out, code, sizeof(code));
    memcpy(out + 6, &index, sizeof(index));
    memcpy(out + 18, &target, sizeof(target));
}

uint64_t tl_call_return_missed(const struct tl_call_return *calls)
{
    return __atomic_load_n(&calls->missed, __ATOMIC_RELAXED);
}

static ON_HIT struct instance *instance_at(const struct tl_call_return *calls, uint32_t index)
{
    return (struct instance *)(calls->instances + index * calls->stride);
}

/* An array goes whose places nobody is at: of those that were left it is to be forgotten. */
static void forget_left(const struct tl_call_return *calls)
{
    struct tl_call_record *record;
    uint64_t start = (uint64_t)(uintptr_t)calls->keys, taken;
    for (size_t i = 0; (record = tl_call_record_at(i)); i++)
        while ((taken = __atomic_load_n(&record->taken, __ATOMIC_ACQUIRE)) - start <
               calls->shape.max_active * sizeof(uint64_t))
            if (taken & GIVING_BACK)
                __builtin_ia32_pause();
            else
                __atomic_compare_exchange_n(&record->taken, &taken, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void tl_call_return_give_up(struct tl_call_return *calls)
{
    if (!calls->shape.stub)
        forget_left(calls);
    for (uint32_t i = 0; i < calls->shape.max_active; i++)
        if (calls->shape.stub)
            instance_at(calls, i)->given_up = 1;
        else
            __atomic_store_n(&calls->keys[i], FREE, __ATOMIC_RELAXED);
}

/* What lies where a return address should. */
static ON_HIT uint64_t word_at(uint64_t addr)
{
    uint64_t word = 0;
    if (!tl_call_platform.peek)
        return *(const volatile uint64_t *)addr;
    return tl_call_platform.peek(addr, &word) ? word : 0;
}

static ON_HIT uint64_t key_of(uint64_t rsp, uint32_t turn)
{
    return rsp << TURN_BITS | (turn & ((1u << TURN_BITS) - 1));
}

static ON_HIT uint64_t rsp_of(uint64_t key)
{
    return key >> TURN_BITS;
}

static ON_HIT uint64_t fs_base(void)
{
    uint64_t base;
    __asm__("mov %%fs:0, %0" : "=r"(base));
    return base;
}

static ON_HIT bool is_taken(uint64_t key)
{
    return key == TAKEN;
}

/* Whether the call with this key, as it seems, is over. */
static ON_HIT bool is_dead(const struct tl_call_return *calls, uint32_t index, uint64_t key)
{
    uint64_t expected = calls->shape.stub ? calls->shape.stub : instance_at(calls, index)->shown.return_to;
    return word_at(rsp_of(key)) != expected;
}

size_t tl_call_return_rewritten(const struct tl_call_return *calls)
{
    size_t count = 0;
    for (uint32_t i = 0; calls->shape.stub && i < calls->shape.max_active; i++) {
        uint64_t key = __atomic_load_n(&calls->keys[i], __ATOMIC_ACQUIRE);
        count += key != FREE && (is_taken(key) || !is_dead(calls, i, key));
    }
    return count;
}

static ON_HIT uint32_t home(const struct tl_call_return *calls, uint64_t rsp)
{
    uint32_t hash = (uint32_t)(rsp >> 3) * 0x9e3779b1u;
    return (uint32_t)((uint64_t)hash * calls->shape.max_active >> 32);
}

static ON_HIT uint32_t next(const struct tl_call_return *calls, uint32_t index)
{
    return index + 1 < calls->shape.max_active ? index + 1 : 0;
}

/* The place of the call with this stack pointer, or -1. */
static ON_HIT int64_t find(struct tl_call_return *calls, uint64_t rsp)
{
    uint32_t reach = __atomic_load_n(&calls->reach, __ATOMIC_RELAXED);
    for (uint32_t i = 0, at = home(calls, rsp); i < reach; i++, at = next(calls, at))
        if (rsp_of(__atomic_load_n(&calls->keys[at], __ATOMIC_RELAXED)) == rsp)
            return at;
    return -1;
}

static ON_HIT bool take(struct tl_call_return *calls, uint32_t index, uint64_t key)
{
    return __atomic_compare_exchange_n(&calls->keys[index], &key, TAKEN, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* What this thread has taken, while a handler may leave it. */
static ON_HIT void note_taken(struct tl_call_return *calls, int64_t index)
{
    __atomic_store_n(&tl_call_self->taken, (uint64_t)(uintptr_t)&calls->keys[index], __ATOMIC_RELEASE);
}

static ON_HIT void release(struct tl_call_return *calls, int64_t index, uint64_t key)
{
    __atomic_store_n(&calls->keys[index], key, __ATOMIC_RELEASE);
    __atomic_store_n(&tl_call_self->taken, 0, __ATOMIC_RELEASE);
}

/* Unless the array goes, the place that was left is free again. */
static ON_HIT void give_back_left(void)
{
    struct tl_call_record *record = tl_call_self;
    uint64_t left = __atomic_load_n(&record->taken, __ATOMIC_ACQUIRE), key = TAKEN;
    if (LIKELY(!left) || !__atomic_compare_exchange_n(&record->taken, &left, left | GIVING_BACK, false,
                                                      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    __atomic_compare_exchange_n((uint64_t *)left, &key, FREE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    __atomic_store_n(&record->taken, 0, __ATOMIC_RELEASE);
}

/* Keys may now be `distance` places from home. */
static ON_HIT void extend(struct tl_call_return *calls, uint32_t distance)
{
    uint32_t reach = __atomic_load_n(&calls->reach, __ATOMIC_RELAXED);
    while (reach < distance &&
           !__atomic_compare_exchange_n(&calls->reach, &reach, distance, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* Whether the place with this key may be had: at first if it is free, then if its call is dead. */
static ON_HIT bool may_have(const struct tl_call_return *calls, uint32_t index, uint64_t key, bool dead)
{
    if (key == FREE)
        return true;
    return dead && !is_taken(key) && is_dead(calls, index, key);
}

/* A place for a new call: that of a dead one with the same stack pointer, a free one, that of any dead one; or -1. */
static ON_HIT int64_t make_room(struct tl_call_return *calls, uint64_t rsp)
{
    int64_t same = find(calls, rsp);
    if (same >= 0 && take(calls, (uint32_t)same, __atomic_load_n(&calls->keys[same], __ATOMIC_RELAXED)))
        return same;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0, at = home(calls, rsp); i < calls->shape.max_active; i++, at = next(calls, at)) {
            uint64_t seen = __atomic_load_n(&calls->keys[at], __ATOMIC_ACQUIRE);
            if (!may_have(calls, at, seen, pass == 1))
                continue;
            if (take(calls, at, seen)) {
                extend(calls, i + 1);
                return at;
            }
        }
    return -1;
}

void ON_HIT tl_call_enters(struct tl_call_return *calls, struct tl_regs *regs)
{
    uint64_t *return_address = (uint64_t *)regs->rsp, return_to = *return_address, stub = calls->shape.stub;
    give_back_left();
    int64_t at = make_room(calls, regs->rsp);
    if (at < 0) {
        __atomic_fetch_add(&calls->missed, 1, __ATOMIC_RELAXED);
        return;
    }
    struct instance *instance = instance_at(calls, (uint32_t)at);
    if (stub &&
        return_to == stub) /* a followed call has jumped here: this one takes its place, which make_room found */
        return_to = instance->shown.return_to;
    instance->shown.probe = calls->shape.probe;
    instance->shown.data = instance->data;
    instance->shown.return_to = return_to;
    instance->shown.value_known = 0;
    instance->shown.reserved = 0;
    instance->given_up = 0;
    uint64_t key = key_of(regs->rsp, ++instance->turn);
    instance->thread = fs_base();
    note_taken(calls, at);
    bool wanted = !calls->shape.entry || !calls->shape.entry(&instance->shown, regs);
    if (stub)
        *return_address = wanted ? stub : return_to;
    release(calls, at, wanted ? key : FREE);
}

void ON_HIT tl_call_leaves(struct tl_call_return *calls, struct tl_regs *regs, bool by_jump)
{
    int64_t at = find(calls, regs->rsp);
    if (at < 0)
        return;
    struct instance *instance = instance_at(calls, (uint32_t)at);
    give_back_left();
    __atomic_store_n(&calls->keys[at], TAKEN, __ATOMIC_RELAXED);
    note_taken(calls, at);
    instance->shown.value_known = !by_jump;
    calls->shape.handler(&instance->shown, regs);
    release(calls, at, FREE);
}

/* Of the calls of this thread, or of all (0), the place of the one nearest below rsp; or -1. */
static ON_HIT int64_t find_nearest(const struct tl_call_return *calls, uint64_t rsp, uint64_t thread)
{
    uint64_t best = 0;
    int64_t found = -1;
    for (uint32_t i = 0; i < calls->shape.max_active; i++) {
        uint64_t key = __atomic_load_n(&calls->keys[i], __ATOMIC_RELAXED), its = rsp_of(key);
        if (!is_taken(key) && its > best && its < rsp && (!thread || instance_at(calls, i)->thread == thread)) {
            best = its;
            found = i;
        }
    }
    return found;
}

/* The call that has just returned through its stub; taken. */
static ON_HIT int64_t find_returned(struct tl_call_return *calls, uint64_t rsp)
{
    int64_t at = find(calls, rsp - 8);
    if (at < 0)
        at = find_nearest(calls, rsp, fs_base());
    if (at < 0)
        at = find_nearest(calls, rsp, 0);
    if (at < 0)
        __builtin_trap(); /* nobody knows where to go on */
    __atomic_store_n(&calls->keys[at], TAKEN, __ATOMIC_RELAXED);
    return at;
}

void ON_HIT tl_call_comes_back(struct tl_call_return *calls, struct tl_regs *regs, bool may_report)
{
    int64_t at = find_returned(calls, regs->rsp);
    struct instance *instance = instance_at(calls, (uint32_t)at);
    instance->shown.value_known = 1;
    regs->rip = instance->shown.return_to;
    if (!may_report) {
        __atomic_fetch_add(&calls->missed, 1, __ATOMIC_RELAXED);
    } else if (!instance->given_up) {
        give_back_left();
        note_taken(calls, at);
        calls->shape.handler(&instance->shown, regs);
        release(calls, at, FREE);
        return;
    }
    __atomic_store_n(&calls->keys[at], FREE, __ATOMIC_RELEASE);
}

int ON_HIT tl_call_run_entry(void *calls, struct tl_regs *regs)
{
    tl_call_enters(calls, regs);
    return 0;
}

int ON_HIT tl_call_run_exit(void *calls, struct tl_regs *regs)
{
    tl_call_leaves(calls, regs, false);
    return 0;
}

int ON_HIT tl_call_run_back(void *calls, struct tl_regs *regs)
{
    tl_call_comes_back(calls, regs, true);
    return 1;
}
