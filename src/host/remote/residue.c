/* SPDX-License-Identifier: MIT
 *
 * Taking out what a trapline left in a process: our own at the end, or that of one that was killed. Both go the same
 * way, from nothing but what stands in the target: the maps show the memory files of our name, a core among them
 * describes the rest (layout.h). The target can write all of it, so every number is checked, and what is written back
 * can only be put over bytes that are ours.
 *
 * Text first, so that nobody enters any more; then those inside run out or are moved; then the memory; the core last.
 *
 * A process forked from the target inherits copies of the patched text and of the mappings, but not our interest: it is
 * cleaned here as well, whenever somebody attaches to it, even while its parent is being traced.
 */
#include "host/remote/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TL_BREAKPOINT = 0xcc, CORES = 16, TRIES = 400, NAP_US = 2000 };

struct residue {
    struct tl_remote *r;
    struct tl_remote_area *areas;
    size_t count;
    struct {
        uint64_t addr;
        bool in_use; /* by another process, and its living tool: this one's parent, whose memory it is */
        struct tl_core_page page;
    } cores[CORES];
    size_t core_count;
    struct tl_record *gates;
    size_t gate_count;
    bool own;
    uint64_t broker; /* where one stands; 0: nowhere */
    struct tl_broker_tables *tables;
    uint64_t foreign; /* where somebody else has patched over a patch of ours; 0: nowhere */
};

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool target_is_trapline(const struct tl_remote *r)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", r->pid);
    return same_file(path, "/proc/self/exe");
}

struct owner_search {
    const struct tl_core_page *page;
    pid_t found;
};

/* The process whose pid in its own name space and whose start are those of the owner. */
static int is_owner(void *context, int pid)
{
    struct owner_search *o = context;
    char path[64];
    struct stat st;
    if (tl_start_time(pid) != o->page->owner.start_time)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", pid);
    pid_t own = tl_innermost_pid(pid);
    bool same = own > 0 && (uint64_t)own == o->page->owner.pid && tl_task_state(pid) != 'Z' &&
                (stat(path, &st) != 0 || st.st_ino == o->page->owner.pid_namespace);
    o->found = same ? pid : 0;
    return same;
}

static pid_t living_owner(const struct tl_core_page *page)
{
    struct owner_search o = {.page = page};
    if (page->owner.pid <= INT32_MAX && is_owner(&o, (int)page->owner.pid))
        return o.found;
    tl_each_number("/proc", is_owner, &o);
    return o.found;
}

static bool core_at(struct tl_remote *r, const struct tl_remote_area *area, struct tl_core_page *page)
{
    return tl_is_ours(area) && area->shared && tl_mem_read(r, area->start + TL_CORE_DATA, page, sizeof *page) == 0 &&
           page->magic == TL_CORE_MAGIC && page->version == TL_CORE_VERSION && page->size == TL_CORE_SIZE &&
           page->addr == area->start;
}

/* Two tools that looked at the same moment: the second one to come finds the first one's core. */
bool tl_residue_rival(struct tl_remote *r)
{
    struct tl_remote_area *areas;
    struct tl_core_page page;
    size_t count;
    bool found = false;
    if (tl_read_areas(r->pid, &areas, &count))
        return false;
    for (size_t i = 0; i < count && !found; i++) {
        if (areas[i].start == r->core.addr || !core_at(r, &areas[i], &page) || page.target != (uint64_t)r->facts.ns_pid)
            continue;
        pid_t owner = living_owner(&page);
        found = owner && owner != r->pid;
    }
    free(areas);
    return found;
}

/* What this run may take out: at the end of its own work only what it made itself. */
static bool concerns(const struct residue *x, const struct tl_remote_area *area)
{
    const struct tl_remote *r = x->r;
    bool own = area->start - r->area_addr < r->area_size;
    if (!tl_is_ours(area) || !x->own)
        return tl_is_ours(area);
    for (size_t i = 0; i < r->core.segment_count; i++)
        own |= area->start - r->core.segments[i].addr < r->core.segments[i].size;
    for (size_t i = 0; i < r->made_count; i++)
        own |= area->start - r->made[i].addr < r->made[i].size;
    return own || area->start - r->core.addr < TL_CORE_SIZE;
}

/* 0: cleaning may go on; 1: nothing here is residue; -EBUSY. */
/* A tool that died before its core could explain itself left a mapping of the core's size, with no word in it. Other
 * memory of this name is the program's own. */
static bool is_unfinished_core(const struct residue *x, const struct tl_remote_area *area)
{
    uint64_t size = 0, magic = 1;
    for (size_t i = 0; i < x->count; i++)
        if (tl_is_ours(&x->areas[i]) && x->areas[i].inode == area->inode)
            size += x->areas[i].end - x->areas[i].start;
    uint64_t core = area->start - area->offset;
    return area->shared && size == TL_CORE_SIZE &&
           tl_mem_read(x->r, core + TL_CORE_DATA + offsetof(struct tl_core_page, magic), &magic, sizeof magic) == 0 &&
           magic == 0;
}

static bool is_strange(const struct residue *x)
{
    bool strange = false;
    for (size_t i = 0; i < x->count && !strange; i++)
        strange = tl_is_ours(&x->areas[i]) && !is_unfinished_core(x, &x->areas[i]);
    return strange;
}

static int find_cores(struct residue *x, struct tl_error *error)
{
    struct tl_remote *r = x->r;
    bool traplines = false, copies = false;
    for (size_t i = 0; i < x->count && x->core_count < CORES; i++) {
        const struct tl_remote_area *area = &x->areas[i];
        struct tl_core_page *page = &x->cores[x->core_count].page;
        if (x->own && area->start != r->core.addr)
            continue;
        if (!core_at(r, area, page)) {
            traplines |= tl_is_ours(area);
            copies |= tl_is_ours(area) && !area->shared && (area->prot & PROT_EXEC);
            continue;
        }
        bool in_use = false;
        if (!x->own) {
            pid_t owner = living_owner(page);
            if (owner == r->pid)
                return 1;
            if (owner && page->target == (uint64_t)r->facts.ns_pid)
                return tl_fail(error, -EBUSY, "process %d is already probed by trapline, process %d", r->pid, owner);
            in_use = owner != 0;
        }
        x->cores[x->core_count].in_use = in_use;
        x->cores[x->core_count++].addr = area->start;
    }
    if (x->core_count == 0 && traplines && target_is_trapline(r))
        return 1;
    if (x->core_count == 0 && copies)
        return tl_fail(error, -EBUSY, "process %d holds code of an unknown trapline: it cannot be taken out", r->pid);
    if (x->core_count == 0 && !x->own && is_strange(x))
        return tl_fail(error, -EBUSY, "process %d has memory of its own that is called trapline: it is left alone",
                       r->pid);
    return 0;
}

/* Our bytes with a few of somebody else's in them; as against other code that has come to stand there (a library was
 * unloaded, another loaded), which the log says nothing of. */
static bool mostly_ours(const uint8_t *now, const uint8_t *ours, size_t size)
{
    size_t same = 0;
    for (size_t i = 0; i < size; i++)
        same += now[i] == ours[i];
    return size > 1 && same * 2 >= size;
}

/* The undo of one patch, where it still stands. A breakpoint that somebody has put on its first byte since then stays:
 * the bytes behind it are restored, and whoever set it has the program's own first byte and puts that back. Where
 * somebody has changed it otherwise, it may lead to our memory: that has to stay then.
 *
 * A fork child has its own text but its parent's log, in which records die when the parent's text is restored. So a
 * dead record counts as well, where exactly what it says stands there. */
static void restore_text(struct residue *x, const struct tl_record *record)
{
    struct tl_remote *r = x->r;
    uint8_t now[sizeof record->old_bytes];
    const struct tl_remote_area *area = tl_area_at(x->areas, x->count, record->addr);
    if (record->size < 1 || record->size > 15 || !area || area->shared || !(area->prot & PROT_EXEC) ||
        tl_is_ours(area) || record->size > area->end - record->addr || tl_mem_read(r, record->addr, now, record->size))
        return;
    size_t from = now[0] == TL_BREAKPOINT && record->new_bytes[0] != TL_BREAKPOINT ? 1 : 0, size = record->size - from;
    if (!memcmp(now + from, record->old_bytes + from, size))
        return;
    if (memcmp(now + from, record->new_bytes + from, size)) {
        if (record->live && mostly_ours(now + from, record->new_bytes + from, size))
            x->foreign = record->addr;
        return;
    }
    tl_remote_step("restore");
    tl_mem_write(r, record->addr + from, record->old_bytes + from, size);
}

/* What the cores tell is another process, from which this one was forked. */
static bool is_child(const struct residue *x)
{
    bool child = x->core_count > 0;
    for (size_t i = 0; i < x->core_count; i++)
        child &= x->cores[i].page.target != (uint64_t)x->r->facts.ns_pid;
    return child;
}

static void take_gate(struct residue *x, const struct tl_record *record)
{
    const struct tl_remote_area *area = tl_area_at(x->areas, x->count, record->addr);
    if (!area || record->addr % TL_PAGE || record->size % TL_PAGE || record->size == 0 || area->inode || area->shared ||
        area->prot != (PROT_READ | PROT_WRITE) || record->size > area->end - record->addr)
        return;
    struct tl_record *more = realloc(x->gates, (x->gate_count + 1) * sizeof *more);
    if (!more)
        return;
    x->gates = more;
    x->gates[x->gate_count++] = *record;
}

static void each_record(struct residue *x, uint32_t kind, uint32_t live,
                        void (*visit)(struct residue *, const struct tl_record *))
{
    enum { PART = 256 };
    struct tl_record part[PART];
    for (size_t i = 0; i < x->core_count; i++) {
        const struct tl_core_page *page = &x->cores[i].page;
        for (size_t j = 0; j < page->segment_count && j < TL_SEGMENTS; j++) {
            struct tl_log log;
            uint64_t at = page->segments[j].addr, size = page->segments[j].size;
            const struct tl_remote_area *area = tl_area_at(x->areas, x->count, at);
            if (!area || !tl_is_ours(area) || size < sizeof log || size > area->end - at ||
                tl_mem_read(x->r, at, &log, sizeof log) || log.magic != TL_LOG_MAGIC)
                continue;
            uint64_t room = (size - sizeof log) / sizeof *part, used = log.used < room ? log.used : room;
            for (uint64_t k = 0; k < used; k += PART) {
                size_t n = used - k < PART ? used - k : PART;
                if (tl_mem_read(x->r, at + sizeof log + k * sizeof *part, part, n * sizeof *part))
                    break;
                for (size_t m = 0; m < n; m++) {
                    if (part[m].live == live && part[m].kind == kind)
                        visit(x, &part[m]);
                }
            }
        }
    }
}

/* The broker is in memory of our name that the process has for itself. What it says is checked where it is used. That
 * its record is dead means nothing: it may be so in the parent of a fork child, which shares the log. */
static void take_broker(struct residue *x, const struct tl_record *record)
{
    const struct tl_remote_area *area = tl_area_at(x->areas, x->count, record->addr);
    if (!area || !tl_is_ours(area) || area->shared || !(area->prot & PROT_WRITE) ||
        record->size != sizeof(struct tl_broker) || record->size > area->end - record->addr)
        return;
    x->broker = record->addr;
    memcpy(&x->r->asleep, record->old_bytes, sizeof x->r->asleep);
}

static void restore_mask(struct residue *x, const struct tl_record *record)
{
    tl_restore_mask(x->r, record);
}

static void clear_registers(struct residue *x, const struct tl_record *record)
{
    tl_clear_registers(x->r, record);
}

/* Of the gates in the log, those that are still what we made: wiped on fork, which hardly anything else is. */
static void confirm_gates(struct residue *x)
{
    char *text = x->gate_count && !x->own ? tl_proc_file(tl_live_task(x->r->pid), "smaps", NULL) : NULL;
    uint64_t start = 0, end = 0;
    for (size_t i = 0; i < x->gate_count; i++)
        x->gates[i].live = x->own;
    for (char *line = text, *next; line; line = next) {
        char *rest;
        uint64_t number = strtoull(line, &rest, 16);
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        if (rest > line && *rest == '-') {
            start = number;
            end = strtoull(rest + 1, NULL, 16);
        } else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " wf")) {
            for (size_t i = 0; i < x->gate_count; i++)
                x->gates[i].live |= x->gates[i].addr - start < end - start;
        }
    }
    for (size_t i = 0; i < x->gate_count; i++) {
        if (!x->gates[i].live)
            x->gates[i].size = 0;
    }
    free(text);
}

/* Anything that waits for a tool in a core may stop waiting. */
static void wake(struct residue *x)
{
    for (size_t i = 0; i < x->core_count; i++) {
        uint64_t page = x->cores[i].addr + TL_CORE_DATA;
        uint32_t one = 1;
        if (x->cores[i].in_use)
            continue;
        tl_mem_write(x->r, page + offsetof(struct tl_core_page, runner.leave), &one, sizeof one);
        tl_mem_write(x->r, page + offsetof(struct tl_core_page, entry.go), &one, sizeof one);
    }
}

/* A program whose launch was broken off may still be with ld.so, which will jump to the gate in the end. */
static bool on_its_way(const struct residue *x)
{
    bool any = false;
    for (size_t i = 0; i < x->core_count; i++)
        any |= x->cores[i].page.entry.word && !x->cores[i].page.entry.reached;
    return any;
}

/* Where code of ours stands for code of the program, there may be tables that tell; otherwise whoever is in it has to
 * run on, unless it is behind a displaced system call, where it may be blocked for ever. */
static int in_our_code(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    struct residue *x = context;
    const struct tl_remote_area *area = tl_area_at(x->areas, x->count, pc);
    if (!area || !concerns(x, area))
        return -ENOENT;
    if (x->tables && tl_origin_by_tables(x->tables, pc, original, fix_rcx) == 0)
        return 0;
    *fix_rcx = 1;
    return tl_origin_behind_call(x->r, x->areas, x->count, pc, original);
}

static int add_call(struct tl_call **calls, size_t *count, uint64_t addr, uint64_t size)
{
    struct tl_call *more = realloc(*calls, (*count + 1) * sizeof *more);
    if (!more)
        return -ENOMEM;
    *calls = more;
    more[(*count)++] = (struct tl_call){SYS_munmap, {addr, size}, 0};
    return 0;
}

/* Gates and code first, what describes them last. */
static int unmap_all(struct residue *x, struct tl_error *error)
{
    struct tl_remote *r = x->r;
    struct tl_call *calls = NULL;
    size_t count = 0, done;
    bool any = x->gate_count > 0;
    for (size_t i = 0; i < x->count; i++)
        any |= concerns(x, &x->areas[i]);
    int result = any ? tl_core_create(r, error) : 0;
    if (result || !any)
        return result;
    for (size_t i = 0; i < x->gate_count && result == 0; i++)
        result = x->gates[i].size ? add_call(&calls, &count, x->gates[i].addr, x->gates[i].size) : 0;
    for (int last = 0; last < 2; last++) {
        for (size_t i = 0; i < x->count && result == 0; i++) {
            const struct tl_remote_area *area = &x->areas[i];
            bool own = area->start >= r->core.addr && area->start < r->core.addr + TL_CORE_SIZE;
            if (concerns(x, area) && !own && area->shared == last)
                result = add_call(&calls, &count, area->start, area->end - area->start);
        }
    }
    if (result == 0)
        result = tl_batch(r, calls, count, false, &done);
    free(calls);
    return result ? tl_fail(error, result, "process %d cannot unmap trampolines (%s)", r->pid, tl_errno_name(-result))
                  : 0;
}

struct strays {
    struct tl_remote *r;
    pid_t task;
    int fds[64];
    size_t count;
    bool had_core; /* whatever has our name is ours; otherwise only what looks like an unfinished core */
};

static int stray(void *context, int fd)
{
    struct strays *s = context;
    char path[64], target[sizeof TL_CORE_MAPS_NAME + 1] = "";
    snprintf(path, sizeof path, "/proc/%d/fd/%d", s->task, fd);
    struct stat st;
    if (readlink(path, target, sizeof target - 1) > 0 && strcmp(target, TL_CORE_MAPS_NAME) == 0 && s->count < 64 &&
        stat(path, &st) == 0 && (s->had_core || st.st_size == 0 || st.st_size == TL_CORE_SIZE))
        s->fds[s->count++] = fd;
    return 0;
}

static void find_strays(struct tl_remote *r, struct strays *s, bool had_core)
{
    char path[64];
    *s = (struct strays){.r = r, .task = tl_live_task(r->pid), .had_core = had_core};
    snprintf(path, sizeof path, "/proc/%d/fd", s->task);
    if (!target_is_trapline(r))
        tl_each_number(path, stray, s);
}

int tl_close_strays(struct tl_remote *r, bool had_core, struct tl_error *error)
{
    struct strays s;
    struct tl_session session;
    int64_t ignored;
    find_strays(r, &s, had_core);
    int result = s.count ? tl_session_begin(r, &session, error) : 0;
    if (result || s.count == 0)
        return result;
    for (size_t i = 0; i < s.count && result == 0; i++)
        result = tl_session_call(r, &session, SYS_close, (uint64_t[6]){(uint64_t)s.fds[i]}, &ignored);
    tl_session_end(r, &session);
    tl_gadgets_drop(r);
    return result ? tl_fail(error, result, "process %d has ended", r->pid) : 0;
}

bool tl_residue_suspected(struct tl_remote *r)
{
    struct tl_remote_area *areas;
    struct strays s;
    size_t count;
    bool found = false;
    if (tl_read_areas(r->pid, &areas, &count) == 0) {
        for (size_t i = 0; i < count; i++)
            found |= tl_is_ours(&areas[i]);
        free(areas);
    }
    find_strays(r, &s, false);
    return found || s.count || tl_stub_left(r);
}

static int tell_foreign(const struct residue *x, struct tl_error *error)
{
    return tl_fail(error, -EBUSY, "the code at 0x%llx was changed by somebody else: it and our memory stay as they are",
                   (unsigned long long)x->foreign);
}

static int give_back_signals(struct residue *x, struct tl_error *error)
{
    struct tl_remote *r = x->r;
    int result = tl_core_create(r, error);
    return result ? result : tl_disarm(r, x->broker, error);
}

/* One look, target stopped. -EAGAIN: somebody has to run on first. */
static int clean_once(struct tl_remote *r, bool own, struct tl_error *error)
{
    struct residue *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    x->r = r;
    x->own = own;
    int result = tl_read_areas(r->pid, &x->areas, &x->count);
    if (result == 0)
        result = find_cores(x, error);
    if (result == 0) {
        each_record(x, TL_RECORD_REGISTERS, 1, clear_registers);
        each_record(x, TL_RECORD_PATCH, 1, restore_text);
        if (!own)
            each_record(x, TL_RECORD_PATCH, 0, restore_text);
        each_record(x, TL_RECORD_BROKER, 0, take_broker);
        each_record(x, TL_RECORD_BROKER, 1, take_broker);
        if (x->broker && !own)
            x->tables = tl_tables_load(r, x->areas, x->count, x->broker);
        if (!own)
            wake(x);
        if (x->foreign)
            result = tell_foreign(x, error);
    }
    if (result == 0) {
        result = on_its_way(x) || tl_in_flight(r) ? -EAGAIN : tl_port_evacuate(r, in_our_code, x);
    }
    if (result == 0) {
        if (x->broker && !tl_is_dormant(r, x->broker))
            each_record(x, TL_RECORD_MASK, 1, restore_mask);
        result = x->broker ? tl_masks_back(r, x->broker) : 0;
    }
    if (result == 0) {
        each_record(x, TL_RECORD_LATE, 1, restore_text);
        if (!own)
            each_record(x, TL_RECORD_LATE, 0, restore_text);
        result = x->foreign ? tell_foreign(x, error) : 0;
        if (result == 0 && x->broker)
            result = give_back_signals(x, error);
    }
    if (result == 0) {
        each_record(x, TL_RECORD_GATE, 1, take_gate);
        if (!own && is_child(x))
            each_record(x, TL_RECORD_GATE, 0, take_gate);
        confirm_gates(x);
        result = unmap_all(x, error);
        if (result == 0)
            result = tl_core_destroy(r, error);
        if (result == 0)
            result = tl_close_strays(r, x->core_count > 0, error);
        if (result == 0)
            tl_stub_clear(r);
    }
    free(x->tables);
    free(x->gates);
    free(x->areas);
    free(x);
    return result > 0 ? 0 : result;
}

int tl_residue_clean(struct tl_remote *r, bool own, struct tl_error *error)
{
    for (int i = 0;; i++) {
        int result = tl_stop(r, error);
        if (result)
            return result;
        bool nested = r->stops > 1;
        result = clean_once(r, own, error);
        tl_resume(r);
        if (result != -EAGAIN)
            return result;
        if (nested || i == TRIES)
            return tl_fail(error, -EAGAIN, "a thread of process %d is still inside a trampoline; the text is restored",
                           r->pid);
        tl_nap(NAP_US);
    }
}
