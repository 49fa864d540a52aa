/* SPDX-License-Identifier: MIT
 *
 * The reader on an area into which the input scribbles. The input is a program: each step writes somewhere in the area,
 * or has the reader look. The first bytes change the layout that the reader is opened with; the area is exactly as
 * large as it says, so that a sanitizer sees every step out of it.
 *
 *     clang -g -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Isrc fuzz/reader_fuzz.c
 *         src/trace/[a-z]*.c src/base/[a-z]*.c
 */
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "trace/reader.h"
#include "trace/show.h"

enum { LANES = 3, RING = 512, PROBES = 4, LAYOUT_WORDS = sizeof(struct tl_hit_control) / 8 };

static struct tl_hit_control honest_layout(void)
{
    struct tl_hit_control layout = {.magic = TL_HIT_MAGIC,
                                    .lane_count = LANES,
                                    .lane_shift = 1,
                                    .site_count = PROBES,
                                    .probe_count = PROBES,
                                    .block_shift = 7,
                                    .table_shift = 1,
                                    .blocks = (sizeof(struct tl_hit_control) + 63) & ~(size_t)63,
                                    .lane_stride = sizeof(struct tl_lane) + 64 + RING,
                                    .lane_bytes = RING};
    layout.lanes = layout.blocks + (3u << layout.block_shift);
    layout.area_size = layout.lanes + LANES * layout.lane_stride;
    return layout;
}

struct sink {
    FILE *out;
    const struct tl_hit_control *layout;
};

static int show(void *context, const struct tl_record *record)
{
    static const struct tl_arg_info args[] = {
        {"u", TL_SHOW_UNSIGNED, 0, NULL}, {"s", TL_SHOW_STRING, 0, NULL}, {"t", TL_SHOW_STRING, 1, NULL}};
    static const struct tl_probe_info probe = {"p", "jump", args, 3};
    const struct sink *sink = context;
    struct tl_hit_regs regs;
    const uint8_t *stack;
    size_t size;
    if (record->probe >= sink->layout->probe_count || record->site >= sink->layout->site_count)
        abort();
    const struct tl_hit_line line = {.probe = &probe, .record = record, .comm = "c"};
    if (tl_record_stack(record, &regs, &stack, &size) == 0)
        fwrite(stack, 1, size, sink->out);
    tl_format_json.hit(sink->out, &line);
    tl_format_text.hit(sink->out, &line);
    return record->values[0] == 7;
}

/* Fields that are mostly small, at the head of the ring, which moves on by mostly that much. A stack of up to three
 * words, which tells a length that may be too much. */
static void append(struct input *input, struct tl_lane *lane, uint8_t *ring)
{
    uint64_t form = number(input, 1);
    size_t stack = form & 32 ? TL_REG_COUNT + 1 + (form >> 6) : 0;
    struct tl_event event = {.size = (uint32_t)(sizeof(event) + 8 * (form % 8 + stack)),
                             .probe = (uint32_t)number(input, 1) % (PROBES + 1) | (form & 32 ? TL_EVENT_STACK : 0),
                             .site = (uint32_t)number(input, 1) % (PROBES + 1),
                             .tsc = number(input, 2),
                             .stored = (uint32_t)number(input, 1),
                             .faulted = (uint32_t)number(input, 1) & ~(form & 8 ? 0 : UINT32_MAX)};
    uint64_t words[sizeof(event) / 8 + 8 + TL_REG_COUNT + 4] = {0};
    memcpy(words, &event, sizeof(event));
    for (size_t i = 0; i < form % 8; i++)
        words[sizeof(event) / 8 + i] = number(input, 1) | number(input, 1) << 32;
    if (stack)
        words[event.size / 8 - 1] = number(input, 1) % 32;
    for (size_t i = 0; i < event.size / 8; i++)
        memcpy(ring + (lane->head + 8 * i) % RING / 8 * 8, &words[i], 8);
    lane->head += event.size + (form & 16 ? number(input, 1) : 0);
}

static void step(struct input *input, uint8_t *area, const struct tl_hit_control *honest, struct tl_reader *reader,
                 struct sink *sink)
{
    uint64_t kind = number(input, 1), lane = (kind >> 4) % LANES;
    uint8_t *const start = area + honest->lanes + lane * honest->lane_stride;
    uint8_t *const ring = start + sizeof(struct tl_lane) + 64;
    uint8_t *at = start;
    uint64_t counts[PROBES];

    switch (kind % 8) {
    case 0: /* anywhere */
        at = area + number(input, 2) % (honest->area_size / 8) * 8;
        break;
    case 1:
        at += offsetof(struct tl_lane, head);
        break;
    case 2:
        at += offsetof(struct tl_lane, tail);
        break;
    case 3: /* something like an event */
        append(input, (struct tl_lane *)start, ring);
        return;
    case 4:
        at = ring + number(input, 1) % (RING / 8) * 8;
        break;
    case 5:
        tl_reader_drain(reader, show, sink);
        return;
    case 6:
        if (sink->layout->probe_count <= PROBES)
            tl_reader_counts(reader, counts);
        return;
    default:
        tl_reader_poll(reader, show, sink);
        return;
    }
    *(uint64_t *)at = number(input, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static FILE *out;
    if (!out && !(out = fopen("/dev/null", "w")))
        abort();
    struct input input = {bytes, size};
    struct tl_hit_control honest = honest_layout(), layout = honest;
    uint8_t *area = aligned_alloc(64, honest.area_size);
    struct tl_reader *reader;
    struct sink sink = {out, &layout};

    if (!area)
        abort();
    memset(area, 0, honest.area_size);
    for (uint64_t changes = number(&input, 1) % 4; changes; changes--) {
        uint64_t word = number(&input, 1) % LAYOUT_WORDS;
        ((uint64_t *)&layout)[word] = number(&input, 8);
    }
    const struct tl_reader_options options = {.patience_ns = number(&input, 1) % 2 ? 0 : UINT64_MAX};
    if (tl_reader_open(area, honest.area_size, &layout, &options, &reader) == 0) {
        while (input.left)
            step(&input, area, &honest, reader, &sink);
        tl_reader_drain(reader, show, &sink);
        tl_reader_close(reader);
    }
    free(area);
    return 0;
}
