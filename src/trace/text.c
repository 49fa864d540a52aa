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

/* TIME comm-PID/TID, and a space. */
static void who(struct tl_line *line, uint64_t time_ns, const char *comm, int pid, int tid)
{
    tl_line_unsigned(line, time_ns / 1000000000);
    tl_line_char(line, '.');
    tl_line_digits(line, time_ns % 1000000000, 9);
    tl_line_char(line, ' ');
    tl_line_plain(line, comm);
    tl_line_char(line, '-');
    tl_line_signed(line, pid);
    tl_line_char(line, '/');
    tl_line_signed(line, tid);
    tl_line_char(line, ' ');
}

static void stack(struct tl_line *line, const char *const *frames, size_t count, bool cut)
{
    for (size_t i = 0; i < count; i++) {
        tl_line_text(line, "\n    ");
        tl_line_plain(line, frames[i]);
    }
    if (cut)
        tl_line_text(line, "\n    ...");
}

static void text_hit(FILE *out, const struct tl_hit_line *hit)
{
    const struct tl_probe_info *probe = hit->probe;
    struct tl_line line;

    tl_line_begin(&line, out);
    who(&line, hit->record->time_ns, hit->comm, hit->pid, hit->tid);
    tl_line_plain(&line, probe->name);
    for (size_t i = 0; i < probe->arg_count; i++) {
        tl_line_text(&line, i ? ", " : "(");
        tl_line_plain(&line, probe->args[i].name);
        tl_line_char(&line, '=');
        text_value(&line, hit, &probe->args[i]);
    }
    if (probe->arg_count)
        tl_line_char(&line, ')');
    if (hit->stack)
        stack(&line, hit->stack, hit->stack_count, hit->stack_cut);
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

static void source(struct tl_line *line, const char *where)
{
    if (!where)
        return;
    tl_line_text(line, " (");
    tl_line_plain(line, where);
    tl_line_char(line, ')');
}

static void text_watch(FILE *out, const struct tl_watch_line *hit)
{
    struct tl_line line;
    tl_line_begin(&line, out);
    who(&line, hit->time_ns, hit->comm, hit->pid, hit->tid);
    tl_line_plain(&line, hit->watch);
    if (hit->has_values) {
        tl_line_text(&line, ": ");
        tl_line_plain(&line, hit->old ? hit->old : "(fault)");
        tl_line_text(&line, " -> ");
        tl_line_plain(&line, hit->new ? hit->new : "(fault)");
    }
    tl_line_text(&line, "  ");
    if (hit->late)
        tl_line_text(&line, "late, seen at ");
    tl_line_plain(&line, hit->symbol);
    source(&line, hit->source);
    if (hit->takes_turns) {
        char share[32];
        snprintf(share, sizeof share, "  [watched %.0f%%]", hit->armed * 100);
        tl_line_text(&line, share);
    }
    if (hit->stack)
        stack(&line, hit->stack, hit->stack_count, hit->stack_cut);
    tl_line_end(&line);
}

static void text_writers(FILE *out, const struct tl_writer_line *rows, size_t count)
{
    int watch = (int)strlen("WATCH"), hits = (int)strlen("HITS");
    for (size_t i = 0; i < count; i++) {
        watch = wider(watch, (int)strlen(rows[i].watch));
        hits = wider(hits, digits(rows[i].hits));
    }
    if (count)
        fprintf(out, "%-*s  %*s   SHARE  WRITER\n", watch, "WATCH", hits, "HITS");
    for (size_t i = 0; i < count; i++) {
        char share[32];
        struct tl_line line;
        tl_line_begin(&line, out);
        tl_line_plain(&line, rows[i].watch);
        spaces(&line, watch - (int)strlen(rows[i].watch));
        right(&line, rows[i].hits, hits);
        snprintf(share, sizeof share, "  %5.1f%%  ", rows[i].share * 100);
        tl_line_text(&line, share);
        tl_line_plain(&line, rows[i].writer);
        source(&line, rows[i].source);
        tl_line_end(&line);
    }
}

static void text_watched(FILE *out, const struct tl_watched_line *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct tl_watched_line *row = &rows[i];
        struct tl_line line;
        char text[64];
        tl_line_begin(&line, out);
        tl_line_plain(&line, row->watch);
        tl_line_text(&line, ": ");
        if (row->counted) {
            tl_line_unsigned(&line, row->accesses);
            tl_line_text(&line, row->accesses == 1 ? " access, " : " accesses, ");
        }
        tl_line_unsigned(&line, row->reported);
        tl_line_text(&line, " reported");
        if (row->late) {
            tl_line_text(&line, ", ");
            tl_line_unsigned(&line, row->late);
            tl_line_text(&line, " late");
        }
        if (row->armed < 1) {
            snprintf(text, sizeof text, ", watched for %.1f%% of the time", row->armed * 100);
            tl_line_text(&line, text);
        }
        tl_line_end(&line);
    }
}

static void text_summary(FILE *out, const struct tl_summary_line *summary)
{
    fprintf(out, "%" PRIu64 " hit%s, %" PRIu64 " missed, %" PRIu64 " lost", summary->hits,
            summary->hits == 1 ? "" : "s", summary->missed, summary->lost);
    if (!summary->of_watches)
        fprintf(out, "; %" PRIu64 " probe%s refused", summary->refused, summary->refused == 1 ? "" : "s");
    fputc('\n', out);
}

const struct tl_format tl_format_text = {text_hit,     text_counts,  text_refused, text_watch,
                                         text_writers, text_watched, text_summary};
