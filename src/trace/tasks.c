/* SPDX-License-Identifier: MIT
 *
 * A small cache from threads, as the runtime tells them apart, to their ids and names outside. An entry is asked for
 * anew when events say that it is a second old: threads rename themselves, and both thread ids and fs bases are used
 * again.
 */
#include "trace/tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SETS = 256, WAYS = 4, STALE_NS = 1000000000, COMM_SIZE = 32 };

struct entry {
    uint64_t fs_base; /* the key where tid is 0 */
    uint64_t asked_ns;
    uint32_t tid;
    int outside; /* 0: the entry is free */
    char comm[COMM_SIZE];
};

struct tl_tasks {
    int pid, foreign;
    tl_task_fn *resolve;
    void *context;
    char comm[COMM_SIZE]; /* of the process, the last known */
    unsigned next;        /* which way of a full set goes next */
    struct entry entries[SETS][WAYS];
};

/* Leaves *comm as it is where the file cannot be read any more. */
static void read_comm(int pid, int tid, char comm[COMM_SIZE])
{
    char path[64], text[COMM_SIZE];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size <= 0)
        return;
    if (text[size - 1] == '\n')
        size--;
    memcpy(comm, text, (size_t)size);
    comm[size] = '\0';
}

int tl_tasks_open(int pid, int foreign, tl_task_fn *resolve, void *context, struct tl_tasks **out)
{
    struct tl_tasks *tasks = calloc(1, sizeof(*tasks));
    if (!tasks)
        return -ENOMEM;
    tasks->pid = pid;
    tasks->foreign = foreign;
    tasks->resolve = resolve;
    tasks->context = context;
    strcpy(tasks->comm, "?");
    read_comm(pid, pid, tasks->comm);
    *out = tasks;
    return 0;
}

void tl_tasks_close(struct tl_tasks *tasks)
{
    free(tasks);
}

static int outside_id(const struct tl_tasks *tasks, uint32_t tid, uint64_t fs_base)
{
    int id = 0;
    if (tasks->resolve && (tid == 0 || tasks->foreign))
        id = tasks->resolve(tasks->context, tid, fs_base);
    if (id <= 0 && tid <= INT32_MAX)
        id = (int)tid;
    return id;
}

static void ask(struct tl_tasks *tasks, struct entry *entry, uint64_t fs_base)
{
    int before = entry->outside;
    int id = outside_id(tasks, entry->tid, fs_base);
    /* A thread that has gone since keeps the id it had. */
    entry->outside = id > 0 ? id : before ? before : tasks->pid;
    if (entry->outside != before) {
        read_comm(tasks->pid, tasks->pid, tasks->comm);
        memcpy(entry->comm, tasks->comm, COMM_SIZE);
    }
    read_comm(tasks->pid, entry->outside, entry->comm);
}

int tl_tasks_find(struct tl_tasks *tasks, uint32_t tid, uint64_t fs_base, uint64_t time_ns, const char **comm)
{
    uint64_t base = tid ? 0 : fs_base; /* a thread that has an id is known by it */
    uint64_t hash = (tid + base) * 0x9e3779b97f4a7c15u;
    struct entry *set = tasks->entries[hash >> 56], *found = NULL;

    for (unsigned i = 0; i < WAYS && !found; i++)
        if (set[i].outside && set[i].tid == tid && set[i].fs_base == base)
            found = &set[i];
    if (!found) {
        found = &set[tasks->next++ % WAYS];
        for (unsigned i = 0; i < WAYS; i++)
            if (!set[i].outside)
                found = &set[i];
        *found = (struct entry){.tid = tid, .fs_base = base};
    }
    if (!found->outside || (time_ns > found->asked_ns && time_ns - found->asked_ns >= STALE_NS)) {
        ask(tasks, found, fs_base);
        found->asked_ns = time_ns;
    }
    *comm = found->comm;
    return found->outside;
}
