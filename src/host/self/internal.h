/* SPDX-License-Identifier: MIT
 *
 * What the files of this host share. Lowest first: helper, world (stop the others); memory, areas; protocol, patch;
 * look, inside (is anybody in there?); tables, guards, arm; self (life, fork).
 */
#ifndef TRAPLINE_SELF_INTERNAL_H
#define TRAPLINE_SELF_INTERNAL_H

#include <sys/types.h>

#include "hit/signal.h"
#include "host/self/self.h"
#include "probe/guards.h"
#include "probe/traps.h"

enum { PAGE = 4096, AT_CURRENT = -100 /* AT_FDCWD */ };

/* A system call with up to six arguments of any kind. */
#define CALL_ARGUMENT(x) ((long)(x))
#define CALL_7(n, a, b, c, d, e, f, ...)                                                                               \
    tl_self_call(CALL_ARGUMENT(n), CALL_ARGUMENT(a), CALL_ARGUMENT(b), CALL_ARGUMENT(c), CALL_ARGUMENT(d),             \
                 CALL_ARGUMENT(e), CALL_ARGUMENT(f))
#define CALL(...) CALL_7(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define FAILED(result) ((result) < 0 && (result) > -PAGE)

/* A mapping that map() made. */
struct tl_made {
    uint64_t addr, size;
    bool gate;
};

/* Guards that were put on at one time. */
struct tl_guarding {
    struct tl_guarding *next;
    struct tl_guards guards;
    struct tl_plan plan;
    struct tl_traps_part **parts; /* of each site; NULL where it has none */
    struct tl_patch *patches;
    size_t patch_count;
    struct tl_self_range *modules;
    size_t module_count;
};

/* Tables that were published. */
struct tl_tables {
    void *image; /* mapped */
    size_t size;
};

struct tl_self {
    pid_t pid;
    bool membarrier; /* it works */
    struct tl_self_range *own;
    size_t own_count;

    struct tl_made *made; /* in order of address */
    size_t made_count, made_room, made_ever;
    struct tl_self_range *stacks;
    size_t stack_count;

    struct tl_broker *broker;
    uint64_t *marker; /* in a page that is wiped on fork */
    bool armed;
    struct tl_sigaction *actions; /* 1 to 64: the kernel's before */
    struct tl_guarding *guarding; /* in force, or just about to be; the latest first */
    struct tl_guarding *dormant;  /* out of force, still mapped: for the next time */

    const struct tl_traps_part **parts; /* published by the user; by address */
    size_t part_count, part_room;
    const struct tl_traps_part **recent; /* those of them that were told since `tables` were made */
    size_t recent_count;
    struct tl_tables tables;    /* in force */
    struct tl_tables in_front;  /* of these: what is recent. Or none */
    size_t made_told;           /* self->made_ever, when `tables` were made */
    struct tl_tables *retired;
    size_t retired_count, retired_bytes;
};

/* self.c: one at a time, signals held off; for the public functions. */
struct tl_entered {
    uint64_t mask;
};
int tl_enter(struct tl_self *self, struct tl_entered *entered);
void tl_leave(struct tl_entered *entered);
int tl_explain(struct tl_error *error, int code, const char *what); /* of a system call's failure */
int tl_explain_stop(struct tl_error *error, int code);              /* of tl_world_stop's */

void tl_broker_begin(struct tl_self *self); /* as if nobody had been armed yet */

/* areas.c: the lines of /proc/self/maps. Free with free(). */
struct tl_line {
    uint64_t start, end;
    bool readable, writable, shared;
    bool program, heap, stack; /* what it is of */
};
int tl_lines_read(struct tl_line **lines, size_t *count);
const struct tl_line *tl_line_at(const struct tl_line *lines, size_t count, uint64_t addr);

/* memory.c */
long tl_mem_open(void); /* a descriptor, or -errno */
int tl_mem_write(long mem, uint64_t addr, const void *bytes, size_t size);
int tl_mem_read(long mem, uint64_t addr, void *bytes, size_t size);
/* Up to `size` readable bytes from addr on; how many. Safe while the world is stopped, and on signals. */
size_t tl_peek(uint64_t addr, void *bytes, size_t size);
int tl_map(struct tl_self *self, const struct tl_plan *plan, struct tl_error *error); /* entered */
void tl_unmap_plan(struct tl_self *self, const struct tl_plan *plan);                 /* entered */
void tl_unmap_all(struct tl_self *self);

/* patch.c, entered */
int tl_patch(struct tl_self *self, const struct tl_patch *patches, size_t count, size_t *failed,
             struct tl_error *error);
int tl_barrier(struct tl_self *self);
void tl_serialize(void); /* this processor */
/* The same in steps, for who has stopped the others. Between begin and end nothing is allocated. */
struct tl_writing {
    struct tl_self *self;
    long mem;
    struct tl_change *changes;
    size_t count;
};
int tl_writing_begin(struct tl_writing *w, struct tl_self *self, const struct tl_patch *patches, size_t count,
                     size_t *failed, struct tl_error *error);
int tl_writing_stopped(struct tl_writing *w); /* all or nothing */
void tl_writing_end(struct tl_writing *w);

/* inside.c, entered */
int tl_inside(struct tl_self *self, const struct tl_self_range *ranges, size_t count, uint8_t *inside,
              struct tl_error *error);
bool tl_nobody_inside(struct tl_self *self, const struct tl_plan *plan); /* in its trampolines; false: not known */
/* A stopped thread is in the broker's handler, or on its way there: it leaves it by the mask in its frame, whatever it
 * is given meanwhile. */
struct tl_world;
struct tl_world_task;
bool tl_comes_to_broker(const struct tl_self *self, struct tl_world *world, const struct tl_world_task *task);

/* guards.c, entered: plan, map and describe the guards of modules that have none yet. *out is NULL where there is
 * nothing to do. */
int tl_guarding_make(struct tl_self *self, const struct tl_modules *modules, struct tl_guarding **out,
                     struct tl_error *error);
void tl_guarding_free(struct tl_self *self, struct tl_guarding *guarding, bool unmap);
/* From dormant to guarding, where everything is as it was; what is not goes. And all back. */
void tl_guardings_revive(struct tl_self *self, const struct tl_modules *modules);
void tl_guardings_retire(struct tl_self *self);
bool tl_is_own(const struct tl_self *self, uint64_t addr); /* in the library's code */

/* tables.c, entered: all tables anew */
int tl_tables_renew(struct tl_self *self, struct tl_error *error);
void tl_tables_free(struct tl_self *self);

#endif
