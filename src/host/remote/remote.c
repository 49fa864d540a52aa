/* SPDX-License-Identifier: MIT
 *
 * The life of a handle, and the port's functions as seen from the caller's thread: each goes to the tracing thread and
 * keeps the text of its last failure.
 */
#include "host/remote/internal.h"

#include <elf.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void (*tl_remote_step_hook)(const char *name);

struct job {
    const void *items;
    size_t count, size, size2;
    tl_locate *locate;
    void *context;
    struct tl_remote_region *region;
    struct tl_error *error;
};

static int on_attend(struct tl_remote *r, void *job)
{
    (void)job;
    tl_follow_attend(r);
    return 0;
}

/* With longer and longer pauses, a second and a half in all. Each try that fails has ended the tracing thread, so this
 * is the affair of whoever waits for it. */
int tl_patiently(struct tl_remote *r, int (*work)(struct tl_remote *, void *), void *argument)
{
    enum { FIRST_US = 5000, LAST_US = 320000 };
    for (unsigned pause = FIRST_US;; pause *= 2) {
        r->unstopped = false;
        int result = tl_on_tracer(r, work, argument);
        if (result != -EAGAIN || !r->unstopped || pause > LAST_US)
            return result;
        tl_nap(pause);
        if (r->follow)
            tl_on_tracer(r, on_attend, NULL);
    }
}

/* ---- the port ---- */

static int port_read(void *host, uint64_t addr, void *bytes, size_t size)
{
    return tl_mem_read(host, addr, bytes, size);
}

static int on_stop(struct tl_remote *r, void *job)
{
    (void)job;
    return tl_stop(r, &r->last);
}
static int port_stop(void *host)
{
    return tl_patiently(host, on_stop, NULL);
}

static int on_resume(struct tl_remote *r, void *job)
{
    (void)job;
    tl_resume(r);
    return 0;
}
static void port_resume(void *host)
{
    tl_on_tracer(host, on_resume, NULL);
}

static int port_fill(void *host, uint64_t pool, const void *bytes, size_t size)
{
    struct tl_remote *r = host;
    if (pool > r->pool_size || size > r->pool_size - pool)
        return tl_fail(&r->last, -ENOSPC, "%zu bytes do not fit into the code pool", size);
    memcpy((uint8_t *)r->pool + pool, bytes, size);
    return 0;
}

static int on_map(struct tl_remote *r, void *job)
{
    struct job *j = job;
    return tl_port_map(r, j->items, j->count, &r->last);
}
static int port_map(void *host, const struct tl_mapping *mappings, size_t count)
{
    struct job job = {.items = mappings, .count = count};
    return tl_on_tracer(host, on_map, &job);
}

static int on_unmap(struct tl_remote *r, void *job)
{
    struct job *j = job;
    return tl_port_unmap(r, j->items, j->count, &r->last);
}
static int port_unmap(void *host, const struct tl_mapping *mappings, size_t count)
{
    struct job job = {.items = mappings, .count = count};
    return tl_on_tracer(host, on_unmap, &job);
}

static int port_set(void *host, uint64_t addr, uint64_t value)
{
    struct tl_remote *r = host;
    int result = addr % 8 ? -EINVAL : tl_mem_write(r, addr, &value, sizeof value);
    return result ? tl_fail(&r->last, result, "the gate at 0x%llx cannot be written", (unsigned long long)addr) : 0;
}

static int on_patch(struct tl_remote *r, void *job)
{
    struct job *j = job;
    return tl_port_patch(r, j->items, j->count, &r->last);
}
static int port_patch(void *host, const struct tl_patch *patches, size_t count)
{
    struct job job = {.items = patches, .count = count};
    return tl_on_tracer(host, on_patch, &job);
}

static int on_evacuate(struct tl_remote *r, void *job)
{
    struct job *j = job;
    int result = tl_port_evacuate(r, j->locate, j->context);
    return result == -EAGAIN
               ? tl_fail(&r->last, result, "a thread of process %d stays inside of code that is to change", r->pid)
               : result;
}
static int port_evacuate(void *host, tl_locate *locate, void *context)
{
    struct job job = {.locate = locate, .context = context};
    return tl_on_tracer(host, on_evacuate, &job);
}

static int on_arm(struct tl_remote *r, void *broker)
{
    return tl_port_arm(r, *(uint64_t *)broker, &r->last);
}
static int port_arm(void *host, uint64_t broker)
{
    return tl_on_tracer(host, on_arm, &broker);
}

static int on_disarm(struct tl_remote *r, void *job)
{
    (void)job;
    return tl_port_disarm(r, &r->last);
}
static int port_disarm(void *host)
{
    return tl_on_tracer(host, on_disarm, NULL);
}

/* ---- handles ---- */

struct tl_remote *tl_remote_create(pid_t pid, struct tl_tracer *tracer)
{
    struct tl_remote *r = calloc(1, sizeof *r);
    if (r)
        r->tracer = tracer ? tl_tracer_share(tracer) : tl_tracer_create();
    if (!r || !r->tracer) {
        free(r);
        return NULL;
    }
    r->pid = pid;
    r->pidfd = r->mem = -1;
    r->facts.tid_offset = INT32_MIN;
    r->port = (struct tl_port){.host = r,
                               .read = port_read,
                               .stop = port_stop,
                               .resume = port_resume,
                               .fill = port_fill,
                               .map = port_map,
                               .unmap = port_unmap,
                               .set = port_set,
                               .patch = port_patch,
                               .evacuate = port_evacuate,
                               .arm = port_arm,
                               .disarm = port_disarm};
    return r;
}

static int on_open(struct tl_remote *r, void *job)
{
    struct job *j = job;
    int result = tl_stop(r, j->error);
    if (result)
        return result;
    tl_learn_threads(r);
    bool residue = tl_residue_suspected(r) || tl_in_flight(r);
    tl_resume(r);
    return residue ? tl_residue_clean(r, false, j->error) : 0;
}

void tl_learn_processor(struct tl_remote *r)
{
    r->facts.hwcap2 = (uint32_t)tl_auxv(tl_live_task(r->pid), AT_HWCAP2);
    r->facts.fsgsbase = r->facts.hwcap2 >> 1 & 1;
}

int tl_remote_open(pid_t pid, struct tl_remote **out, struct tl_error *error)
{
    struct tl_remote *r = tl_remote_create(pid, NULL);
    if (!r)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result = tl_check_descriptors(error);
    if (result == 0)
        result = tl_check_target(r, error);
    if (result == 0) {
        r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
        if (r->pidfd < 0)
            result = tl_fail(error, -errno, "no process %d", pid);
    }
    if (result == 0) {
        result = tl_mem_open(r);
        if (result)
            result = tl_explain_refusal(r->pid, result, error);
    }
    if (result == 0) {
        r->facts.pid = r->pid;
        r->facts.ns_pid = tl_innermost_pid(r->pid);
        tl_learn_processor(r);
        struct job job = {.error = error};
        result = tl_patiently(r, on_open, &job);
    }
    if (result) {
        tl_remote_close(r);
        return result;
    }
    *out = r;
    return 0;
}

int tl_remote_launch(char *const argv[], struct tl_remote **out, struct tl_error *error)
{
    struct tl_remote *r = tl_remote_create(0, NULL);
    if (!r)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result = tl_check_descriptors(error);
    if (result == 0)
        result = tl_launch(r, argv, error);
    if (result) {
        r->held = false;
        tl_remote_close(r);
        return result;
    }
    *out = r;
    return 0;
}

int tl_remote_release(struct tl_remote *r, struct tl_error *error)
{
    (void)error;
    if (!r->held)
        return 0;
    r->held = false;
    return tl_on_tracer(r, on_resume, NULL);
}

static void forget_area(struct tl_remote *r)
{
    if (r->area)
        munmap(r->area, r->area_room);
    r->area = NULL;
}

void tl_remote_close(struct tl_remote *r)
{
    if (!r)
        return;
    while (r->stops > 0)
        tl_on_tracer(r, on_resume, NULL);
    if (r->follow)
        tl_follow_forget(r);
    tl_core_forget(r);
    tl_tracer_drop(r->tracer);
    forget_area(r);
    if (r->pidfd >= 0)
        close(r->pidfd);
    if (r->mem >= 0)
        close(r->mem);
    free(r->pool);
    free(r->tasks);
    free(r->made);
    free(r->known);
    free(r);
}

const struct tl_remote_facts *tl_remote_facts(const struct tl_remote *r)
{
    return &r->facts;
}

const struct tl_port *tl_remote_port(struct tl_remote *r)
{
    return &r->port;
}

const char *tl_remote_last_error(const struct tl_remote *r)
{
    return r->last.text;
}

int tl_remote_areas(struct tl_remote *r, struct tl_remote_area **areas, size_t *count, struct tl_error *error)
{
    int result = tl_read_areas(r->pid, areas, count);
    return result ? tl_fail(error, result, "process %d has ended", r->pid) : 0;
}

void tl_remote_areas_free(struct tl_remote_area *areas)
{
    free(areas);
}

/* ---- the region ---- */

static int set_pool(struct tl_remote *r, size_t size)
{
    size = tl_page_up(size);
    if (size > r->pool_size) {
        uint8_t *pool = realloc(r->pool, size);
        if (!pool)
            return -ENOMEM;
        memset(pool + r->pool_size, 0, size - r->pool_size);
        r->pool = pool;
        r->pool_size = size;
    }
    return 0;
}

static void describe(const struct tl_remote *r, struct tl_remote_region *out)
{
    *out = (struct tl_remote_region){r->area, r->area_size, r->area_addr, r->pool, r->pool_size};
}

static int on_region(struct tl_remote *r, void *argument)
{
    struct job *j = argument;
    int result = tl_stop(r, j->error);
    if (result)
        return result;
    size_t size = tl_page_up(j->size ? j->size : 1);
    bool had_core = r->core.page != NULL;
    result = tl_residue_rival(r)
                 ? tl_fail(j->error, -EBUSY, "another trapline came to process %d at the same time", r->pid)
                 : tl_core_create(r, j->error);
    if (result == 0) {
        result = tl_share(r, size, &r->area, &r->area_addr, j->error);
        if (result == 0)
            r->area_size = r->area_room = size;
        else
            r->area = NULL;
        if (result && !had_core)
            tl_core_destroy(r, NULL);
    }
    tl_resume(r);
    return result;
}

int tl_remote_region(struct tl_remote *r, size_t area_size, size_t pool_size, struct tl_remote_region *out,
                     struct tl_error *error)
{
    if (r->area_size)
        return tl_fail(error, -EALREADY, "there is a region already");
    forget_area(r);
    if (set_pool(r, pool_size))
        return tl_fail(error, -ENOMEM, "out of memory");
    struct job job = {.size = area_size, .error = error};
    int result = tl_patiently(r, on_region, &job);
    if (result == 0)
        describe(r, out);
    return result;
}

int tl_remote_grow_pool(struct tl_remote *r, size_t pool_size, struct tl_remote_region *out, struct tl_error *error)
{
    if (set_pool(r, pool_size))
        return tl_fail(error, -ENOMEM, "out of memory");
    describe(r, out);
    return 0;
}

static int on_remove(struct tl_remote *r, void *argument)
{
    struct job *j = argument;
    return r->core.page ? tl_residue_clean(r, true, j->error) : 0;
}

int tl_remote_remove(struct tl_remote *r, struct tl_error *error)
{
    struct tl_error own;
    struct job job = {.error = &own};
    int result = tl_patiently(r, on_remove, &job);
    if (result && result != -ESRCH) {
        if (error)
            *error = own;
        return result;
    }
    tl_core_forget(r);
    r->made_count = 0;
    r->area_addr = r->area_size = 0;
    return 0;
}

/* ---- its end ---- */

int tl_remote_poll(struct tl_remote *r, int timeout_ms, bool *gone, int *status)
{
    *gone = r->reaped;
    *status = r->reaped && r->facts.launched ? r->status : -1;
    if (r->reaped)
        return 0;
    struct pollfd fd = {.fd = r->pidfd, .events = POLLIN};
    int n = poll(&fd, 1, timeout_ms);
    if (n < 0)
        return -errno;
    if (n == 0)
        return 0;
    if (r->facts.launched && waitpid(r->pid, &r->status, WNOHANG) == r->pid)
        *status = r->status;
    r->reaped = true;
    *gone = true;
    return 0;
}

int tl_remote_pidfd(const struct tl_remote *r)
{
    return r->pidfd;
}
