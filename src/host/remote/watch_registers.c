/* SPDX-License-Identifier: MIT
 *
 * Watching by debug registers that ptrace sets, where perf events are forbidden. The kernel keeps an event behind each
 * register that was ever set: a disabled one keeps its length and type, and an address that does not fit these is
 * refused. So a register is first made one of type execute, which takes any address, then has its address, then what it
 * is to be.
 *
 * They stay armed when we are gone: a record in the log tells the next run. Nobody inherits them.
 */
#include "host/remote/watching.h"

#include "hwbp/registers.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { CONTROL = 7, FIELD_BITS = 4, ENABLE_BITS = 2, FIELDS_AT = 16 };

static int peek(pid_t tid, unsigned number, uint64_t *value)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, u_debugreg) + 8 * number, NULL);
    *value = (uint64_t)word;
    return errno ? -errno : 0;
}

static int poke(pid_t tid, unsigned number, uint64_t value)
{
    return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg) + 8 * number, value) ? -errno : 0;
}

static uint64_t fields_of(unsigned k)
{
    return (uint64_t)((1 << ENABLE_BITS) - 1) << ENABLE_BITS * k | (uint64_t)((1 << FIELD_BITS) - 1)
                                                                       << (FIELDS_AT + FIELD_BITS * k);
}

static bool is_enabled(uint64_t control, unsigned k)
{
    return control >> ENABLE_BITS * k & ((1 << ENABLE_BITS) - 1);
}

/* Of register k of a stopped thread, all others as they are. */
static int set_register(pid_t tid, unsigned k, const struct tl_watching_spot *spot)
{
    uint64_t control = 0, fields;
    struct tl_debug_control wanted = {0};
    wanted.registers[k] = (struct tl_debug_register){
        .local = true, .access = spot->access, .length = spot->access & TL_SPOT_EXECUTES ? 1 : spot->length};
    int result = tl_dr7_encode(&wanted, &fields);
    if (result == 0)
        result = peek(tid, CONTROL, &control);
    control &= ~fields_of(k);
    if (result == 0)
        result = poke(tid, CONTROL, control);
    if (result == 0)
        result = poke(tid, k, spot->addr);
    tl_remote_step("debug register");
    return result ? result : poke(tid, CONTROL, control | fields);
}

/* The address stays: it tells that the kernel has an event behind the register. */
static int clear_register(pid_t tid, unsigned k)
{
    uint64_t control;
    int result = peek(tid, CONTROL, &control);
    return result ? result : poke(tid, CONTROL, control & ~fields_of(k));
}

/* The register of a thread that is carrier k: those that somebody else has set are left out. -1: there are too few. */
static int register_of(const struct tl_watching_thread *thread, unsigned k)
{
    for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++)
        if (thread->mine >> n & 1 && k-- == 0)
            return (int)n;
    return -1;
}

struct job {
    struct tl_watching *w;
    struct tl_watching_thread *thread;
    unsigned number, *free, *set, *left;
    struct tl_error *error;
};

static int on_arm(struct tl_remote *r, void *argument)
{
    struct job *job = argument;
    struct tl_watching_thread *thread = job->thread;
    uint64_t control;
    unsigned k = 0;
    (void)r;
    int result = peek(thread->tid, CONTROL, &control);
    for (unsigned n = 0; n < TL_HWBP_REGISTERS && k < job->w->carriers && result == 0; n++) {
        if (is_enabled(control, n))
            continue;
        result = set_register(thread->tid, n, &job->w->spots[job->w->on[k]]);
        if (result)
            break;
        thread->mine |= (uint8_t)(1u << n);
        k++;
    }
    *job->free = k;
    return result == 0 && k < job->w->carriers ? -ENOSPC : result;
}

static int on_begin(struct tl_remote *r, void *argument)
{
    struct job *job = argument;
    uint64_t offset = (uint64_t)((const uint8_t *)job->w->table - (const uint8_t *)r->area);
    struct tl_record record = {
        .kind = TL_RECORD_REGISTERS, .addr = r->area_addr + offset, .size = sizeof(struct tl_watch_table)};
    int result = tl_log_room(r, 1, job->error);
    if (result == 0 && !(job->w->record = tl_log_add(r, &record)))
        result = -ENOSPC;
    return result;
}

static int begin(struct tl_watching *w, struct tl_error *error)
{
    struct job job = {.w = w, .error = error};
    return tl_on_tracer(w->r, on_begin, &job);
}

static int arm(struct tl_watching *w, struct tl_watching_thread *thread, unsigned *free)
{
    struct job job = {.w = w, .thread = thread, .free = free};
    return tl_on_tracer(w->r, on_arm, &job);
}

static int on_release(struct tl_remote *r, void *argument)
{
    struct job *job = argument;
    int n, result = 0;
    (void)r;
    while (result == 0 && (n = register_of(job->thread, job->number)) >= 0) {
        tl_remote_step("debug register back");
        result = clear_register(job->thread->tid, (unsigned)n);
        job->thread->mine &= (uint8_t) ~(1u << n);
    }
    return result == -ESRCH ? 0 : result;
}

/* Target stopped. */
static void release(struct tl_watching *w, struct tl_watching_thread *thread, unsigned keep)
{
    struct job job = {.w = w, .thread = thread, .number = keep};
    tl_on_tracer(w->r, on_release, &job);
}

static int on_move(struct tl_remote *r, void *argument)
{
    struct job *job = argument;
    struct tl_watching *w = job->w;
    int result = 0;
    (void)r;
    for (size_t i = 0; i < w->thread_count; i++) {
        int n = register_of(&w->threads[i], job->number);
        int moved = n < 0 ? 0 : set_register(w->threads[i].tid, (unsigned)n, &w->spots[w->on[job->number]]);
        if (moved && moved != -ESRCH)
            result = moved;
    }
    return result;
}

static int move(struct tl_watching *w, unsigned k, uint32_t before)
{
    struct job job = {.w = w, .number = k};
    (void)before;
    return tl_on_tracer(w->r, on_move, &job);
}

static int stop(struct tl_watching *w, struct tl_error *error)
{
    int result = w->r->port.stop(w->r);
    if (result)
        return result == -ESRCH ? 0 : tl_fail(error, result, "%s", w->r->last.text);
    for (size_t i = 0; i < w->thread_count; i++)
        release(w, &w->threads[i], 0);
    if (w->record)
        w->record->live = 0;
    w->record = NULL;
    w->r->port.resume(w->r);
    return 0;
}

static bool is_spot(const struct tl_watch_table *table, uint64_t addr)
{
    bool found = false;
    for (uint32_t i = 0; i < TL_WATCH_SPOTS && i < table->count; i++)
        found |= table->spots[i].addr == addr;
    return found;
}

void tl_clear_registers(struct tl_remote *r, const struct tl_record *record)
{
    struct tl_watch_table *table = malloc(sizeof *table);
    bool is_there = table && record->size == sizeof *table && tl_mem_read(r, record->addr, table, sizeof *table) == 0;
    for (size_t i = 0; i < r->task_count && is_there; i++) {
        pid_t tid = r->tasks[i].tid;
        uint64_t control, addr;
        for (unsigned k = 0; k < TL_HWBP_REGISTERS && peek(tid, CONTROL, &control) == 0; k++)
            if (is_enabled(control, k) && peek(tid, k, &addr) == 0 && is_spot(table, addr))
                clear_register(tid, k);
    }
    free(table);
}

static int on_look(struct tl_remote *r, void *argument)
{
    struct job *job = argument;
    pid_t tid = job->thread->tid;
    uint64_t control, addr;
    (void)r;
    int result = peek(tid, CONTROL, &control);
    *job->set = *job->left = 0;
    for (unsigned k = 0; k < TL_HWBP_REGISTERS && result == 0; k++) {
        bool is_ours = job->thread->mine >> k & 1;
        result = peek(tid, k, &addr);
        *job->set += result == 0 && is_enabled(control, k) && !is_ours;
        *job->left += result == 0 && !is_enabled(control, k) && addr;
    }
    return result;
}

unsigned tl_watching_set_by_ptrace(struct tl_watching *w, pid_t tid, unsigned *left)
{
    struct tl_watching_thread thread = {.tid = tid};
    unsigned set = 0;
    struct job job = {.w = w, .thread = &thread, .set = &set, .left = left};
    for (size_t i = 0; i < w->thread_count; i++)
        if (w->threads[i].tid == tid)
            thread.mine = w->threads[i].mine;
    tl_on_tracer(w->r, on_look, &job);
    return set;
}

const struct tl_watching_means tl_watching_by_registers = {.kind = TL_WATCH_BY_REGISTERS,
                                                           .name = "debug register",
                                                           .begin = begin,
                                                           .arm = arm,
                                                           .release = release,
                                                           .move = move,
                                                           .stop = stop,
                                                           .moves_stopped = true};
