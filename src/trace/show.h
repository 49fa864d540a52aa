/* SPDX-License-Identifier: MIT
 *
 * How hits, counts and refusals look: as text for people, as JSON lines for programs. Both formats have the same entry
 * points, so that a command chooses one and forgets about it.
 *
 * Text, a line a hit; TIME is CLOCK_MONOTONIC in seconds; a stack follows, a frame a line, indented,
 * and `...` in place of frames that are missing at its end:
 *
 *     TIME comm-PID/TID EVENT(name=value, …)
 *     8123.004512345 ls-4711/4711 malloc(size=32, name="a\n", next=(fault))
 *
 * An event without arguments has no parentheses. Strings are quoted and escaped as in C. Each event is one line
 * whatever the program calls itself.
 *
 * JSON, an object a line, with the field names of the manual page. Fetched integers are JSON numbers whatever their
 * type (x64 too: exact, not rounded to a double by us); addresses (addr) are strings "0x…". What could not be read is
 * null, `(fault)` in text. Bytes of a string that are not UTF-8 become U+FFFD. Any thread may write to a FILE of its
 * own; signal handlers may not. That writing failed, ferror(out) tells.
 */
#ifndef TRAPLINE_SHOW_H
#define TRAPLINE_SHOW_H

#include <stdio.h>

#include "spec/spec.h"
#include "trace/reader.h"

struct tl_arg_info {
    const char *name;
    uint8_t show; /* enum tl_show */
    uint8_t slot;
    const char *text; /* TL_SHOW_TEXT: what to show; else NULL */
};

/* What the tool knows of a probe and a record does not say. */
struct tl_probe_info {
    const char *name;
    const char *how; /* tl_tactic_name of the slowest of its sites, or NULL */
    const struct tl_arg_info *args;
    size_t arg_count;
};

struct tl_hit_line {
    const struct tl_probe_info *probe;
    const struct tl_record *record;
    int pid, tid;     /* in our name space */
    const char *comm; /* never NULL */
    uint64_t addr;    /* of the probed instruction */
    /* Names an address, for TL_SHOW_SYMBOL; NULL: shown in hexadecimal. */
    void (*describe)(void *context, uint64_t addr, char *text, size_t size);
    void *describe_context;
    const char *const *stack; /* frames, innermost first; NULL: none asked for */
    size_t stack_count;
    bool stack_cut; /* there are more frames than these */
};

struct tl_count_line {
    const struct tl_probe_info *probe;
    uint64_t hits, missed;
};

struct tl_summary_line {
    uint64_t hits, missed, lost, refused; /* hits: those seen, and with them those missed and lost */
};

struct tl_format {
    void (*hit)(FILE *out, const struct tl_hit_line *line);
    /* The whole table. */
    void (*counts)(FILE *out, const struct tl_count_line *lines, size_t count);
    /* `error` is positive, `why` one sentence. */
    void (*refused)(FILE *out, const char *probe, int error, const char *why);
    /* Always last. */
    void (*summary)(FILE *out, const struct tl_summary_line *line);
};

extern const struct tl_format tl_format_text, tl_format_json;

#endif
