/* SPDX-License-Identifier: MIT
 *
 * The host "another process": the port of trapline/port.h over ptrace and system calls that the target itself is made
 * to execute. A handle belongs to one thread, the one that opened it: ptrace wants it so, and nothing here locks;
 * nothing is for signal handlers.
 *
 * Life of a handle:
 *
 *   open a pid | launch a command, held at its program's entry
 *     region            memory shared by both sides; port->fill, and under port->stop: map, set, patch, evacuate, unmap
 *     release           a launched command goes on. From here on no tracer is attached, except while port->stop holds
 *     poll, read, …
 *     remove            after port->patch put the text back and port->evacuate said 0
 *   close               frees the handle; the target is left as it is, running
 *
 * The target may lose us at every instant: it then runs on, and what we left in its memory describes itself, so that
 * the next open of the same process takes it out.
 *
 * All addresses are the target's unless a pointer says otherwise. Functions return 0 or -errno; `error` may be NULL.
 */
#ifndef TRAPLINE_REMOTE_H
#define TRAPLINE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "trapline/error.h"
#include "trapline/port.h"

struct tl_remote;

/* Attach to a running process; on return it runs, with no tracer. What a dead trapline left in it has been taken out.
 * -ESRCH no such process, or a zombie; -EPERM not permitted, a kernel thread, or seccomp without the privilege to
 * suspend it; -EBUSY another tracer, or another trapline, is at work (the text names its pid); -ENOEXEC not an x86-64
 * program; -EAGAIN it could not be stopped in bounded time; -EMFILE we have too few file descriptors left (sixteen). */
int tl_remote_open(pid_t pid, struct tl_remote **out, struct tl_error *error);

/* Start a command (argv[0] is looked up in PATH) and hold it at its program's entry: libraries are mapped and
 * relocated, no instruction of the program's own has run. It is a child of the caller. -ENOENT, -EACCES… as execvp
 * says; -EMFILE as above. */
int tl_remote_launch(char *const argv[], struct tl_remote **out, struct tl_error *error);

/* Let a launched command go on. Nothing to do, and no error, for one that was opened or released before. */
int tl_remote_release(struct tl_remote *r, struct tl_error *error);

/* Frees the handle. A launched command that was never released is released. NULL is allowed. */
void tl_remote_close(struct tl_remote *r);

/* What open and launch learned. */
struct tl_remote_facts {
    pid_t pid;       /* in our pid name space */
    pid_t ns_pid;    /* in its own */
    uint32_t hwcap2; /* AT_HWCAP2 */
    bool launched;
    bool fsgsbase;       /* rdfsbase works in the target (AT_HWCAP2 bit 1) */
    bool fs_self;        /* fs:0 holds the fs base in every thread (glibc, musl): true of all threads looked at */
    int32_t tid_offset;  /* where a thread's tid stands, from its fs base; INT32_MIN: unknown */
    bool no_syscalls;    /* seccomp: code in the target may make no system call */
    bool no_clock;       /* seccomp strict mode: rdtsc faults */
    size_t threads;      /* at the last look */
    uint64_t stopped_ns; /* how long all of it has stood still for us since it was released, or opened */
};
const struct tl_remote_facts *tl_remote_facts(const struct tl_remote *r);

/* The port. Its host pointer is the handle. What map() put there unmap() takes away; read() works at any time. */
const struct tl_port *tl_remote_port(struct tl_remote *r);
/* A person's text for the last failure of a port function of this handle; never NULL. */
const char *tl_remote_last_error(const struct tl_remote *r);

/* A number below /proc/sys ("vm/max_map_count"), or `otherwise` where it cannot be read. */
long tl_kernel_setting(const char *name, long otherwise);

/* A line of /proc/PID/maps. */
struct tl_remote_area {
    uint64_t start, end, offset;
    int prot;    /* PROT_* */
    bool shared; /* MAP_SHARED */
    uint32_t dev_major, dev_minor;
    uint64_t inode;
    const char *path; /* never NULL; "" for anonymous, "[heap]" and so on, as the kernel writes it */
};
/* All mappings as they are now, in order of address. Free with tl_remote_areas_free. */
int tl_remote_areas(struct tl_remote *r, struct tl_remote_area **areas, size_t *count, struct tl_error *error);
void tl_remote_areas_free(struct tl_remote_area *areas);

/* Memory of both sides. `area` is mapped shared on either side; `pool` is what port->map maps in pieces (as private
 * copies there: what was filled in before the mapping counts). */
struct tl_remote_region {
    void *area; /* here; zero-filled at first */
    size_t area_size;
    uint64_t area_addr; /* there */
    void *pool;         /* here */
    size_t pool_size;
};
/* Makes the region, of at least the sizes asked for (rounded up to pages). One for a handle. -ENOMEM: the target's
 * limits on memory, mappings or files; nothing is left then. */
int tl_remote_region(struct tl_remote *r, size_t area_size, size_t pool_size, struct tl_remote_region *out,
                     struct tl_error *error);
/* More pool for the region; out->pool may move here. Offsets keep their meaning. */
int tl_remote_grow_pool(struct tl_remote *r, size_t pool_size, struct tl_remote_region *out, struct tl_error *error);

/* Take the region out: whatever is still mapped of it, its file, its descriptor. Text still patched is put back first;
 * -EAGAIN when a thread may still use the memory (then all stays, text apart, and may be tried again). Nothing to do
 * without a region or when the target is gone. Our side of the area can be read until close, or the next region. */
int tl_remote_remove(struct tl_remote *r, struct tl_error *error);

/* Wait up to timeout_ms (0: only look, -1: for ever) for the target to end, or a signal of ours. *gone: it has ended,
 * and *status is its wait status where it was launched, else -1. -EINTR after a signal. */
int tl_remote_poll(struct tl_remote *r, int timeout_ms, bool *gone, int *status);
/* To wait for the target beside other things: readable when it has ended. Belongs to the handle. */
int tl_remote_pidfd(const struct tl_remote *r);

/* Read memory, page protection ignored. -EFAULT where not mapped, -ESRCH. */
int tl_remote_read(struct tl_remote *r, uint64_t addr, void *bytes, size_t size);

/* The thread (in our name space) whose fs base is `fs_base`; stops threads that are not known yet for a moment.
 * -ENOENT. */
int tl_remote_thread(struct tl_remote *r, uint64_t fs_base, pid_t *tid);

/* A thread, and its fs base: 0 while no C library has set up its thread-local memory. */
struct tl_identity {
    uint64_t fs_base;
    pid_t tid; /* in our name space */
};
/* All threads as they are now, without what merely shares their memory; stops them for a moment. An array to free().
 */
int tl_remote_threads(struct tl_remote *r, struct tl_identity **threads, size_t *count, struct tl_error *error);

#endif
