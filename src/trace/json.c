/* SPDX-License-Identifier: MIT
 *
 * The format for programs: JSON, an object a line. The field names are promised to users; show.h describes the values.
 */
#include "trace/line.h"
#include "trace/show.h"

#include <string.h>

#include "trapline/error.h"

/* The field names are ours and need no escaping. */
static void begin(struct tl_line *line, FILE *out, const char *type)
{
    tl_line_begin(line, out);
    tl_line_text(line, "{\"type\":\"");
    tl_line_text(line, type);
    tl_line_char(line, '"');
}

static void end(struct tl_line *line)
{
    tl_line_char(line, '}');
    tl_line_end(line);
}

static void key(struct tl_line *line, const char *name)
{
    tl_line_text(line, ",\"");
    tl_line_text(line, name);
    tl_line_text(line, "\":");
}

static void string(struct tl_line *line, const char *text)
{
    tl_line_json_string(line, text, strlen(text));
}

static void string_field(struct tl_line *line, const char *name, const char *text)
{
    key(line, name);
    string(line, text);
}

static void number_field(struct tl_line *line, const char *name, uint64_t value)
{
    key(line, name);
    tl_line_unsigned(line, value);
}

static void address_field(struct tl_line *line, const char *name, uint64_t addr)
{
    key(line, name);
    tl_line_char(line, '"');
    tl_line_hex(line, addr);
    tl_line_char(line, '"');
}

static void stack_field(struct tl_line *line, const char *const *frames, size_t count)
{
    key(line, "stack");
    for (size_t i = 0; i < count; i++) {
        tl_line_char(line, i ? ',' : '[');
        string(line, frames[i]);
    }
    tl_line_text(line, count ? "]" : "[]");
}

/* A number from 0 to 1. */
static void share_field(struct tl_line *line, const char *name, double share)
{
    char text[32];
    snprintf(text, sizeof text, "%.4f", share);
    key(line, name);
    tl_line_text(line, text);
}

static void json_value(struct tl_line *line, const struct tl_hit_line *hit, const struct tl_arg_info *arg)
{
    const struct tl_record *record = hit->record;
    const char *text;
    size_t length;

    if (arg->show == TL_SHOW_COMM) {
        string(line, hit->comm);
    } else if (arg->show == TL_SHOW_TEXT) {
        string(line, arg->text);
    } else if (arg->show == TL_SHOW_STRING) {
        if (tl_record_string(record, arg->slot, &text, &length) == 0)
            tl_line_json_string(line, text, length);
        else
            tl_line_text(line, "null");
    } else if (arg->slot >= TL_EVENT_ARGS || !(record->stored >> arg->slot & 1)) {
        tl_line_text(line, "null");
    } else if (arg->show == TL_SHOW_CHAR) {
        char c = (char)record->values[arg->slot];
        tl_line_json_string(line, &c, 1);
    } else if (arg->show == TL_SHOW_SYMBOL && hit->describe) {
        char name[512];
        hit->describe(hit->describe_context, record->values[arg->slot], name, sizeof name);
        string(line, name);
    } else if (arg->show == TL_SHOW_SIGNED) {
        tl_line_signed(line, (int64_t)record->values[arg->slot]);
    } else {
        tl_line_unsigned(line, record->values[arg->slot]);
    }
}

static void json_hit(FILE *out, const struct tl_hit_line *hit)
{
    const struct tl_probe_info *probe = hit->probe;
    struct tl_line line;

    begin(&line, out, "hit");
    string_field(&line, "probe", probe->name);
    key(&line, "pid");
    tl_line_signed(&line, hit->pid);
    key(&line, "tid");
    tl_line_signed(&line, hit->tid);
    number_field(&line, "time_ns", hit->record->time_ns);
    string_field(&line, "comm", hit->comm);
    address_field(&line, "addr", hit->addr);
    if (probe->arg_count) {
        key(&line, "args");
        for (size_t i = 0; i < probe->arg_count; i++) {
            tl_line_char(&line, i ? ',' : '{');
            string(&line, probe->args[i].name);
            tl_line_char(&line, ':');
            json_value(&line, hit, &probe->args[i]);
        }
        tl_line_char(&line, '}');
    }
    if (hit->stack)
        stack_field(&line, hit->stack, hit->stack_count);
    end(&line);
}

static void json_counts(FILE *out, const struct tl_count_line *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tl_line line;
        begin(&line, out, "count");
        string_field(&line, "probe", rows[i].probe->name);
        number_field(&line, "hits", rows[i].hits);
        number_field(&line, "missed", rows[i].missed);
        if (rows[i].probe->how)
            string_field(&line, "how", rows[i].probe->how);
        end(&line);
    }
}

static void json_refused(FILE *out, const char *probe, int error, const char *why)
{
    struct tl_line line;
    begin(&line, out, "refused");
    string_field(&line, "probe", probe);
    string_field(&line, "error", tl_errno_name(error));
    string_field(&line, "why", why);
    end(&line);
}

static void json_watch(FILE *out, const struct tl_watch_line *hit)
{
    struct tl_line line;
    begin(&line, out, "watch");
    string_field(&line, "watch", hit->watch);
    key(&line, "pid");
    tl_line_signed(&line, hit->pid);
    key(&line, "tid");
    tl_line_signed(&line, hit->tid);
    number_field(&line, "time_ns", hit->time_ns);
    string_field(&line, "comm", hit->comm);
    address_field(&line, "ip", hit->ip);
    string_field(&line, "symbol", hit->symbol);
    if (hit->source)
        string_field(&line, "source", hit->source);
    if (hit->has_values) {
        key(&line, "old");
        tl_line_text(&line, hit->old ? hit->old : "null");
        key(&line, "new");
        tl_line_text(&line, hit->new ? hit->new : "null");
    }
    if (hit->late) {
        key(&line, "late");
        tl_line_text(&line, "true");
    }
    if (hit->takes_turns)
        share_field(&line, "armed", hit->armed);
    if (hit->stack)
        stack_field(&line, hit->stack, hit->stack_count);
    end(&line);
}

static void json_writers(FILE *out, const struct tl_writer_line *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tl_line line;
        begin(&line, out, "writer");
        string_field(&line, "watch", rows[i].watch);
        string_field(&line, "writer", rows[i].writer);
        if (rows[i].source)
            string_field(&line, "source", rows[i].source);
        number_field(&line, "hits", rows[i].hits);
        share_field(&line, "share", rows[i].share);
        end(&line);
    }
}

static void json_watched(FILE *out, const struct tl_watched_line *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tl_line line;
        begin(&line, out, "watched");
        string_field(&line, "watch", rows[i].watch);
        if (rows[i].counted)
            number_field(&line, "accesses", rows[i].accesses);
        number_field(&line, "reported", rows[i].reported);
        number_field(&line, "late", rows[i].late);
        share_field(&line, "armed", rows[i].armed);
        string_field(&line, "how", rows[i].how);
        end(&line);
    }
}

static void json_summary(FILE *out, const struct tl_summary_line *summary)
{
    struct tl_line line;
    begin(&line, out, "summary");
    number_field(&line, "hits", summary->hits);
    number_field(&line, "missed", summary->missed);
    number_field(&line, "lost", summary->lost);
    number_field(&line, "refused", summary->refused);
    end(&line);
}

const struct tl_format tl_format_json = {json_hit,     json_counts,  json_refused, json_watch,
                                         json_writers, json_watched, json_summary};
