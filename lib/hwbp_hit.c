/* SPDX-License-Identifier: MIT
 *
 * On a hit: in the broker's signal handler, for the chain's readers (notifiers.c), by whom it is waited for.
 *
 * The kernel sends one SIGTRAP, with the tag of a breakpoint that was hit. All that looks at the program's memory is
 * done as handlers are, with the thread's record taken: if that is watched, errno for instance, our own access ends as
 * a hit that is missed, and not in another look.
 */
#include <errno.h>
#include <sys/syscall.h>

#include "engine.h"
#include "hit/broker.h"
#include "hwbp.h"
#include "hwbp_deed.h"

enum { TRAP_PERF = 6, ASYNC = 1 };

struct board *hwbp_board;
uint32_t hwbp_readers, hwbp_reporters;
static __thread int own_tid __attribute__((tls_model("initial-exec")));

/* What the kernel's asm-generic/siginfo.h calls si_perf_data and si_perf_flags. */
static uint64_t tag_of(const struct tl_siginfo *info)
{
    return info->rest[0];
}

static bool is_late(const struct tl_siginfo *info)
{
    return info->rest[1] >> 32 & ASYNC;
}

bool hwbp_is_trap(const struct tl_notification *notification)
{
    const struct tl_siginfo *info = &notification->frame->info;
    return notification->exception == TL_EXCEPTION_DEBUG && info->code == TRAP_PERF &&
           tag_of(info) >> HWBP_MAGIC_AT == HWBP_MAGIC;
}

void hwbp_hit_forked(void)
{
    own_tid = 0;
}

static int this_thread(void)
{
    if (!own_tid)
        own_tid = (int)onhit_kernel(SYS_gettid, 0, 0, 0, 0);
    return own_tid;
}

static void count(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* What we read ourselves is not to hit: where reads are watched the kernel reads for us. */
static bool load(uint64_t at, uint64_t *word)
{
    if (__atomic_load_n(&hwbp_readers, __ATOMIC_SEQ_CST))
        return onhit_read(at, word);
    return onhit_peek(at, word);
}

/* Data is aligned to its length, so it lies in one word of 8 bytes. */
bool hwbp_look(const struct view *view, uint64_t *value)
{
    uint64_t word, shift = (view->address & 7) * 8;
    *value = 0;
    if (view->access == TL_HWBP_EXECUTE || view->address >= TL_USER_SPACE_END || !load(view->address & ~7ull, &word))
        return false;
    *value = word >> shift & (view->length < 8 ? (1ull << view->length * 8) - 1 : ~0ull);
    return true;
}

/* A trap, while it is told. */
struct telling {
    const struct board *board;
    const struct tl_context *context; /* where the thread really is */
    struct tl_regs *regs;
    struct tl_hwbp *hwbp; /* whose signal it is */
    struct view *view;
    bool late;
    bool alternate; /* it has come on an alternate stack */
    bool unheard;   /* no handler can be called */
};

static bool is_on(const struct tl_hwbp *hwbp)
{
    return __atomic_load_n(&hwbp->added, __ATOMIC_RELAXED) && __atomic_load_n(&hwbp->enabled, __ATOMIC_RELAXED) &&
           !__atomic_load_n(&hwbp->stopped, __ATOMIC_RELAXED);
}

static void tell(const struct telling *telling, struct tl_hwbp *hwbp, struct view *view)
{
    if (telling->unheard || !is_on(hwbp)) {
        count(&hwbp->missed);
        return;
    }
    struct tl_hwbp_hit hit = {.address = view->address,
                              .length = view->length,
                              .access = view->access,
                              .flags = telling->late ? TL_HWBP_HIT_LATE : 0,
                              .tid = this_thread(),
                              .context = hwbp->options.context};
    if (view->access != TL_HWBP_EXECUTE) {
        if (hwbp_look(view, &hit.now))
            hit.before = __atomic_exchange_n(&view->shadow, hit.now, __ATOMIC_RELAXED);
        else
            hit.flags |= TL_HWBP_HIT_BLIND;
    }
    count(&hwbp->handled);
    if (telling->late)
        count(&hwbp->late);
    hwbp->options.handler(hwbp, telling->regs, &hit);
}

/* ---- several hit by one instruction ---- */

/* Of another breakpoint the view that this thread can have hit just now, or NULL. */
static struct view *other_view(const struct telling *telling, struct tl_hwbp *hwbp)
{
    if (!hwbp || hwbp == telling->hwbp || !hwbp->options.handler || hwbp->spec.period != 1 || !is_on(hwbp))
        return NULL;
    if (hwbp->options.scope == TL_HWBP_THREAD && hwbp->options.tid != this_thread())
        return NULL;
    struct view *view = &hwbp->views[__atomic_load_n(&hwbp->current, __ATOMIC_ACQUIRE) & 1];
    return __atomic_load_n(&view->tag, __ATOMIC_ACQUIRE) ? view : NULL;
}

static void tell_executed(const struct telling *telling, const struct view *told)
{
    for (size_t i = 0; i < telling->board->room; i++) {
        struct tl_hwbp *hwbp = __atomic_load_n(&telling->board->places[i], __ATOMIC_ACQUIRE);
        struct view *view = other_view(telling, hwbp);
        if (view && view->access == TL_HWBP_EXECUTE && view->address == told->address)
            tell(telling, hwbp, view);
    }
}

static bool has_changed(const struct view *view)
{
    uint64_t now;
    return hwbp_look(view, &now) && now != __atomic_load_n(&view->shadow, __ATOMIC_RELAXED);
}

/* Values that have changed say little, since other threads write too; so the instruction is looked at. Where it cannot
 * be found, a change has to do. */
static void tell_accessed(const struct telling *telling, const struct view *told)
{
    struct deed deed = {0};
    enum { NOT_LOOKED, FOUND, NOT_FOUND } state = NOT_LOOKED;
    for (size_t i = 0; i < telling->board->room; i++) {
        struct tl_hwbp *hwbp = __atomic_load_n(&telling->board->places[i], __ATOMIC_ACQUIRE);
        struct view *view = other_view(telling, hwbp);
        if (!view || view->access == TL_HWBP_EXECUTE)
            continue;
        if (state == NOT_LOOKED)
            state = hwbp_find_deed(telling->context, told, &deed) ? FOUND : NOT_FOUND;
        if (state == FOUND ? hwbp_concerns(view, &deed) : has_changed(view))
            tell(telling, hwbp, view);
    }
}

static void tell_all(const struct telling *telling)
{
    struct view told = *telling->view;
    tell(telling, telling->hwbp, telling->view);
    if (telling->late || __atomic_load_n(&hwbp_reporters, __ATOMIC_RELAXED) < 2)
        return;
    if (told.access == TL_HWBP_EXECUTE)
        tell_executed(telling, &told);
    else
        tell_accessed(telling, &told);
}

/* Whether the signal has come on an alternate stack of the program's. */
static bool is_on_alternate_stack(const struct tl_signal_frame *frame)
{
    const struct tl_sigstack *stack = &frame->context.stack;
    return !(stack->flags & TL_SS_DISABLE) && (uint64_t)(uintptr_t)frame - stack->start < stack->size;
}

/* From here on we are on a stack of our own, and the kernel believes that the alternate one is free: the next signal
 * would come over the frame that we are to return by. So there is none, until that return sets it again. */
static void give_up_alternate_stack(void)
{
    const struct tl_sigstack none = {.flags = TL_SS_DISABLE};
    onhit_kernel(SYS_sigaltstack, (uintptr_t)&none, 0, 0, 0);
}

static void tell_handlers(void *argument)
{
    const struct telling *telling = argument;
    if (telling->alternate)
        give_up_alternate_stack();
    int saved = errno;
    tell_all(telling);
    if (errno != saved)
        errno = saved;
}

/* ---- the signal ---- */

static struct view *view_of(struct tl_hwbp *hwbp, uint64_t tag)
{
    for (unsigned i = 0; i < 2; i++)
        if (__atomic_load_n(&hwbp->views[i].tag, __ATOMIC_ACQUIRE) == tag)
            return &hwbp->views[i];
    return NULL;
}

void hwbp_trap(const struct tl_notification *notification, struct tl_regs *regs)
{
    const struct tl_siginfo *info = &notification->frame->info;
    const struct board *board = __atomic_load_n(&hwbp_board, __ATOMIC_ACQUIRE);
    uint64_t tag = tag_of(info), index = tag & HWBP_INDEX_MASK;
    struct tl_hwbp *hwbp =
        board && index < board->room ? __atomic_load_n(&board->places[index], __ATOMIC_ACQUIRE) : NULL;
    if (!hwbp)
        return; /* it is gone */
    struct view *view = view_of(hwbp, tag);
    if (view) {
        struct telling telling = {.board = board,
                                  .context = &notification->frame->context,
                                  .regs = regs,
                                  .hwbp = hwbp,
                                  .view = view,
                                  .late = is_late(info),
                                  .alternate = is_on_alternate_stack(notification->frame)};
        if (!tl_call_aside(tell_handlers, &telling)) {
            telling.unheard = true;
            tell_all(&telling);
        }
    } else if (tag >= hwbp->born) {
        count(&hwbp->missed); /* it was modified */
    }
}
