/* SPDX-License-Identifier: MIT
 *
 * Which threads there are, and whether one of them is just creating another.
 *
 * Threads may hide from a reader of the list while others end. So their number has to be right as well.
 *
 * A thread that is being created has been given its creator's events early, and is in the list late. So whoever has
 * opened an event for the creator meanwhile, and reads the list, may not see it. But then the creator is still in its
 * system call. The kernel says in which call a thread sleeps; one that runs is looked at again, until it sleeps or has
 * had much more of the processor than creating a thread can take.
 */
#include "host/self/perf_threads.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "host/self/internal.h"
#include "host/self/perf.h"
#include "host/self/world.h"

enum {
    DIRECTORY = 02000000 | 0200000 /* O_CLOEXEC, O_DIRECTORY */,
    CLOSE_ON_EXEC = 02000000,
    LOOKS = 400,
    QUICK_LOOKS = 4,
    LOOK_NS = 1000000,
    ENOUGH_NS = 5000000
};

struct entry { /* of getdents64 */
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int number(const char *name)
{
    int n = 0;
    while (*name >= '0' && *name <= '9')
        n = n * 10 + *name++ - '0';
    return n;
}

long tl_perf_threads_read(struct tl_perf_threads *list)
{
    uint64_t buffer[512];
    long fd = CALL(SYS_openat, AT_CURRENT, "/proc/self/task", DIRECTORY, 0), got = 0;
    if (fd < 0)
        return fd;
    list->count = 0;
    size_t found = 0;
    while ((got = CALL(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)((const char *)buffer + at);
            at += entry->length;
            int tid = number(entry->name);
            if (!tid)
                continue;
            if (list->count < list->room)
                list->tids[list->count++] = tid;
            found++;
        }
    CALL(SYS_close, fd);
    return got < 0 ? got : (long)found;
}

int tl_perf_threads_list(struct tl_perf_threads *list)
{
    long count = tl_world_threads();
    if (count < 0)
        return (int)count;
    if ((size_t)count > list->room) {
        size_t room = (size_t)count + 64;
        int *tids = realloc(list->tids, room * sizeof *tids);
        if (!tids)
            return -ENOMEM;
        *list = (struct tl_perf_threads){tids, 0, room};
    }
    long found = tl_perf_threads_read(list);
    if (found < 0)
        return (int)found;
    return found == count && found == tl_world_threads() ? 0 : -EAGAIN;
}

static int ascending(const void *a, const void *b)
{
    int one = *(const int *)a, other = *(const int *)b;
    return (one > other) - (one < other);
}

bool tl_perf_threads_is_new(struct tl_perf_threads *before, struct tl_perf_threads *now)
{
    qsort(before->tids, before->count, sizeof *before->tids, ascending);
    qsort(now->tids, now->count, sizeof *now->tids, ascending);
    for (size_t i = 0, k = 0; i < now->count; i++) {
        while (k < before->count && before->tids[k] < now->tids[i])
            k++;
        if (k == before->count || before->tids[k] != now->tids[i])
            return true;
    }
    return false;
}

/* Up to size - 1 bytes of a file about a thread, ended by a 0. How many, or -errno. */
static long read_about(int tid, const char *name, char *text, size_t size)
{
    char path[64] = "/proc/self/task/", digits[16];
    size_t at = strlen(path), n = 0;
    for (int rest = tid; rest > 0 && n < sizeof digits; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n)
        path[at++] = digits[--n];
    memcpy(path + at, name, strlen(name) + 1);
    text[0] = '\0';
    long fd = tid > 0 ? CALL(SYS_openat, AT_CURRENT, path, CLOSE_ON_EXEC, 0) : -ENOENT;
    if (fd < 0)
        return fd;
    long got = CALL(SYS_read, fd, text, size - 1);
    CALL(SYS_close, fd);
    text[got > 0 ? got : 0] = '\0';
    return got;
}

uint64_t tl_perf_thread_start(int tid)
{
    char text[512];
    read_about(tid, "/stat", text, sizeof text);
    const char *field = strrchr(text, ')'); /* of the second; the twenty-second is wanted */
    for (int i = 0; field && i < 20; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

/* ---- whether one is being created ---- */

enum doing { GONE_OR_ELSEWHERE, CREATING, RUNNING };

/* A thread sleeps in this system call. Where it waits for a vfork child, that child exists. */
static enum doing doing_call(long number, uint64_t argument, bool fork)
{
    uint64_t flags = argument;
    if (number == SYS_fork)
        return fork ? CREATING : GONE_OR_ELSEWHERE;
    if (number == SYS_clone3 && tl_peek(argument, &flags, sizeof flags) != sizeof flags)
        return CREATING;
    if (number != SYS_clone3 && number != SYS_clone)
        return GONE_OR_ELSEWHERE;
    if (flags & CLONE_VFORK)
        return GONE_OR_ELSEWHERE;
    return flags & CLONE_THREAD || fork ? CREATING : GONE_OR_ELSEWHERE;
}

static enum doing what_does(int tid, bool fork)
{
    char text[256], *end;
    long got = read_about(tid, "/syscall", text, sizeof text);
    if (got == -ENOENT || got == -ESRCH)
        return GONE_OR_ELSEWHERE;
    if (got <= 0 || text[0] == 'r')
        return RUNNING;
    long number = strtol(text, &end, 10);
    return doing_call(number, strtoull(end, NULL, 16), fork);
}

/* Nanoseconds of the processor that it has had. */
static uint64_t has_run(int tid)
{
    char text[128];
    return read_about(tid, "/schedstat", text, sizeof text) > 0 ? strtoull(text, NULL, 10) : 0;
}

struct look {
    bool settled, began;
    uint64_t had; /* when it was first looked at */
};

static bool is_settled(struct look *look, int tid, bool fork)
{
    enum doing doing = what_does(tid, fork);
    if (doing != RUNNING)
        return doing == GONE_OR_ELSEWHERE;
    uint64_t had = has_run(tid);
    if (!look->began)
        *look = (struct look){.began = true, .had = had};
    return had - look->had >= ENOUGH_NS;
}

int tl_perf_threads_settle(const struct tl_perf_threads *threads, bool fork)
{
    struct look *looks = calloc(threads->count + 1, sizeof *looks);
    int own = (int)CALL(SYS_gettid);
    size_t left = 1;
    if (!looks)
        return -ENOMEM;
    for (unsigned turn = 0; left && turn < LOOKS; turn++) {
        const struct timespec pause = {0, LOOK_NS};
        if (turn >= QUICK_LOOKS)
            CALL(SYS_nanosleep, &pause, NULL);
        else if (turn)
            CALL(SYS_sched_yield);
        left = 0;
        for (size_t i = 0; i < threads->count; i++) {
            if (!looks[i].settled)
                looks[i].settled = threads->tids[i] == own || is_settled(&looks[i], threads->tids[i], fork);
            left += !looks[i].settled;
        }
    }
    free(looks);
    return left ? -EAGAIN : 0;
}
