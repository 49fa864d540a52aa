/* SPDX-License-Identifier: MIT
 *
 * Probes: handlers of yours on any instruction of your own process.
 *
 * A `struct tl_probe` is yours. Fill it in, register it, and leave it where it is until it is unregistered: its address
 * is its name, and handlers are given it. The library reads it while it registers it, and never writes to it; changes
 * behind that have no effect, except that handlers may read what you keep in `context`.
 *
 * Handlers run in the thread that hit, between two instructions of the program, which may be inside malloc or the
 * loader or hold any lock. They run on a stack of the library's, with all registers kept, the vector registers
 * included. A handler may call whatever a signal handler may; what it calls is not probed in this time (such hits count
 * as missed), so that it may call probed functions too. It must come back: no longjmp, no exception out of it, no exit
 * of the thread. Where a signal handler is hit on its alternate stack, the thread has no alternate stack while the
 * probe's handler runs, so that no signal comes over what stands there.
 *
 * Several probes on one address run in the order in which they were registered.
 *
 * Thread safety: the functions here may be called by any thread at any time, but not from handlers and not from signal
 * handlers. They never wait for a thread that is not itself in a handler. After fork the child has the same probes,
 * and may go on as it likes; but where a handler has forked while another thread was in one of these functions, they
 * all fail in the child with -EDEADLK, and its probes stay as they are.
 */
#ifndef TRAPLINE_PROBE_H
#define TRAPLINE_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "trapline/error.h"
#include "trapline/regs.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tl_probe;

/* In tl_fault: what has faulted. */
enum tl_fault_where {
    TL_FAULT_IN_INSTRUCTION, /* the probed instruction; regs->rip is its address */
    TL_FAULT_IN_HANDLER      /* a handler of this probe; regs are the handler's own */
};
struct tl_fault {
    int signal;       /* SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGTRAP */
    int code;         /* si_code */
    uint64_t address; /* si_addr */
    uint32_t where;   /* enum tl_fault_where */
    uint32_t reserved;
};

/* Before the instruction. regs may be changed. 0: go on with the instruction. Otherwise: the registers, rip and rsp
 * among them, were redirected: the program goes on at regs->rip, and neither the instruction nor the handlers behind
 * this one run. */
typedef int tl_pre_handler(struct tl_probe *probe, struct tl_regs *regs);
/* After the instruction, with the registers as the program is about to see them; they may be changed. Does not run
 * where the instruction does not end (it faults, or never comes back). */
typedef void tl_post_handler(struct tl_probe *probe, struct tl_regs *regs);
/* The instruction or a handler has faulted. Runs in a signal context, which it may leave by siglongjmp. Non-zero:
 * repaired; go on with regs as they are now. 0: not mine; the program sees the fault as its own. */
typedef int tl_fault_handler(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault);
/* One of this probe's handlers ran into an int3 that is not a probe; regs are the handler's, rip behind the int3. Runs
 * in a signal context. Non-zero: go on with regs as they are now. 0: not mine; the program gets SIGTRAP. */
typedef int tl_break_handler(struct tl_probe *probe, struct tl_regs *regs);

enum {
    TL_PROBE_DISABLED = 1 << 0,  /* registered disabled: no hit until tl_probe_enable */
    TL_PROBE_GENERAL = 1 << 1,   /* the handlers use general registers only (compiled with -mgeneral-regs-only, and so
                                    all that they call): the vector state need not be kept. Much faster */
    TL_PROBE_OWN_STACK = 1 << 2, /* the handlers need little (1 KiB): they run on the program's own stack. Faster */
    TL_PROBE_INT3 = 1 << 3,      /* reach the place by a trap, even if a jump would do */
    TL_PROBE_JUMP = 1 << 4       /* refuse the place where only a trap would do */
};

enum { TL_STRUCT_MAX = 4096 }; /* no struct of any version is larger: a larger `size` is a mistake */

struct tl_probe {
    size_t size;    /* sizeof(struct tl_probe): which version of it you have */
    uint64_t flags; /* TL_PROBE_… */
    /* Where: `address`, or `symbol` (in `module`, or in the first module that has it, the program before libraries) and
     * `offset` bytes, which is 0 with an address. For an ifunc, what it was resolved to. */
    void *address;
    const char *symbol;
    const char *module; /* a path, a name as loaded ("libc.so.6", "libc"), "EXE" for the program; or NULL */
    uint64_t offset;
    /* What to do; at least one. */
    tl_pre_handler *pre;
    tl_post_handler *post;
    tl_fault_handler *fault;
    tl_break_handler *break_handler;
    void *context; /* yours */
};

/* Register one. 0 or
 *   -EINVAL    no or contradictory place, an offset beyond the function's end, no handler, unknown or contradictory
 *              flags, a struct smaller than any version
 *   -E2BIG     a struct of a newer version, of which something is used that this library does not know; or of a size
 *              above TL_STRUCT_MAX
 *   -EEXIST    this struct is registered already
 *   -ENOENT    no function of that name (a variable is none), no such module; an ifunc that nothing has resolved yet
 *   -EFAULT    the address is not mapped, or not the program's (kernel)
 *   -EACCES    the address is mapped but not executable
 *   -EILSEQ    not an instruction: the middle of one, data, in no function that is known; or code that is of no file,
 *              as programs generate it at run time
 *   -EBUSY     the bytes differ from the file's: somebody else's breakpoint or jump
 *   -EPERM     part of trapline, what its handlers stand on, or the return from signal handlers; or (the first time)
 *              threads are there already, and may not be stopped by ptrace
 *   -ENOTSUP, -ENOSPC   this instruction cannot be reached, by the tactics allowed; a shadow stack is on
 *   -ENOMEM, -EMFILE, -EAGAIN   memory, mappings or descriptors have run out; a thread could not be stopped in time
 * and then nothing has changed. The reason in words goes to *error; NULL is allowed. Threads may run through the place
 * meanwhile. When it returns, each thread that comes to the place hits. */
int tl_probe_register(struct tl_probe *probe, struct tl_error *error);

/* Take it out. When it returns, none of its handlers runs or will run, in any thread, and the struct is yours alone.
 * 0, -ENOENT (not registered: then nothing is done), -EDEADLK (from a handler). */
int tl_probe_unregister(struct tl_probe *probe);

/* All or none of `count`, in one go: much faster than one by one. Where it fails, *failed (NULL is allowed) is the
 * index of the one that was refused, or `count` where it was not for any one of them. Errors as for one. The same
 * struct twice is -EEXIST. */
int tl_probes_register(struct tl_probe *const *probes, size_t count, size_t *failed, struct tl_error *error);
/* All of them, in one go; if one is not registered, none: -ENOENT, *failed its index. -EINVAL: no list. */
int tl_probes_unregister(struct tl_probe *const *probes, size_t count, size_t *failed);

/* Switch off and on. No hit counts, nor is missed, in between. 0 also where it is so already; -ENOENT, -EDEADLK from a
 * handler. When disable returns, no handler of it runs. enable may fail as registration does where the text has to be
 * changed (-EBUSY: somebody else has changed it meanwhile; -ENOMEM); then it stays switched off. */
int tl_probe_enable(struct tl_probe *probe);
int tl_probe_disable(struct tl_probe *probe);

/* How many hits came to nothing because a handler ran on this thread already, or because no room was left for a thread
 * (each registration provides for at least 64 further threads). 0, -ENOENT, -EDEADLK from a handler. */
int tl_probe_missed(const struct tl_probe *probe, uint64_t *missed);

/* Where a registered probe sits: the address of the instruction, and how it is reached: "nop", "jump", "jump-punned" or
 * "int3" (static text). Either pointer may be NULL. 0, -ENOENT, -EDEADLK from a handler. */
int tl_probe_place(const struct tl_probe *probe, void **address, const char **tactic);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
