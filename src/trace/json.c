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
    key(&line, "addr");
    tl_line_char(&line, '"');
    tl_line_hex(&line, hit->addr);
    tl_line_char(&line, '"');
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
    if (hit->stack) {
        key(&line, "stack");
        tl_line_char(&line, '[');
        for (size_t i = 0; i < hit->stack_count; i++) {
            if (i)
                tl_line_char(&line, ',');
            string(&line, hit->stack[i]);
        }
        tl_line_char(&line, ']');
    }
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

const struct tl_format tl_format_json = {json_hit, json_counts, json_refused, json_summary};
