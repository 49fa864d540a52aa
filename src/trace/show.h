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
 * A hit of a watch, with the values before and after it (which the caller has put into words) where there are any:
 *
 *     TIME comm-PID/TID NAME: OLD -> NEW  FUNC+0xOFF (file.c:12)
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

/* A hit of a watch. Texts are never NULL unless it says so. */
struct tl_watch_line {
    const char *watch;
    int pid, tid;
    const char *comm;
    uint64_t time_ns;
    uint64_t ip; /* of the instruction that accessed the memory */
    const char *symbol;
    const char *source;    /* "file.c:12", or NULL */
    const char *old, *new; /* as they are to stand there: text, or JSON values; NULL: could not be read */
    bool has_values;       /* otherwise nothing tells them */
    bool takes_turns;      /* with other watches: for how much of the time it was armed by now, 0 to 1: */
    double armed;
    bool late;                /* it was told later, when the thread was elsewhere: that is where ip is */
    const char *const *stack; /* as above */
    size_t stack_count;
    bool stack_cut;
};

/* Who has accessed a watch, and how often. */
struct tl_writer_line {
    const char *watch;
    const char *writer; /* a function */
    const char *source; /* or NULL */
    uint64_t hits;
    double share; /* of all hits of the watch that were reported: 0 to 1 */
};

/* What became of a watch as a whole. */
struct tl_watched_line {
    const char *watch;
    uint64_t accesses; /* of the kind watched, as the processor has counted them */
    bool counted;      /* false: nothing has counted them */
    uint64_t reported; /* hits shown */
    uint64_t late;     /* hits of which nothing could be told but later than they happened */
    double armed;      /* for how much of the time: 0 to 1 */
    const char *how;   /* the mechanism */
};

struct tl_summary_line {
    uint64_t hits, missed, lost, refused; /* hits: those seen, and with them those missed and lost */
    bool of_watches;                      /* of which none is refused */
};

struct tl_format {
    void (*hit)(FILE *out, const struct tl_hit_line *line);
    /* The whole table. */
    void (*counts)(FILE *out, const struct tl_count_line *lines, size_t count);
    /* `error` is positive, `why` one sentence. */
    void (*refused)(FILE *out, const char *probe, int error, const char *why);
    void (*watch)(FILE *out, const struct tl_watch_line *line);
    /* The whole tables. */
    void (*writers)(FILE *out, const struct tl_writer_line *lines, size_t count);
    void (*watched)(FILE *out, const struct tl_watched_line *lines, size_t count);
    /* Always last. */
    void (*summary)(FILE *out, const struct tl_summary_line *line);
};

extern const struct tl_format tl_format_text, tl_format_json;

#endif
