/* SPDX-License-Identifier: MIT
 *
 * What the kernel holds of a process's signals: actions, read and set by calls that the target makes in one go, and
 * signals that are pending.
 */
#include "host/remote/internal.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

_Static_assert(sizeof(struct tl_siginfo) == sizeof(siginfo_t), "as the kernel's");
_Static_assert(TL_CORE_SCRATCH + (TL_SIGNALS + 1) * sizeof(struct tl_sigaction) <= TL_CORE_LOG,
               "the scratch is too small");

static void *scratch(struct tl_remote *r)
{
    return (uint8_t *)r->core.page - TL_CORE_DATA + TL_CORE_SCRATCH;
}

int tl_actions_read(struct tl_remote *r, struct tl_sigaction actions[TL_SIGNALS + 1])
{
    struct tl_call calls[TL_SIGNALS];
    size_t done;
    for (size_t i = 0; i < TL_SIGNALS; i++)
        calls[i] = (struct tl_call){
            SYS_rt_sigaction, {i + 1, 0, r->core.addr + TL_CORE_SCRATCH + (i + 1) * sizeof *actions, 8}, -ECANCELED};
    memset(scratch(r), 0, (TL_SIGNALS + 1) * sizeof *actions);
    int result = tl_batch(r, calls, TL_SIGNALS, true, &done);
    memcpy(actions, scratch(r), (TL_SIGNALS + 1) * sizeof *actions);
    return result;
}

int tl_actions_set(struct tl_remote *r, const struct tl_sigaction *actions, const int *numbers, size_t count)
{
    struct tl_call calls[TL_SIGNALS + 1];
    size_t done;
    for (size_t i = 0; i < count; i++)
        calls[i] = (struct tl_call){SYS_rt_sigaction,
                                    {(uint64_t)numbers[i], r->core.addr + TL_CORE_SCRATCH + i * sizeof *actions, 0, 8},
                                    -ECANCELED};
    memcpy(scratch(r), actions, count * sizeof *actions);
    tl_remote_step("actions");
    return count ? tl_batch(r, calls, count, true, &done) : 0;
}

/* The kernel lets nobody but the thread itself send what looks as if it came from the kernel, or from tgkill; to the
 * process its first thread. */
int tl_signal_queue(struct tl_remote *r, pid_t tid, const struct tl_siginfo *info)
{
    uint64_t at = r->core.addr + TL_CORE_SCRATCH, number = TL_SIGTRAP, group = (uint64_t)r->facts.ns_pid;
    struct tl_call call = {SYS_rt_sigqueueinfo, {group, number, at}, -ECANCELED};
    if (tid)
        call =
            (struct tl_call){SYS_rt_tgsigqueueinfo, {group, (uint64_t)tl_innermost_pid(tid), number, at}, -ECANCELED};
    size_t done;
    memcpy(scratch(r), info, sizeof *info);
    r->sender = tid ? tid : r->pid;
    int result = tl_batch(r, &call, 1, true, &done);
    r->sender = 0;
    return result;
}

/* The first pending signal, of the thread or of its process, that `wanted` says yes to. */
static bool peek(pid_t tid, bool shared, bool (*wanted)(const siginfo_t *), struct tl_siginfo *found)
{
    enum { PART = 16 };
    siginfo_t infos[PART];
    struct __ptrace_peeksiginfo_args which = {.nr = PART, .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0};
    for (;;) {
        long n = ptrace(PTRACE_PEEKSIGINFO, tid, &which, infos);
        for (long i = 0; i < n; i++) {
            if (wanted(&infos[i])) {
                memcpy(found, &infos[i], sizeof *found);
                return true;
            }
        }
        if (n < PART)
            return false;
        which.off += PART;
    }
}

static bool is_raised(const siginfo_t *info)
{
    return info->si_code > 0 && TL_THE_FIVE & TL_SIGNAL_BIT(info->si_signo);
}

static bool is_trap(const siginfo_t *info)
{
    return info->si_signo == SIGTRAP;
}

/* Signals that instructions have raised come before anything else happens to the thread; sent ones have no such code.
 */
bool tl_has_raised(pid_t tid)
{
    struct tl_siginfo found;
    return peek(tid, false, is_raised, &found);
}

bool tl_trap_pending(pid_t tid, bool shared, struct tl_siginfo *info)
{
    return peek(tid, shared, is_trap, info);
}
