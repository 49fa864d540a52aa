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
#include "insn/touch.h"

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
        own_tid = (int)tl_self_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
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
    hit.tid = this_thread();
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

/* ---- several hit by one instruction ---- */

/* What the instruction that has just been executed did to memory. */
struct deed {
    unsigned count;
    struct tl_touch touches[TL_TOUCHES_MAX];
};

static bool concerns(const struct view *view, const struct deed *deed)
{
    for (unsigned i = 0; i < deed->count; i++) {
        const struct tl_touch *touch = &deed->touches[i];
        bool watched = touch->access & TL_INSN_WRITES || view->access & TL_HWBP_READ;
        if (watched && touch->addr < view->address + view->length && view->address < touch->addr + touch->size)
            return true;
    }
    return false;
}

static bool is_deed(const uint8_t *text, size_t length, const struct tl_context *context, uint64_t addr,
                    const struct view *view, struct deed *deed)
{
    const uint64_t registers[16] = {context->rax, context->rcx, context->rdx, context->rbx, context->rsp, context->rbp,
                                    context->rsi, context->rdi, context->r8,  context->r9,  context->r10, context->r11,
                                    context->r12, context->r13, context->r14, context->r15};
    struct tl_insn insn;
    if (tl_insn_decode(text, length, addr, &insn))
        return false;
    if (addr == context->rip ? !(tl_insn_access(&insn) & TL_INSN_REPEATS) : insn.length != length)
        return false;
    deed->count = tl_insn_touches(&insn, registers, context->rflags, deed->touches);
    return concerns(view, deed);
}

/* Find it by that it hit the view: a string instruction that is not over, or the longest that ends here. */
static bool find_deed(const struct tl_context *context, const struct view *view, struct deed *deed)
{
    union {
        uint64_t words[4];
        uint8_t bytes[32];
    } text;
    for (unsigned i = 0; i < 4; i++)
        if (!onhit_peek(context->rip - 16 + i * 8, &text.words[i]))
            text.words[i] = 0;
    if (is_deed(text.bytes + 16, TL_INSN_MAX, context, context->rip, view, deed))
        return true;
    for (unsigned length = TL_INSN_MAX; length; length--)
        if (is_deed(text.bytes + 16 - length, length, context, context->rip - length, view, deed))
            return true;
    return false;
}

static bool is_about_this_thread(const struct tl_hwbp *hwbp)
{
    return hwbp->options.scope == TL_HWBP_PROCESS || hwbp->options.tid == this_thread();
}

static struct view *active_view(struct tl_hwbp *hwbp)
{
    struct view *view = &hwbp->views[__atomic_load_n(&hwbp->current, __ATOMIC_ACQUIRE) & 1];
    return __atomic_load_n(&view->tag, __ATOMIC_ACQUIRE) ? view : NULL;
}

/* Of those that one instruction hits, the kernel gets one signal through. Which others did it hit? Values that have
 * changed say little, other threads write too; so the instruction is looked at. Where it cannot be found, a change has
 * to do. */
static void report_others(const struct board *board, const struct tl_hwbp *told, const struct view *told_view,
                          const struct tl_context *context, struct tl_regs *regs)
{
    struct deed deed = {0};
    enum { NOT_LOOKED, FOUND, NOT_FOUND } state = NOT_LOOKED;
    bool executes = told_view->access == TL_HWBP_EXECUTE;
    for (size_t i = 0; i < board->room; i++) {
        struct tl_hwbp *hwbp = __atomic_load_n(&board->places[i], __ATOMIC_ACQUIRE);
        struct view *view = hwbp && hwbp != told && hwbp->options.handler ? active_view(hwbp) : NULL;
        if (!view || !is_on(hwbp) || hwbp->spec.period != 1 || (view->access == TL_HWBP_EXECUTE) != executes ||
            !is_about_this_thread(hwbp))
            continue;
        if (!executes && state == NOT_LOOKED)
            state = find_deed(context, told_view, &deed) ? FOUND : NOT_FOUND;
        uint64_t now;
        bool hit = executes         ? view->address == told_view->address
                   : state == FOUND ? concerns(view, &deed)
                                    : hwbp_look(view, &now) && now != __atomic_load_n(&view->shadow, __ATOMIC_RELAXED);
        if (hit)
            report(hwbp, view, regs, false);
    }
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
    if (view) {
        struct view was = *view;
        report(hwbp, view, regs, is_late(info));
        if (!is_late(info) && __atomic_load_n(&hwbp_reporters, __ATOMIC_RELAXED) > 1)
            report_others(board, hwbp, &was, &notification->frame->context, regs);
    } else if (tag >= hwbp->born) {
        count(&hwbp->missed); /* it was modified */
    }
    return true;
}
