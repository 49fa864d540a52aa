/* SPDX-License-Identifier: MIT
 *
 * Threads' records: taken at a first hit, given back at a thread's end, taken over from the dead; and whether the hit
 * that a record is busy with lives.
 *
 * Pools are only ever added, each in front of the others. A place in a pool is owned by a thread's fs base. Two threads
 * that live at the same time do not have the same one; so who finds its own there, without having put it there, finds
 * that of a dead thread, whose stack and thread block it has inherited. With that the number in the lowest bits of the
 * owner changes (fs bases are aligned), so that who has seen the dead one does not take the place from its heir.
 *
 * When no place is free, those are looked for whose owner has gone without leave: its thread-local word no longer names
 * the record, or is not there. (A stack that the C library keeps for later use looks alive; but then a thread that is
 * given it inherits.) While a thread takes a place, and its own word does not name the record yet, CLAIMING says so.
 *
 * Busy, but dead. A handler that is left by longjmp does not give the record back. While a hit lives, so does its
 * frame, whichever stack its handlers run on, or whichever coroutine has been switched to meanwhile: the mark in it,
 * the address of the record, stands. So the hit is dead when the mark is gone, or when the frame lies in what the
 * looker itself uses of the stack. And it lives for certain if the looker stands on the stack for handlers: a hit in a
 * handler, or in a signal handler above it.
 *
 * Otherwise the frame may be dead without anything having overwritten it yet; or a handler on the program's stack has
 * called the looker; or a signal that has a stack of its own has interrupted the handler; or the handler has switched
 * to another coroutine. The second and third leave behind how to come back: above the looker there is a word that leads
 * to the frame, saved by a callee, or to the handler's stack, saved by the kernel with other registers. (Any word would
 * not do: arrays that the program has not written to hold what earlier hits have left.) The last has a stack elsewhere.
 * So where no such word is, and the frame lies on the looker's own stack, as far as that can be seen, the hit is dead.
 * Of what is called in a signal handler neither is to be expected: it does not switch, and has signals on its own
 * stack.
 */
#include "hit/call_state.h"

struct tl_call_record tl_call_nobody = {.frame = (struct tl_call_frame *)8};
__thread struct tl_call_record *tl_call_self = &tl_call_nobody;
struct tl_call_pool *tl_call_pools;

#define CLAIMING ((uint64_t)1)
#define STEP ((uint64_t)2)
#define NUMBER ((uint64_t)7) /* and CLAIMING */

static ON_HIT uint64_t fs_base(void)
{
    uint64_t base;
    __asm__("mov %%fs:0, %0" : "=r"(base)); /* as the ABI of thread-local storage has it */
    return base & ~NUMBER;
}

static ON_HIT struct tl_call_record *record_of(const struct tl_call_pool *pool, size_t index)
{
    uint8_t *end = pool->memory + (index + 1) * TL_CALL_THREAD_BYTES;
    return (struct tl_call_record *)(end - sizeof(struct tl_call_record));
}

struct tl_call_record *tl_call_record_at(size_t index)
{
    for (struct tl_call_pool *pool = __atomic_load_n(&tl_call_pools, __ATOMIC_ACQUIRE); pool; pool = pool->next) {
        if (index < pool->count)
            return record_of(pool, index);
        index -= pool->count;
    }
    return NULL;
}

static ON_HIT bool change_owner(uint64_t *place, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(place, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Whether this owner has ended, and its thread block was given back or has gone to somebody else. */
static ON_HIT bool has_gone(uint64_t owner, const struct tl_call_record *record)
{
    uint64_t offset = (uint64_t)(uintptr_t)&tl_call_self - fs_base(), named;
    if (owner & CLAIMING || !tl_call_platform.peek)
        return false;
    return !tl_call_platform.peek((owner & ~NUMBER) + offset, &named) || named != (uint64_t)(uintptr_t)record;
}

enum choice { INHERITED, UNUSED, LEFT_BEHIND };

static ON_HIT bool may_have(enum choice choice, uint64_t owner, uint64_t base, const struct tl_call_record *record)
{
    switch (choice) {
    case INHERITED:
        return (owner & ~NUMBER) == base;
    case UNUSED:
        return owner == 0;
    default:
        return owner && has_gone(owner, record);
    }
}

static ON_HIT struct tl_call_record *choose(enum choice choice, uint64_t base)
{
    for (struct tl_call_pool *pool = __atomic_load_n(&tl_call_pools, __ATOMIC_ACQUIRE); pool; pool = pool->next)
        for (size_t i = 0; i < pool->count; i++) {
            struct tl_call_record *record = record_of(pool, i);
            uint64_t owner = __atomic_load_n(&pool->owners[i], __ATOMIC_RELAXED);
            if (!may_have(choice, owner, base, record))
                continue;
            uint64_t ours = base | CLAIMING | ((owner + STEP) & NUMBER);
            if (change_owner(&pool->owners[i], owner, ours)) {
                record->owner = &pool->owners[i];
                record->frame = NULL;
                tl_call_alternate_forget(record);
                return record;
            }
        }
    return NULL;
}

static ON_HIT bool has_mark(const struct tl_call_record *record, const struct tl_call_frame *frame)
{
    uint64_t mark;
    if (!tl_call_platform.peek)
        mark = *(const volatile uint64_t *)&frame->mark;
    else if (!tl_call_platform.peek((uint64_t)(uintptr_t)&frame->mark, &mark))
        return false;
    return mark == (uint64_t)(uintptr_t)record;
}

enum { PAGE = 4096, STACK_MOST = 1 << 20, SEARCHED = 1 << 16, BELOW_FRAME = 16 };

/* Whether memory is there all the way between two addresses, as it is between those of one stack. */
static ON_HIT bool is_joined(uint64_t one, uint64_t other)
{
    uint64_t low = one < other ? one : other, high = one < other ? other : one, word;
    if (high - low > STACK_MOST)
        return false;
    for (uint64_t page = low & ~(uint64_t)(PAGE - 1); page < high; page += PAGE)
        if (!tl_call_platform.peek(page, &word))
            return false;
    return true;
}

/* Whether the word there may be the rsp of what a signal has interrupted: rip, flags and segments follow. */
static ON_HIT bool is_saved_by_signal(uint64_t at)
{
    enum { FLAGS_AT = 16, SEGMENTS_AT = 24, ALWAYS_SET = 0x202, CODE_SEGMENT = 0x33 };
    uint64_t flags, segments;
    return tl_call_platform.peek(at + FLAGS_AT, &flags) && tl_call_platform.peek(at + SEGMENTS_AT, &segments) &&
           flags >> 22 == 0 && (flags & ALWAYS_SET) == ALWAYS_SET && (segments & 0xffff) == CODE_SEGMENT;
}

/* Whether there is something on the stack above `end` by which a thread comes back to the hit: the registers of a
 * signal that has interrupted what runs on the stack for handlers; if they run on the program's, the frame's address,
 * saved by a callee (or still in rbp); or the registers of a signal that has come when no handler ran yet, or none any
 * more. */
static ON_HIT bool leads_back(const struct tl_call_record *record, const struct tl_call_frame *frame, uint64_t end,
                              uint64_t rbp)
{
    enum { RBX_BELOW_RSP = 32 /* in a saved context */ };
    uint64_t top = (uint64_t)(uintptr_t)record, its = (uint64_t)(uintptr_t)frame, word, rbx;
    bool saved = rbp == its;
    for (uint64_t at = end & ~(uint64_t)7; at - end < SEARCHED && tl_call_platform.peek(at, &word); at += 8) {
        bool may_be_sp = word <= top && word >= top - (TL_CALL_THREAD_BYTES - sizeof(*record));
        if (!may_be_sp && its - word <= BELOW_FRAME)
            may_be_sp = tl_call_platform.peek(at - RBX_BELOW_RSP, &rbx) && rbx == top;
        if (may_be_sp && is_saved_by_signal(at))
            return true;
        saved = saved || word == its;
    }
    return saved && record->list && record->list->flags & LIST_OWN_STACK;
}

/* Whether the hit that the record is busy with lives. The looker uses the stack from `here` to `end`, and had this rbp
 * there. */
static ON_HIT bool lives(const struct tl_call_record *record, uint64_t here, uint64_t end, uint64_t rbp)
{
    const struct tl_call_frame *frame = record->frame;
    uint64_t top = (uint64_t)(uintptr_t)record;
    if (end <= top && end > top - (TL_CALL_THREAD_BYTES - sizeof(*record)))
        return true;
    if ((uint64_t)(uintptr_t)(frame + 1) > here && (uint64_t)(uintptr_t)frame < end)
        return false;
    if (!has_mark(record, frame))
        return false;
    if (!tl_call_platform.peek)
        return true;
    if (!is_joined((uint64_t)(uintptr_t)frame, here))
        return !(record->list && record->list->flags & LIST_ASIDE);
    return leads_back(record, frame, end, rbp);
}

bool ON_HIT tl_call_is_inside(uint64_t rsp, uint64_t rbp)
{
    struct tl_call_record *record = tl_call_self;
    if (record == &tl_call_nobody || !record->frame)
        return false;
    if (lives(record, rsp, rsp, rbp))
        return true;
    __atomic_store_n(&record->frame, NULL, __ATOMIC_RELEASE);
    return false;
}

/* A signal handler that comes between and hits takes the same one, and is over before we go on: the owner that it finds
 * or sets is this thread as well. */
static ON_HIT struct tl_call_record *first(void)
{
    uint64_t base = fs_base();
    struct tl_call_record *record = NULL;
    for (int choice = INHERITED; !record && choice <= LEFT_BEHIND; choice++)
        record = choose((enum choice)choice, base);
    if (record) {
        tl_call_self = record;
        __atomic_store_n(record->owner, *record->owner & ~CLAIMING, __ATOMIC_RELEASE);
    }
    return record;
}

struct tl_call_record *ON_HIT tl_call_claim(struct tl_call_record *record, const struct tl_call_frame *own)
{
    if (record == &tl_call_nobody)
        return first();
    if (lives(record, (uint64_t)(uintptr_t)__builtin_frame_address(0), (uint64_t)(uintptr_t)(own + 1), own->regs.rbp))
        return NULL;
    record->frame = NULL;
    return record;
}

/* The record's hit is read before its list: if it is still the one that was looked for, it cannot be a later one's,
 * since no hit enters a list that is out of force. */
static bool is_in(const struct tl_call_record *record, const struct tl_call_list *list)
{
    const struct tl_call_frame *frame = __atomic_load_n(&record->frame, __ATOMIC_ACQUIRE);
    return frame && __atomic_load_n(&record->list, __ATOMIC_ACQUIRE) == list && has_mark(record, frame);
}

bool tl_call_quiet(const struct tl_call_list *list)
{
    for (struct tl_call_pool *pool = __atomic_load_n(&tl_call_pools, __ATOMIC_ACQUIRE); pool; pool = pool->next)
        for (size_t i = 0; i < pool->count; i++)
            if (__atomic_load_n(&pool->owners[i], __ATOMIC_ACQUIRE) && is_in(record_of(pool, i), list))
                return false;
    return true;
}

void tl_call_look(const struct tl_call_list *list, tl_call_look_fn *look)
{
    for (struct tl_call_pool *pool = __atomic_load_n(&tl_call_pools, __ATOMIC_ACQUIRE); pool; pool = pool->next)
        for (size_t i = 0; i < pool->count; i++) {
            struct tl_call_record *record = record_of(pool, i);
            uint64_t owner = __atomic_load_n(&pool->owners[i], __ATOMIC_ACQUIRE);
            if (owner && is_in(record, list))
                look(owner & ~NUMBER, pool->memory + i * TL_CALL_THREAD_BYTES, record,
                     (uint64_t *)(void *)&record->frame);
        }
}

size_t tl_call_pool_size(size_t count)
{
    return sizeof(struct tl_call_pool) + count * sizeof(uint64_t);
}

void tl_call_pool_add(struct tl_call_pool *pool, void *memory, size_t count)
{
    pool->memory = memory;
    pool->count = count;
    pool->next = tl_call_pools;
    __atomic_store_n(&tl_call_pools, pool, __ATOMIC_RELEASE);
}

size_t tl_call_records_free(void)
{
    size_t count = 0;
    for (struct tl_call_pool *pool = __atomic_load_n(&tl_call_pools, __ATOMIC_ACQUIRE); pool; pool = pool->next)
        for (size_t i = 0; i < pool->count; i++)
            count += !__atomic_load_n(&pool->owners[i], __ATOMIC_RELAXED);
    return count;
}

/* From the thread's side first: a signal handler that hits now takes a record again, the same one perhaps. */
void tl_call_thread_leave(void)
{
    struct tl_call_record *record = tl_call_self;
    if (record == &tl_call_nobody || record->frame)
        return;
    uint64_t owner = __atomic_load_n(record->owner, __ATOMIC_RELAXED);
    tl_call_self = &tl_call_nobody;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    change_owner(record->owner, owner, 0); /* unless somebody has found it left behind already */
}

void tl_call_forked(void)
{
    const struct tl_call_record *own = tl_call_self;
    for (struct tl_call_pool *pool = tl_call_pools; pool; pool = pool->next)
        for (size_t i = 0; i < pool->count; i++)
            if (pool->owners[i] && record_of(pool, i) != own)
                pool->owners[i] = 0;
}

void tl_call_reclaim(bool (*alive)(uint64_t fs_base))
{
    for (struct tl_call_pool *pool = __atomic_load_n(&tl_call_pools, __ATOMIC_ACQUIRE); pool; pool = pool->next)
        for (size_t i = 0; i < pool->count; i++) {
            uint64_t owner = __atomic_load_n(&pool->owners[i], __ATOMIC_RELAXED);
            if (owner && !alive(owner & ~NUMBER))
                change_owner(&pool->owners[i], owner, 0);
        }
}
