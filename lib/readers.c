/* SPDX-License-Identifier: MIT
 *
 * Readers take a slot each; whoever has replaced something waits until each slot that he finds taken is free, or was
 * taken anew. Those that come later see what is there now.
 *
 * The left. A notifier, or a handler of faults, may leave by siglongjmp, and its slot stays. That it was left is seen
 * by the stack: while a reading function has not come back, its frame's address is in rbp or was saved by a callee, on
 * the same stack, further down. So the thread itself, when it looks from a place above the frame, or finds no such
 * word between, has left; and others stop it for a look (tl_self_note_left). A place on another stack does not count,
 * but for those that are known to be under way: what was interrupted, and what that has hit. For what may run in a
 * signal handler does not switch to coroutines. A word that an earlier call has left behind is taken for a saved one:
 * then the reading ends later. But who asks whether he is inside, and has signals unblocked that the broker's handler
 * blocks, is not.
 */
#include "readers.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "engine.h"
#include "hit/signal.h"

enum { SLOTS = 1024, STACK_MOST = 1 << 20 };
#define CLAIMING ((uint64_t)1)

static struct slot {
    uint64_t frame; /* of who reads; 0: free; CLAIMING */
    uint64_t turn;
    uint64_t thread;       /* fs base */
    const uint64_t *place; /* where its mark is: the slot's address */
} __attribute__((aligned(64))) slots[SLOTS];

/* This thread has taken slots, or it has left them. */
static __thread bool within __attribute__((tls_model("initial-exec")));

static bool has_mark(const struct slot *slot)
{
    uint64_t mark;
    return onhit_peek((uintptr_t)slot->place, &mark) && mark == (uintptr_t)slot;
}

static bool is_reading(uint64_t frame)
{
    return frame > CLAIMING;
}

static void drop(struct slot *slot, uint64_t frame)
{
    __atomic_compare_exchange_n(&slot->frame, &frame, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* ---- to read ---- */

static bool claim(struct slot *slot)
{
    uint64_t none = 0;
    return __atomic_compare_exchange_n(&slot->frame, &none, CLAIMING, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* So many at once are not to be expected, unless threads have ended as readers. */
static void drop_overwritten(void)
{
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++) {
        uint64_t frame = __atomic_load_n(&slot->frame, __ATOMIC_SEQ_CST);
        if (is_reading(frame) && !has_mark(slot))
            drop(slot, frame);
    }
    onhit_kernel(SYS_sched_yield, 0, 0, 0, 0);
}

static struct slot *take(uint64_t thread)
{
    for (uint64_t home = thread * 0x9e3779b97f4a7c15 >> 32;; drop_overwritten())
        for (uint64_t i = 0; i < SLOTS; i++)
            if (claim(&slots[(home + i) % SLOTS]))
                return &slots[(home + i) % SLOTS];
}

void readers_begin(struct reading *reading, const void *frame)
{
    uint64_t thread = onhit_fs_base();
    struct slot *slot = take(thread);
    reading->frame = (uintptr_t)frame;
    *(volatile uint64_t *)&reading->place = (uintptr_t)slot;
    slot->thread = thread;
    slot->place = &reading->place;
    __atomic_fetch_add(&slot->turn, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->frame, reading->frame, __ATOMIC_SEQ_CST);
    reading->within = within;
    within = true;
}

/* Unless somebody has another opinion, and the slot is another's. */
void readers_end(const struct reading *reading)
{
    drop((struct slot *)(uintptr_t)reading->place, reading->frame); /* NOLINT: an address */
    within = reading->within;
}

/* ---- whether a thread still does ---- */

static bool leads_to(uint64_t frame, uint64_t from)
{
    uint64_t word = 0;
    if (from > frame || frame - from > STACK_MOST)
        return false;
    for (uint64_t at = from & ~(uint64_t)7; word != frame && at < frame; at += 8)
        if (!onhit_peek(at, &word))
            return false;
    return word == frame;
}

enum { PLACES = 3 }; /* on each stack that is under way, from where on it is looked at */

static bool lives(const struct slot *slot, uint64_t frame, uint64_t rbp, const uint64_t *places)
{
    bool leads = rbp == frame;
    for (unsigned i = 0; i < PLACES && !leads; i++)
        leads = leads_to(frame, places[i]);
    return leads && has_mark(slot);
}

/* No places: nothing of this thread's lives. */
static void tidy(uint64_t rbp, const uint64_t *places)
{
    uint64_t thread = onhit_fs_base();
    bool any = false;
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++) {
        uint64_t frame = __atomic_load_n(&slot->frame, __ATOMIC_ACQUIRE);
        if (!is_reading(frame) || slot->thread != thread)
            continue;
        if (places && lives(slot, frame, rbp, places))
            any = true;
        else
            drop(slot, frame);
    }
    within = any;
}

static bool is_as_in_the_broker(void)
{
    const uint64_t others = TL_THE_FIVE | TL_SIGNAL_BIT(SIGKILL) | TL_SIGNAL_BIT(SIGSTOP);
    uint64_t mask = 0;
    tl_self_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)(uintptr_t)&mask, sizeof mask, 0, 0);
    return (mask | others) == ~(uint64_t)0;
}

bool readers_inside(void)
{
    const uint64_t places[PLACES] = {(uintptr_t)__builtin_frame_address(0)}; /* where rbp was saved */
    if (within)
        tidy(0, is_as_in_the_broker() ? places : NULL);
    return within;
}

void readers_tidy(struct reading *fresh, uint64_t rsp, uint64_t rbp)
{
    *(volatile uint64_t *)&fresh->place = 0; /* one that was left may have stood here */
    if (!within)
        return;
    const uint64_t places[PLACES] = {(uintptr_t)__builtin_frame_address(0), rsp, (uintptr_t)tl_call_hit_at(rsp, rbp)};
    tidy(rbp, places);
}

/* ---- to wait ---- */

static bool has_ended(struct slot *slot, uint64_t turn)
{
    uint64_t frame = __atomic_load_n(&slot->frame, __ATOMIC_SEQ_CST);
    if (is_reading(frame) && !has_mark(slot))
        drop(slot, frame);
    return !frame || __atomic_load_n(&slot->turn, __ATOMIC_SEQ_CST) != turn;
}

/* A thread that is in there for long is looked at after some time, and after twice that, and so on. */
static void wait_for(struct slot *slot)
{
    enum { QUICK = 100, FIRST_LOOK = 256 };
    uint64_t turn = __atomic_load_n(&slot->turn, __ATOMIC_SEQ_CST);
    for (unsigned round = 0; !has_ended(slot, turn); round++) {
        if (round < QUICK)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        if (round >= FIRST_LOOK && !(round & (round - 1)))
            tl_self_note_left(engine.self, &slot->thread, NULL, &slot->frame, NULL);
    }
}

void readers_wait(void)
{
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++)
        wait_for(slot);
}

void readers_forked(void)
{
    uint64_t thread = onhit_fs_base();
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++)
        if (slot->thread != thread)
            slot->frame = 0;
}
