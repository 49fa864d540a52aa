/* SPDX-License-Identifier: MIT
 *
 * Who is who among the threads. Code on a hit knows a thread by its fs base; people know it by its tid. The C library
 * keeps the tid at a fixed distance from the fs base, and that distance is found by looking, not by knowing versions.
 */
#include "hit/abi.h"
#include "host/remote/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEFORE = 1024, AFTER = 4096, WORDS = (BEFORE + AFTER) / 4 };

static void remember(struct tl_remote *r)
{
    struct tl_identity *known = realloc(r->known, r->task_count * sizeof *known);
    if (!known)
        return;
    r->known = known;
    r->known_count = r->task_count;
    for (size_t i = 0; i < r->task_count; i++)
        known[i] = (struct tl_identity){r->tasks[i].regs.fs_base, r->tasks[i].tid};
}

/* Strike out the candidates at which this thread's tid does not stand. */
static void compare(struct tl_remote *r, const struct tl_task *task, bool candidate[WORDS])
{
    int32_t words[WORDS];
    uint64_t from = task->regs.fs_base - BEFORE;
    pid_t tid = tl_innermost_pid(task->tid);
    for (size_t part = 0; part < WORDS; part += 64) { /* what lies around may not be mapped */
        if (tl_mem_read(r, from + part * 4, words + part, 256))
            memset(words + part, 0xff, 256);
    }
    for (size_t i = 0; i < WORDS; i++)
        candidate[i] &= words[i] == tid;
}

static int32_t choose(const bool candidate[WORDS], size_t threads)
{
    size_t found = 0;
    int32_t only = INT32_MIN;
    if (candidate[(BEFORE + TL_TID_GLIBC) / 4])
        return TL_TID_GLIBC;
    if (candidate[(BEFORE + TL_TID_MUSL) / 4])
        return TL_TID_MUSL;
    for (size_t i = 0; i < WORDS; i++) {
        if (candidate[i]) {
            found++;
            only = (int32_t)(i * 4) - BEFORE;
        }
    }
    return threads > 1 && found == 1 ? only : INT32_MIN;
}

void tl_learn_threads(struct tl_remote *r)
{
    bool candidate[WORDS];
    size_t threads = 0;
    memset(candidate, 1, sizeof candidate);
    r->facts.fs_self = r->task_count > 0;
    for (size_t i = 0; i < r->task_count; i++) {
        const struct tl_task *task = &r->tasks[i];
        uint64_t self = 0;
        bool has_base = task->regs.fs_base != 0 && tl_mem_read(r, task->regs.fs_base, &self, 8) == 0;
        r->facts.fs_self &= has_base && self == task->regs.fs_base;
        if (has_base && !task->outside) { /* a vfork child looks like its parent */
            compare(r, task, candidate);
            threads++;
        }
    }
    r->facts.tid_offset = threads ? choose(candidate, threads) : INT32_MIN;
    remember(r);
}

struct unknown {
    struct tl_remote *r;
    bool any;
};

static int is_unknown(void *context, int tid)
{
    struct unknown *u = context;
    for (size_t i = 0; i < u->r->known_count; i++) {
        if (u->r->known[i].tid == tid)
            return 0;
    }
    u->any = true;
    return 1;
}

static int look_again(struct tl_remote *r, void *argument)
{
    (void)argument;
    int result = tl_stop(r, NULL);
    if (result)
        return result;
    remember(r);
    tl_resume(r);
    return 0;
}

static pid_t known_as(const struct tl_remote *r, uint64_t fs_base)
{
    for (size_t i = 0; i < r->known_count; i++) {
        if (r->known[i].fs_base == fs_base)
            return r->known[i].tid;
    }
    return 0;
}

int tl_remote_thread(struct tl_remote *r, uint64_t fs_base, pid_t *tid)
{
    struct unknown u = {.r = r};
    char path[64];
    *tid = known_as(r, fs_base);
    if (*tid)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/task", r->pid);
    tl_each_number(path, is_unknown, &u);
    if (u.any)
        tl_on_tracer(r, look_again, NULL);
    *tid = known_as(r, fs_base);
    return *tid ? 0 : -ENOENT;
}

struct listing {
    struct tl_identity *threads;
    size_t count;
    struct tl_error *error;
};

static int list_threads(struct tl_remote *r, void *argument)
{
    struct listing *l = argument;
    int result = tl_stop(r, l->error);
    if (result)
        return result;
    l->threads = calloc(r->task_count, sizeof *l->threads);
    for (size_t i = 0; l->threads && i < r->task_count; i++) {
        if (!r->tasks[i].outside)
            l->threads[l->count++] = (struct tl_identity){r->tasks[i].regs.fs_base, r->tasks[i].tid};
    }
    tl_resume(r);
    return l->threads ? 0 : tl_fail(l->error, -ENOMEM, "out of memory");
}

int tl_remote_threads(struct tl_remote *r, struct tl_identity **threads, size_t *count, struct tl_error *error)
{
    struct listing l = {.error = error};
    int result = tl_patiently(r, list_threads, &l);
    *threads = l.threads;
    *count = l.count;
    return result;
}
