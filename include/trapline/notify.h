/* SPDX-License-Identifier: MIT
 *
 * The notifier chain: who is asked when the processor raises an exception in this process, before the program itself.
 *
 * Links are asked in order of priority, the highest first, those of one priority in order of addition. Each passes the
 * exception on or claims it; a claimed one is not seen by the links behind, nor by the probes, nor by the program. The
 * library's own probes stand in the chain at priority 0: a link of higher priority sees their traps too, and had better
 * pass them on.
 *
 * Notifiers are called in a signal context, on the stack that the kernel has chosen, with the signals blocked but for
 * those five: only what is async-signal-safe is allowed. Vector registers are kept by the kernel. They come back, or
 * leave by siglongjmp, which has to give the thread its signal mask back.
 */
#ifndef TRAPLINE_NOTIFY_H
#define TRAPLINE_NOTIFY_H

#include "trapline/probe.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum tl_notice {
    TL_NOTICE_BREAKPOINT, /* int3 was executed; regs->rip is behind it */
    TL_NOTICE_DEBUG,      /* a single step, or a hardware breakpoint */
    TL_NOTICE_PROTECTION, /* general protection: a bad address form, a privileged instruction */
    TL_NOTICE_PAGE_FAULT  /* a page that is not there or not so accessible; `address` says which */
};
enum tl_verdict {
    TL_NOTIFY_PASS, /* not mine: ask the next; changes of regs are kept */
    TL_NOTIFY_CLAIM /* mine: the thread goes on with regs as they are now */
};

struct tl_notice_info {
    uint32_t notice;  /* enum tl_notice */
    int32_t signal;   /* what the program would get */
    int32_t code;     /* si_code */
    uint32_t error;   /* the processor's error code, for PROTECTION and PAGE_FAULT */
    uint64_t address; /* PAGE_FAULT: the address that was accessed; else 0 */
};

struct tl_notifier;
typedef enum tl_verdict tl_notifier_call(struct tl_notifier *notifier, struct tl_regs *regs,
                                         const struct tl_notice_info *info);

struct tl_notifier {
    size_t size;       /* sizeof(struct tl_notifier) */
    uint64_t flags;    /* 0 */
    int32_t priority;  /* any number; 0 is that of the probes, which come before others of 0 */
    uint32_t reserved; /* 0 */
    tl_notifier_call *call;
    void *context; /* yours */
};

/* Add to the chain. The struct is yours and has to stay until it is removed. 0, -EINVAL (no call, flags or reserved not
 * 0, a struct smaller than any version), -E2BIG (newer, with something unknown used), -EEXIST (in the chain already),
 * -ENOMEM, -ENOTSUP (the signals cannot be taken over in this
 * program), -EPERM as for tl_probe_register. Any thread; not from handlers and notifiers. */
int tl_notifier_add(struct tl_notifier *notifier, struct tl_error *error);
/* Take it out. When it returns, it is not being called in any thread and will not be. 0, -ENOENT, -ENOMEM (it
 * stays), -EDEADLK (from a handler or notifier). */
int tl_notifier_remove(struct tl_notifier *notifier);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
