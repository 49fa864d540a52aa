/* SPDX-License-Identifier: MIT
 *
 * Internal to the remote host: what the files of watching share. watch.c decides and takes turns; watch_events.c and
 * watch_registers.c are the mechanisms.
 *
 * A *carrier* is one debug register of every thread. It carries a spot; with turns, one after the other.
 */
#ifndef TRAPLINE_REMOTE_WATCHING_H
#define TRAPLINE_REMOTE_WATCHING_H

#include "host/remote/internal.h"
#include "host/remote/watch.h"
#include "hwbp/attr.h"

enum { TL_NO_SPOT = UINT32_MAX };
_Static_assert((int)TL_SPOT_READS == (int)TL_ACCESS_R && (int)TL_SPOT_WRITES == (int)TL_ACCESS_W &&
                   (int)TL_SPOT_EXECUTES == (int)TL_ACCESS_X,
               "the same bits");

struct tl_watching_spot {
    uint64_t addr;
    uint8_t length, access;
    uint64_t accesses; /* counted so far, of all threads */
    uint64_t armed_ns; /* in turns that are over */
    uint64_t since;    /* of the present turn; 0: not armed */
};

struct tl_watching_thread {
    pid_t tid;
    int events[TL_HWBP_REGISTERS];       /* EVENTS: -1: none */
    uint64_t counted[TL_HWBP_REGISTERS]; /* what was read of them last */
    uint8_t mine;                        /* REGISTERS: a bit for each that is set by us */
};

struct tl_watching {
    struct tl_remote *r;
    struct tl_watch_table *table;
    struct tl_watching_options options;
    struct tl_watching_facts facts;
    const struct tl_watching_means *means;
    struct tl_watching_spot spots[TL_WATCH_SPOTS]; /* our copy: the table's can be written by the program */
    uint32_t spot_count;
    unsigned carriers;
    uint32_t on[TL_HWBP_REGISTERS];   /* the spot of each carrier */
    uint32_t waiting[TL_WATCH_SPOTS]; /* the others, in a ring: the one at `next` has waited longest */
    uint32_t next;
    unsigned oldest; /* the carrier whose spot has been on longest */
    uint64_t turns, began, ended, turn_at, look_at;
    struct tl_record *record; /* REGISTERS: that they are set */
    struct tl_watching_thread *threads;
    size_t thread_count, thread_room;
    char why[200];
};

/* All of it on the thread of the handle. */
struct tl_watching_means {
    enum tl_watch_means kind;
    const char *name;
    bool counts;
    /* Before the first one, target stopped; NULL: nothing to do. */
    int (*begin)(struct tl_watching *w, struct tl_error *error);
    /* The carriers of one thread, as w->on says, target stopped. 0; -ENOSPC, with *free: so many carriers were to be
     * had, and are; -ESRCH; -EACCES, -EPERM, -ENOSYS: not to be used at all. */
    int (*arm)(struct tl_watching *w, struct tl_watching_thread *thread, unsigned *free);
    /* A thread's carriers from `keep` on are given up. */
    void (*release)(struct tl_watching *w, struct tl_watching_thread *thread, unsigned keep);
    /* Carrier k of all threads carries w->on[k] from here on instead of `before`. Counts go to `before`. */
    int (*move)(struct tl_watching *w, unsigned k, uint32_t before);
    /* No register is armed any more when this returns. */
    int (*stop)(struct tl_watching *w, struct tl_error *error);
    bool is_inherited;  /* by threads to come */
    bool moves_stopped; /* `move` wants the target stopped */
};
extern const struct tl_watching_means tl_watching_by_events, tl_watching_by_registers;

/* What the accounting says to these spots in a thread that has so many registers free. */
bool tl_watching_are_admitted(const struct tl_watching *w, unsigned free);
/* No: -ENOSPC. */
int tl_watching_tell_room(struct tl_watching *w, pid_t tid, unsigned free, struct tl_watching_room *room,
                          struct tl_error *error);
/* Add what was counted since the last look. */
void tl_watching_read_events(struct tl_watching *w);
/* How many registers of a thread, stopped, a debugger has set. *left: how many more it had set, and the kernel keeps. */
unsigned tl_watching_set_by_ptrace(struct tl_watching *w, pid_t tid, unsigned *left);

#endif
