/* SPDX-License-Identifier: MIT
 *
 * What is asked for: whether it makes sense, in the order in which the kernel asks, and how the kernel is told.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "hwbp.h"
#include "structs.h"

enum {
    KNOWN_FLAGS = TL_HWBP_DISABLED | TL_HWBP_KERNEL | TL_HWBP_FORK | TL_HWBP_BRANCHES,
    TID_BITS = 22,
    CAPABILITY_ADMIN = 21,
    CAPABILITY_VERSION = 0x20080522
};

static int check_options(const struct tl_hwbp_options *options, struct tl_error *error)
{
    bool whole = options->scope == TL_HWBP_CPU || options->scope == TL_HWBP_WIDE;
    if (options->flags & ~(uint64_t)KNOWN_FLAGS)
        return tl_fail(error, -EINVAL, "unknown flags 0x%llx", (unsigned long long)options->flags);
    if (options->scope > TL_HWBP_WIDE)
        return tl_fail(error, -EINVAL, "unknown scope %u", options->scope);
    if (whole && options->handler)
        return tl_fail(error, -EINVAL, "breakpoints of a CPU only count: the kernel reports their hits to nobody");
    if (whole && options->flags & TL_HWBP_FORK)
        return tl_fail(error, -EINVAL, "a breakpoint of a CPU is about all processes: TL_HWBP_FORK means nothing");
    if (options->period > 1 && !options->handler)
        return tl_fail(error, -EINVAL, "a period without a handler");
    if ((options->tid && options->scope != TL_HWBP_THREAD) || (options->cpu && options->scope != TL_HWBP_CPU))
        return tl_fail(error, -EINVAL, "`tid` or `cpu` with a scope that is not about one");
    return 0;
}

/* As the kernel wants it for kernel addresses. */
static bool is_privileged(void)
{
    struct {
        uint32_t version;
        int pid;
    } header = {CAPABILITY_VERSION, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } data[2] = {{0}};
    return tl_self_call(SYS_capget, (long)&header, (long)data, 0, 0, 0, 0) == 0 &&
           (data[0].effective >> CAPABILITY_ADMIN & 1);
}

static struct tl_hwbp_attr attr_of(const struct tl_hwbp_options *options)
{
    return (struct tl_hwbp_attr){.addr = (uintptr_t)options->address,
                                 .length = options->length,
                                 .access = options->access,
                                 .exclude_kernel = !(options->flags & TL_HWBP_KERNEL)};
}

/* Where signals are handled, a hit would need another to be told. And a guard in front of a system call (src/probe/
 * guards.h) passes over what its jump covers. */
static bool is_executed_elsewhere(uint64_t addr)
{
    for (size_t i = 0; i < engine.guard_count; i++)
        if (addr > engine.guards[i]->addr && addr - engine.guards[i]->addr < engine.guards[i]->jump_length)
            return true;
    return (addr >= (uintptr_t)__start_trapline_text && addr < (uintptr_t)__stop_trapline_text) ||
           (addr >= (uintptr_t)__start_trapline_hit && addr < (uintptr_t)__stop_trapline_hit);
}

int hwbp_check_attr(const struct tl_hwbp_options *options, struct tl_error *error)
{
    struct tl_hwbp_attr attr = attr_of(options);
    int code = tl_hwbp_check(&attr, is_privileged());
    unsigned long long addr = attr.addr, length = attr.length;
    switch (code) {
    case -EOPNOTSUPP:
        return tl_fail(error, code, "%llu bytes: a debug register covers 8 at most", length);
    case -EPERM:
        return tl_fail(error, code, "0x%llx is a kernel address, which takes CAP_SYS_ADMIN", addr);
    case -EINVAL:
        return tl_fail(
            error, code,
            "0x%llx, %llu bytes, access %u: a debug register covers 1, 2, 4 or 8 bytes at a multiple of that "
            "for WRITE or READ | WRITE, or sizeof(long) for EXECUTE; kernel addresses take TL_HWBP_KERNEL",
            addr, length, attr.access);
    default:
        break;
    }
    if (attr.access == TL_ACCESS_X && is_executed_elsewhere(addr))
        return tl_fail(error, -EPERM, "0x%llx: %s", addr, tl_why_text(TL_WHY_FORBIDDEN));
    return 0;
}

struct tl_perf_spec hwbp_spec(const struct tl_hwbp_options *options, uint64_t tag)
{
    static const uint8_t scopes[] = {[TL_HWBP_PROCESS] = TL_PERF_PROCESS,
                                     [TL_HWBP_THREAD] = TL_PERF_THREAD,
                                     [TL_HWBP_CPU] = TL_PERF_CPU,
                                     [TL_HWBP_WIDE] = TL_PERF_WIDE};
    return (struct tl_perf_spec){.attr = attr_of(options),
                                 .tag = options->handler ? tag : 0,
                                 .period = options->period ? options->period : 1,
                                 .scope = scopes[options->scope],
                                 .tid = options->tid,
                                 .cpu = (int)options->cpu,
                                 .fork = options->flags & TL_HWBP_FORK};
}

/* Who it is about: there is such a thread, or CPU. */
int hwbp_find_target(struct tl_hwbp *hwbp, struct tl_error *error)
{
    struct tl_hwbp_options *options = &hwbp->options;
    if (options->flags & TL_HWBP_BRANCHES)
        return tl_fail(error, -EOPNOTSUPP, "breakpoints cannot sample branches");
    if (options->scope != TL_HWBP_THREAD)
        return options->scope != TL_HWBP_CPU || options->cpu < (unsigned long)sysconf(_SC_NPROCESSORS_CONF)
                   ? 0
                   : tl_fail(error, -ENODEV, "no CPU %u", options->cpu);
    if (!options->tid)
        options->tid = (int)tl_self_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    uint64_t start = tl_perf_thread_start(options->tid);
    hwbp->task = start << TID_BITS | (unsigned)options->tid; /* another thread may get the number later */
    return start ? 0 : tl_fail(error, -ESRCH, "no thread %d in this process", options->tid);
}

int hwbp_copy_options(const struct tl_hwbp_options *theirs, struct tl_hwbp_options *ours, struct tl_error *error)
{
    int code = structs_copy(theirs, ours, sizeof *ours, sizeof *ours, "tl_hwbp_options", error);
    return code ? code : check_options(ours, error);
}

bool hwbp_is_same_but_for_place(const struct tl_hwbp_options *a, const struct tl_hwbp_options *b)
{
    return !((a->flags ^ b->flags) & ~(uint64_t)TL_HWBP_DISABLED) && a->scope == b->scope &&
           (a->tid == b->tid || !b->tid) && a->cpu == b->cpu &&
           (a->period ? a->period : 1) == (b->period ? b->period : 1) && a->handler == b->handler &&
           a->context == b->context;
}
