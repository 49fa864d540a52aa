/* SPDX-License-Identifier: MIT
 *
 * Watching by perf events with sigtrap: an event a thread and carrier. Threads to come inherit them, and what they
 * count is read with the event that they have it from.
 *
 * An event is opened enabled: all threads stand still at that time. It is moved disabled, so that its count can be read
 * between one spot and the next.
 */
#include "host/remote/watching.h"

#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct perf_event_attr attr_of(const struct tl_watching *w, uint32_t index)
{
    const struct tl_watching_spot *spot = &w->spots[index];
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.type = PERF_TYPE_BREAKPOINT;
    attr.size = sizeof attr;
    attr.bp_type = spot->access;
    attr.bp_addr = spot->addr;
    attr.bp_len = spot->access & TL_SPOT_EXECUTES ? sizeof(long) : spot->length;
    attr.sample_period = 1;
    attr.exclude_kernel = attr.exclude_hv = 1;
    attr.inherit = attr.inherit_thread = 1;
    attr.sigtrap = attr.remove_on_exec = 1;
    attr.sig_data = tl_watch_tag(w->turns, index);
    return attr;
}

static int open_event(const struct tl_watching *w, uint32_t index, pid_t tid)
{
    struct perf_event_attr attr = attr_of(w, index);
    int fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void release(struct tl_watching *w, struct tl_watching_thread *thread, unsigned keep)
{
    (void)w;
    for (unsigned k = keep; k < TL_HWBP_REGISTERS; k++) {
        if (thread->events[k] >= 0)
            close(thread->events[k]);
        thread->events[k] = -1;
    }
}

static int arm(struct tl_watching *w, struct tl_watching_thread *thread, unsigned *free)
{
    tl_remote_step("events");
    for (unsigned k = 0; k < w->carriers; k++) {
        int fd = open_event(w, w->on[k], thread->tid);
        if (fd < 0) {
            *free = k;
            return fd;
        }
        thread->events[k] = fd;
    }
    return 0;
}

static uint64_t count_since(struct tl_watching_thread *thread, unsigned k)
{
    uint64_t count = 0;
    if (thread->events[k] < 0 || read(thread->events[k], &count, sizeof count) != sizeof count)
        return 0;
    uint64_t since = count - thread->counted[k];
    thread->counted[k] = count;
    return since;
}

void tl_watching_read_events(struct tl_watching *w)
{
    for (size_t i = 0; i < w->thread_count; i++)
        for (unsigned k = 0; k < w->carriers; k++)
            if (w->on[k] != TL_NO_SPOT)
                w->spots[w->on[k]].accesses += count_since(&w->threads[i], k);
}

static int move(struct tl_watching *w, unsigned k, uint32_t before)
{
    struct perf_event_attr attr = attr_of(w, w->on[k]);
    int result = 0;
    attr.disabled = 1;
    for (size_t i = 0; i < w->thread_count; i++) {
        struct tl_watching_thread *thread = &w->threads[i];
        int fd = thread->events[k];
        if (fd < 0)
            continue;
        if (ioctl(fd, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr) && errno != ESRCH && !result)
            result = -errno;
        w->spots[before].accesses += count_since(thread, k);
        ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
    }
    return result;
}

static int stop(struct tl_watching *w, struct tl_error *error)
{
    (void)error;
    for (size_t i = 0; i < w->thread_count; i++)
        for (unsigned k = 0; k < w->carriers; k++)
            if (w->threads[i].events[k] >= 0)
                ioctl(w->threads[i].events[k], PERF_EVENT_IOC_DISABLE, 0);
    tl_remote_step("events disabled");
    tl_watching_read_events(w);
    for (size_t i = 0; i < w->thread_count; i++)
        release(w, &w->threads[i], 0);
    return 0;
}

const struct tl_watching_means tl_watching_by_events = {.kind = TL_WATCH_BY_EVENTS,
                                                        .name = "perf event",
                                                        .counts = true,
                                                        .arm = arm,
                                                        .release = release,
                                                        .move = move,
                                                        .stop = stop,
                                                        .is_inherited = true};
