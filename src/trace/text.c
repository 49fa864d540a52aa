/* SPDX-License-Identifier: MIT
 *
 * The format for people; show.h describes it.
 */
#include "trace/line.h"
#include "trace/show.h"

#include <inttypes.h>
#include <string.h>

#include "trapline/error.h"

static void text_value(struct tl_line *line, const struct tl_hit_line *hit, const struct tl_arg_info *arg)
{
    const struct tl_record *record = hit->record;
    const char *text;
    size_t length;

    if (arg->show == TL_SHOW_COMM) {
        tl_line_c_string(line, hit->comm, strlen(hit->comm));
    } else if (arg->show == TL_SHOW_TEXT) {
        tl_line_c_string(line, arg->text, strlen(arg->text));
    } else if (arg->show == TL_SHOW_STRING) {
        if (tl_record_string(record, arg->slot, &text, &length) == 0)
            tl_line_c_string(line, text, length);
        else
            tl_line_text(line, "(fault)");
    } else if (arg->slot >= TL_EVENT_ARGS || !(record->stored >> arg->slot & 1)) {
        tl_line_text(line, "(fault)");
    } else if (arg->show == TL_SHOW_SIGNED) {
        tl_line_signed(line, (int64_t)record->values[arg->slot]);
    } else if (arg->show == TL_SHOW_CHAR) {
        char c = (char)record->values[arg->slot];
        tl_line_c_string(line, &c, 1);
    } else if (arg->show == TL_SHOW_SYMBOL && hit->describe) {
        char name[512];
        hit->describe(hit->describe_context, record->values[arg->slot], name, sizeof name);
        tl_line_plain(line, name);
    } else if (arg->show == TL_SHOW_HEX || arg->show == TL_SHOW_SYMBOL) {
        tl_line_hex(line, record->values[arg->slot]);
    } else {
        tl_line_unsigned(line, record->values[arg->slot]);
    }
}

static void text_hit(FILE *out, const struct tl_hit_line *hit)
{
    const struct tl_probe_info *probe = hit->probe;
    struct tl_line line;

    tl_line_begin(&line, out);
    tl_line_unsigned(&line, hit->record->time_ns / 1000000000);
    tl_line_char(&line, '.');
    tl_line_digits(&line, hit->record->time_ns % 1000000000, 9);
    tl_line_char(&line, ' ');
    tl_line_plain(&line, hit->comm);
    tl_line_char(&line, '-');
    tl_line_signed(&line, hit->pid);
    tl_line_char(&line, '/');
    tl_line_signed(&line, hit->tid);
    tl_line_char(&line, ' ');
    tl_line_plain(&line, probe->name);
    for (size_t i = 0; i < probe->arg_count; i++) {
        tl_line_text(&line, i ? ", " : "(");
        tl_line_plain(&line, probe->args[i].name);
        tl_line_char(&line, '=');
        text_value(&line, hit, &probe->args[i]);
    }
    if (probe->arg_count)
        tl_line_char(&line, ')');
    for (size_t i = 0; hit->stack && i < hit->stack_count; i++) {
        tl_line_text(&line, "\n    ");
        tl_line_plain(&line, hit->stack[i]);
    }
    if (hit->stack && hit->stack_cut)
        tl_line_text(&line, "\n    ...");
    tl_line_end(&line);
}

static int digits(uint64_t value)
{
    return snprintf(NULL, 0, "%" PRIu64, value);
}

static int wider(int a, int b)
{
    return a > b ? a : b;
}

static void spaces(struct tl_line *line, int count)
{
    while (count-- > 0)
        tl_line_char(line, ' ');
}

/* A number, right-aligned in a column behind two spaces. */
static void right(struct tl_line *line, uint64_t value, int width)
{
    spaces(line, 2 + width - digits(value));
    tl_line_unsigned(line, value);
}

static void text_counts(FILE *out, const struct tl_count_line *rows, size_t count)
{
    int name = (int)strlen("PROBE"), hits = (int)strlen("HITS"), missed = (int)strlen("MISSED");

    for (size_t i = 0; i < count; i++) {
        name = wider(name, (int)strlen(rows[i].probe->name));
        hits = wider(hits, digits(rows[i].hits));
        missed = wider(missed, digits(rows[i].missed));
    }
    fprintf(out, "%-*s  %*s  %*s  %s\n", name, "PROBE", hits, "HITS", missed, "MISSED", "HOW");
    for (size_t i = 0; i < count; i++) {
        const struct tl_probe_info *probe = rows[i].probe;
        struct tl_line line;
        tl_line_begin(&line, out);
        tl_line_plain(&line, probe->name);
        spaces(&line, name - (int)strlen(probe->name));
        right(&line, rows[i].hits, hits);
        right(&line, rows[i].missed, missed);
        tl_line_text(&line, "  ");
        tl_line_text(&line, probe->how ? probe->how : "-");
        tl_line_end(&line);
    }
}

static void text_refused(FILE *out, const char *probe, int error, const char *why)
{
    struct tl_line line;
    tl_line_begin(&line, out);
    tl_line_text(&line, "refused: ");
    tl_line_plain(&line, probe);
    tl_line_text(&line, ": ");
    tl_line_plain(&line, why);
    tl_line_text(&line, " (");
    tl_line_text(&line, tl_errno_name(error));
    tl_line_char(&line, ')');
    tl_line_end(&line);
}

static void text_summary(FILE *out, const struct tl_summary_line *summary)
{
    fprintf(out, "%" PRIu64 " hit%s, %" PRIu64 " missed, %" PRIu64 " lost; %" PRIu64 " probe%s refused\n",
            summary->hits, summary->hits == 1 ? "" : "s", summary->missed, summary->lost, summary->refused,
            summary->refused == 1 ? "" : "s");
}

const struct tl_format tl_format_text = {text_hit, text_counts, text_refused, text_summary};
