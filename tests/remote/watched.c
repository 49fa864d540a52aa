/* SPDX-License-Identifier: MIT */
#include "watched.h"

#include "hit/abi.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { LINE = 64, LANES = 65, RING = 4096 };

/* Events go to rings that nobody reads: what counts here are the table's counters. */
struct area {
    struct tl_hit_control control;
    struct tl_hit_site sites[TL_WATCH_SPOTS];
    struct tl_hit_action actions[TL_WATCH_SPOTS];
    uint64_t missed[1];
    _Alignas(LINE) struct tl_watch_table table;
    _Alignas(LINE) uint8_t lanes[LANES][sizeof(struct tl_lane) + LINE + RING];
};
_Static_assert(sizeof(struct area) <= ARMED_AREA, "the region has room for it");

void watched_arm(struct watched *w, struct target *t)
{
    memset(w, 0, sizeof *w);
    armed_plan(&w->armed, t, 0, 0);
    struct area *area = w->armed.region.area;
    memset(area, 0, sizeof *area);
    area->control = (struct tl_hit_control){.magic = TL_HIT_MAGIC,
                                            .flags = TL_HIT_FSGSBASE,
                                            .pid = (uint32_t)tl_remote_facts(w->armed.remote)->ns_pid,
                                            .tid_offset = INT32_MIN,
                                            .lane_count = LANES,
                                            .lane_shift = 6,
                                            .site_count = TL_WATCH_SPOTS,
                                            .action_count = TL_WATCH_SPOTS,
                                            .probe_count = 1,
                                            .sites = offsetof(struct area, sites),
                                            .actions = offsetof(struct area, actions),
                                            .missed = offsetof(struct area, missed),
                                            .lanes = offsetof(struct area, lanes),
                                            .lane_stride = sizeof area->lanes[0],
                                            .lane_bytes = RING,
                                            .area_size = sizeof *area};
    for (uint32_t i = 0; i < TL_WATCH_SPOTS; i++) {
        area->sites[i] = (struct tl_hit_site){.first_action = i, .action_count = 1};
        area->actions[i] = (struct tl_hit_action){.kind = TL_ACTION_EVENT};
    }
    w->table = &area->table;
    w->table->offset = w->armed.watches = offsetof(struct area, table);
    int result = armed_apply(&w->armed);
    if (result)
        fail_msg("arm: %d %s", result, tl_remote_last_error(w->armed.remote));
}

static uint64_t address_of(struct target *t, unsigned cell)
{
    return t->progress->value + LINE * (uint64_t)cell;
}

uint32_t watched_add(struct watched *w, struct target *t, unsigned cell, uint8_t access)
{
    uint32_t spot = w->table->count++;
    w->table->spots[spot] =
        (struct tl_watch_spot){.addr = address_of(t, cell), .length = 8, .access = access, .site = spot};
    return spot;
}

int watched_begin(struct watched *w, bool multiplex)
{
    const struct tl_watching_options options = {.multiplex = multiplex, .period_ns = 1000000};
    return tl_watching_begin(w->armed.remote, w->table, &options, &w->watching, &w->room, &w->error);
}

void watched_end(struct watched *w)
{
    if (w->watching && tl_watching_end(w->watching, &w->error))
        fail_msg("end: %s", w->error.text);
}

void watched_leave(struct watched *w)
{
    watched_end(w);
    tl_watching_free(w->watching);
    armed_end(&w->armed);
}

uint64_t cell_of(struct watched *w, struct target *t, unsigned cell)
{
    uint64_t value;
    assert_int_equal(tl_remote_read(w->armed.remote, address_of(t, cell), &value, sizeof value), 0);
    return value;
}

static void forbid(unsigned number, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

void forbid_events(void)
{
    forbid(SYS_perf_event_open, EACCES);
}

void forbid_descriptors(unsigned most)
{
    struct rlimit limit = {most, most};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    forbid(SYS_prlimit64, EPERM);
    forbid(SYS_setrlimit, EPERM);
}
