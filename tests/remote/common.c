/* SPDX-License-Identifier: MIT */
#include "common.h"

#include "hit/blob.h"

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

/* SIGUSR2 is left out: a thread that waits for it has it unblocked for that time. */
static int add_signals(void *context, int tid)
{
    char *all = context, *status = tl_proc_file(tid, "status", NULL);
    static const char *const keys[] = {"SigBlk", "SigIgn", "SigCgt"};
    for (size_t i = 0; status && i < 3; i++)
        sprintf(all + strlen(all), "%s %llx\n", keys[i],
                (unsigned long long)tl_status_number(status, keys[i], 16) & ~TL_SIGNAL_BIT(SIGUSR2));
    free(status);
    return 0;
}

/* What the kernel says of the signals of all threads. */
static char *signals_of(pid_t pid)
{
    char path[64], *all = calloc(1, 1 << 16);
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    assert_non_null(all);
    tl_each_number(path, add_signals, all);
    return all;
}

void target_baseline(struct target *t)
{
    free(t->signals);
    t->signals = signals_of(t->pid);
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
    free(t->signals);
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

/* A thread that is in a handler of its own, as Go's scheduler makes them, comes out of it. */
static void assert_signals_as_before(struct target *t)
{
    enum { LOOKS = 1000 };
    char *signals = signals_of(t->pid);
    for (int i = 0; i < LOOKS && t->signals && strcmp(signals, t->signals); i++) {
        free(signals);
        tl_nap(1000);
        signals = signals_of(t->pid);
    }
    if (t->signals && strcmp(signals, t->signals))
        fail_msg("the signals differ: %s, was %s", signals, t->signals);
    free(signals);
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
    assert_signals_as_before(t);
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

/* ---- int3 and the broker ---- */

/* The broker, and behind it tables with the one trap. */
static int fill_data(struct tl_remote *r, const struct trap *t, uint64_t blob, uint64_t data, size_t *size)
{
    const struct tl_port *port = tl_remote_port(r);
    struct {
        struct tl_broker broker;
        struct tl_broker_tables tables;
        struct tl_trap trap;
        struct tl_trap_memory memory[2];
    } *image = calloc(1, sizeof *image);
    assert_non_null(image);
    tl_broker_init(&image->broker, &(struct tl_broker_setup){.flags = TL_BROKER_FSGSBASE,
                                                             .pid = (uint32_t)tl_remote_facts(r)->ns_pid,
                                                             .marker = t->mappings[3].addr,
                                                             .entry = blob + tl_blob_broker_entry(),
                                                             .pass = blob + tl_blob_broker_pass(),
                                                             .restorer = blob + tl_blob_broker_restorer()});
    tl_broker_publish(&image->broker, data + offsetof(typeof(*image), tables));
    size_t from = offsetof(typeof(*image), tables);
    image->tables = (struct tl_broker_tables){.magic = TL_BROKER_TABLES_MAGIC,
                                              .size = sizeof *image - from,
                                              .trap_count = 1,
                                              .memory_count = 2,
                                              .traps = offsetof(typeof(*image), trap) - from,
                                              .ranges = sizeof *image - from,
                                              .marks = sizeof *image - from,
                                              .memory = offsetof(typeof(*image), memory) - from};
    image->trap = (struct tl_trap){t->patch.addr, t->mappings[0].addr, TL_TRAP_JUMP, 0};
    image->memory[0] = (struct tl_trap_memory){t->mappings[0].addr, t->mappings[0].addr + 4096};
    image->memory[1] = (struct tl_trap_memory){blob, blob + tl_page_up(tl_blob_size)};
    assert_int_equal(tl_broker_tables_verify(&image->tables, image->tables.size), 0);
    *size = tl_page_up(sizeof *image);
    int result = port->fill(port->host, 8192 + tl_page_up(tl_blob_size), image, sizeof *image);
    free(image);
    return result;
}

int trap_place(struct tl_remote *r, uint64_t addr, struct trap *t)
{
    const struct tl_port *port = tl_remote_port(r);
    uint64_t page = (addr & ~0xfffull) + (64 << 20), blob = page + (1 << 20), data = page + (2 << 20);
    t->mappings[0] = (struct tl_mapping){.addr = page, .size = 4096, .pool = 4096, .kind = TL_MAPPING_CODE};
    t->mappings[1] = (struct tl_mapping){blob, tl_page_up(tl_blob_size), 8192, TL_MAPPING_CODE};
    t->mappings[2] = (struct tl_mapping){data, 0, 8192 + tl_page_up(tl_blob_size), TL_MAPPING_DATA};
    t->mappings[3] = (struct tl_mapping){.addr = page + 8192, .size = 4096, .kind = TL_MAPPING_GATE};
    t->patch = (struct tl_patch){.addr = addr, .length = 1, .bytes = {0xcc}};
    uint8_t code[16] = {0};
    int32_t back = (int32_t)(addr + 5 - (page + 10));
    size_t size;
    int result = tl_remote_read(r, addr, code, 5); /* mov $…, %eax; jmp back */
    t->patch.expect[0] = code[0];
    code[5] = 0xe9;
    memcpy(code + 6, &back, 4);
    uint8_t *runtime = malloc(tl_blob_size);
    assert_non_null(runtime);
    memcpy(runtime, tl_blob, tl_blob_size);
    tl_blob_set_broker(runtime, data);
    if (result == 0)
        result = port->fill(port->host, 4096, code, sizeof code);
    if (result == 0)
        result = port->fill(port->host, 8192, runtime, tl_blob_size);
    if (result == 0)
        result = fill_data(r, t, blob, data, &size);
    free(runtime);
    if (result == 0)
        result = port->stop(port->host);
    if (result)
        return result;
    t->mappings[2].size = size;
    result = port->map(port->host, t->mappings, 4);
    if (result == 0)
        result = port->set(port->host, t->mappings[3].addr, 1);
    if (result == 0)
        result = port->arm(port->host, data);
    if (result == 0)
        result = port->patch(port->host, &t->patch, 1);
    port->resume(port->host);
    return result;
}

static int locate_trap(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    const struct trap *t = context;
    *fix_rcx = 0;
    *original = pc == t->mappings[0].addr ? t->patch.addr : t->patch.addr + 5;
    if (pc - t->mappings[0].addr < 4096)
        return 0;
    return pc - t->mappings[1].addr < t->mappings[1].size ? -EAGAIN : -ENOENT;
}

int trap_take_out(struct tl_remote *r, struct trap *t)
{
    const struct tl_port *port = tl_remote_port(r);
    struct tl_patch back = {.addr = t->patch.addr, .length = 1, .expect = {0xcc}, .bytes = {t->patch.expect[0]}};
    uint8_t now;
    int result = port->stop(port->host);
    if (result)
        return result;
    result = tl_remote_read(r, t->patch.addr, &now, 1);
    if (result == 0 && now == 0xcc)
        result = port->patch(port->host, &back, 1);
    if (result == 0)
        result = port->evacuate(port->host, locate_trap, t);
    if (result == 0)
        result = port->disarm(port->host);
    if (result == 0)
        result = port->unmap(port->host, t->mappings, 4);
    port->resume(port->host);
    return result;
}

void come_and_go(struct target *t, bool with_probe)
{
    struct tl_remote *r = open_target(t);
    struct tl_remote_region region;
    struct tl_error error = {0};
    struct probe probe;
    if (tl_remote_region(r, 1 << 20, 1 << 16, &region, &error))
        fail_msg("region: %s", error.text);
    if (with_probe) {
        int result;
        if (probe_place(r, t->progress->probe, &probe))
            fail_msg("place: %s", tl_remote_last_error(r));
        eventually((result = probe_take_out(r, &probe)) != -EAGAIN);
        if (result)
            fail_msg("take out: %d %s", result, tl_remote_last_error(r));
    }
    if (tl_remote_remove(r, &error))
        fail_msg("remove: %s", error.text);
    tl_remote_close(r);
}
