/* SPDX-License-Identifier: MIT
 *
 * Hardware breakpoints: who reads or writes these bytes, or executes this instruction, in your own process.
 *
 *     static void changed(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit) { … }
 *     struct tl_hwbp_options options = {.size = sizeof options, .access = TL_HWBP_WRITE, .address = &limit,
 *                                       .length = sizeof limit, .handler = changed};
 *     tl_hwbp_create(&options, &hwbp, &error);
 *
 * The processor compares addresses itself (Intel SDM vol. 3B, 18.2; AMD APM vol. 2, 13.1): nothing is patched, and
 * between hits the program runs at full speed. It has four debug registers. Each breakpoint takes one of them, in each
 * thread that it is about; they are shared with debuggers and with others who use the kernel's perf events.
 *
 * What hits: any access that overlaps the watched bytes, of any size and alignment, is one hit (18.2.5); of a repeated
 * string instruction each round is one. A store of the value that is there already is one, and so is a compare and
 * exchange that fails, since the processor writes then too. A prefetch is none. What the kernel reads or writes for the
 * program, such as the buffer of read(2), is none (but see TL_HWBP_KERNEL). What the library itself writes below the
 * stack pointer, where probes and signals come, is.
 *
 * Handlers run in the thread that hit, on a stack of the library's, in a signal context with all signals blocked but
 * SIGTRAP, SIGSEGV, SIGBUS, SIGILL and SIGFPE. They may call what a signal handler may, as handlers of probes may; what
 * they call neither hits probes nor breakpoints on this thread meanwhile (such hits count as missed). They have to come
 * back: no longjmp, no exception.
 *
 * Thread safety: all functions may be called by any thread at any time. Those that change what is there may not be
 * called from handlers and signal handlers (-EDEADLK from handlers); tl_hwbp_start, tl_hwbp_stop and tl_hwbp_read may,
 * while nobody destroys the breakpoint.
 *
 * Fork: the child has the breakpoint, but as after tl_hwbp_del, with all counts 0; tl_hwbp_add arms it there. With
 * TL_HWBP_FORK the child is watched as the parent is. vfork and exec: whoever executes another program is not watched
 * any more.
 */
#ifndef TRAPLINE_HWBP_H
#define TRAPLINE_HWBP_H

#include <stddef.h>
#include <stdint.h>

#include "trapline/error.h"
#include "trapline/regs.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tl_hwbp;

/* Kinds of access, to be combined. The hardware knows WRITE, READ | WRITE and EXECUTE (18.2.4, R/Wn). */
enum { TL_HWBP_READ = 1, TL_HWBP_WRITE = 2, TL_HWBP_EXECUTE = 4 };

/* Who is watched. CPU and WIDE take privilege (CAP_PERFMON, or kernel.perf_event_paranoid 0 or less), are about all
 * processes that run there, and only count: the kernel reports no values and calls nobody then. */
enum tl_hwbp_scope {
    TL_HWBP_PROCESS, /* all threads of this process, those that are there and those to come */
    TL_HWBP_THREAD,  /* one thread of it, `tid` */
    TL_HWBP_CPU,     /* one processor, `cpu` */
    TL_HWBP_WIDE     /* all processors that are online, or none */
};

enum {
    TL_HWBP_DISABLED = 1 << 0, /* created disabled: no hit until tl_hwbp_enable. Its slot is taken */
    TL_HWBP_KERNEL = 1 << 1,   /* kernel addresses too, and accesses by the kernel. Takes privilege (CAP_PERFMON, or
                                  kernel.perf_event_paranoid 1 or less; for a kernel address CAP_SYS_ADMIN) */
    TL_HWBP_FORK = 1 << 2,     /* children of fork are watched as well, and theirs. PROCESS and THREAD only */
    TL_HWBP_BRANCHES = 1 << 3  /* sample branches: no breakpoint can (-EOPNOTSUPP) */
};

/* One hit. The values are those of the watched bytes, as a little-endian number. */
struct tl_hwbp_hit {
    uint64_t address; /* of the watched bytes, or of the instruction */
    uint32_t length;  /* bytes */
    uint32_t access;  /* TL_HWBP_… that is watched for */
    uint32_t flags;   /* TL_HWBP_HIT_… */
    int32_t tid;      /* of the thread that hit */
    /* Data: before the access and now. Where several threads write, `before` is what the last hit has seen, so that the
     * sequence has no gap. EXECUTE: 0. */
    uint64_t before, now;
    void *context; /* options.context */
};
enum {
    TL_HWBP_HIT_LATE = 1, /* SIGTRAP was blocked: the access happened earlier, regs are of another place, and several
                             hits may have become one report */
    TL_HWBP_HIT_BLIND = 2 /* the values could not be read, and are 0 */
};

/* Data breakpoints hit after the access: regs->rip is behind the accessing instruction (of a repeated string
 * instruction, at it). EXECUTE: before the instruction, regs->rip is its address; it hits once for each pass through
 * it. regs may be changed; with another rip the program goes on there. */
typedef void tl_hwbp_handler(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit);

struct tl_hwbp_options {
    size_t size;     /* sizeof(struct tl_hwbp_options) */
    uint64_t flags;  /* TL_HWBP_DISABLED, … */
    uint32_t scope;  /* enum tl_hwbp_scope */
    int32_t tid;     /* of TL_HWBP_THREAD; 0: the calling thread */
    uint32_t cpu;    /* of TL_HWBP_CPU */
    uint32_t access; /* TL_HWBP_READ | TL_HWBP_WRITE, … */
    void *address;   /* a multiple of `length`; of EXECUTE: of an instruction */
    uint64_t length; /* bytes: 1, 2, 4 or 8; of EXECUTE: sizeof(long) */
    uint64_t period; /* the handler is called on each period-th hit, counted in each thread on its own. 0 means 1 */
    tl_hwbp_handler *handler; /* NULL: count only */
    void *context;            /* yours */
};

/* Create a breakpoint, and arm it unless flags say otherwise. 0, or, checked in this order,
 *   -EINVAL       options is NULL or smaller than any version; unknown flags or scope; FORK, or a handler, with CPU or
 *                 WIDE; a period without a handler; tid or cpu that the scope does not use
 *   -E2BIG        a struct of a newer version, of which something is used that this library does not know
 *   -EDEADLK      called from a handler
 *   -ENOTSUP      a handler, and the signals cannot be taken over in this program
 *   -EOPNOTSUPP   (the same number) TL_HWBP_BRANCHES
 *   -ESRCH        no such thread in this process
 *   -ENODEV       no such CPU
 *   -ENOSPC       no debug register is left, in some thread or on some CPU that it is about
 *   -EINVAL       addr + length wraps; no access, READ alone, or EXECUTE with another; EXECUTE with a length other than
 *                 sizeof(long); data of a length that is no power of two, or not aligned to it
 *   -EOPNOTSUPP   data longer than 8 bytes
 *   -EINVAL       a kernel address without TL_HWBP_KERNEL
 *   -EPERM        a kernel address without privilege; an instruction of the library's own, or one that it
 *                 executes elsewhere: in front of system calls by which the program changes its signals
 *   -EACCES, -EPERM, -ENOSYS   perf events are forbidden here (kernel.perf_event_paranoid 3, seccomp), or this one
 *                 takes privilege; or as tl_probe_register, the first time
 *   -ENOMEM, -EMFILE, -ENFILE, -EAGAIN   memory or descriptors (one for each thread that is there, or CPU) have run
 *                 out; threads are being created too fast
 * and then nothing has changed; *out is NULL. The reason in words goes to *error; NULL is allowed. When it returns,
 * each access by a thread that is watched hits. */
int tl_hwbp_create(const struct tl_hwbp_options *options, struct tl_hwbp **out, struct tl_error *error);

/* Take it out and free it. When it returns, its handler does not run and will not run, in any thread; signals that are
 * on their way are swallowed. 0 (for NULL too), -EDEADLK. */
int tl_hwbp_destroy(struct tl_hwbp *hwbp);

/* Give the debug registers back, and take them again. Counts stay. 0 also where it is so already; -EDEADLK; tl_hwbp_add
 * may fail as creation does, then it stays without. When tl_hwbp_del returns, no handler of it runs. */
int tl_hwbp_add(struct tl_hwbp *hwbp, struct tl_error *error);
int tl_hwbp_del(struct tl_hwbp *hwbp);

/* Off and on, with the debug registers kept. No hit counts in between. 0 also where it is so already; -EDEADLK. When
 * tl_hwbp_disable returns, no handler of it runs. */
int tl_hwbp_enable(struct tl_hwbp *hwbp);
int tl_hwbp_disable(struct tl_hwbp *hwbp);

/* The same, at once: allowed in handlers too, and it does not wait for handlers that run on other threads. A breakpoint
 * hits while it is added, enabled and started. 0. */
int tl_hwbp_start(struct tl_hwbp *hwbp);
int tl_hwbp_stop(struct tl_hwbp *hwbp);

/* Change address, length, access and TL_HWBP_DISABLED in place; everything else has to be as it was created. Counts
 * stay. Threads run on meanwhile: each access hits as the old or as the new breakpoint. 0, or -EINVAL (something else
 * differs) or an error of creation; then it is as before. */
int tl_hwbp_modify(struct tl_hwbp *hwbp, const struct tl_hwbp_options *options, struct tl_error *error);

struct tl_hwbp_counts {
    size_t size;      /* sizeof(struct tl_hwbp_counts) */
    uint64_t hits;    /* exact, whatever has become of the reports. A child of fork under TL_HWBP_FORK is counted in the
                         parent too; in itself, it sees what came to its handler */
    uint64_t handled; /* calls of the handler */
    uint64_t late;    /* of these, calls that came late: SIGTRAP was blocked. There may be more hits than these */
    uint64_t missed;  /* hits whose handler could not be called: a handler ran on the thread already, or the breakpoint
                         was modified, disabled or stopped before the report came */
};
/* 0; -EINVAL: counts is NULL or smaller than any version. */
int tl_hwbp_read(const struct tl_hwbp *hwbp, struct tl_hwbp_counts *counts);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
