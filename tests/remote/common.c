/* SPDX-License-Identifier: MIT */
#include "common.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

const char *program(const char *name)
{
    static char path[4096];
    const char *directory = getenv("TL_TARGETS");
    snprintf(path, sizeof path, "%s/%s", directory ? directory : ".", name);
    return access(path, X_OK) == 0 ? path : NULL;
}

void target_page(struct target *t)
{
    *t = (struct target){.fd = memfd_create("progress", 0)};
    assert_true(t->fd >= 0);
    assert_int_equal(ftruncate(t->fd, PROGRESS_BYTES), 0);
    if (t->fd != PROGRESS_FD) {
        assert_int_equal(dup2(t->fd, PROGRESS_FD), PROGRESS_FD);
        close(t->fd);
    }
    t->fd = PROGRESS_FD;
    t->progress = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    assert_ptr_not_equal(t->progress, MAP_FAILED);
}

void target_wait_ready(struct target *t)
{
    eventually(t->progress->ready);
}

void target_run(struct target *t, char *const argv[])
{
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(argv[0], argv);
        _exit(127);
    }
    target_wait_ready(t);
}

void target_start(struct target *t, char *const argv[])
{
    target_page(t);
    target_run(t, argv);
}

void target_fork(struct target *t, void (*run)(struct progress *))
{
    target_page(t);
    t->forked = true;
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(t->progress);
        _exit(0);
    }
    target_wait_ready(t);
}

static uint64_t hash_text(pid_t pid)
{
    struct tl_remote_area *areas;
    size_t count;
    uint64_t hash = 14695981039346656037ull;
    static uint8_t bytes[65536];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(tl_read_areas(pid, &areas, &count), 0);
    for (size_t i = 0; i < count; i++) {
        for (uint64_t at = areas[i].start; (areas[i].prot & PROT_EXEC) && at < areas[i].end; at += sizeof bytes) {
            size_t size = areas[i].end - at < sizeof bytes ? areas[i].end - at : sizeof bytes;
            ssize_t n = pread(fd, bytes, size, (off_t)at);
            for (ssize_t j = 0; j < n; j++)
                hash = (hash ^ bytes[j]) * 1099511628211ull;
        }
    }
    close(fd);
    free(areas);
    return hash;
}

void target_baseline(struct target *t)
{
    free(t->maps);
    t->maps = tl_proc_file(t->pid, "maps", NULL);
    t->text = hash_text(t->pid);
    assert_non_null(t->maps);
}

void target_end(struct target *t)
{
    int status;
    t->progress->stop = 1;
    kill(t->pid, SIGKILL);
    waitpid(t->pid, &status, 0);
    munmap(t->progress, PROGRESS_BYTES);
    close(PROGRESS_FD);
    free(t->maps);
}

void assert_goes_on(struct target *t)
{
    for (size_t i = 0; i < PROGRESS_THREADS; i++) {
        uint64_t before = t->progress->loops[i];
        if (before == 0)
            continue;
        for (int turns = 0; t->progress->loops[i] < before + 2; turns++) {
            if (turns > 60000 || tl_task_state(t->pid) == 'Z' || tl_task_state(t->pid) == 0)
                fail_msg("thread %zu of the target does not go on (state %c)", i, tl_task_state(t->pid));
            tl_nap(500);
        }
    }
    if (t->progress->errors)
        fail_msg("the target got %llu wrong results, last %llu", (unsigned long long)t->progress->errors,
                 (unsigned long long)t->progress->where);
}

static int count_fd(void *context, int fd)
{
    struct target *t = context;
    char path[64], to[128] = "";
    snprintf(path, sizeof path, "/proc/%d/fd/%d", t->pid, fd);
    if (readlink(path, to, sizeof to - 1) > 0 && strstr(to, "trapline"))
        fail_msg("descriptor %d is left: %s", fd, to);
    return 0;
}

void assert_as_before(struct target *t)
{
    char path[64], *maps = tl_proc_file(t->pid, "maps", NULL), *status = tl_proc_file(t->pid, "status", NULL);
    assert_non_null(maps);
    size_t same = 0;
    while (maps[same] && maps[same] == t->maps[same])
        same++;
    while (same > 0 && maps[same - 1] != '\n')
        same--;
    if (strcmp(maps, t->maps) != 0 && !(SANITIZED && t->forked))
        fail_msg("the mappings differ: %.*s, was %.*s", (int)strcspn(maps + same, "\n"), maps + same,
                 (int)strcspn(t->maps + same, "\n"), t->maps + same);
    assert_true(hash_text(t->pid) == t->text);
    assert_int_equal(tl_status_number(status, "TracerPid", 10), 0);
    snprintf(path, sizeof path, "/proc/%d/fd", t->pid);
    tl_each_number(path, count_fd, t);
    free(maps);
    free(status);
}

struct tl_remote *open_target(struct target *t)
{
    struct tl_remote *r;
    struct tl_error error = {0};
    int result = -EAGAIN;
    for (int i = 0; result == -EAGAIN && i < 50; i++)
        result = tl_remote_open(t->pid, &r, &error);
    if (result)
        fail_msg("open: %s", error.text);
    return r;
}

int probe_place(struct tl_remote *r, uint64_t addr, struct probe *p)
{
    const struct tl_port *port = tl_remote_port(r);
    uint64_t page = (addr & ~0xfffull) + (64 << 20);
    p->mappings[0] = (struct tl_mapping){.addr = page, .size = 4096, .pool = 4096, .kind = TL_MAPPING_CODE};
    p->mappings[1] = (struct tl_mapping){.addr = page + 8192, .size = 4096, .kind = TL_MAPPING_GATE};
    p->patch = (struct tl_patch){.addr = addr, .length = 5, .bytes = {0xe9}};
    int32_t there = (int32_t)(page - (addr + 5)), back = -there - 5 - 5 + 0;
    int result = tl_remote_read(r, addr, p->patch.expect, 5);
    memcpy(p->patch.bytes + 1, &there, 4);
    uint8_t code[16] = {0};
    memcpy(code, p->patch.expect, 5); /* mov $…, %eax; jmp back */
    code[5] = 0xe9;
    back = (int32_t)(addr + 5 - (page + 10));
    memcpy(code + 6, &back, 4);
    if (result == 0)
        result = port->fill(port->host, 4096, code, sizeof code);
    if (result == 0)
        result = port->stop(port->host);
    if (result)
        return result;
    result = port->map(port->host, p->mappings, 2);
    if (result == 0)
        result = port->set(port->host, page + 8192, 1);
    if (result == 0)
        result = port->patch(port->host, &p->patch, 1);
    port->resume(port->host);
    return result;
}

static int locate(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    const struct probe *p = context;
    uint64_t at = pc - p->mappings[0].addr;
    *fix_rcx = 0;
    *original = at == 0 ? p->patch.addr : p->patch.addr + 5;
    return at >= 4096 ? -ENOENT : 0;
}

int probe_take_out(struct tl_remote *r, struct probe *p)
{
    const struct tl_port *port = tl_remote_port(r);
    struct tl_patch back = p->patch;
    memcpy(back.expect, p->patch.bytes, 5);
    memcpy(back.bytes, p->patch.expect, 5);
    int result = port->stop(port->host);
    if (result)
        return result;
    result = port->patch(port->host, &back, 1);
    if (result == 0)
        result = port->evacuate(port->host, locate, p);
    if (result == 0)
        result = port->unmap(port->host, p->mappings, 2);
    port->resume(port->host);
    return result;
}

void come_and_go(struct target *t, bool with_probe)
{
    struct tl_remote *r = open_target(t);
    struct tl_remote_region region;
    struct tl_error error = {0};
    struct probe probe;
    int result = -EAGAIN;
    if (tl_remote_region(r, 1 << 20, 1 << 16, &region, &error))
        fail_msg("region: %s", error.text);
    if (with_probe) {
        if (probe_place(r, t->progress->probe, &probe))
            fail_msg("place: %s", tl_remote_last_error(r));
        for (int i = 0; result == -EAGAIN && i < 100; i++)
            result = probe_take_out(r, &probe);
        if (result)
            fail_msg("take out: %d %s", result, tl_remote_last_error(r));
    }
    if (tl_remote_remove(r, &error))
        fail_msg("remove: %s", error.text);
    tl_remote_close(r);
}
