/* SPDX-License-Identifier: MIT
 *
 * The life of the handle, one at a time in it, and forks.
 *
 * Whoever is in a call has all signals held off but those that a fault of ours, or a probe, would raise: a handler of
 * the program's could leave by longjmp, with the lock held and half of the bytes written.
 *
 * The lock is taken over a fork, so that the child gets a state that is whole. All of our memory is private, the child
 * has its own copy of it, text included: nothing is to be done to it but to say who it is.
 */
#include "base/texts.h"
#include "host/self/internal.h"

#include "hit/broker.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tl_self *the_one;
static struct tl_self *left_behind; /* one that was closed, but may still be executed; the next open takes it over */
static struct tl_entered forking;

int tl_enter(struct tl_self *self, struct tl_entered *entered)
{
    (void)self;
    uint64_t others = ~TL_THE_FIVE;
    int result = (int)CALL(SYS_rt_sigprocmask, SIG_BLOCK, &others, &entered->mask, 8);
    if (result == 0)
        pthread_mutex_lock(&lock);
    return result;
}

void tl_leave(struct tl_entered *entered)
{
    pthread_mutex_unlock(&lock);
    CALL(SYS_rt_sigprocmask, SIG_SETMASK, &entered->mask, NULL, 8);
}

int tl_explain(struct tl_error *error, int code, const char *what)
{
    if (code == -ENOMEM)
        return tl_fail(error, code, "out of memory");
    if (code == -EMFILE || code == -ENFILE)
        return tl_fail(error, code, TL_NO_DESCRIPTORS);
    return tl_fail(error, code, "%s (%s)", what, tl_errno_name(-code));
}

int tl_explain_stop(struct tl_error *error, int code)
{
    switch (code) {
    case -EAGAIN:
        return tl_fail(error, code,
                       "a thread could not be stopped: it stays inside the kernel (vfork, a device), or "
                       "gets no processor; try again");
    case -EBUSY:
        return tl_fail(error, code, "the other threads cannot be stopped while a debugger traces this process");
    case -EPERM:
    case -EACCES:
    case -ENOSYS:
        return tl_fail(error, -EPERM,
                       "the other threads cannot be stopped (%s): register the first probe before starting threads, or "
                       "allow ptrace (kernel.yama.ptrace_scope below 2, prctl PR_SET_DUMPABLE, seccomp)",
                       tl_errno_name(-code));
    default:
        return tl_explain(error, code, "the other threads cannot be stopped");
    }
}

static void note_membarrier(struct tl_self *self)
{
    self->membarrier = CALL(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0;
}

static void before_fork(void)
{
    struct tl_entered entered = {0};
    if (tl_enter(the_one, &entered)) {
        CALL(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &entered.mask, 8);
        pthread_mutex_lock(&lock);
    }
    forking = entered;
}

static void after_fork_in_parent(void)
{
    struct tl_entered entered = forking;
    tl_leave(&entered);
}

static void after_fork_in_child(void)
{
    if (the_one) {
        the_one->pid = (pid_t)CALL(SYS_getpid);
        note_membarrier(the_one);
    }
    after_fork_in_parent();
}

static long map_zeros(size_t size)
{
    return CALL(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void tl_broker_begin(struct tl_self *self)
{
    struct tl_broker_setup setup = {.flags = TL_BROKER_FS_SELF,
                                    .pid = (uint32_t)self->pid,
                                    .marker = (uint64_t)self->marker,
                                    .entry = (uint64_t)tl_broker_entry,
                                    .pass = (uint64_t)tl_broker_pass,
                                    .restorer = (uint64_t)tl_broker_restorer,
                                    .notify = self->broker->notify,
                                    .notify_context = self->broker->notify_context};
    if (getauxval(AT_HWCAP2) & 2)
        setup.flags |= TL_BROKER_FSGSBASE;
    *self->marker = 1;
    tl_broker_init(self->broker, &setup);
    tl_broker_publish(self->broker, (uint64_t)self->tables.image);
    tl_broker_here = self->broker;
}

static int make_broker(struct tl_self *self)
{
    long broker = map_zeros(sizeof(struct tl_broker)), marker = map_zeros(PAGE);
    self->broker = FAILED(broker) ? NULL : (struct tl_broker *)broker;
    self->marker = FAILED(marker) ? NULL : (uint64_t *)marker;
    if (!self->broker || !self->marker)
        return -ENOMEM;
    int result = (int)CALL(SYS_madvise, marker, PAGE, MADV_WIPEONFORK);
    if (result == 0)
        tl_broker_begin(self);
    return result;
}

/* Only then memory may go. */
static bool nobody_in_made(struct tl_self *self)
{
    struct tl_plan_map *maps = calloc(self->made_count + 1, sizeof *maps);
    struct tl_plan plan = {.maps = maps};
    for (size_t i = 0; maps && i < self->made_count; i++) {
        if (!self->made[i].gate)
            maps[plan.map_count++] = (struct tl_plan_map){self->made[i].addr, self->made[i].size, 0};
    }
    bool nobody = maps && (plan.map_count == 0 || tl_nobody_inside(self, &plan));
    free(maps);
    return nobody;
}

static void destroy(struct tl_self *self)
{
    while (self->dormant) {
        struct tl_guarding *g = self->dormant;
        self->dormant = g->next;
        tl_guarding_free(self, g, true);
    }
    if (self->broker) {
        tl_tables_free(self);
        tl_broker_here = NULL;
        CALL(SYS_munmap, self->broker, sizeof *self->broker);
    }
    if (self->marker)
        CALL(SYS_munmap, self->marker, PAGE);
    tl_unmap_all(self);
    free(self->own);
    free(self->stacks);
    free(self->actions);
    free(self->parts);
    free(self->recent);
    free(self);
}

/* Can text be written here at all? Better said now. */
static int try_mem(struct tl_error *error)
{
    long mem = tl_mem_open();
    if (mem < 0)
        return tl_explain(error, mem == -EACCES ? -EPERM : (int)mem,
                          "/proc/self/mem cannot be opened: is /proc mounted, and the process dumpable (prctl "
                          "PR_SET_DUMPABLE)?");
    CALL(SYS_close, mem);
    return 0;
}

static int make(struct tl_self **out, struct tl_error *error)
{
    struct tl_self *self = calloc(1, sizeof *self);
    int result = self ? 0 : -ENOMEM;
    if (self) {
        self->pid = (pid_t)CALL(SYS_getpid);
        self->actions = calloc(TL_SIGNALS + 1, sizeof *self->actions);
        result = self->actions ? make_broker(self) : -ENOMEM;
    }
    if (result) {
        if (self)
            destroy(self);
        return tl_explain(error, result, "the signal broker's memory cannot be mapped");
    }
    *out = self;
    return 0;
}

static int begin(const struct tl_self_range *own, size_t own_count, struct tl_error *error)
{
    struct tl_self_range *copy = calloc(own_count + 1, sizeof *copy);
    int result = copy ? 0 : tl_fail(error, -ENOMEM, "out of memory");
    if (result == 0 && !left_behind)
        result = make(&left_behind, error);
    if (result) {
        free(copy);
        return result;
    }
    if (own_count)
        memcpy(copy, own, own_count * sizeof *copy);
    the_one = left_behind;
    left_behind = NULL;
    free(the_one->own);
    the_one->own = copy;
    the_one->own_count = own_count;
    the_one->pid = (pid_t)CALL(SYS_getpid);
    note_membarrier(the_one);
    return 0;
}

/* Calls that are executed elsewhere push return addresses that a shadow stack does not know. (ARCH_SHSTK_STATUS,
 * asm/prctl.h of Linux 6.6; older kernels have no shadow stacks.) */
static bool shadow_stack_is_on(void)
{
    enum { SHADOW_STACK_STATUS = 0x5005, ENABLED = 1 };
    uint64_t features = 0;
    return CALL(SYS_arch_prctl, SHADOW_STACK_STATUS, &features) == 0 && features & ENABLED;
}

int tl_self_open(const struct tl_self_range *own, size_t own_count, struct tl_self **out, struct tl_error *error)
{
    static int registered; /* 1: for good */
    struct tl_entered entered;
    if (!__atomic_exchange_n(&registered, 1, __ATOMIC_SEQ_CST) &&
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child)) {
        registered = 0;
        return tl_fail(error, -ENOMEM, "out of memory");
    }
    int result = tl_enter(NULL, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    if (the_one)
        result = tl_fail(error, -EBUSY, "trapline is in use in this process already");
    if (result == 0 && shadow_stack_is_on())
        result = tl_fail(error, -ENOTSUP, "this process uses a shadow stack, which trapline does not support");
    if (result == 0)
        result = try_mem(error);
    if (result == 0)
        result = begin(own, own_count, error);
    if (result == 0)
        *out = the_one;
    tl_leave(&entered);
    return result;
}

int tl_self_close(struct tl_self *self)
{
    struct tl_entered entered;
    if (!self)
        return 0;
    int result = tl_enter(self, &entered);
    if (result)
        return result;
    if (self->armed) {
        result = -EBUSY;
    } else {
        the_one = NULL;
        if (nobody_in_made(self))
            destroy(self);
        else
            left_behind = self;
    }
    tl_leave(&entered);
    return result;
}

struct tl_broker *tl_self_broker(struct tl_self *self)
{
    return self->broker;
}
