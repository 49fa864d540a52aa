/* SPDX-License-Identifier: MIT
 *
 * Who is asked about an exception, in order: the library's hardware breakpoints, about theirs; notifiers of priority
 * above 0; the library's probes (their traps, faults in their handlers and at their instructions); other notifiers; the
 * program.
 *
 * The broker asks before it decides anything, so a trap of ours is passed to it in the middle of the chain. The chain
 * is an immutable array behind one pointer; whoever has put another one there waits for its readers (readers.c).
 *
 * In a copy, the registers that notifiers see are the program's, at the instruction. If a claim leaves them alone, the
 * copy goes on; if it changes the place or the stack pointer, the thread goes on there.
 */
#include "notifiers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "frontend.h"
#include "hit/broker.h"
#include "hwbp.h"
#include "readers.h"
#include "structs.h"
#include "trapline/notify.h"

/* Bits of the error code of a page fault do not matter here; traps by number: */
enum { VECTOR_PAGE_FAULT = 14 };

struct chain {
    size_t count;
    struct link {
        struct tl_notifier *notifier;
        tl_notifier_call *call;
        int32_t priority;
    } links[];
};

static struct chain *chain; /* NULL: empty */

/* ---- registers ---- */

#define SAME_NAMES(X)                                                                                                  \
    X(rax)                                                                                                             \
    X(rcx)                                                                                                             \
    X(rdx) X(rbx) X(rsp) X(rbp) X(rsi) X(rdi) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15) X(rip) X(rflags)

static struct tl_regs regs_of(const struct tl_context *context)
{
    struct tl_regs regs;
#define GET(name) regs.name = context->name;
    SAME_NAMES(GET)
#undef GET
    return regs;
}

/* What was changed in `after`, compared with `before`, goes into the context. */
static void apply(struct tl_context *context, const struct tl_regs *before, const struct tl_regs *after)
{
#define PUT(name)                                                                                                      \
    if (after->name != before->name)                                                                                   \
        context->name = after->name;
    SAME_NAMES(PUT)
#undef PUT
}

/* ---- on an exception ---- */

struct exception {
    struct tl_notice_info info;
    struct tl_context seen; /* as the program would see it */
    struct tl_regs before, regs;
    bool mapped; /* `seen` differs from the frame */
};

static void describe(const struct tl_notification *notification, struct exception *exception)
{
    static const uint8_t notices[] = {[TL_EXCEPTION_BREAKPOINT] = TL_NOTICE_BREAKPOINT,
                                      [TL_EXCEPTION_DEBUG] = TL_NOTICE_DEBUG,
                                      [TL_EXCEPTION_PROTECTION] = TL_NOTICE_PROTECTION,
                                      [TL_EXCEPTION_PAGE] = TL_NOTICE_PAGE_FAULT};
    const struct tl_signal_frame *frame = notification->frame;
    const struct tl_context *context = &frame->context;
    bool page = notification->exception == TL_EXCEPTION_PAGE;
    exception->seen = *context;
    exception->mapped =
        notification->range && notification->exception != TL_EXCEPTION_BREAKPOINT &&
        tl_trap_map_back(tl_broker_tables(tl_self_broker(engine.self)), notification->range, &exception->seen);
    exception->info = (struct tl_notice_info){.notice = notices[notification->exception],
                                              .signal = frame->info.number,
                                              .code = frame->info.code,
                                              .error = (uint32_t)context->error,
                                              .address = page ? context->cr2 : 0};
    exception->before = exception->regs = regs_of(&exception->seen);
}

static void claim(const struct tl_notification *notification, const struct exception *exception)
{
    struct tl_context *context = &notification->frame->context;
    bool elsewhere = exception->regs.rip != exception->before.rip || exception->regs.rsp != exception->before.rsp;
    if (exception->mapped && elsewhere)
        *context = exception->seen;
    apply(context, &exception->before, &exception->regs);
}

/* Ask the links with priority above 0, or the others. */
static bool ask(const struct chain *links, bool above, struct exception *exception)
{
    for (size_t i = 0; links && i < links->count; i++) {
        const struct link *link = &links->links[i];
        if ((link->priority > 0) == above &&
            link->call(link->notifier, &exception->regs, &exception->info) == TL_NOTIFY_CLAIM)
            return true;
    }
    return false;
}

static bool walk(const struct chain *links, const struct tl_notification *notification)
{
    struct exception exception;
    describe(notification, &exception);
    if (ask(links, true, &exception)) {
        claim(notification, &exception);
        return true;
    }
    if (notification->trap || (notification->range && notification->exception == TL_EXCEPTION_DEBUG)) {
        apply(&notification->frame->context, &exception.before, &exception.regs);
        return false; /* the broker's turn: it is ours */
    }
    if (faults_handle(notification, &exception.info, &exception.regs)) {
        claim(notification, &exception);
        return true;
    }
    if (ask(links, false, &exception)) {
        claim(notification, &exception);
        return true;
    }
    return false;
}

/* A hit behind the last instruction of a copy is one behind the program's instruction. With another rip, a breakpoint
 * on the instruction there is to hit. */
static bool watch(const struct tl_notification *notification)
{
    struct tl_context *context = &notification->frame->context;
    struct exception exception;
    describe(notification, &exception);
    const struct tl_trap_range *range =
        notification->range ? NULL
                            : tl_trap_range_find(tl_broker_tables(tl_self_broker(engine.self)), context->rip - 1);
    if (range && range->end == context->rip) {
        exception.seen.rip = exception.before.rip = exception.regs.rip = range->addr + range->length;
        exception.mapped = true;
    }
    exception.before.rflags = exception.regs.rflags &= ~(uint64_t)TL_FLAG_RESUME;
    hwbp_trap(notification, &exception.regs);
    claim(notification, &exception);
    if (exception.regs.rip != exception.before.rip)
        context->rflags &= ~(uint64_t)TL_FLAG_RESUME;
    return true;
}

/* tl_broker_notifier. The broker keeps its stack to 8 bytes only. */
__attribute__((force_align_arg_pointer)) static bool notified(void *context, const struct tl_notification *notification)
{
    (void)context;
    bool is_fault = notification->exception == TL_EXCEPTION_PAGE || notification->exception == TL_EXCEPTION_PROTECTION;
    if (is_fault && tl_call_has_no_room(&notification->frame->context, notification->range))
        return true;
    struct reading reading;
    readers_tidy(&reading, notification->frame->context.rsp, notification->frame->context.rbp);
    readers_begin(&reading, __builtin_frame_address(0));
    bool claimed = hwbp_is_trap(notification) ? watch(notification)
                                              : walk(__atomic_load_n(&chain, __ATOMIC_SEQ_CST), notification);
    readers_end(&reading);
    return claimed;
}

void notifiers_attach(struct tl_broker *broker)
{
    broker->notify_context = 0;
    __atomic_store_n(&broker->notify, (uint64_t)(uintptr_t)notified, __ATOMIC_SEQ_CST);
}

/* ---- changing the chain, under the engine's lock ---- */

static void replace(struct chain *next)
{
    struct chain *old = __atomic_exchange_n(&chain, next, __ATOMIC_SEQ_CST);
    readers_wait();
    free(old);
}

static int insert(const struct tl_notifier *checked, struct tl_notifier *notifier, struct tl_error *error)
{
    size_t count = chain ? chain->count : 0, at = 0;
    struct chain *next = malloc(sizeof *next + (count + 1) * sizeof next->links[0]);
    if (!next)
        return tl_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        if (chain->links[i].notifier == notifier) {
            free(next);
            return tl_fail(error, -EEXIST, "this notifier is in the chain already");
        }
    while (at < count && chain->links[at].priority >= checked->priority)
        at++;
    next->count = count + 1;
    for (size_t i = 0; i < count; i++)
        next->links[i + (i >= at)] = chain->links[i];
    next->links[at] = (struct link){notifier, checked->call, checked->priority};
    replace(next);
    return 0;
}

int tl_notifier_add(struct tl_notifier *notifier, struct tl_error *error)
{
    struct tl_notifier checked;
    int code = structs_copy(notifier, &checked, sizeof checked, sizeof checked, "tl_notifier", error);
    if (code)
        return code;
    if (!checked.call)
        return tl_fail(error, -EINVAL, "a notifier without a call");
    if (checked.flags || checked.reserved)
        return tl_fail(error, -EINVAL, "`flags` or `reserved` is not 0");
    code = engine_begin(error);
    if (code)
        return code;
    code = engine.traps ? insert(&checked, notifier, error)
                        : tl_fail(error, -ENOTSUP, "the signals cannot be taken over in this program");
    engine_end();
    return code;
}

int tl_notifier_remove(struct tl_notifier *notifier)
{
    int code = engine_enter();
    if (code)
        return code;
    size_t count = chain ? chain->count : 0, at = 0;
    while (at < count && chain->links[at].notifier != notifier)
        at++;
    code = at < count ? 0 : -ENOENT;
    if (!code) {
        struct chain *next = count > 1 ? malloc(sizeof *next + (count - 1) * sizeof next->links[0]) : NULL;
        if (count > 1 && !next) {
            code = -ENOMEM;
        } else {
            for (size_t i = 0; next && i < count; i++)
                if (i != at)
                    next->links[i - (i > at)] = chain->links[i];
            if (next)
                next->count = count - 1;
            replace(next);
        }
    }
    engine_end();
    return code;
}
