/* SPDX-License-Identifier: MIT
 *
 * On a hit: in the broker's signal handler, for the chain's readers (notifiers.c), by whom it is waited for.
 *
 * The kernel sends one SIGTRAP, with the tag of the breakpoint that was hit.
 */
#include <errno.h>
#include <sys/syscall.h>

#include "engine.h"
#include "hit/broker.h"
#include "hwbp.h"

enum { TRAP_PERF = 6, ASYNC = 1 };

struct board *hwbp_board;
uint32_t hwbp_readers;
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

static void count(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* What we read ourselves is not to hit: where reads are watched the kernel reads for us. */
static bool load(uint64_t at, uint64_t *word)
{
    if (__atomic_load_n(&hwbp_readers, __ATOMIC_SEQ_CST))
        return tl_self_read(engine.self, at, word, sizeof *word) == 0;
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

struct call {
    struct tl_hwbp *hwbp;
    struct view *view;
    struct tl_regs *regs;
    bool late;
};

static void run(void *argument)
{
    const struct call *call = argument;
    struct tl_hwbp *hwbp = call->hwbp;
    struct view *view = call->view;
    struct tl_hwbp_hit hit = {.address = view->address,
                              .length = view->length,
                              .access = view->access,
                              .flags = call->late ? TL_HWBP_HIT_LATE : 0,
                              .context = hwbp->options.context};
    if (!own_tid)
        own_tid = (int)tl_self_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    hit.tid = own_tid;
    if (view->access != TL_HWBP_EXECUTE) {
        if (hwbp_look(view, &hit.now))
            hit.before = __atomic_exchange_n(&view->shadow, hit.now, __ATOMIC_RELAXED);
        else
            hit.flags |= TL_HWBP_HIT_BLIND;
    }
    count(&hwbp->handled);
    if (call->late)
        count(&hwbp->late);
    hwbp->options.handler(hwbp, call->regs, &hit);
}

static bool is_on(const struct tl_hwbp *hwbp)
{
    return __atomic_load_n(&hwbp->added, __ATOMIC_RELAXED) && __atomic_load_n(&hwbp->enabled, __ATOMIC_RELAXED) &&
           !__atomic_load_n(&hwbp->stopped, __ATOMIC_RELAXED);
}

static void report(struct tl_hwbp *hwbp, struct view *view, struct tl_regs *regs, bool late)
{
    struct call call = {hwbp, view, regs, late};
    int saved = errno;
    if (!is_on(hwbp) || !tl_call_aside(run, &call))
        count(&hwbp->missed);
    errno = saved;
}

static struct view *view_of(struct tl_hwbp *hwbp, uint64_t tag)
{
    for (unsigned i = 0; i < 2; i++)
        if (__atomic_load_n(&hwbp->views[i].tag, __ATOMIC_ACQUIRE) == tag)
            return &hwbp->views[i];
    return NULL;
}

bool hwbp_trap(const struct tl_notification *notification, struct tl_regs *regs)
{
    const struct tl_siginfo *info = &notification->frame->info;
    const struct board *board = __atomic_load_n(&hwbp_board, __ATOMIC_ACQUIRE);
    uint64_t tag = tag_of(info), index = tag & HWBP_INDEX_MASK;
    struct tl_hwbp *hwbp =
        board && index < board->room ? __atomic_load_n(&board->places[index], __ATOMIC_ACQUIRE) : NULL;
    if (!hwbp)
        return true;
    struct view *view = view_of(hwbp, tag);
    if (view)
        report(hwbp, view, regs, is_late(info));
    else if (tag >= hwbp->born)
        count(&hwbp->missed); /* it was modified */
    return true;
}
