/* SPDX-License-Identifier: MIT
 *
 * A target inside the test's own process: a hit area, the blob mapped as in a target, a gate, and trampolines that
 * hold a hook and whatever the test wants behind it.
 */
#ifndef TRAPLINE_TESTS_WORLD_H
#define TRAPLINE_TESTS_WORLD_H

#include "hit/abi.h"
#include "hit/blob.h"
#include "probe/hook.h"

struct world_shape {
    uint32_t flags; /* TL_HIT_*; what the machine can do is added */
    uint32_t probes;
    uint32_t table_shift;            /* 0: 8 */
    uint32_t lane_shift, lane_count; /* 0: 16 owned, 16 shared */
    uint64_t ring_bytes;             /* 0: 64 KiB */
    const struct tl_hit_site *sites;
    size_t site_count;
    const struct tl_hit_action *actions;
    size_t action_count;
    const struct tl_operation *operations;
    size_t operation_count;
    const char *strings;
    size_t strings_size;
};

struct world {
    struct tl_hit_control *area;
    struct tl_gate *gate;
    uint8_t *code; /* where the next trampoline goes */
    uint8_t *code_end;
    uint8_t *mapping;
    uint8_t *blob;
};

typedef void world_fn(void);

/* Processor features, as TL_HIT_RDPID and TL_HIT_FSGSBASE, or without that (this is glibc or musl) TL_HIT_FS_SELF. */
uint32_t world_features(void);

struct world world_make(const struct world_shape *shape);
void world_free(struct world *world);

/* A hook as the planner would make it for this world. */
struct tl_hook world_hook(const struct world *world, enum tl_hook_kind kind, uint32_t index);
/* A function that consists of the hook and of `body`. */
void *world_trampoline(struct world *world, const struct tl_hook *hook, const void *body, size_t size);
/* The same for a function that just returns. */
world_fn *world_function(struct world *world, enum tl_hook_kind kind, uint32_t index);

/* What the reader would add up. */
uint64_t world_count(const struct world *world, uint32_t probe);
uint64_t world_lost(const struct world *world);
uint64_t world_missed(const struct world *world, uint32_t probe);
struct tl_lane *world_lane(const struct world *world, uint32_t index);

/* Take the next event of any lane into `event` (at most `size` bytes); 0 when there is none, otherwise its size. */
size_t world_take(const struct world *world, void *event, size_t size);
/* Take all there is; how many events that were. */
uint64_t world_drain(const struct world *world);

/* The tid's place in glibc's thread block, found by looking; INT32_MIN where that fails. */
int32_t world_tid_offset(void);

#endif
