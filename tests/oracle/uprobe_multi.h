/* SPDX-License-Identifier: MIT
 *
 * Thousands of kernel uprobes at once, each with a counter: BPF uprobe_multi links (Linux 6.6 and later) around one
 * small BPF program, by bpf(2) itself, so that neither libbpf nor a BPF compiler is needed.
 */
#ifndef UPROBE_MULTI_H
#define UPROBE_MULTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct uprobe_multi {
    int map, program;
    size_t counters;
};

/* Counters 1 … counters. They count at once, or, with `wait_for_start`, once counter 0's probe was hit. Returns 0 or
 * -errno; -EPERM without the privilege, -EINVAL on an old kernel. */
int uprobe_multi_create(size_t counters, bool wait_for_start, struct uprobe_multi *multi);

/* Attach at file offsets of `path`: cookies[i] is the counter of offsets[i]. Only hits by process `pid` count (0: by
 * any). Returns the link's descriptor (closing it detaches), or -errno. */
int uprobe_multi_attach(const struct uprobe_multi *multi, const char *path, const uint64_t *offsets,
                        const uint64_t *cookies, size_t count, pid_t pid, bool returns);

/* All counters + 1 values; values[0] says whether the start was seen. */
int uprobe_multi_read(const struct uprobe_multi *multi, uint64_t *values);

void uprobe_multi_destroy(struct uprobe_multi *multi);

#endif
