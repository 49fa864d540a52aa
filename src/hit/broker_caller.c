/* SPDX-License-Identifier: MIT
 *
 * Whose broker this is: the process, a fork child that has found itself with a copy, or a vfork child that runs in the
 * memory of its parent; and the thread.
 */
#include "hit/brokering.h"

enum { TRIES = 64 };

uint64_t tl_caller_fs_base(const struct tl_broker *broker)
{
    uint64_t base = 0;
    if (broker->flags & TL_BROKER_FSGSBASE)
        __asm__ volatile("rdfsbase %0" : "=r"(base));
    else if (broker->flags & TL_BROKER_FS_SELF)
        __asm__ volatile("movq %%fs:0, %0" : "=r"(base));
    return base;
}

static inline uint32_t place(uint64_t fs_base)
{
    return (uint32_t)(fs_base >> 6) * 0x9e3779b1u >> 21;
}
_Static_assert(TL_BROKER_THREADS == 1u << (32 - 21), "place() gives an index");

struct tl_broker_thread *tl_broker_thread(struct tl_broker *broker, uint64_t fs_base)
{
    uint32_t at = place(fs_base);
    for (uint32_t i = 0; fs_base && i < TRIES; i++, at = (at + 1) % TL_BROKER_THREADS) {
        uint64_t key = __atomic_load_n(&broker->keys[at], __ATOMIC_ACQUIRE);
        if (key == fs_base)
            return &broker->threads[at];
        if (!key)
            break;
    }
    return NULL;
}

struct tl_broker_thread *tl_thread_claim(struct tl_broker *broker, uint64_t fs_base)
{
    uint32_t at = place(fs_base);
    for (uint32_t i = 0; fs_base && i < TRIES; i++, at = (at + 1) % TL_BROKER_THREADS) {
        uint64_t key = 0;
        if (__atomic_compare_exchange_n(&broker->keys[at], &key, fs_base, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ||
            key == fs_base)
            return &broker->threads[at];
    }
    return NULL;
}

/* A fork child has one thread, and nothing is pending for it. */
static __attribute__((noinline)) void adopt_copy(struct tl_broker *broker, uint32_t pid)
{
    uint64_t base = tl_caller_fs_base(broker);
    struct tl_broker_thread *mine = tl_broker_thread(broker, base);
    uint64_t own[offsetof(struct tl_broker_thread, info) / 8];
    if (mine)
        tl_copy_words(own, mine, sizeof own);
    for (uint32_t i = 0; i < TL_BROKER_THREADS; i++)
        if (broker->keys[i]) {
            tl_clear_words(&broker->threads[i], sizeof broker->threads[i]);
            broker->keys[i] = 0;
        }
    if (mine && (mine = tl_thread_claim(broker, base))) {
        tl_copy_words(mine, own, sizeof own);
        mine->tid = mine->pending = mine->waiting = mine->wake = 0;
    }
    for (uint32_t i = 0; i < TL_BROKER_CHILDREN; i++)
        broker->children[i].process.pid = 0;
    broker->process.lock = broker->process.pending = 0;
    broker->shared = 0;
    broker->process.pid = pid;
    __atomic_store_n((uint64_t *)broker->marker, 1, __ATOMIC_RELEASE);
}

static struct tl_broker_child *child_of(struct tl_broker *broker, uint32_t pid)
{
    for (uint32_t i = 0; i < TL_BROKER_CHILDREN; i++)
        if (__atomic_load_n(&broker->children[i].process.pid, __ATOMIC_ACQUIRE) == pid)
            return &broker->children[i];
    return NULL;
}

/* A vfork child begins with what its parent has. */
static void begin_child(struct tl_broker *broker, struct tl_broker_child *child)
{
    struct tl_broker_thread *parent = tl_broker_thread(broker, tl_caller_fs_base(broker));
    tl_clear_words(&child->thread, sizeof child->thread);
    if (parent) {
        child->thread.trap_blocked = parent->trap_blocked;
        child->thread.trap_after = parent->trap_after;
        child->thread.handler = parent->handler;
        child->thread.handler_low = parent->handler_low;
    }
    child->process.pending = 0;
    child->process.lock = 0;
    child->process.changed = broker->process.changed;
    for (int number = 1; number <= TL_SIGNALS; number++) {
        struct tl_sigaction action;
        if (!(child->process.changed >> (number - 1) & 1))
            continue;
        tl_action_get(&broker->process, number, &action);
        tl_action_set(&child->process, number, &action);
    }
}

static bool is_dead(const struct tl_broker *broker, uint32_t pid)
{
    enum { NO_SUCH_PROCESS = -3 };
    return tl_may(broker, TL_OWN_KILL) && tl_kernel(TL_SYS_KILL, pid, 0, 0, 0, 0, 0) == NO_SUCH_PROCESS;
}

/* Free room first; then that of a child that most likely has executed another program; then that of one that is dead.
 */
static __attribute__((noinline)) struct tl_broker_child *make_child(struct tl_broker *broker, uint32_t pid)
{
    for (unsigned pass = 0; pass < 3; pass++)
        for (uint32_t i = 0; i < TL_BROKER_CHILDREN; i++) {
            struct tl_broker_child *child = &broker->children[(pid + i) % TL_BROKER_CHILDREN];
            uint32_t owner = __atomic_load_n(&child->process.pid, __ATOMIC_RELAXED);
            if (owner && !(pass == 1 && owner & TL_CHILD_IS_LEAVING) &&
                !(pass == 2 && !(owner & TL_CHILD_IS_LEAVING) && is_dead(broker, owner)))
                continue;
            if (!__atomic_compare_exchange_n(&child->process.pid, &owner, pid, false, __ATOMIC_ACQ_REL,
                                             __ATOMIC_RELAXED))
                continue;
            begin_child(broker, child);
            broker->shared = 1;
            return child;
        }
    return NULL;
}

/* A thread of the process itself. */
static void take_own(struct tl_caller *caller, struct tl_broker *broker)
{
    caller->broker = broker;
    caller->process = &broker->process;
    caller->is_child = caller->is_stranger = false;
    caller->pid = broker->process.pid;
    caller->thread = broker->flags & TL_BROKER_DORMANT ? NULL : tl_thread_claim(broker, tl_caller_fs_base(broker));
}

void tl_caller_find(struct tl_caller *caller, struct tl_broker *broker)
{
    /* A confined process that may not ask is itself; or a vfork child of its own, which is taken for it. */
    bool may_ask = tl_may(broker, TL_OWN_GETPID);
    uint32_t pid = may_ask ? (uint32_t)tl_kernel(TL_SYS_GETPID, 0, 0, 0, 0, 0, 0) : 0;
    if (!__atomic_load_n((const uint64_t *)broker->marker, __ATOMIC_ACQUIRE))
        adopt_copy(broker, pid);
    if (!may_ask || pid == broker->process.pid) {
        take_own(caller, broker);
        return;
    }
    struct tl_broker_child *child = child_of(broker, pid);
    if (!child)
        child = make_child(broker, pid);
    caller->broker = broker;
    caller->process = child ? &child->process : &broker->process;
    caller->thread = child ? &child->thread : NULL;
    caller->pid = pid;
    caller->is_child = true;
    caller->is_stranger = !child;
}

void tl_caller_find_quickly(struct tl_caller *caller, struct tl_broker *broker)
{
    if (broker->shared || !__atomic_load_n((const uint64_t *)broker->marker, __ATOMIC_ACQUIRE))
        tl_caller_find(caller, broker);
    else
        take_own(caller, broker);
}

void tl_thread_settle(struct tl_broker_thread *thread, uint64_t rsp)
{
    if (!thread->handler || (rsp >= thread->handler_low && rsp <= thread->handler))
        return;
    thread->trap_blocked = thread->trap_after;
    thread->handler = 0;
}

static __attribute__((noinline)) bool ask(struct tl_broker *broker, uint64_t fs_base)
{
    struct tl_broker_thread *thread;
    /* What a vfork child finds is not true of its parent; a fork child has a copy of its own. */
    bool is_copy = !__atomic_load_n((const uint64_t *)broker->marker, __ATOMIC_ACQUIRE);
    uint64_t mask = tl_may(broker, TL_OWN_SIGPROCMASK) ? tl_ask_mask() : tl_ask_mask_by_trap();
    if (mask & TL_LOAD_BITS || (!is_copy && tl_may(broker, TL_OWN_GETPID) && tl_ask_process() != broker->process.pid))
        return false;
    thread = tl_thread_claim(broker, fs_base);
    if (thread)
        thread->safe = 1;
    return thread != NULL;
}

bool tl_broker_may_load(struct tl_broker *broker, uint64_t fs_base, bool may_ask)
{
    const struct tl_broker_thread *thread = tl_broker_thread(broker, fs_base);
    if (!tl_may(broker, TL_OWN_SIGRETURN)) /* a fault would not be survived */
        return false;
    if (thread && thread->safe)
        return true;
    return fs_base && may_ask && ask(broker, fs_base);
}

void tl_broker_watch_stack(struct tl_broker *broker, uint64_t fs_base, uint64_t *end)
{
    struct tl_broker_thread *thread = tl_thread_claim(broker, fs_base);
    if (thread)
        thread->stack_end = (uint64_t)(uintptr_t)end;
}
