/* SPDX-License-Identifier: MIT
 *
 * The lock, the host, and what has to be there before the first hit.
 *
 * Fork: the lock is taken around it, so that the child finds a state that holds together. The host does the same with
 * its own; since handlers of pthread_atfork for the time before run in reverse order, ours have to be set up behind it.
 * A handler of a probe that forks must not wait for the lock, since who holds it may wait for the handler. If it is
 * held the child has its probes, but nobody there may change them any more.
 */
#include "engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "hit/broker.h"
#include "hwbp.h"
#include "readers.h"
#include "notifiers.h"

enum { PAGE = 4096, POOL = 256, POOL_LEAST = 64, GUARD_INSTALL = 102 /* of madvise */, ARM_ATTEMPTS = 3 };

struct engine engine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static __thread bool locked __attribute__((tls_model("initial-exec"))); /* for the fork */
static bool lost; /* this is a child, and its maker was not alone in the engine */

static bool in_handler(void)
{
    return tl_call_inside() || readers_inside();
}

static void before_fork(void)
{
    locked = (in_handler() ? pthread_mutex_trylock(&lock) : pthread_mutex_lock(&lock)) == 0;
    if (locked)
        hwbp_forking();
}

static void after_fork(void)
{
    if (locked)
        pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
    tl_call_forked();
    readers_forked();
    if (locked)
        hwbp_forked();
    lost = lost || !locked;
    after_fork();
}

int engine_enter(void)
{
    if (lost || in_handler())
        return -EDEADLK;
    pthread_mutex_lock(&lock);
    return 0;
}

void engine_end(void)
{
    pthread_mutex_unlock(&lock);
}

/* Memory from the kernel, zero, or NULL. */
static void *map(size_t size)
{
    long at = tl_self_call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                           -1, 0);
    return at < 0 && at > -PAGE ? NULL : (void *)(uintptr_t)at; /* NOLINT: an address */
}

/* Make a page one that cannot be accessed; by preference (Linux 6.13) without mappings of its own, since there are
 * hundreds. Where it cannot be done, it has to do without. */
static void guard(const char *page)
{
    if (tl_self_call(SYS_madvise, (long)(uintptr_t)page, PAGE, GUARD_INSTALL, 0, 0, 0))
        tl_self_call(SYS_mprotect, (long)(uintptr_t)page, PAGE, PROT_NONE, 0, 0, 0);
}

/* See that threads find records. Blocks begin with a page that stops a handler which needs too much stack. */
static int provide_records(void)
{
    if (tl_call_records_free() >= POOL_LEAST)
        return 0;
    size_t pool_size = (tl_call_pool_size(POOL) + PAGE - 1) & ~(size_t)(PAGE - 1);
    size_t memory_size = (size_t)POOL * TL_CALL_THREAD_BYTES;
    void *pool = map(pool_size);
    char *memory = pool ? map(memory_size) : NULL;
    if (!memory) {
        if (pool)
            tl_self_call(SYS_munmap, (long)(uintptr_t)pool, (long)pool_size, 0, 0, 0, 0);
        return -ENOMEM;
    }
    for (size_t i = 0; i < POOL; i++)
        guard(memory + i * TL_CALL_THREAD_BYTES);
    struct tl_self_range stacks = {(uintptr_t)memory, (uintptr_t)memory + memory_size};
    if (tl_self_add_stacks(engine.self, &stacks)) {
        tl_self_call(SYS_munmap, (long)(uintptr_t)pool, (long)pool_size, 0, 0, 0, 0);
        tl_self_call(SYS_munmap, (long)(uintptr_t)memory, (long)memory_size, 0, 0, 0, 0);
        return -ENOMEM;
    }
    tl_call_pool_add(pool, memory, POOL);
    return 0;
}

static int open_host(struct tl_error *error)
{
    struct tl_self_range own[] = {{(uintptr_t)__start_trapline_text, (uintptr_t)__stop_trapline_text},
                                  {(uintptr_t)__start_trapline_hit, (uintptr_t)__stop_trapline_hit}};
    int code = tl_self_open(own, sizeof own / sizeof *own, &engine.self, error);
    if (code)
        return code;
    struct tl_call_platform platform = {.peek = onhit_peek,
                                        .emulate = onhit_emulate,
                                        .kernel = onhit_kernel,
                                        .watch_alternate = onhit_watch_alternate,
                                        .errno_offset = (int64_t)((uintptr_t)&errno - onhit_fs_base())};
    tl_call_setup(&platform);
    code = -pthread_atfork(before_fork, after_fork, in_child);
    if (code) {
        tl_self_close(engine.self);
        engine.self = NULL;
        return tl_fail(error, code, "out of memory");
    }
    return 0;
}

static int refresh_guards(struct tl_error *error)
{
    const struct tl_site **guards = NULL;
    size_t count = 0;
    if (tl_self_guards(engine.self, &guards, &count))
        return tl_fail(error, -ENOMEM, "out of memory");
    free(engine.guards);
    engine.guards = guards;
    engine.guard_count = count;
    return 0;
}

/* Where a guard is impossible there are probes without traps; that is tried again a few times, since it may have been
 * for want of memory. Other failures are the caller's. */
static int arm(struct tl_error *error)
{
    unsigned long long adds = engine.modules.adds, subs = engine.modules.subs;
    bool known = engine.modules.known;
    int code = modules_refresh(&engine.modules, error);
    if (code)
        return code;
    bool same = known && adds == engine.modules.adds && subs == engine.modules.subs;
    if (same && (engine.traps || engine.arm_failures >= ARM_ATTEMPTS))
        return 0;
    code = tl_self_arm(engine.self, &engine.modules.loaded, error);
    engine.traps = tl_self_armed(engine.self);
    if (!code)
        code = refresh_guards(error);
    if (code)
        modules_forget(&engine.modules); /* so that it is tried again */
    if (engine.traps)
        notifiers_attach(tl_self_broker(engine.self));
    if (!code || code == -EPERM || code == -EAGAIN || code == -ENOMEM || code == -EMFILE)
        return code;
    engine.arm_failures++;
    return modules_refresh(&engine.modules, error);
}

int engine_open(struct tl_error *error)
{
    if (engine_enter())
        return tl_fail(error, -EDEADLK,
                       lost ? "the child of a fork that was made in a handler while probes were being changed"
                            : "called from a handler");
    int code = engine.self ? 0 : open_host(error);
    if (code)
        engine_end();
    return code;
}

int engine_begin(struct tl_error *error)
{
    int code = engine_open(error);
    if (code)
        return code;
    code = arm(error);
    if (!code && provide_records())
        code = tl_fail(error, -ENOMEM, "no memory for the stacks of handlers");
    if (code)
        engine_end();
    return code;
}

/* Bytes as they are in the text, where `site` has put others. */
static void overlay(const struct tl_site *site, const uint8_t *ours, uint64_t addr, uint8_t *bytes, size_t size)
{
    for (unsigned k = 0; k < site->own_length; k++) {
        uint64_t at = site->addr + k - addr;
        if (at < size && (!ours || bytes[at] == ours[k]))
            bytes[at] = site->text[k];
    }
}

int engine_read(void *unused, uint64_t addr, void *bytes, size_t size)
{
    (void)unused;
    int error = tl_self_read(engine.self, addr, bytes, size);
    if (error)
        return error;
    for (size_t i = 0; i < engine.guard_count; i++)
        if (engine.guards[i]->addr < addr + size && addr < engine.guards[i]->addr + TL_INSN_MAX)
            overlay(engine.guards[i], NULL, addr, bytes, size);
    for (size_t i = sites_at(addr < TL_INSN_MAX ? 0 : addr - TL_INSN_MAX); i < engine.site_count; i++) {
        if (engine.sites[i]->plan.addr >= addr + size)
            break;
        if (engine.sites[i]->patched)
            overlay(&engine.sites[i]->plan, engine.sites[i]->bytes, addr, bytes, size);
    }
    return 0;
}

int engine_publish(struct tl_error *error)
{
    size_t used = 0;
    const struct tl_traps_part **parts = calloc(engine.site_count + 1, sizeof *parts);
    if (!parts)
        return tl_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; i < engine.site_count; i++) /* of one address only one may be told */
        if (!engine.sites[i]->is_replaced)
            parts[used++] = engine.sites[i]->part;
    int code = tl_self_publish(engine.self, parts, used, error);
    free(parts);
    return code;
}

int engine_tell(struct site *const *sites, size_t count, struct tl_error *error)
{
    const struct tl_traps_part **parts = calloc(count + 1, sizeof *parts);
    if (!parts)
        return tl_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        parts[i] = sites[i]->part;
    int code = tl_self_publish_more(engine.self, parts, count, error);
    free(parts);
    return code;
}
