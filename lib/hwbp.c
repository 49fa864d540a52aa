/* SPDX-License-Identifier: MIT
 *
 * The life of hardware breakpoints: create, switch, modify, read, destroy.
 *
 * The order in which things begin: the accounting, the checks, the kernel's events, which are disabled; then a place on
 * the board, so that signals find the breakpoint; then the events are enabled. It ends the other way round. What
 * signals may still look at is freed when no notifier runs that can have seen it: notifiers_wait.
 */
#include "trapline/hwbp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "hwbp.h"
#include "notifiers.h"
#include "structs.h"

enum {
    KNOWN_FLAGS = TL_HWBP_DISABLED | TL_HWBP_KERNEL | TL_HWBP_FORK | TL_HWBP_BRANCHES,
    BOARD_LEAST = 64,
    BOARD_MOST = HWBP_INDEX_MASK + 1,
    TID_BITS = 22,
    CAPABILITY_ADMIN = 21,
    CAPABILITY_VERSION = 0x20080522
};

static uint32_t *generations; /* of each place of the board */
static int forking_tid;

/* ---- what is asked for ---- */

static int check_options(const struct tl_hwbp_options *options, struct tl_error *error)
{
    bool whole = options->scope == TL_HWBP_CPU || options->scope == TL_HWBP_WIDE;
    if (options->flags & ~(uint64_t)KNOWN_FLAGS)
        return tl_fail(error, -EINVAL, "unknown flags 0x%llx", (unsigned long long)options->flags);
    if (options->scope > TL_HWBP_WIDE)
        return tl_fail(error, -EINVAL, "unknown scope %u", options->scope);
    if (whole && options->handler)
        return tl_fail(error, -EINVAL, "breakpoints of a CPU only count: the kernel reports their hits to nobody");
    if (whole && options->flags & TL_HWBP_FORK)
        return tl_fail(error, -EINVAL, "a breakpoint of a CPU is about all processes: TL_HWBP_FORK means nothing");
    if (options->period > 1 && !options->handler)
        return tl_fail(error, -EINVAL, "a period without a handler");
    if ((options->tid && options->scope != TL_HWBP_THREAD) || (options->cpu && options->scope != TL_HWBP_CPU))
        return tl_fail(error, -EINVAL, "`tid` or `cpu` with a scope that is not about one");
    return 0;
}

/* As the kernel wants it for kernel addresses. */
static bool is_privileged(void)
{
    struct {
        uint32_t version;
        int pid;
    } header = {CAPABILITY_VERSION, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } data[2] = {{0}};
    return tl_self_call(SYS_capget, (long)&header, (long)data, 0, 0, 0, 0) == 0 &&
           (data[0].effective >> CAPABILITY_ADMIN & 1);
}

static struct tl_hwbp_attr attr_of(const struct tl_hwbp_options *options)
{
    return (struct tl_hwbp_attr){.addr = (uintptr_t)options->address,
                                 .length = options->length,
                                 .access = options->access,
                                 .exclude_kernel = !(options->flags & TL_HWBP_KERNEL)};
}

static int check_attr(const struct tl_hwbp_options *options, struct tl_error *error)
{
    struct tl_hwbp_attr attr = attr_of(options);
    int code = tl_hwbp_check(&attr, is_privileged());
    unsigned long long addr = attr.addr, length = attr.length;
    switch (code) {
    case -EOPNOTSUPP:
        return tl_fail(error, code, "%llu bytes: a debug register covers 8 at most", length);
    case -EPERM:
        return tl_fail(error, code, "0x%llx is a kernel address, which takes CAP_SYS_ADMIN", addr);
    case -EINVAL:
        return tl_fail(
            error, code,
            "0x%llx, %llu bytes, access %u: a debug register covers 1, 2, 4 or 8 bytes at a multiple of that "
            "for WRITE or READ | WRITE, or sizeof(long) for EXECUTE; kernel addresses take TL_HWBP_KERNEL",
            addr, length, attr.access);
    default:
        return code;
    }
}

static int no_slot(struct tl_error *error, int code)
{
    if (code == -ENOSPC)
        return tl_fail(error, code, "no debug register is left: breakpoints of this process take all of them");
    return tl_fail(error, code, "out of memory");
}

/* ---- the board ---- */

static int grow_board(size_t room)
{
    struct board *old = hwbp_board, *board = malloc(sizeof *board + room * sizeof *board->places);
    uint32_t *numbers = realloc(generations, room * sizeof *numbers);
    if (numbers)
        generations = numbers;
    if (!board || !numbers) {
        free(board);
        return -ENOMEM;
    }
    board->room = room;
    board->places = (struct tl_hwbp **)(board + 1);
    size_t used = old ? old->room : 0;
    for (size_t i = 0; i < room; i++)
        board->places[i] = i < used ? old->places[i] : NULL;
    memset(numbers + used, 0, (room - used) * sizeof *numbers);
    __atomic_store_n(&hwbp_board, board, __ATOMIC_RELEASE);
    notifiers_wait();
    free(old);
    return 0;
}

static int find_place(uint32_t *index)
{
    size_t room = hwbp_board ? hwbp_board->room : 0;
    for (size_t i = 0; i < room; i++)
        if (!hwbp_board->places[i]) {
            *index = (uint32_t)i;
            return 0;
        }
    *index = (uint32_t)room;
    return room == BOARD_MOST ? -ENOMEM : grow_board(room ? room * 2 : BOARD_LEAST);
}

static uint64_t next_tag(uint32_t index)
{
    uint64_t generation = ++generations[index] & HWBP_GENERATION_MASK;
    return HWBP_MAGIC << HWBP_MAGIC_AT | generation << HWBP_GENERATION_AT | index;
}

/* ---- views ---- */

static void show(struct view *view, const struct tl_perf_spec *spec)
{
    __atomic_fetch_add(&hwbp_readers, spec->attr.access & TL_HWBP_READ ? 1 : 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&hwbp_reporters, spec->tag ? 1 : 0, __ATOMIC_SEQ_CST);
    view->address = spec->attr.addr;
    view->length = (uint32_t)spec->attr.length;
    view->access = spec->attr.access;
    hwbp_look(view, &view->shadow);
    __atomic_store_n(&view->tag, spec->tag, __ATOMIC_RELEASE);
}

static void hide(struct view *view)
{
    __atomic_fetch_sub(&hwbp_readers, view->access & TL_HWBP_READ ? 1 : 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&hwbp_reporters, view->tag ? 1 : 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&view->tag, 0, __ATOMIC_RELEASE);
}

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

/* ---- onto the registers, and off ---- */

static struct tl_perf_spec spec_of(const struct tl_hwbp_options *options, uint64_t tag)
{
    static const uint8_t scopes[] = {[TL_HWBP_PROCESS] = TL_PERF_PROCESS,
                                     [TL_HWBP_THREAD] = TL_PERF_THREAD,
                                     [TL_HWBP_CPU] = TL_PERF_CPU,
                                     [TL_HWBP_WIDE] = TL_PERF_WIDE};
    return (struct tl_perf_spec){.attr = attr_of(options),
                                 .tag = options->handler ? tag : 0,
                                 .period = options->period ? options->period : 1,
                                 .scope = scopes[options->scope],
                                 .tid = options->tid,
                                 .cpu = (int)options->cpu,
                                 .fork = options->flags & TL_HWBP_FORK};
}

static int add(struct tl_hwbp *hwbp, struct tl_error *error)
{
    struct view *view = &hwbp->views[hwbp->current];
    int code = hwbp_reserve(hwbp);
    if (code)
        return no_slot(error, code);
    code = check_attr(&hwbp->options, error);
    if (!code) {
        hwbp->spec = spec_of(&hwbp->options, next_tag(hwbp->index));
        code = tl_perf_open(&hwbp->spec, &hwbp->perf, error);
    }
    if (code) {
        hwbp_release(hwbp);
        return code;
    }
    show(view, &hwbp->spec);
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
    hide(&hwbp->views[hwbp->current]);
    __atomic_store_n(&hwbp->hits, (hwbp->hits & ~HWBP_OPEN) + tl_perf_read(&hwbp->perf), __ATOMIC_SEQ_CST);
    notifiers_wait();
    tl_perf_close(&hwbp->perf);
    hwbp_release(hwbp);
}

/* ---- create and destroy ---- */

/* Who it is about: there is such a thread, or CPU. */
static int find_target(struct tl_hwbp *hwbp, struct tl_error *error)
{
    struct tl_hwbp_options *options = &hwbp->options;
    if (options->flags & TL_HWBP_BRANCHES)
        return tl_fail(error, -EOPNOTSUPP, "breakpoints cannot sample branches");
    if (options->scope != TL_HWBP_THREAD)
        return options->scope != TL_HWBP_CPU || options->cpu < (unsigned long)sysconf(_SC_NPROCESSORS_CONF)
                   ? 0
                   : tl_fail(error, -ENODEV, "no CPU %u", options->cpu);
    if (!options->tid)
        options->tid = (int)tl_self_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    uint64_t start = tl_perf_thread_start(options->tid);
    hwbp->task = start << TID_BITS | (unsigned)options->tid; /* another thread may get the number later */
    return start ? 0 : tl_fail(error, -ESRCH, "no thread %d in this process", options->tid);
}

static int create(const struct tl_hwbp_options *options, struct tl_hwbp **out, struct tl_error *error)
{
    struct tl_hwbp *hwbp = calloc(1, sizeof *hwbp);
    if (!hwbp)
        return tl_fail(error, -ENOMEM, "out of memory");
    hwbp->options = *options;
    hwbp->enabled = !(options->flags & TL_HWBP_DISABLED);
    int code = find_target(hwbp, error);
    if (!code && find_place(&hwbp->index))
        code = tl_fail(error, -ENOMEM, "out of memory");
    if (!code) {
        hwbp->born = next_tag(hwbp->index);
        __atomic_store_n(&hwbp_board->places[hwbp->index], hwbp, __ATOMIC_RELEASE);
        code = add(hwbp, error);
        if (code) {
            __atomic_store_n(&hwbp_board->places[hwbp->index], NULL, __ATOMIC_RELEASE);
            notifiers_wait();
        }
    }
    if (code)
        free(hwbp);
    else
        *out = hwbp;
    return code;
}

static int copy(const struct tl_hwbp_options *theirs, struct tl_hwbp_options *ours, struct tl_error *error)
{
    int code = structs_copy(theirs, ours, sizeof *ours, sizeof *ours, "tl_hwbp_options", error);
    return code ? code : check_options(ours, error);
}

int tl_hwbp_create(const struct tl_hwbp_options *options, struct tl_hwbp **out, struct tl_error *error)
{
    struct tl_hwbp_options checked;
    if (!out)
        return tl_fail(error, -EINVAL, "nowhere to put the breakpoint: NULL");
    *out = NULL;
    int code = copy(options, &checked, error);
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
    __atomic_store_n(&hwbp_board->places[hwbp->index], NULL, __ATOMIC_RELEASE);
    notifiers_wait();
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
        code = find_target(hwbp, error);
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
        notifiers_wait();
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
    uint32_t *reading = notifiers_read_begin();
    if (__atomic_exchange_n(&hwbp->stopped, stopped, __ATOMIC_SEQ_CST) != stopped)
        settle(hwbp);
    notifiers_read_end(reading);
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

static bool is_same_but_for_place(const struct tl_hwbp_options *a, const struct tl_hwbp_options *b)
{
    return !((a->flags ^ b->flags) & ~(uint64_t)TL_HWBP_DISABLED) && a->scope == b->scope &&
           (a->tid == b->tid || !b->tid) && a->cpu == b->cpu &&
           (a->period ? a->period : 1) == (b->period ? b->period : 1) && a->handler == b->handler &&
           a->context == b->context;
}

/* While added: the accounting, then the kernel; all or nothing. */
static int move(struct tl_hwbp *hwbp, const struct tl_hwbp_options *to, struct tl_error *error)
{
    struct view *from_view = &hwbp->views[hwbp->current], *view = &hwbp->views[!hwbp->current];
    struct tl_perf_spec spec = spec_of(to, next_tag(hwbp->index));
    uint32_t was = hwbp->options.access;
    int code = hwbp_retype(hwbp, to->access);
    if (code)
        return no_slot(error, code);
    show(view, &spec);
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
    hide(code ? view : from_view);
    if (on != is_on(hwbp))
        settle(hwbp);
    notifiers_wait();
    return code ? tl_fail(error, code, "the kernel refuses to move the breakpoint (%s)", tl_errno_name(-code)) : 0;
}

static int modify(struct tl_hwbp *hwbp, const struct tl_hwbp_options *options, struct tl_error *error)
{
    if (!is_same_but_for_place(&hwbp->options, options))
        return tl_fail(error, -EINVAL,
                       "only address, length, access and TL_HWBP_DISABLED of a breakpoint can be changed");
    int code = check_attr(options, error);
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
    int code = copy(options, &checked, error);
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
    uint32_t *reading = notifiers_read_begin();
    counts->handled = __atomic_load_n(&hwbp->handled, __ATOMIC_RELAXED);
    counts->late = __atomic_load_n(&hwbp->late, __ATOMIC_RELAXED);
    counts->missed = __atomic_load_n(&hwbp->missed, __ATOMIC_RELAXED);
    uint64_t hits = __atomic_load_n(&hwbp->hits, __ATOMIC_SEQ_CST);
    counts->hits = hits & HWBP_OPEN ? (hits & ~HWBP_OPEN) + tl_perf_read(&hwbp->perf) : hits;
    if (hwbp->inherited)
        counts->hits = (counts->handled + counts->missed) * hwbp->spec.period;
    notifiers_read_end(reading);
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
        hide(&hwbp->views[hwbp->current]);
        hwbp_release(hwbp);
    }
    hwbp_hit_forked();
}
