/* SPDX-License-Identifier: MIT
 *
 * A whole spec: PROBE [FETCHARG…] [if EXPR]. The shape of the first word says which grammar PROBE is written in.
 */
#include "spec/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec/fetch.h"
#include "spec/filter.h"
#include "spec/grammar.h"

enum { SPEC_MAX = 16384 };

void tl_spec_free(struct tl_spec *spec)
{
    if (!spec)
        return;
    for (size_t i = 0; i < spec->arg_count; i++)
        tl_fetch_arg_free(&spec->args[i]);
    free(spec->args);
    tl_filter_free(spec->filter);
    free(spec->text);
    free(spec->group);
    free(spec->event);
    free(spec->module);
    free(spec->symbol);
    free(spec);
}

static int parse_probe(struct tl_scan *scan, struct tl_spec *spec)
{
    size_t length = tl_scan_run_length(scan);
    const char *text = scan->text + scan->at;
    if (!length || tl_scan_at_filter(scan))
        return tl_scan_expected(scan, scan->at, "a probe: a function's name, FILE!FUNCTION, p FILE:FUNCTION, …");
    if (tl_is_uprobe_events(scan))
        return tl_parse_uprobe_events(scan, spec);
    if (tl_is_bpftrace(scan))
        return tl_parse_bpftrace(scan, spec);
    if (tl_is_dtrace(scan))
        return tl_parse_dtrace(scan, spec);
    return memchr(text, '!', length) ? tl_parse_frida(scan, spec) : tl_parse_bare(scan, spec);
}

static int parse_arg(struct tl_scan *scan, const struct tl_fetch_place *place, struct tl_spec *spec)
{
    size_t column = scan->at, index = spec->arg_count;
    if (index == TL_EVENT_ARGS)
        return tl_scan_fail(scan, column, -EINVAL, "expected at most %d arguments", TL_EVENT_ARGS);
    struct tl_fetch_arg *args = realloc(spec->args, (index + 1) * sizeof *args);
    if (!args)
        return tl_scan_no_memory(scan);
    spec->args = args;
    args[index] = (struct tl_fetch_arg){0};
    spec->arg_count++;
    int error = tl_fetch_arg_parse(scan, place, index, &args[index]);
    if (error)
        return error;
    for (size_t i = 0; i < index; i++)
        if (!strcmp(args[i].name, args[index].name))
            return tl_scan_fail(scan, column, -EINVAL,
                                "expected a name of its own: there is already an argument \"%s\"", args[i].name);
    return 0;
}

static bool is_word(const char *name, size_t length, const char *word)
{
    return length == strlen(word) && !memcmp(name, word, length);
}

/* Names in a probe's filter: its arguments, then what each hit has. An argument that is called pid hides the process
 * id. */
static int find_name(void *context, const char *name, size_t length, struct tl_name *found, const char **why)
{
    const struct tl_spec *spec = context;
    for (size_t i = 0; i < spec->arg_count; i++) {
        const struct tl_fetch_arg *arg = &spec->args[i];
        if (!is_word(name, length, arg->name))
            continue;
        found->slot = arg->slot;
        found->kind = arg->show == TL_SHOW_STRING ? TL_NAME_STRING : TL_NAME_NUMBER;
        found->is_unsigned =
            arg->show != TL_SHOW_SIGNED && arg->fetch->type.size == 8 && arg->fetch->type.bits % 64 == 0;
        if (arg->show == TL_SHOW_COMM)
            *why = "expected something that is fetched: $comm is read afterwards, by the tool";
        else if (arg->show == TL_SHOW_TEXT)
            *why = "expected something that is fetched: this argument is a constant";
        return *why ? -ENOTSUP : 0;
    }
    if (is_word(name, length, "comm"))
        *why = "expected something that is fetched: comm is read afterwards, by the tool";
    else if (is_word(name, length, "pid"))
        found->kind = TL_NAME_PID;
    else if (is_word(name, length, "tid"))
        found->kind = TL_NAME_TID;
    else
        return -ENOENT;
    return *why ? -ENOTSUP : 0;
}

static int parse_filter(struct tl_scan *scan, struct tl_spec *spec)
{
    char known[160];
    int used = snprintf(known, sizeof known, "a name:");
    for (size_t i = 0; i < spec->arg_count && used < 100; i++)
        used += snprintf(known + used, sizeof known - (size_t)used, " %s,", spec->args[i].name);
    snprintf(known + used, sizeof known - (size_t)used, " pid or tid");
    struct tl_names names = {.find = find_name, .context = spec, .known = known};
    scan->at += strlen("if");
    return tl_filter_parse(scan, &names, &spec->filter);
}

static int parse_spec(struct tl_scan *scan, struct tl_spec *spec)
{
    tl_scan_spaces(scan);
    int error = parse_probe(scan, spec);
    struct tl_fetch_place place = {.is_return = spec->is_return,
                                   .is_inside = spec->where == TL_WHERE_SYMBOL && spec->offset};
    while (!error) {
        tl_scan_spaces(scan);
        if (!tl_scan_peek(scan))
            return 0;
        if (tl_scan_at_filter(scan))
            return parse_filter(scan, spec);
        error = parse_arg(scan, &place, spec);
    }
    return error;
}

int tl_spec_parse(const char *text, struct tl_spec **out, struct tl_error *error)
{
    struct tl_scan scan = {.text = text, .error = error};
    *out = NULL;
    if (strnlen(text, SPEC_MAX + 1) > SPEC_MAX)
        return tl_scan_fail(&scan, SPEC_MAX, -EINVAL, "expected a spec of at most %d bytes", SPEC_MAX);
    struct tl_spec *spec = calloc(1, sizeof *spec);
    if (!spec)
        return tl_scan_no_memory(&scan);
    spec->text = strdup(text);
    int result = spec->text ? parse_spec(&scan, spec) : tl_scan_no_memory(&scan);
    if (result) {
        tl_spec_free(spec);
        return result;
    }
    *out = spec;
    return 0;
}
