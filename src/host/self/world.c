/* SPDX-License-Identifier: MIT
 *
 * The side of the one who has the others stopped. See helper.c.
 *
 * All of the caller's signals are blocked before the helper is made: it inherits that, and so never runs a handler of
 * the program's.
 */
#include "host/self/world.h"
#include "host/self/internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { STACK_BYTES = 65536, ROOM_SPARE = 256, TRIES = 40, WAIT_TRIES = 8, OPEN_DIRECTORY = 02000000 | 0200000 };

static long open_tasks(void)
{
    return CALL(SYS_openat, AT_CURRENT, "/proc/self/task", OPEN_DIRECTORY, 0);
}

static long count_links(long fd)
{
    struct stat stat = {0};
    long result = CALL(SYS_fstat, fd, &stat);
    return result ? result : (long)stat.st_nlink - 2;
}

long tl_world_threads(void)
{
    long fd = open_tasks();
    if (fd < 0)
        return fd;
    long count = count_links(fd);
    CALL(SYS_close, fd);
    return count;
}

/* Yama, where it is in force, wants to be told who may trace us. */
static void admit(pid_t helper)
{
    char scope = '0';
    long fd = CALL(SYS_openat, AT_CURRENT, "/proc/sys/kernel/yama/ptrace_scope", 02000000, 0);
    if (fd < 0)
        return;
    CALL(SYS_read, fd, &scope, 1);
    CALL(SYS_close, fd);
    if (scope == '1')
        CALL(SYS_prctl, PR_SET_PTRACER, helper, 0, 0, 0);
}

static void give(struct tl_world *w, int order)
{
    __atomic_store_n(&w->order, order, __ATOMIC_SEQ_CST);
    CALL(SYS_futex, &w->order, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Nobody relies on being woken: a look now and then costs nothing. */
static int await_other(int *word, int value)
{
    const struct timespec t = {0, TL_WORLD_LOOK_NS};
    int now;
    while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) == value)
        CALL(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0);
    return now;
}

static void bury(struct tl_world *w)
{
    for (int state; (state = __atomic_load_n(&w->state, __ATOMIC_SEQ_CST)) != TL_WORLD_OVER;)
        await_other(&w->state, state);
    for (int tries = 0; tries < WAIT_TRIES; tries++) {
        long result = CALL(SYS_wait4, w->helper, NULL, __WALL, NULL);
        if (result == w->helper || result == -ECHILD)
            break;
    }
}

static void dispose(struct tl_world *w)
{
    CALL(SYS_close, w->directory);
    CALL(SYS_munmap, (char *)w - STACK_BYTES, w->size);
}

static int prepare(struct tl_world **out)
{
    long fd = open_tasks();
    if (fd < 0)
        return (int)fd;
    long threads = count_links(fd);
    size_t room = (threads > 0 ? (size_t)threads : 0) * 2 + ROOM_SPARE;
    size_t size =
        (STACK_BYTES + sizeof(struct tl_world) + room * sizeof(struct tl_world_task) + PAGE - 1) & ~(size_t)(PAGE - 1);
    long memory = threads < 0 ? threads
                              : CALL(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (FAILED(memory)) {
        CALL(SYS_close, fd);
        return (int)memory;
    }
    struct tl_world *w = (struct tl_world *)((char *)memory + STACK_BYTES);
    w->size = size;
    w->room = room;
    w->directory = (int)fd;
    w->pid = (pid_t)CALL(SYS_getpid);
    w->caller = (pid_t)CALL(SYS_gettid);
    *out = w;
    return 0;
}

static int stop_once(struct tl_world **out)
{
    uint64_t all = ~0ull, mask = 0;
    struct tl_world *w = NULL;
    int result = prepare(&w);
    if (result)
        return result;
    w->state = TL_WORLD_BEGINS;
    result = (int)CALL(SYS_rt_sigprocmask, SIG_BLOCK, &all, &mask, 8);
    if (result == 0) {
        long helper = CALL(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED | CLONE_CHILD_CLEARTID, w,
                           tl_world_help, w, &w->state);
        CALL(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
        result = helper < 0 ? (int)helper : 0;
        w->helper = (pid_t)helper;
    }
    if (result == 0) {
        admit(w->helper);
        give(w, TL_WORLD_GO);
        int state = await_other(&w->state, TL_WORLD_BEGINS);
        if (state == TL_WORLD_STOPPED) {
            *out = w;
            return 0;
        }
        bury(w);
        result = w->error ? w->error : -EPERM; /* it died: somebody does not want this to be done */
    }
    dispose(w);
    return result;
}

int tl_world_stop(struct tl_world **world)
{
    for (unsigned turn = 0;; turn++) {
        int result = stop_once(world);
        if (result != -EAGAIN || turn == TRIES)
            return result;
        struct timespec t = {0, (long)(turn + 1) * 1000000};
        CALL(SYS_nanosleep, &t, NULL);
    }
}

void tl_world_resume(struct tl_world *w)
{
    give(w, TL_WORLD_RELEASE);
    bury(w);
    dispose(w);
}

long tl_world_ptrace(struct tl_world *w, long request, pid_t tid, void *addr, void *data)
{
    w->call.request = request;
    w->call.tid = tid;
    w->call.addr = (long)addr;
    w->call.data = (long)data;
    w->call.result = -ESRCH;
    give(w, TL_WORLD_CALL);
    /* Its end is no order: look at that, too, now and then. */
    const struct timespec t = {0, TL_WORLD_LOOK_NS};
    while (__atomic_load_n(&w->order, __ATOMIC_SEQ_CST) == TL_WORLD_CALL &&
           __atomic_load_n(&w->state, __ATOMIC_SEQ_CST) == TL_WORLD_STOPPED)
        CALL(SYS_futex, &w->order, FUTEX_WAIT, TL_WORLD_CALL, &t, NULL, 0);
    return w->call.result;
}
