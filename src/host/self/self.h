/* SPDX-License-Identifier: MIT
 *
 * The host "this process": text is patched while other threads execute it, and nobody is stopped for that.
 *
 * Life of a handle, of which a process has one at a time:
 *
 *   open
 *     areas, plan (src/probe), map, fill       trampolines come first
 *     arm                                      once: the signal broker and its guards; from here on int3 is harmless
 *     publish                                  the traps of every place that is, or is just about to be, patched
 *     patch                                    in; later back again
 *     publish                                  without them
 *     inside                                   whether a retired trampoline may be reused or unmapped
 *     unmap
 *     disarm                                   when no patch is left
 *   close
 *
 * Without the broker (where it cannot be armed) patch() stops the other threads for the moment of the write.
 *
 * Every function may be called from any thread, none from a signal handler or from a probe's handler, tl_self_read and
 * tl_self_armed excepted, which may be called everywhere. Calls that change something wait for each other, and a fork()
 * waits for them. In the child the handle is the child's own, with everything in force. A child made by a raw system
 * call (not by fork()) while another thread is in a call may not use the handle.
 *
 * Functions return 0 or -errno, and fill *error (NULL is allowed) with what a person reads. A call that fails has left
 * everything as it was.
 */
#ifndef TRAPLINE_SELF_H
#define TRAPLINE_SELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/plan.h"
#include "trapline/error.h"
#include "trapline/port.h"

struct tl_self;
struct tl_broker;
struct tl_modules;
struct tl_traps_part; /* src/probe/traps.h */

struct tl_self_range {
    uint64_t start, end;
};

/* `own`: the code of this library. It is not guarded, and a program that steps itself does not see it; whoever chooses
 * sites keeps out of it. -EBUSY: there is a handle already. -EPERM, -ENOENT: /proc/self/mem cannot be had (the text
 * names the reason). -ENOTSUP: a shadow stack is on. -ENOMEM. */
int tl_self_open(const struct tl_self_range *own, size_t own_count, struct tl_self **out, struct tl_error *error);
/* Frees the handle, unmaps what map() mapped. NULL is allowed. -EBUSY: the broker is armed; nothing is freed then. */
int tl_self_close(struct tl_self *self);

/* The address space as it is now, in order of address, for tl_plan_build: with room for heap and stacks to grow. Free
 * *areas with free(). *mappings_left: how many more mappings the kernel would allow, less some for the program. */
int tl_self_areas(struct tl_self *self, struct tl_area **areas, size_t *count, size_t *mappings_left,
                  struct tl_error *error);

/* Memory as it is, page protection ignored. -EFAULT where not mapped. */
int tl_self_read(struct tl_self *self, uint64_t addr, void *bytes, size_t size);

/* Map a plan's trampolines and gates. Code is private and never writable; gates are private, zero, and kept by a fork
 * child. -EEXIST: an address is taken by now, plan again. -ENOMEM: out of mappings or memory. */
int tl_self_map(struct tl_self *self, const struct tl_plan *plan, struct tl_error *error);
/* Put bytes into memory that map() made, code too. Nobody may execute these bytes meanwhile. */
int tl_self_fill(struct tl_self *self, uint64_t addr, const void *bytes, size_t size, struct tl_error *error);
/* `size` bytes at `addr` that map() made, whole pages. */
int tl_self_unmap(struct tl_self *self, uint64_t addr, size_t size);

/* Every running thread of this process passes a full barrier, and executes what the text holds by then. -EPERM,
 * -EAGAIN: no membarrier, and the threads cannot be stopped either. */
int tl_self_barrier(struct tl_self *self, struct tl_error *error);

/* Change text, all or nothing, as one operation whatever `count` is: no thread ever executes a mixture. The traps of
 * all these places must be published, if armed, and stay so until the call returns. Places do not overlap.
 * -EBUSY: the bytes at some place are not the expected ones; its index goes to *failed (if not NULL). -EFAULT: not
 * mapped. -ENOTSUP: a shared mapping, a change would reach the file. -EPERM: not armed, and the threads cannot be
 * stopped either; or memory that may not be written. -EAGAIN: not armed, and some thread did not stop in time. */
int tl_self_patch(struct tl_self *self, const struct tl_patch *patches, size_t count, size_t *failed,
                  struct tl_error *error);

/* Take over the signals that probes need, and put guards on the program's system calls about them. `modules`: what is
 * loaded now. If there are other threads, they are stopped for a moment by a helper task that traces them: -EPERM where
 * that is forbidden ("register the first probe before starting threads, or allow ptrace"). Armed already: only guards
 * for modules that are new. -EAGAIN: some thread did not stop in time. */
int tl_self_arm(struct tl_self *self, const struct tl_modules *modules, struct tl_error *error);
bool tl_self_armed(const struct tl_self *self);
/* Give everything back, signals that are pending included. Nothing to do if not armed. -EBUSY: parts are published.
 * -EPERM, -EAGAIN as above; it stays armed then, which is harmless. */
int tl_self_disarm(struct tl_self *self, struct tl_error *error);
/* The broker, for what hangs on it (notifiers). Lives as long as the handle. */
struct tl_broker *tl_self_broker(struct tl_self *self);

/* The guards in force, for plans that have to know what else is patched (tl_plan_options.in_force). *sites: an array
 * of pointers to free(), in order of address; what they point to lives until disarm. -ENOMEM. */
int tl_self_guards(struct tl_self *self, const struct tl_site ***sites, size_t *count);

/* The traps of these parts (src/probe/traps.h) are in force from now on, beside those of the guards. The array is
 * copied, the parts themselves have to live until the next publish, or disarm. Armed or not. -ENOMEM. */
int tl_self_publish(struct tl_self *self, const struct tl_traps_part *const *parts, size_t count,
                    struct tl_error *error);
/* These ones are new, or have changed, or take the place of others of the same address (which then need not live any
 * longer); the rest stays as it is. Costs little for a few of many. -ENOMEM. */
int tl_self_publish_more(struct tl_self *self, const struct tl_traps_part *const *parts, size_t count,
                         struct tl_error *error);

/* May a thread be inside, or come back into, these ranges? They are disjoint, in any order. Program counters,
 * registers, stacks and signal frames of all threads are looked at, the caller's too. inside[i] is 1 for "may be", 0
 * for "no". -EPERM, -EAGAIN: not known, as for arm. */
int tl_self_inside(struct tl_self *self, const struct tl_self_range *ranges, size_t count, uint8_t *inside,
                   struct tl_error *error);
/* The thread of *fs_base was in a handler, on this stack for handlers, with *frame an address on the stack that it had
 * come from. Where it has ended, or is on that stack again, and nothing there leads back, *frame becomes 0. No stack:
 * *frame is on that of the handler. Both are read while the threads stand still. -EPERM, -EAGAIN: not known. */
int tl_self_note_left(struct tl_self *self, const uint64_t *fs_base, const struct tl_self_range *stack, uint64_t *frame,
                      struct tl_error *error);
/* Here are stacks of handlers: a thread that is on one has another stack, that of the program, whose address is
 * somewhere on this one. For good. -ENOMEM. */
int tl_self_add_stacks(struct tl_self *self, const struct tl_self_range *stacks);

/* Every system call of this host goes through here: returns the result or -errno. Tests put their own in its place. One
 * is not as the kernel has it: SYS_clone is given (flags, top of the stack, function, argument, word to clear). */
extern long (*tl_self_call)(long number, long a, long b, long c, long d, long e, long f);

#endif
