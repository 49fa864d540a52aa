/* SPDX-License-Identifier: MIT */
#include "uprobe_multi.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of the distributions that this is built on. */
enum { ATTACH_UPROBE_MULTI = 48, LINK_IS_RETURN = 1, HELPER_GET_ATTACH_COOKIE = 174 };

struct link_create {
    uint32_t program, target, attach_type, flags;
    uint64_t path, offsets, ref_ctr_offsets, cookies;
    uint32_t count, uprobe_flags, pid, padding;
};

static int bpf(int command, void *attributes, size_t size)
{
    int result = (int)syscall(SYS_bpf, command, attributes, size);
    return result < 0 ? -errno : result;
}

static uint64_t address_of(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

/* values[] is the one element of the map:
 *
 *     cookie = bpf_get_attach_cookie(ctx)
 *     if (cookie > counters) return 0
 *     if (cookie == 0) { values[0] = 1; return 0 }
 *     if (values[0] == 0) return 0
 *     atomic: values[cookie]++
 */
static int load_program(int map, size_t counters)
{
    enum { R0, R1, R2 };
    const struct bpf_insn code[] = {
        {.code = BPF_JMP | BPF_CALL, .imm = HELPER_GET_ATTACH_COOKIE},
        {.code = BPF_JMP | BPF_JGT | BPF_K, .dst_reg = R0, .off = 9, .imm = (int)counters},
        {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = R1, .src_reg = BPF_PSEUDO_MAP_VALUE, .imm = map},
        {0}, /* the upper half of the address */
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = R2, .imm = 1},
        {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = R0, .off = 7, .imm = 0},
        {.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = R2, .src_reg = R1},
        {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = R2, .off = 3, .imm = 0},
        {.code = BPF_ALU64 | BPF_LSH | BPF_K, .dst_reg = R0, .imm = 3},
        {.code = BPF_ALU64 | BPF_ADD | BPF_X, .dst_reg = R1, .src_reg = R0},
        {.code = BPF_STX | BPF_ATOMIC | BPF_DW, .dst_reg = R1, .src_reg = R2, .imm = BPF_ADD},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = R0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
        /* the start */
        {.code = BPF_STX | BPF_MEM | BPF_DW, .dst_reg = R1, .src_reg = R2},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = R0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_KPROBE,
                           .expected_attach_type = ATTACH_UPROBE_MULTI,
                           .insns = address_of(code),
                           .insn_cnt = sizeof code / sizeof *code,
                           .license = address_of("Dual MIT/GPL")};
    return bpf(BPF_PROG_LOAD, &load, sizeof load);
}

/* What otherwise a hit of the first probe does. */
static int start(struct uprobe_multi *multi)
{
    uint64_t *values = calloc(multi->counters + 1, sizeof *values);
    if (!values)
        return -ENOMEM;
    values[0] = 1;
    uint32_t key = 0;
    union bpf_attr update = {.map_fd = (uint32_t)multi->map, .key = address_of(&key), .value = address_of(values)};
    int error = bpf(BPF_MAP_UPDATE_ELEM, &update, sizeof update);
    free(values);
    return error;
}

int uprobe_multi_create(size_t counters, bool wait_for_start, struct uprobe_multi *multi)
{
    *multi = (struct uprobe_multi){.map = -1, .program = -1, .counters = counters};
    union bpf_attr create = {.map_type = BPF_MAP_TYPE_ARRAY,
                             .key_size = sizeof(uint32_t),
                             .value_size = (uint32_t)((counters + 1) * sizeof(uint64_t)),
                             .max_entries = 1};
    if ((multi->map = bpf(BPF_MAP_CREATE, &create, sizeof create)) < 0)
        return multi->map;
    if ((multi->program = load_program(multi->map, counters)) < 0) {
        int error = multi->program;
        uprobe_multi_destroy(multi);
        return error;
    }
    if (wait_for_start)
        return 0;
    return start(multi);
}

int uprobe_multi_attach(const struct uprobe_multi *multi, const char *path, const uint64_t *offsets,
                        const uint64_t *cookies, size_t count, pid_t pid, bool returns)
{
    struct link_create link = {.program = (uint32_t)multi->program,
                               .attach_type = ATTACH_UPROBE_MULTI,
                               .path = address_of(path),
                               .offsets = address_of(offsets),
                               .cookies = address_of(cookies),
                               .count = (uint32_t)count,
                               .uprobe_flags = returns ? LINK_IS_RETURN : 0,
                               .pid = (uint32_t)pid};
    return bpf(BPF_LINK_CREATE, &link, sizeof link);
}

int uprobe_multi_read(const struct uprobe_multi *multi, uint64_t *values)
{
    uint32_t key = 0;
    union bpf_attr look_up = {.map_fd = (uint32_t)multi->map, .key = address_of(&key), .value = address_of(values)};
    return bpf(BPF_MAP_LOOKUP_ELEM, &look_up, sizeof look_up);
}

void uprobe_multi_destroy(struct uprobe_multi *multi)
{
    if (multi->program >= 0)
        close(multi->program);
    if (multi->map >= 0)
        close(multi->map);
    multi->program = multi->map = -1;
}
