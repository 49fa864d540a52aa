/* SPDX-License-Identifier: MIT
 *
 * The core: the first memory of ours in the target, from which everything else is done, and the last to go.
 *
 * The target makes the file, we open it through its /proc/PID/fd (the other way round is not possible across users,
 * containers and chroots), seal its size so that reading it cannot fault us, and write code and header; the
 * target maps it and closes its descriptor at once: programs count and close descriptors.
 *
 * Dead at any point, we leave at most a descriptor and a mapping of a file of this name, which the next run recognises
 * by the name.
 */
#include "host/remote/internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MEMFD_NOEXEC_SEAL = 8 };

/* What runner.S has as numbers. */
_Static_assert(TL_CORE_CALLS - TL_CORE_DATA == 86016 && TL_CORE_FRAME - TL_CORE_DATA == 69632, "core");
_Static_assert(offsetof(struct tl_runner, count) == 8 && offsetof(struct tl_runner, stop_on_error) == 16 &&
                   offsetof(struct tl_runner, done) == 20 && offsetof(struct tl_runner, leave) == 24 &&
                   offsetof(struct tl_runner, turns) == 28 && offsetof(struct tl_runner, nap) == 32 &&
                   offsetof(struct tl_runner, holder) == 48,
               "struct tl_runner");
_Static_assert(offsetof(struct tl_core_page, entry) == 64 && offsetof(struct tl_entry, go) == 4 &&
                   offsetof(struct tl_entry, turns) == 8 && offsetof(struct tl_entry, entry) == 16 &&
                   offsetof(struct tl_entry, saved) == 24 && offsetof(struct tl_entry, nap) == 160 &&
                   offsetof(struct tl_entry, word) == 176,
               "struct tl_entry");
_Static_assert(sizeof(struct tl_slot) == 64, "struct tl_slot");

/* A memory file of our name that nothing else leads to: only such a one is resized or written by us. */
static bool is_own_memory_file(int fd)
{
    char path[64], name[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, name, sizeof name);
    return length == (ssize_t)strlen(TL_CORE_MAPS_NAME) && !memcmp(name, TL_CORE_MAPS_NAME, (size_t)length) &&
           fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0 && fcntl(fd, F_GET_SEALS) >= 0;
}

/* The descriptor's number comes from a place that the target can change, and opening happens with our rights: what is
 * opened is believed only when it shows what it is. */
int tl_open_target_file(pid_t tid, int fd, int *out)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, fd);
    int file = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return -errno;
    if (!is_own_memory_file(file)) {
        close(file);
        return -EBADF;
    }
    *out = file;
    return 0;
}

int tl_make_file(struct tl_remote *r, tl_caller *call, void *context, pid_t tid, uint64_t name, uint64_t *fd, int *file)
{
    uint64_t flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int64_t made = -1, ignored;
    int result = call(r, context, SYS_memfd_create, (uint64_t[6]){name, flags}, &made);
    if (result == 0 && made == -EACCES) /* vm.memfd_noexec = 2 */
        result = call(r, context, SYS_memfd_create, (uint64_t[6]){name, flags | MEMFD_NOEXEC_SEAL}, &made);
    tl_remote_step("file made");
    if (result || made < 0)
        return result ? result : (int)made;
    *fd = (uint64_t)made;
    result = tl_open_target_file(tid, (int)made, file);
    if (result)
        call(r, context, SYS_close, (uint64_t[6]){*fd}, &ignored);
    return result;
}

static uint64_t pid_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

/* Our side of the new file: size, code, header. */
static int furnish(struct tl_remote *r, int fd)
{
    struct stat st;
    if (ftruncate(fd, TL_CORE_SIZE) != 0 || fstat(fd, &st) != 0)
        return -errno;
    tl_remote_step("core sized");
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return -errno;
    /* On our side a page of our own lies before it: tracer.c. */
    uint8_t *room =
        mmap(NULL, TL_PAGE + TL_CORE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return -errno;
    uint8_t *base = mmap(room + TL_PAGE, TL_CORE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        int error = -errno;
        munmap(room, TL_PAGE + TL_CORE_SIZE);
        return error;
    }
    memcpy(base, tl_runner_code, (size_t)(tl_runner_code_end - tl_runner_code));
    struct tl_core_page *page = (struct tl_core_page *)(base + TL_CORE_DATA);
    struct tl_log *log = (struct tl_log *)(base + TL_CORE_LOG);
    *log = (struct tl_log){.magic = TL_LOG_MAGIC,
                           .capacity = (TL_CORE_SIZE - TL_CORE_LOG - sizeof *log) / sizeof(struct tl_record)};
    page->version = TL_CORE_VERSION;
    page->size = TL_CORE_SIZE;
    page->owner.pid = (uint64_t)getpid();
    page->owner.start_time = tl_start_time(getpid());
    page->owner.pid_namespace = pid_namespace();
    page->target = (uint64_t)r->facts.ns_pid;
    r->core.page = page;
    r->core.inode = st.st_ino;
    r->core.segments[0] = (struct tl_segment){.log = log, .size = TL_CORE_SIZE - TL_CORE_LOG};
    r->core.segment_count = 1;
    tl_remote_step("core furnished");
    return 0;
}

/* From here on the core explains itself. */
static void publish(struct tl_remote *r, uint64_t addr)
{
    struct tl_core_page *page = r->core.page;
    r->core.addr = addr;
    r->core.segments[0].addr = addr + TL_CORE_LOG;
    page->segments[0].addr = r->core.segments[0].addr;
    page->segments[0].size = r->core.segments[0].size;
    page->segment_count = 1;
    page->addr = addr;
    __atomic_store_n(&page->magic, TL_CORE_MAGIC, __ATOMIC_RELEASE);
    tl_remote_step("core published");
}

static bool has_limit(struct tl_remote *r, enum __rlimit_resource resource)
{
    struct rlimit limit;
    return prlimit(r->pid, resource, NULL, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

/* The limit in which ENOMEM has its reason. */
static const char *memory_limit(struct tl_remote *r)
{
    enum { NEARLY = 64 };
    struct tl_remote_area *areas;
    size_t count = 0, most = (size_t)tl_kernel_setting("vm/max_map_count", LONG_MAX);
    if (tl_read_areas(r->pid, &areas, &count) == 0)
        tl_remote_areas_free(areas);
    if (count > most - NEARLY)
        return ": vm.max_map_count is exhausted";
    if (has_limit(r, RLIMIT_AS))
        return ": its RLIMIT_AS is exhausted";
    if (has_limit(r, RLIMIT_DATA))
        return ": its RLIMIT_DATA is exhausted";
    return ": its RLIMIT_AS or vm.max_map_count is exhausted";
}

int tl_explain_limit(struct tl_remote *r, int result, const char *what, struct tl_error *error)
{
    const char *advice = "";
    switch (result) {
    case -EMFILE:
        advice = ": its RLIMIT_NOFILE is exhausted";
        break;
    case -ENFILE:
        advice = ": fs.file-max is exhausted";
        break;
    case -ENOMEM:
        advice = memory_limit(r);
        break;
    case -EAGAIN: /* not to be tried again: what it has locked is too much */
        result = -ENOMEM;
        advice = ": its RLIMIT_MEMLOCK is exhausted";
        break;
    }
    return tl_fail(error, result, "process %d cannot %s (%s)%s", r->pid, what, tl_errno_name(-result), advice);
}

static int by_session(struct tl_remote *r, void *context, long number, const uint64_t arguments[6], int64_t *result)
{
    return tl_session_call(r, context, number, arguments, result);
}

/* The file into the target's memory. */
static int map_core(struct tl_remote *r, struct tl_session *s, uint64_t fd, uint64_t *addr, struct tl_error *error)
{
    int64_t mapped, outcome = 0;
    int result = tl_session_call(r, s, SYS_mmap,
                                 (uint64_t[6]){0, TL_CORE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0}, &mapped);
    if (result || (mapped < 0 && mapped > -TL_PAGE))
        return tl_explain_limit(r, result ? result : (int)mapped, "map memory", error);
    *addr = (uint64_t)mapped;
    result = tl_session_call(r, s, SYS_mprotect, (uint64_t[6]){*addr, TL_PAGE, PROT_READ | PROT_EXEC}, &outcome);
    if (result == 0 && outcome < 0) {
        tl_session_call(r, s, SYS_munmap, (uint64_t[6]){*addr, TL_CORE_SIZE}, &mapped);
        result = tl_explain_limit(r, (int)outcome, "map executable memory", error);
    }
    return result;
}

int tl_core_create(struct tl_remote *r, struct tl_error *error)
{
    struct tl_session s;
    if (r->core.page)
        return 0;
    uint64_t fd = 0, addr = 0;
    int64_t ignored;
    int result = tl_session_begin(r, &s, error), file = -1;
    if (result) {
        tl_gadgets_drop(r);
        return result;
    }
    result = tl_make_file(r, by_session, &s, s.task->tid, s.name, &fd, &file);
    if (result) {
        result = tl_explain_limit(r, result, "make a memory file", error);
    } else {
        result = furnish(r, file);
        result = result ? tl_explain_limit(r, result, "share a memory file", error) : map_core(r, &s, fd, &addr, error);
        tl_session_call(r, &s, SYS_close, (uint64_t[6]){fd}, &ignored);
        close(file);
    }
    tl_session_end(r, &s);
    tl_gadgets_drop(r);
    if (result)
        tl_core_forget(r);
    else
        publish(r, addr);
    return result;
}

int tl_core_destroy(struct tl_remote *r, struct tl_error *error)
{
    struct tl_session s;
    int64_t outcome = 0;
    if (!r->core.page)
        return 0;
    int result = tl_session_begin(r, &s, error);
    if (result == 0) {
        tl_remote_step("core unmap");
        result = tl_session_call(r, &s, SYS_munmap, (uint64_t[6]){r->core.addr, TL_CORE_SIZE}, &outcome);
        tl_session_end(r, &s);
        if (result || outcome)
            result = tl_explain_limit(r, result ? result : (int)outcome, "unmap memory", error);
    }
    tl_gadgets_drop(r);
    if (result == 0)
        tl_core_forget(r);
    return result;
}

void tl_core_forget(struct tl_remote *r)
{
    tl_tracer_forget(r);
    for (size_t i = 1; i < r->core.segment_count; i++)
        munmap(r->core.segments[i].log, r->core.segments[i].size);
    if (r->core.page)
        munmap((uint8_t *)r->core.page - TL_CORE_DATA - TL_PAGE, TL_PAGE + TL_CORE_SIZE);
    memset(&r->core, 0, sizeof r->core);
    r->broker = r->asleep = 0;
    r->armed = NULL;
    free(r->undo);
    r->undo = NULL;
    r->undo_count = r->undo_room = 0;
}
