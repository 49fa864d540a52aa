/* SPDX-License-Identifier: MIT
 *
 * An event for each thread that exists, and nobody missed or covered twice.
 *
 * Threads come and go while they are counted. An event goes along to threads that its thread creates later; so a thread
 * that is found in the list, but was created by one that has its event already, has one too, and must not be given
 * another. The two cannot be told apart. So it is done in one go: the list is read, all events are opened, threads are
 * waited for that are about to create others, and the list is read again. If it names no new thread, then none was
 * created in between that lives, and everything is right. Otherwise all are closed, and it is tried again; where
 * threads are created all the time, they are stopped for it. Nothing hits meanwhile: events are opened disabled.
 */
#include "host/self/perf.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/self/internal.h"
#include "host/self/perf_threads.h"
#include "host/self/world.h"

enum { TRIES = 8, STOPS = 4 };

static struct perf_event_attr attributes(const struct tl_perf_spec *spec)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_BREAKPOINT,
                                   .size = sizeof attr,
                                   .bp_type = spec->attr.access,
                                   .bp_addr = spec->attr.addr,
                                   .bp_len = spec->attr.length,
                                   .disabled = 1,
                                   .exclude_kernel = spec->attr.exclude_kernel,
                                   .exclude_hv = 1};
    if (spec->tag) {
        attr.sample_period = spec->period;
        attr.sigtrap = attr.remove_on_exec = 1;
        attr.sig_data = spec->tag;
    }
    attr.inherit = spec->scope == TL_PERF_PROCESS || spec->fork;
    attr.inherit_thread = attr.inherit && !spec->fork;
    return attr;
}

static long open_one(const struct perf_event_attr *attr, int tid, int cpu)
{
    return CALL(SYS_perf_event_open, attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

void tl_perf_close(struct tl_perf *perf)
{
    for (size_t i = 0; i < perf->count; i++)
        CALL(SYS_close, perf->fds[i]);
    free(perf->fds);
    *perf = (struct tl_perf){0};
}

/* ---- opening ---- */

static int explain(struct tl_error *error, long code, const struct tl_perf_spec *spec)
{
    switch (code) {
    case -ENOSPC:
        return tl_fail(error, -ENOSPC,
                       "no debug register is left: all that this machine has are in use, by other breakpoints, a "
                       "debugger or perf");
    case -EACCES:
    case -EPERM:
        if (spec->scope >= TL_PERF_CPU || !spec->attr.exclude_kernel)
            return tl_fail(error, (int)code,
                           "this breakpoint takes privilege: CAP_PERFMON, or a lower kernel."
                           "perf_event_paranoid");
        return tl_fail(error, (int)code,
                       "perf events are forbidden here: kernel.perf_event_paranoid is above 2, or seccomp refuses "
                       "perf_event_open");
    case -ENOSYS:
        return tl_fail(error, -ENOSYS, "this kernel has no perf events, or seccomp refuses perf_event_open");
    case -E2BIG:
    case -EINVAL:
        if (!spec->tag)
            return tl_fail(error, -EINVAL, "the kernel refuses this breakpoint: code of its own where it may not stop");
        return tl_fail(error, -ENOSYS, "this kernel has no breakpoint events that raise signals (Linux 5.13)");
    case -ESRCH:
        return tl_fail(error, -ESRCH, "no such thread in this process");
    case -ENODEV:
        return tl_fail(error, -ENODEV, "no such CPU, or it is offline");
    case -EAGAIN:
        return tl_fail(error, -EAGAIN,
                       "threads are being created too fast to follow, and may not be stopped; try again");
    default:
        return tl_explain(error, (int)code, "the breakpoint cannot be opened");
    }
}

/* Open one for each of `count` tids (or for CPUs 0 to count - 1). Those that are not there are left out, but for one
 * that was asked for. */
static long open_all(const struct tl_perf_spec *spec, const int *tids, size_t count, struct tl_perf *perf)
{
    struct perf_event_attr attr = attributes(spec);
    bool cpus = spec->scope == TL_PERF_WIDE || spec->scope == TL_PERF_CPU;
    for (size_t i = 0; i < count; i++) {
        int which = tids ? tids[i] : (int)i;
        long fd = cpus ? open_one(&attr, -1, which) : open_one(&attr, which, -1);
        if (fd >= 0)
            perf->fds[perf->count++] = (int)fd;
        else if (count == 1 || fd != (cpus ? -ENODEV : -ESRCH))
            return fd;
    }
    return 0;
}

static long try_threads(const struct tl_perf_spec *spec, struct tl_perf_threads *before, struct tl_perf_threads *after,
                        struct tl_perf *perf)
{
    long code = tl_perf_threads_list(before);
    if (code)
        return code;
    perf->fds = malloc(before->count * sizeof *perf->fds);
    if (!perf->fds)
        return -ENOMEM;
    code = open_all(spec, before->tids, before->count, perf);
    if (!code && before->count > 1)
        code = tl_perf_threads_settle(before, spec->fork);
    if (!code)
        code = tl_perf_threads_list(after);
    if (code)
        return code;
    return tl_perf_threads_is_new(before, after) ? -EAGAIN : 0;
}

/* The same with all other threads stopped: nothing may be allocated meanwhile. */
static long stop_threads(const struct tl_perf_spec *spec, struct tl_perf_threads *list, struct tl_perf *perf)
{
    struct tl_world *world;
    long code = tl_perf_threads_list(list); /* for the room */
    perf->fds = code && code != -EAGAIN ? NULL : malloc(list->room * sizeof *perf->fds);
    if (!perf->fds)
        return code ? code : -ENOMEM;
    code = tl_world_stop(&world);
    if (code)
        return code == -ENOMEM || code == -EMFILE ? code : -EAGAIN;
    long found = tl_perf_threads_read(list);
    code = found < 0 ? found : (size_t)found > list->count ? -EAGAIN : open_all(spec, list->tids, list->count, perf);
    tl_world_resume(world);
    return code;
}

static long open_threads(const struct tl_perf_spec *spec, struct tl_perf *perf)
{
    struct tl_perf_threads before = {0}, after = {0};
    long code = -EAGAIN;
    for (int tries = 0; code == -EAGAIN && tries < TRIES; tries++) {
        tl_perf_close(perf);
        code = try_threads(spec, &before, &after, perf);
    }
    for (int tries = 0; code == -EAGAIN && tries < STOPS; tries++) {
        tl_perf_close(perf);
        code = stop_threads(spec, &before, perf);
    }
    free(before.tids);
    free(after.tids);
    return code;
}

static long open_listed(const struct tl_perf_spec *spec, struct tl_perf *perf)
{
    long cpus = spec->scope == TL_PERF_WIDE ? sysconf(_SC_NPROCESSORS_CONF) : 1;
    int one = spec->scope == TL_PERF_CPU ? spec->cpu : spec->tid;
    perf->fds = malloc((size_t)(cpus > 0 ? cpus : 1) * sizeof *perf->fds);
    if (!perf->fds)
        return -ENOMEM;
    return spec->scope == TL_PERF_WIDE ? open_all(spec, NULL, (size_t)cpus, perf) : open_all(spec, &one, 1, perf);
}

int tl_perf_open(const struct tl_perf_spec *spec, struct tl_perf *perf, struct tl_error *error)
{
    *perf = (struct tl_perf){0};
    long code = spec->scope == TL_PERF_PROCESS ? open_threads(spec, perf) : open_listed(spec, perf);
    if (!code && !perf->count)
        code = -ESRCH;
    if (!code)
        return 0;
    tl_perf_close(perf);
    return explain(error, code, spec);
}

/* ---- what is open ---- */

void tl_perf_switch(const struct tl_perf *perf, bool on)
{
    for (size_t i = 0; i < perf->count; i++)
        CALL(SYS_ioctl, perf->fds[i], on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
}

uint64_t tl_perf_read(const struct tl_perf *perf)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < perf->count; i++) {
        uint64_t count = 0;
        if (CALL(SYS_read, perf->fds[i], &count, sizeof count) == sizeof count)
            sum += count;
    }
    return sum;
}

static long modify_one(int fd, const struct tl_perf_spec *spec, bool on)
{
    struct perf_event_attr attr = attributes(spec);
    attr.disabled = !on;
    return CALL(SYS_ioctl, fd, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr);
}

/* The kernel changes an event and those of later threads one by one, and stops at one that fails: which is then
 * switched off. So that one is changed back as well. */
int tl_perf_modify(const struct tl_perf *perf, const struct tl_perf_spec *from, bool from_on,
                   const struct tl_perf_spec *to, bool to_on)
{
    for (size_t i = 0; i < perf->count; i++) {
        long code = modify_one(perf->fds[i], to, to_on);
        if (!code)
            continue;
        for (size_t back = 0; back <= i; back++)
            modify_one(perf->fds[back], from, from_on);
        return (int)code;
    }
    return 0;
}
