/* SPDX-License-Identifier: MIT
 *
 * Each processor has a ring of its own, so that order between them is only had by sorting: what is younger than
 * SETTLE_NS waits, since something older may still come from elsewhere.
 */
#include "host/machine/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/now.h"
#include "host/machine/ring.h"

enum { SETTLE_NS = 2000000, STACK_MAX = 64, CONTEXTS = 4095 };

struct event {
    int fd;
    uint64_t id;
    size_t watch;
};

struct cpu {
    unsigned number;
    struct tl_ring ring;
};

struct held {
    struct tl_machine_hit hit;
    uint64_t order;
    uint64_t *stack;
};

struct tl_machine {
    size_t watch_count;
    bool stacks;
    struct event *events; /* all of one processor, then those of the next */
    size_t event_count;
    struct cpu *cpus;
    size_t cpu_count;
    struct held *held;
    size_t held_count, held_room;
    uint64_t order, given;
};

/* Lists of numbers as the kernel prints them: 0-3,7. */
static int read_cpus(struct tl_machine *machine)
{
    FILE *file = fopen("/sys/devices/system/cpu/online", "re");
    unsigned from, to;
    char next = ',';
    size_t room = 0;
    while (file && next == ',' && fscanf(file, "%u", &from) == 1) {
        to = from;
        if (fscanf(file, "%c", &next) == 1 && next == '-' &&
            (fscanf(file, "%u", &to) != 1 || fscanf(file, "%c", &next) != 1))
            next = 0;
        for (; from <= to; from++) {
            struct cpu *cpus = tl_array_grown(machine->cpus, machine->cpu_count, &room, sizeof *cpus);
            if (!cpus)
                break;
            machine->cpus = cpus;
            cpus[machine->cpu_count++] = (struct cpu){.number = from};
        }
    }
    if (file)
        fclose(file);
    return machine->cpu_count ? 0 : -ENOMEM;
}

static int open_event(const struct tl_hwbp_attr *watch, unsigned cpu, bool stacks)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_BREAKPOINT,
                                   .size = sizeof attr,
                                   .bp_addr = watch->addr,
                                   .bp_len = watch->length,
                                   .sample_period = 1,
                                   .sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
                                                  PERF_SAMPLE_TIME | PERF_SAMPLE_CPU |
                                                  (stacks ? PERF_SAMPLE_CALLCHAIN : 0),
                                   .disabled = 1,
                                   .exclude_callchain_user = 1,
                                   .use_clockid = 1,
                                   .clockid = CLOCK_MONOTONIC,
                                   .wakeup_events = 1};
    attr.bp_type = watch->access == TL_ACCESS_X   ? HW_BREAKPOINT_X
                   : watch->access == TL_ACCESS_W ? HW_BREAKPOINT_W
                                                  : HW_BREAKPOINT_RW;
    long fd = syscall(SYS_perf_event_open, &attr, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : (int)fd;
}

static int refuse(int result, const struct tl_hwbp_attr *watch, unsigned cpu, struct tl_error *error)
{
    if (result == -ENOSPC)
        return tl_fail(
            error, result,
            "no debug register is free on processor %u: there are four, for all of a debugger's, perf's and these",
            cpu);
    if (result == -EPERM || result == -EACCES)
        return tl_fail(error, -EPERM, "watching the kernel is for root");
    if (result == -EINVAL && watch->access == TL_ACCESS_X)
        return tl_fail(error, result, "this kernel lets nobody break at 0x%" PRIx64 " (without CONFIG_KPROBES nowhere)",
                       watch->addr);
    return tl_fail(error, result, "0x%" PRIx64 " on processor %u: %s", watch->addr, cpu, strerror(-result));
}

/* One watch on one processor, into the processor's ring. */
static int add_event(struct tl_machine *machine, const struct tl_hwbp_attr *watch, size_t index, struct cpu *cpu)
{
    struct event *event = &machine->events[machine->event_count];
    event->watch = index;
    event->fd = open_event(watch, cpu->number, machine->stacks);
    if (event->fd < 0)
        return event->fd;
    machine->event_count++;
    int result = 0;
    if (!cpu->ring.memory)
        result = tl_ring_map(event->fd, &cpu->ring);
    else if (ioctl(event->fd, PERF_EVENT_IOC_SET_OUTPUT, event[-(ptrdiff_t)index].fd))
        result = -errno;
    if (!result && ioctl(event->fd, PERF_EVENT_IOC_ID, &event->id))
        result = -errno;
    return result;
}

static void switch_all(const struct tl_machine *machine, unsigned long request)
{
    for (size_t i = 0; i < machine->event_count; i++)
        ioctl(machine->events[i].fd, request, 0);
}

int tl_machine_open(const struct tl_hwbp_attr *watches, size_t count, bool stacks, struct tl_machine **out,
                    struct tl_error *error)
{
    struct tl_machine *machine = calloc(1, sizeof *machine);
    if (machine)
        *machine = (struct tl_machine){.watch_count = count, .stacks = stacks};
    if (!machine || read_cpus(machine) ||
        !(machine->events = calloc(machine->cpu_count * count + 1, sizeof(struct event)))) {
        tl_machine_close(machine);
        return tl_fail(error, -ENOMEM, "out of memory");
    }
    for (size_t c = 0; c < machine->cpu_count; c++)
        for (size_t i = 0; i < count; i++) {
            int result = add_event(machine, &watches[i], i, &machine->cpus[c]);
            if (result) {
                unsigned cpu = machine->cpus[c].number;
                tl_machine_close(machine);
                return refuse(result, &watches[i], cpu, error);
            }
        }
    switch_all(machine, PERF_EVENT_IOC_ENABLE);
    *out = machine;
    return 0;
}

void tl_machine_close(struct tl_machine *machine)
{
    if (!machine)
        return;
    for (size_t i = 0; i < machine->cpu_count; i++)
        tl_ring_unmap(&machine->cpus[i].ring);
    for (size_t i = 0; i < machine->event_count; i++)
        close(machine->events[i].fd);
    for (size_t i = 0; i < machine->held_count; i++)
        free(machine->held[i].stack);
    free(machine->held);
    free(machine->cpus);
    free(machine->events);
    free(machine);
}

static uint64_t take(const uint8_t **at, const uint8_t *end)
{
    uint64_t word = 0;
    if ((size_t)(end - *at) >= sizeof word) {
        memcpy(&word, *at, sizeof word);
        *at += sizeof word;
    }
    return word;
}

static void take_stack(struct held *held, const uint8_t **at, const uint8_t *end)
{
    uint64_t count = take(at, end);
    held->stack = calloc(STACK_MAX, sizeof *held->stack);
    for (uint64_t i = 0; held->stack && i < count && *at < end && held->hit.stack_count < STACK_MAX; i++) {
        uint64_t frame = take(at, end);
        if (frame < (uint64_t)-CONTEXTS) /* those are marks */
            held->stack[held->hit.stack_count++] = frame;
    }
    held->hit.stack = held->stack;
}

/* In the order in which the kernel puts what was asked for. */
static int hold(void *context, uint32_t type, const uint8_t *bytes, size_t size)
{
    struct tl_machine *machine = context;
    const uint8_t *at = bytes + sizeof(struct perf_event_header), *end = bytes + size;
    struct held *all = tl_array_grown(machine->held, machine->held_count, &machine->held_room, sizeof *all);
    if (!all)
        return -ENOMEM;
    machine->held = all;
    if (type != PERF_RECORD_SAMPLE)
        return 0;
    struct held *held = &all[machine->held_count];
    uint64_t id = take(&at, end), task;
    *held = (struct held){.order = machine->order++};
    held->hit.ip = take(&at, end);
    task = take(&at, end);
    held->hit.pid = (pid_t)(uint32_t)task;
    held->hit.tid = (pid_t)(task >> 32);
    held->hit.time_ns = take(&at, end);
    held->hit.cpu = (unsigned)(uint32_t)take(&at, end);
    if (machine->stacks)
        take_stack(held, &at, end);
    size_t i = 0;
    while (i < machine->event_count && machine->events[i].id != id)
        i++;
    if (i < machine->event_count) {
        held->hit.watch = machine->events[i].watch;
        machine->held_count++;
    } else
        free(held->stack);
    return 0;
}

static int by_time(const void *left, const void *right)
{
    const struct held *a = left, *b = right;
    if (a->hit.time_ns != b->hit.time_ns)
        return a->hit.time_ns < b->hit.time_ns ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static size_t give_out(struct tl_machine *machine, uint64_t before_ns, tl_machine_fn *fn, void *context)
{
    size_t given = 0;
    bool stop = false;
    if (machine->held_count)
        qsort(machine->held, machine->held_count, sizeof *machine->held, by_time);
    while (given < machine->held_count && machine->held[given].hit.time_ns < before_ns && !stop) {
        stop = fn(context, &machine->held[given].hit);
        free(machine->held[given++].stack);
    }
    machine->held_count -= given;
    if (given)
        memmove(machine->held, machine->held + given, machine->held_count * sizeof *machine->held);
    machine->given += given;
    return given;
}

static void read_rings(struct tl_machine *machine)
{
    for (size_t i = 0; i < machine->cpu_count; i++)
        if (machine->cpus[i].ring.memory)
            tl_ring_read(&machine->cpus[i].ring, hold, machine);
}

size_t tl_machine_poll(struct tl_machine *machine, tl_machine_fn *fn, void *context)
{
    uint64_t before = tl_now() - SETTLE_NS;
    read_rings(machine);
    return machine->held_count ? give_out(machine, before, fn, context) : 0;
}

size_t tl_machine_drain(struct tl_machine *machine, tl_machine_fn *fn, void *context)
{
    switch_all(machine, PERF_EVENT_IOC_DISABLE);
    read_rings(machine);
    return machine->held_count ? give_out(machine, UINT64_MAX, fn, context) : 0;
}

uint64_t tl_machine_count(const struct tl_machine *machine, size_t watch)
{
    uint64_t sum = 0, count;
    for (size_t i = 0; i < machine->event_count; i++)
        if (machine->events[i].watch == watch && read(machine->events[i].fd, &count, sizeof count) == sizeof count)
            sum += count;
    return sum;
}

uint64_t tl_machine_lost(const struct tl_machine *machine)
{
    uint64_t all = 0, known = machine->given + machine->held_count;
    for (size_t i = 0; i < machine->watch_count; i++)
        all += tl_machine_count(machine, i);
    return all > known ? all - known : 0;
}
