/* SPDX-License-Identifier: MIT
 *
 * Watching a program's memory: which mechanism, which spots on which registers, whose turn it is.
 *
 * All threads stand still while the registers are armed for the first time, and the shadows are what the memory holds
 * in that moment: so no access is missed, and the first report's old value is right. Turns come without a stop: a
 * spot's shadow is read when its turn begins, and what happens to it between its turns nobody sees. Each turn of a spot
 * has a tag of its own, so that a signal of an earlier one is known to be stale.
 */
#include "host/remote/watching.h"

#include "base/array.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { PERIOD_NS = 10000000, LOOK_NS = 20000000 };

/* As many files as threads and registers: as many as we may have. */
static void raise_descriptor_limit(size_t needed)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= needed)
        return;
    limit.rlim_cur = needed;
    if (limit.rlim_max < needed) {
        struct rlimit more = {needed, needed};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
        limit.rlim_cur = limit.rlim_max;
    }
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- threads ---- */

static struct tl_watching_thread *find_thread(const struct tl_watching *w, pid_t tid)
{
    for (size_t i = 0; i < w->thread_count; i++)
        if (w->threads[i].tid == tid)
            return &w->threads[i];
    return NULL;
}

static struct tl_watching_thread *add_thread(struct tl_watching *w, pid_t tid)
{
    struct tl_watching_thread *threads = tl_array_grown(w->threads, w->thread_count, &w->thread_room, sizeof *threads);
    if (!threads)
        return NULL;
    w->threads = threads;
    struct tl_watching_thread *thread = &w->threads[w->thread_count++];
    *thread = (struct tl_watching_thread){.tid = tid};
    for (unsigned k = 0; k < TL_HWBP_REGISTERS; k++)
        thread->events[k] = -1;
    return thread;
}

/* ---- spots ---- */

/* What the spot holds now. */
static int read_shadow(struct tl_watching *w, uint32_t index)
{
    const struct tl_watching_spot *spot = &w->spots[index];
    struct tl_watch_spot *shared = &w->table->spots[index];
    uint64_t value = 0;
    int result = spot->access & TL_SPOT_EXECUTES ? 0 : tl_mem_read(w->r, spot->addr, &value, spot->length);
    __atomic_store_n(&shared->shadow, value, __ATOMIC_RELAXED);
    __atomic_store_n(&shared->known, result == 0, __ATOMIC_RELEASE);
    return result;
}

/* From here on signals with this tag are told of. */
static void let_in(struct tl_watching *w, uint32_t index)
{
    __atomic_store_n(&w->table->spots[index].tag, tl_watch_tag(w->turns, index), __ATOMIC_RELEASE);
}

static void end_turn(struct tl_watching *w, uint32_t index, uint64_t now)
{
    struct tl_watching_spot *spot = &w->spots[index];
    if (spot->since)
        spot->armed_ns += now - spot->since;
    spot->since = 0;
}

/* The program may have written to the table by now: what is taken from there is looked at once it is ours. */
static int take_spots(struct tl_watching *w)
{
    struct tl_watch_table *table = w->table;
    w->spot_count = __atomic_load_n(&table->count, __ATOMIC_RELAXED);
    if (w->spot_count > TL_WATCH_SPOTS)
        return -EINVAL;
    for (uint32_t i = 0; i < w->spot_count; i++) {
        const struct tl_watch_spot *shared = &table->spots[i];
        struct tl_watching_spot *spot = &w->spots[i];
        spot->addr = __atomic_load_n(&shared->addr, __ATOMIC_RELAXED);
        spot->length = __atomic_load_n(&shared->length, __ATOMIC_RELAXED);
        spot->access = __atomic_load_n(&shared->access, __ATOMIC_RELAXED);
        const struct tl_hwbp_attr attr = {.addr = spot->addr,
                                          .length = spot->access & TL_SPOT_EXECUTES ? sizeof(long) : spot->length,
                                          .access = spot->access,
                                          .exclude_kernel = true};
        if (tl_hwbp_check(&attr, false))
            return -EINVAL;
        table->reads |= spot->access & TL_SPOT_READS;
    }
    return 0;
}

/* ---- the first time ---- */

/* Where there are fewer registers than thought, all threads get by with these. */
static int settle_for(struct tl_watching *w, unsigned free)
{
    for (size_t i = 0; i < w->thread_count; i++)
        w->means->release(w, &w->threads[i], free);
    w->carriers = free;
    return 0;
}

static int tell_failure(const struct tl_watching *w, pid_t tid, int result, struct tl_error *error)
{
    if (result == -EMFILE || result == -ENFILE)
        return tl_fail(error, -EMFILE, "too few file descriptors for %zu threads: raise the limit (ulimit -n)",
                       w->facts.threads);
    return tl_fail(error, result, "a %s cannot be set in thread %d: %s", w->means->name, tid, strerror(-result));
}

static int arm_thread(struct tl_watching *w, pid_t tid, struct tl_watching_room *room, struct tl_error *error)
{
    struct tl_watching_thread *thread = add_thread(w, tid);
    unsigned free = 0;
    if (!thread)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result = w->means->arm(w, thread, &free);
    bool too_few = result == -ENOSPC || (result == 0 && w->carriers < w->spot_count && !w->options.multiplex);
    if (result == -ESRCH) {
        w->means->release(w, thread, 0);
        w->thread_count--;
        return 0;
    }
    if (!too_few)
        return result ? tell_failure(w, tid, result, error) : 0;
    if (result == 0)
        free = w->carriers;
    if (!tl_watching_are_admitted(w, free))
        return tl_watching_tell_room(w, tid, free, room, error);
    return settle_for(w, free);
}

static void give_up(struct tl_watching *w)
{
    for (size_t i = 0; i < w->thread_count; i++)
        w->means->release(w, &w->threads[i], 0);
    w->thread_count = 0;
}

/* Target stopped. */
static int arm_all(struct tl_watching *w, const struct tl_watching_means *means, struct tl_watching_room *room,
                   struct tl_error *error)
{
    struct tl_remote *r = w->r;
    int result = 0;
    w->means = means;
    w->table->means = means->kind;
    w->carriers = w->spot_count < TL_HWBP_REGISTERS ? w->spot_count : TL_HWBP_REGISTERS;
    for (unsigned k = 0; k < TL_HWBP_REGISTERS; k++)
        w->on[k] = k < w->carriers ? k : TL_NO_SPOT;
    for (uint32_t i = 0; i < w->spot_count && result == 0; i++)
        if (read_shadow(w, i))
            result = tl_fail(error, -EFAULT, "nothing is mapped at 0x%llx", (unsigned long long)w->spots[i].addr);
    if (result == 0 && means->begin)
        result = means->begin(w, error);
    for (size_t i = 0; i < r->task_count && result == 0; i++)
        if (!r->tasks[i].outside)
            result = arm_thread(w, r->tasks[i].tid, room, error);
    if (result)
        give_up(w);
    return result;
}

/* A register that ptrace has ever set stays with ptrace until its thread ends, though it is off. Whether events have
 * met such, and ptrace has enough with them. It is not tried for nothing: what it takes it keeps. */
static bool are_left_behind(const struct tl_watching *w, const struct tl_watching_room *room)
{
    return room->left_behind && tl_watching_are_admitted(w, room->free + room->left_behind);
}

static int begin(struct tl_watching *w, struct tl_watching_room *room, struct tl_error *error)
{
    w->turns = 1;
    int result = arm_all(w, &tl_watching_by_events, room, error);
    bool is_forbidden = result == -EACCES || result == -EPERM || result == -ENOSYS;
    bool is_unknown = result == -E2BIG || result == -EINVAL || result == -EOPNOTSUPP; /* to an old kernel */
    bool is_ptraces = result == -ENOSPC && are_left_behind(w, room);
    if (!is_forbidden && !is_unknown && !is_ptraces)
        return result;
    if (is_ptraces)
        snprintf(w->why, sizeof w->why, "the kernel keeps registers for debuggers that a debugger has once set");
    else
        snprintf(w->why, sizeof w->why, "perf events are not to be had (%s)", strerror(-result));
    return arm_all(w, &tl_watching_by_registers, room, error);
}

static void begun(struct tl_watching *w)
{
    uint64_t now = tl_now();
    for (unsigned k = 0; k < w->carriers; k++) {
        let_in(w, w->on[k]);
        w->spots[w->on[k]].since = now;
    }
    for (uint32_t i = w->carriers; i < w->spot_count; i++)
        w->waiting[i - w->carriers] = i;
    w->facts.mechanism = w->means->name;
    w->facts.why = w->why;
    w->facts.multiplexed = w->carriers < w->spot_count;
    w->facts.registers = w->carriers;
    w->began = now;
    w->turn_at = w->facts.multiplexed ? now + w->options.period_ns : UINT64_MAX;
    w->look_at = w->means->is_inherited ? UINT64_MAX : now + LOOK_NS;
}

int tl_watching_begin(struct tl_remote *r, struct tl_watch_table *table, const struct tl_watching_options *options,
                      struct tl_watching **out, struct tl_watching_room *room, struct tl_error *error)
{
    struct tl_watching *w = calloc(1, sizeof *w);
    *room = (struct tl_watching_room){0};
    if (!w)
        return tl_fail(error, -ENOMEM, "out of memory");
    w->r = r;
    w->table = table;
    w->options = *options;
    if (!w->options.period_ns)
        w->options.period_ns = PERIOD_NS;
    int result = take_spots(w);
    if (result) {
        tl_watching_free(w);
        return tl_fail(error, result, "what is to be watched is nothing that a debug register can watch");
    }
    result = r->port.stop(r);
    if (result) {
        tl_watching_free(w);
        return tl_fail(error, result, "%s", r->last.text);
    }
    w->facts.threads = r->task_count;
    raise_descriptor_limit(r->task_count * TL_HWBP_REGISTERS + 64);
    result = begin(w, room, error);
    if (result == 0)
        begun(w);
    r->port.resume(r);
    if (result)
        tl_watching_free(w);
    else
        *out = w;
    return result;
}

/* ---- turns ---- */

/* The next spots come to the registers, those that were there go. Their tags go last: a signal that is on its way is
 * told of as long as it can be. */
static void take_turn(struct tl_watching *w)
{
    uint32_t waiting = w->spot_count - w->carriers;
    struct tl_remote *r = w->r;
    bool stops = w->means->moves_stopped;
    w->turn_at = tl_now() + w->options.period_ns;
    if (stops && r->port.stop(r))
        return; /* next time */
    w->turns++;
    for (uint32_t i = 0; i < waiting && i < w->carriers; i++) {
        unsigned k = w->oldest++ % w->carriers;
        uint32_t before = w->on[k], *place = &w->waiting[w->next++ % waiting];
        w->on[k] = *place;
        *place = before;
        read_shadow(w, w->on[k]);
        let_in(w, w->on[k]);
        end_turn(w, before, tl_now());
        w->means->move(w, k, before);
        w->spots[w->on[k]].since = tl_now();
        __atomic_store_n(&w->table->spots[before].tag, 0, __ATOMIC_RELEASE);
    }
    if (stops)
        r->port.resume(r);
    w->turn_at = tl_now() + w->options.period_ns;
}

static int is_new(void *context, int tid)
{
    return find_thread(context, tid) == NULL;
}

/* Threads that came since the last look have no registers yet. Those that have none left for us go without. */
static void look_for_threads(struct tl_watching *w)
{
    struct tl_remote *r = w->r;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", r->pid);
    if (tl_each_number(path, is_new, w) > 0 && r->port.stop(r) == 0) {
        for (size_t i = 0; i < r->task_count; i++) {
            pid_t tid = r->tasks[i].tid;
            unsigned free;
            struct tl_watching_thread *thread = r->tasks[i].outside || find_thread(w, tid) ? NULL : add_thread(w, tid);
            if (thread && w->means->arm(w, thread, &free) == 0)
                w->facts.late++;
            else if (thread)
                w->facts.uncovered++;
        }
        r->port.resume(r);
    }
    w->look_at = tl_now() + LOOK_NS;
}

uint64_t tl_watching_turn(struct tl_watching *w)
{
    uint64_t now = tl_now();
    if (w->ended)
        return UINT64_MAX;
    if (now >= w->turn_at)
        take_turn(w);
    if (now >= w->look_at)
        look_for_threads(w);
    now = tl_now();
    uint64_t next = w->turn_at < w->look_at ? w->turn_at : w->look_at;
    return next == UINT64_MAX ? UINT64_MAX : next > now ? next - now : 0;
}

/* ---- the end ---- */

int tl_watching_end(struct tl_watching *w, struct tl_error *error)
{
    if (w->ended)
        return 0;
    int result = w->means->stop(w, error);
    if (result)
        return result;
    w->ended = tl_now();
    for (uint32_t i = 0; i < w->spot_count; i++)
        end_turn(w, i, w->ended);
    return 0;
}

void tl_watching_free(struct tl_watching *w)
{
    if (!w)
        return;
    if (w->means)
        tl_watching_end(w, NULL);
    free(w->threads);
    free(w);
}

void tl_watching_facts(const struct tl_watching *w, struct tl_watching_facts *facts)
{
    *facts = w->facts;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void tl_watching_count(struct tl_watching *w, uint32_t index, struct tl_watching_count *count)
{
    const struct tl_watch_spot *shared = &w->table->spots[index];
    const struct tl_watching_spot *spot = &w->spots[index];
    uint64_t now = w->ended ? w->ended : tl_now(), total = now - w->began;
    if (!w->ended && w->means->counts)
        tl_watching_read_events(w);
    uint64_t armed = spot->armed_ns + (spot->since ? now - spot->since : 0);
    uint64_t own = __atomic_load_n(&shared->own, __ATOMIC_RELAXED);
    *count = (struct tl_watching_count){
        .counted = w->means->counts,
        .signals = less(__atomic_load_n(&shared->hits, __ATOMIC_RELAXED), own),
        .reports = __atomic_load_n(&shared->reports, __ATOMIC_RELAXED),
        .late = __atomic_load_n(&shared->late, __ATOMIC_RELAXED),
        .armed = total ? (double)armed / (double)total : 1,
    };
    count->accesses = count->counted ? less(spot->accesses, own) : count->signals;
}
