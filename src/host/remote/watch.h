/* SPDX-License-Identifier: MIT
 *
 * Watches in another process: who sets its debug registers, in every thread, and takes turns on them.
 *
 * The program's signals have to be the broker's by then, with tl_watch_notify (src/hit/watch.h) as notifier and the
 * table in place: each hit is a SIGTRAP, and without the broker the first one would kill. The other way round, all
 * registers are clear before the broker is taken out; signals that are still on their way it swallows.
 *
 * Two mechanisms, chosen by what works:
 *   events     perf events with sigtrap, of every thread, inherited by threads to come (not by fork children). They go
 *              with us, should we be killed. Each access is counted by the kernel.
 *   registers  where events are forbidden: the registers themselves, by ptrace. They stay armed without us, and are not
 *              inherited: threads that come later are found by looking, and armed then.
 *
 * What is not seen: what the kernel writes for the program; processes that share the memory but are no threads (between
 * vfork and exec). A store in the middle of a restartable sequence (rseq) ends it each time: do not watch such memory.
 * Registers that ptrace has set once stay reserved in their threads, clear: for ptrace, but not for perf events.
 *
 * For one thread at a time, like the handle.
 */
#ifndef TRAPLINE_REMOTE_WATCH_H
#define TRAPLINE_REMOTE_WATCH_H

#include "hit/watch.h"
#include "host/remote/remote.h"

struct tl_watching;

struct tl_watching_options {
    bool multiplex;     /* all spots take turns on the registers that are free, if there are too few for all */
    uint64_t period_ns; /* of a turn */
};

/* Why there was no room. */
struct tl_watching_room {
    unsigned needed;    /* registers for all spots at once */
    unsigned free;      /* the fewest that are free in any of the threads */
    unsigned by_ptrace; /* in that thread, of those that are not: set by a debugger, now or once */
    unsigned left_behind; /* of these: once. The kernel keeps them, for ptrace alone */
    unsigned by_others; /* … and held by perf events that are not ours */
    pid_t tid;          /* that thread, in our name space */
};

/* Arm the spots of `table` (mapped here): of each, addr, length, access, changes_only and site are set, the rest is
 * ours. Stops the target for that moment. -ENOSPC: *room tells, and *error; -EMFILE: too few file descriptors for so
 * many threads; -EINVAL: a spot that no register can watch;
 * -EFAULT: memory that is to be watched is not mapped; -EPERM: neither mechanism is allowed. */
int tl_watching_begin(struct tl_remote *r, struct tl_watch_table *table, const struct tl_watching_options *options,
                      struct tl_watching **out, struct tl_watching_room *room, struct tl_error *error);
/* Turns, and threads that came: to be called now and then. In how many ns again, at the latest; UINT64_MAX: whenever.
 */
uint64_t tl_watching_turn(struct tl_watching *w);
/* All registers are clear when this returns; what counts there are can still be asked for. 0 or -errno: registers may
 * be left then, whose signals the broker has to stay for. */
int tl_watching_end(struct tl_watching *w, struct tl_error *error);
void tl_watching_free(struct tl_watching *w); /* NULL is allowed */

struct tl_watching_facts {
    const char *mechanism; /* "perf event" or "debug register" */
    const char *why;       /* not events: why not; else "" */
    bool multiplexed;
    unsigned registers; /* that the spots have, or share */
    size_t threads;     /* when it began */
    size_t late;        /* threads that were found later, and armed then */
    size_t uncovered;   /* … and had no register left */
};
void tl_watching_facts(const struct tl_watching *w, struct tl_watching_facts *facts);

struct tl_watching_count {
    bool counted;      /* false: nothing counts accesses but the signals */
    uint64_t accesses; /* of the program; while the spot was armed */
    uint64_t signals;  /* … of which so many had a signal of their own that was told of */
    uint64_t reports;  /* events written, or rejected by their filter */
    uint64_t late;     /* signals that came later than the access */
    double armed;      /* for how much of the time it was armed: 0 to 1 */
};
/* Of a spot. Exact once ended, or while the target is stopped. */
void tl_watching_count(struct tl_watching *w, uint32_t spot, struct tl_watching_count *count);

#endif
