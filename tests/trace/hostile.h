/* SPDX-License-Identifier: MIT
 *
 * What must hold of every record, whatever was in the area.
 */
#ifndef TRAPLINE_TEST_HOSTILE_H
#define TRAPLINE_TEST_HOSTILE_H

#include <stdio.h>
#include <stdlib.h>

#include "producer.h"
#include "trace/reader.h"
#include "trace/show.h"

struct witness {
    const struct area *area;
    uint64_t events, checksum;
    FILE *sink; /* or NULL */
};

static inline int witness(void *context, const struct tl_record *record)
{
    struct witness *w = context;
    const char *text;
    size_t length;
    if (record->probe >= w->area->layout.probe_count || record->site >= w->area->layout.site_count ||
        record->stored & record->faulted)
        abort();
    for (unsigned slot = 0; slot < TL_EVENT_ARGS + 8; slot++)
        if (tl_record_string(record, slot, &text, &length) == 0)
            for (size_t i = 0; i < length; i++)
                w->checksum += (unsigned char)text[i];
    struct tl_hit_regs regs;
    const uint8_t *stack;
    if (tl_record_stack(record, &regs, &stack, &length) == 0) {
        w->checksum += regs.r[TL_RIP];
        for (size_t i = 0; i < length; i++)
            w->checksum += stack[i];
    }
    w->events++;
    if (w->sink) {
        static const struct tl_arg_info args[] = {
            {"s", TL_SHOW_STRING, 0, NULL}, {"n", TL_SHOW_SIGNED, 1, NULL}, {"h", TL_SHOW_HEX, 40, NULL}};
        static const struct tl_probe_info probe = {"p", "jump", args, 3};
        const struct tl_hit_line line = {.probe = &probe, .record = record, .comm = "c"};
        tl_format_json.hit(w->sink, &line);
        tl_format_text.hit(w->sink, &line);
    }
    return 0;
}

#endif
