/* SPDX-License-Identifier: MIT */
#include "stacks.h"

#include "options.h"
#include "symbol/unwind.h"

#include <stdlib.h>

enum { FRAMES_MAX = 128, NAME_MAX_SHOWN = 512 };

struct stacks {
    struct tl_unwinder *unwinder;
    struct tl_frame frames[FRAMES_MAX];
    char texts[FRAMES_MAX][NAME_MAX_SHOWN];
    const char *lines[FRAMES_MAX];
};

int stacks_open(pid_t pid, struct stacks **out)
{
    struct tl_error error = {.text = "out of memory"};
    struct stacks *stacks = calloc(1, sizeof *stacks);
    if (!stacks || tl_unwinder_open(pid, &stacks->unwinder, &error)) {
        complain("%s", error.text);
        free(stacks);
        return EXIT_FAILED;
    }
    *out = stacks;
    return 0;
}

void stacks_close(struct stacks *stacks)
{
    if (stacks)
        tl_unwinder_close(stacks->unwinder);
    free(stacks);
}

struct tl_unwinder *stacks_unwinder(struct stacks *stacks)
{
    return stacks->unwinder;
}

size_t stacks_frames(struct stacks *stacks, const struct tl_record *record, uint64_t rip, struct tl_frame **frames,
                     bool *cut)
{
    /* The registers that unwind tables speak of, in their order. */
    static const uint8_t order[TL_UNWIND_REGS] = {TL_RAX, TL_RDX, TL_RCX, TL_RBX, TL_RSI, TL_RDI, TL_RBP, TL_RSP, TL_R8,
                                                  TL_R9,  TL_R10, TL_R11, TL_R12, TL_R13, TL_R14, TL_R15, TL_RIP};
    struct tl_snapshot snapshot = {0};
    struct tl_hit_regs regs;
    if (tl_record_stack(record, &regs, &snapshot.stack, &snapshot.stack_size))
        return 0;
    for (size_t i = 0; i < TL_UNWIND_REGS; i++)
        snapshot.regs[i] = regs.r[order[i]];
    snapshot.regs[TL_UNWIND_RIP] = rip; /* what the event says of it may have been scribbled on */
    snapshot.stack_addr = regs.r[TL_RSP] - TL_RED_ZONE;
    *frames = stacks->frames;
    return tl_unwind(stacks->unwinder, &snapshot, stacks->frames, FRAMES_MAX, cut);
}

void stacks_add(struct stacks *stacks, const struct tl_record *record, struct tl_hit_line *line)
{
    struct tl_frame *frames;
    line->stack_count = stacks_frames(stacks, record, line->addr, &frames, &line->stack_cut);
    for (size_t i = 0; i < line->stack_count; i++) {
        tl_unwinder_describe(stacks->unwinder, &frames[i], stacks->texts[i], sizeof stacks->texts[i]);
        stacks->lines[i] = stacks->texts[i];
    }
    if (line->stack_count)
        line->stack = stacks->lines;
}
