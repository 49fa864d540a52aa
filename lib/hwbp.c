/* SPDX-License-Identifier: MIT
 *
 * The life of hardware breakpoints: create, switch, modify, read, destroy.
 *
 * The order in which things begin: the accounting, the checks, the kernel's events, which are disabled; then a place on
 * the board, so that signals find the breakpoint; then the events are enabled. It ends the other way round. What
 * signals may still look at is freed when no notifier runs that can have seen it: readers_wait.
 */
#include "trapline/hwbp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "engine.h"
#include "hwbp.h"
#include "readers.h"
#include "notifiers.h"

static int forking_tid;

static int no_slot(struct tl_error *error, int code)
{
    if (code == -ENOSPC)
        return tl_fail(error, code, "no debug register is left: breakpoints of this process take all of them");
    return tl_fail(error, code, "out of memory");
}

/* ---- onto the registers, and off ---- */

static bool is_on(const struct tl_hwbp *hwbp)
{
    return hwbp->added && hwbp->enabled && !__atomic_load_n(&hwbp->stopped, __ATOMIC_SEQ_CST);
}

/* Bring the events to what the flags say. */
static void settle(struct tl_hwbp *hwbp)
{
    for (bool on = !is_on(hwbp); on != is_on(hwbp);) {
        on = is_on(hwbp);
        if (on)
            hwbp_look(&hwbp->views[hwbp->current], &hwbp->views[hwbp->current].shadow);
        tl_perf_switch(&hwbp->perf, on);
    }
}

static int add(struct tl_hwbp *hwbp, struct tl_error *error)
{
    struct view *view = &hwbp->views[hwbp->current];
    int code = hwbp_reserve(hwbp);
    if (code)
        return no_slot(error, code);
    code = hwbp_check_attr(&hwbp->options, error);
    if (!code) {
        hwbp->spec = hwbp_spec(&hwbp->options, hwbp_next_tag(hwbp->index));
        code = tl_perf_open(&hwbp->spec, &hwbp->perf, error);
    }
    if (code) {
        hwbp_release(hwbp);
        return code;
    }
    hwbp_show(view, &hwbp->spec);
    __atomic_store_n(&hwbp->hits, hwbp->hits | HWBP_OPEN, __ATOMIC_SEQ_CST);
    __atomic_store_n(&hwbp->added, true, __ATOMIC_SEQ_CST);
    settle(hwbp);
    return 0;
}

/* Handlers may read the counts meanwhile. */
static void del(struct tl_hwbp *hwbp)
{
    __atomic_store_n(&hwbp->added, false, __ATOMIC_SEQ_CST);
    tl_perf_switch(&hwbp->perf, false);
    hwbp_hide(&hwbp->views[hwbp->current]);
    __atomic_store_n(&hwbp->hits, (hwbp->hits & ~HWBP_OPEN) + tl_perf_read(&hwbp->perf), __ATOMIC_SEQ_CST);
    readers_wait();
    tl_perf_close(&hwbp->perf);
    hwbp_release(hwbp);
}

/* ---- create and destroy ---- */

static int create(const struct tl_hwbp_options *options, struct tl_hwbp **out, struct tl_error *error)
{
    struct tl_hwbp *hwbp = calloc(1, sizeof *hwbp);
    if (!hwbp)
        return tl_fail(error, -ENOMEM, "out of memory");
    hwbp->options = *options;
    hwbp->enabled = !(options->flags & TL_HWBP_DISABLED);
    int code = hwbp_find_target(hwbp, error);
    if (!code && hwbp_find_place(&hwbp->index))
        code = tl_fail(error, -ENOMEM, "out of memory");
    if (!code) {
        hwbp->born = hwbp_next_tag(hwbp->index);
        hwbp_put(hwbp->index, hwbp);
        code = add(hwbp, error);
        if (code) {
            hwbp_put(hwbp->index, NULL);
        }
    }
    if (code)
        free(hwbp);
    else
        *out = hwbp;
    return code;
}

int tl_hwbp_create(const struct tl_hwbp_options *options, struct tl_hwbp **out, struct tl_error *error)
{
    struct tl_hwbp_options checked;
    if (!out)
        return tl_fail(error, -EINVAL, "nowhere to put the breakpoint: NULL");
    *out = NULL;
    int code = hwbp_copy_options(options, &checked, error);
    if (!code)
        code = checked.handler ? engine_begin(error) : engine_open(error);
    if (code)
        return code;
    code = checked.handler && !engine.traps
               ? tl_fail(error, -ENOTSUP, "the signals cannot be taken over in this program")
               : create(&checked, out, error);
    engine_end();
    return code;
}

int tl_hwbp_destroy(struct tl_hwbp *hwbp)
{
    if (!hwbp)
        return 0;
    int code = engine_enter();
    if (code)
        return code;
    if (hwbp->added && !hwbp->inherited)
        del(hwbp);
    hwbp_put(hwbp->index, NULL);
    engine_end();
    free(hwbp);
    return 0;
}

/* ---- change ---- */

/* Take the lock, to change something. */
static int change(const struct tl_hwbp *hwbp)
{
    int code = engine_enter();
    if (code || !hwbp->inherited)
        return code;
    engine_end();
    return -EPERM;
}

int tl_hwbp_add(struct tl_hwbp *hwbp, struct tl_error *error)
{
    int code = change(hwbp);
    if (code)
        return tl_fail(error, code, code == -EDEADLK ? "called from a handler" : "it is the parent's");
    if (!hwbp->added)
        code = hwbp_find_target(hwbp, error);
    if (!code && !hwbp->added)
        code = add(hwbp, error);
    engine_end();
    return code;
}

int tl_hwbp_del(struct tl_hwbp *hwbp)
{
    int code = change(hwbp);
    if (code)
        return code;
    if (hwbp->added)
        del(hwbp);
    engine_end();
    return 0;
}

static void enable(struct tl_hwbp *hwbp, bool on)
{
    if (hwbp->enabled == on)
        return;
    __atomic_store_n(&hwbp->enabled, on, __ATOMIC_SEQ_CST);
    settle(hwbp);
    if (!on)
        readers_wait();
}

static int enable_locked(struct tl_hwbp *hwbp, bool on)
{
    int code = change(hwbp);
    if (code)
        return code;
    enable(hwbp, on);
    engine_end();
    return 0;
}

int tl_hwbp_enable(struct tl_hwbp *hwbp)
{
    return enable_locked(hwbp, true);
}

int tl_hwbp_disable(struct tl_hwbp *hwbp)
{
    return enable_locked(hwbp, false);
}

static int stop(struct tl_hwbp *hwbp, bool stopped)
{
    if (hwbp->inherited)
        return -EPERM;
    struct reading reading;
    readers_begin(&reading, __builtin_frame_address(0));
    if (__atomic_exchange_n(&hwbp->stopped, stopped, __ATOMIC_SEQ_CST) != stopped)
        settle(hwbp);
    readers_end(&reading);
    return 0;
}

int tl_hwbp_start(struct tl_hwbp *hwbp)
{
    return stop(hwbp, false);
}

int tl_hwbp_stop(struct tl_hwbp *hwbp)
{
    return stop(hwbp, true);
}

/* ---- modify ---- */

/* While added: the accounting, then the kernel; all or nothing. */
static int move(struct tl_hwbp *hwbp, const struct tl_hwbp_options *to, struct tl_error *error)
{
    struct view *from_view = &hwbp->views[hwbp->current], *view = &hwbp->views[!hwbp->current];
    struct tl_perf_spec spec = hwbp_spec(to, hwbp_next_tag(hwbp->index));
    uint32_t was = hwbp->options.access;
    int code = hwbp_retype(hwbp, to->access);
    if (code)
        return no_slot(error, code);
    hwbp_show(view, &spec);
    bool on = is_on(hwbp);
    code = tl_perf_modify(&hwbp->perf, &hwbp->spec, on, &spec, on);
    if (code) {
        hwbp->options.access = to->access;
        int back = hwbp_retype(hwbp, was);
        assert(!back);
        (void)back;
        hwbp->options.access = was;
    } else {
        hwbp->spec = spec;
        __atomic_store_n(&hwbp->current, !hwbp->current, __ATOMIC_RELEASE);
    }
    hwbp_hide(code ? view : from_view);
    if (on != is_on(hwbp))
        settle(hwbp);
    readers_wait();
    return code ? tl_fail(error, code, "the kernel refuses to move the breakpoint (%s)", tl_errno_name(-code)) : 0;
}

static int modify(struct tl_hwbp *hwbp, const struct tl_hwbp_options *options, struct tl_error *error)
{
    if (!hwbp_is_same_but_for_place(&hwbp->options, options))
        return tl_fail(error, -EINVAL,
                       "only address, length, access and TL_HWBP_DISABLED of a breakpoint can be changed");
    int code = hwbp_check_attr(options, error);
    bool enabled = !(options->flags & TL_HWBP_DISABLED), was = hwbp->enabled;
    if (code)
        return code;
    if (!enabled)
        enable(hwbp, false);
    code = hwbp->added ? move(hwbp, options, error) : 0;
    if (code) {
        enable(hwbp, was);
        return code;
    }
    hwbp->options.address = options->address;
    hwbp->options.length = options->length;
    hwbp->options.access = options->access;
    enable(hwbp, enabled);
    return 0;
}

int tl_hwbp_modify(struct tl_hwbp *hwbp, const struct tl_hwbp_options *options, struct tl_error *error)
{
    struct tl_hwbp_options checked;
    int code = hwbp_copy_options(options, &checked, error);
    if (code)
        return code;
    code = change(hwbp);
    if (code)
        return tl_fail(error, code, code == -EDEADLK ? "called from a handler" : "it is the parent's");
    code = modify(hwbp, &checked, error);
    engine_end();
    return code;
}

/* ---- read ---- */

int tl_hwbp_read(const struct tl_hwbp *hwbp, struct tl_hwbp_counts *counts)
{
    size_t size = counts ? counts->size : 0;
    if (size < sizeof *counts)
        return -EINVAL;
    struct reading reading;
    readers_begin(&reading, __builtin_frame_address(0));
    counts->handled = __atomic_load_n(&hwbp->handled, __ATOMIC_RELAXED);
    counts->late = __atomic_load_n(&hwbp->late, __ATOMIC_RELAXED);
    counts->missed = __atomic_load_n(&hwbp->missed, __ATOMIC_RELAXED);
    uint64_t hits = __atomic_load_n(&hwbp->hits, __ATOMIC_SEQ_CST);
    counts->hits = hits & HWBP_OPEN ? (hits & ~HWBP_OPEN) + tl_perf_read(&hwbp->perf) : hits;
    if (hwbp->inherited)
        counts->hits = (counts->handled + counts->missed) * hwbp->spec.period;
    readers_end(&reading);
    return 0;
}

/* ---- fork ---- */

void hwbp_forking(void)
{
    forking_tid = hwbp_board ? (int)tl_self_call(SYS_gettid, 0, 0, 0, 0, 0, 0) : 0;
}

/* The descriptors are the parent's events: what is done to them is done to the parent. */
void hwbp_forked(void)
{
    int tid = hwbp_board ? (int)tl_self_call(SYS_gettid, 0, 0, 0, 0, 0, 0) : 0;
    for (size_t i = 0; hwbp_board && i < hwbp_board->room; i++) {
        struct tl_hwbp *hwbp = hwbp_board->places[i];
        if (!hwbp)
            continue;
        bool own = hwbp->options.scope == TL_HWBP_THREAD && hwbp->options.tid == forking_tid;
        bool goes_along = hwbp->options.flags & TL_HWBP_FORK && (own || hwbp->options.scope == TL_HWBP_PROCESS);
        tl_perf_close(&hwbp->perf);
        hwbp->hits = hwbp->handled = hwbp->late = hwbp->missed = 0;
        if (own)
            hwbp->options.tid = tid;
        if (!hwbp->added)
            continue;
        hwbp->inherited = goes_along;
        if (goes_along)
            continue;
        hwbp->added = false;
        hwbp_hide(&hwbp->views[hwbp->current]);
        hwbp_release(hwbp);
    }
    hwbp_hit_forked();
}
