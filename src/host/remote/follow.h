/* SPDX-License-Identifier: MIT
 *
 * Processes that come from a process: the tracer stays attached to all their threads, and is told of each fork and
 * exec before the new process, or the new program, runs an instruction of its own.
 *
 *   begin              with the handle of the first process, launched or opened
 *     wait, next       until next has nothing more to say; a handle that an event brings belongs to the caller
 *     leave            each process by itself, when there is nothing of ours in it any more; meanwhile others are born,
 *                      and come as events: so wait and next again, until idle
 *     abandon          those that did not come to that
 *   end
 *
 * A process that shares its parent's memory (vfork, posix_spawn, CLONE_VM) is the same target as its parent until it
 * runs another program. If we die, all of them run on. For the thread that the first handle belongs to; not for signal
 * handlers.
 */
#ifndef TRAPLINE_FOLLOW_H
#define TRAPLINE_FOLLOW_H

#include "host/remote/remote.h"

struct tl_follow;

enum tl_follow_kind {
    TL_FOLLOW_CAME, /* `remote` is a new handle, held: place probes, then release. What a fork child inherited of ours
                       has been taken out of it. With `failed`, nothing can be done to it: only release it. */
    TL_FOLLOW_WENT  /* the memory of `remote` is gone, by exec or by the end: close it when you are done */
};

struct tl_follow_event {
    enum tl_follow_kind kind;
    struct tl_remote *remote;
    struct tl_remote
        *forked_from; /* CAME: the handle from whose memory, as it is now, this one's was copied; or NULL */
    bool failed;
    struct tl_error error; /* why */
};

/* From here on `first` is followed, and its later stops end with going on, not with letting go. -ENOMEM, or why its
 * tasks cannot be stopped. */
int tl_follow_begin(struct tl_remote *first, struct tl_follow **out, struct tl_error *error);

/* Wait up to timeout_us for something to happen. -EINTR after a signal of ours. */
int tl_follow_wait(struct tl_follow *f, int timeout_us);
/* What has happened, one event a call. False: nothing more. */
bool tl_follow_next(struct tl_follow *f, struct tl_follow_event *event);

/* Whether a process that stands still has been killed meanwhile: then what could not be done to it is no failure. */
bool tl_follow_is_dying(struct tl_remote *r);

/* Whether the first process has ended, whatever it ran last; and its wait status. */
bool tl_follow_first_ended(const struct tl_follow *f, int *status);
/* Once all have been let go: wait for that, up to timeout_us. False where it is not so yet, or we are not the parent.
 */
bool tl_follow_await_first(struct tl_follow *f, int timeout_us, int *status);
/* Whether there is nobody left who is followed, or may become an event. */
bool tl_follow_idle(const struct tl_follow *f);

/* `r`, which stands still, goes on with no tracer, and its handle is as it is without following: close is yours. */
void tl_follow_leave(struct tl_remote *r);
/* The same for all that are left, wherever they are. */
void tl_follow_abandon(struct tl_follow *f);

/* Close all handles first, but for what does not matter any more. NULL is allowed. */
void tl_follow_end(struct tl_follow *f);

#endif
