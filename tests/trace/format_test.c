/* SPDX-License-Identifier: MIT
 *
 * What people and programs get to read, against golden files:
 *
 *     format_test DIRECTORY            compare with DIRECTORY/hits.text and DIRECTORY/hits.json
 *     format_test --rebase DIRECTORY   write them anew
 *
 * json_test.py says of the JSON file what must hold of it whatever it looks like.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/show.h"

enum { SIZE = 1 << 16, HUGE_STRING = 6000 };

/* An event with the slots that the probes below show. */
static const struct {
    struct tl_event event;
    char text[24];
} raw = {.text = "q\"\\\n\t\x01\x7f\xc3\xa9\xff\xe2\x82\xac\xed\xa0\x80"};

static struct tl_record record(void)
{
    const uint64_t at = offsetof(typeof(raw), text);
    return (struct tl_record){.probe = 0,
                              .tid = 12,
                              .stored = 0x3f,
                              .faulted = 0xc0,
                              .size = sizeof(raw),
                              .time_ns = 8123004512345,
                              .values = {[0] = 32,
                                         [1] = UINT64_MAX,
                                         [2] = (uint64_t)-7,
                                         [3] = 0xdeadbeef,
                                         [4] = strlen(raw.text) | at << 32,
                                         [5] = (uint64_t)1 << 63},
                              .bytes = (const uint8_t *)&raw};
}

static const struct tl_arg_info some[] = {{"size", TL_SHOW_UNSIGNED, 0, NULL}},
                                all[] = {{"u", TL_SHOW_UNSIGNED, 1, NULL},
                                         {"s", TL_SHOW_SIGNED, 2, NULL},
                                         {"x", TL_SHOW_HEX, 3, NULL},
                                         {"text", TL_SHOW_STRING, 4, NULL},
                                         {"min", TL_SHOW_SIGNED, 5, NULL},
                                         {"bad", TL_SHOW_HEX, 6, NULL},
                                         {"badtext", TL_SHOW_STRING, 7, NULL},
                                         {"absent", TL_SHOW_UNSIGNED, 8, NULL},
                                         {"beyond", TL_SHOW_UNSIGNED, 200, NULL},
                                         {"notext", TL_SHOW_STRING, 1, NULL},
                                         {"who", TL_SHOW_COMM, 0, NULL},
                                         {"fixed", TL_SHOW_TEXT, 9, "a \"b\""},
                                         {"letter", TL_SHOW_CHAR, 0, NULL},
                                         {"where", TL_SHOW_SYMBOL, 3, NULL}};
static char long_frame[HUGE_STRING];

static void describe(void *context, uint64_t addr, char *text, size_t size)
{
    snprintf(text, size, "%s+0x%lx", (const char *)context, (unsigned long)(addr & 0xf));
}

static void write_watches(const struct tl_format *format, FILE *out)
{
    static const char *const stack[] = {"bump+0x9", "main+0x12"};
    struct tl_watch_line line = {.watch = "conf.limit",
                                 .pid = 7,
                                 .tid = 8,
                                 .comm = "a \"b\"",
                                 .time_ns = 8123004512345,
                                 .ip = 0x401136,
                                 .symbol = "bump+0x9",
                                 .source = "bump.c:12",
                                 .old = "1",
                                 .new = "2",
                                 .has_values = true};
    format->watch(out, &line);
    line.takes_turns = true;
    line.armed = 0.3751;
    format->watch(out, &line);
    line.takes_turns = false;
    line.new = line.source = NULL;
    line.late = true;
    line.stack = stack;
    line.stack_count = 2;
    line.stack_cut = true;
    format->watch(out, &line);
    format->watch(out, &(struct tl_watch_line){.watch = "init_task", .comm = "", .symbol = "0xffffffff81000000"});

    const struct tl_writer_line writers[] = {{"conf.limit", "bump", "bump.c:12", 1200, 0.59997},
                                             {"conf.limit", "clear(int)", NULL, 1, 0.4},
                                             {"a", "bump", "bump.c:9", 1, 1}};
    format->writers(out, writers, 3);
    format->writers(out, writers, 0);
    const struct tl_watched_line watched[] = {{"conf.limit", 1201, true, 1201, 0, 1, "perf events"},
                                              {"a", 1, true, 0, 1, 0.3751, "perf events"},
                                              {"b", 0, false, 3, 0, 1, "debug registers"}};
    format->watched(out, watched, 3);
}

static void write_all(const struct tl_format *format, FILE *out)
{
    static const char *const stack[] = {"malloc", "xmalloc+0x12", long_frame};
    const struct tl_probe_info plain = {"tick", "int3", NULL, 0}, one = {"malloc", "jump", some, 1},
                               many = {"odd\n\"name\"", NULL, all, sizeof(all) / sizeof(all[0])};
    const struct tl_record what = record();
    struct tl_record early = what;
    early.time_ns = 7;
    memset(long_frame, 'x', sizeof(long_frame) - 1);

    struct tl_hit_line line = {
        .probe = &one, .record = &what, .pid = 7, .tid = 7, .comm = "ls", .addr = 0x7f0012345678};
    format->hit(out, &line);
    line = (struct tl_hit_line){.probe = &many,
                                .record = &what,
                                .pid = 7,
                                .tid = 12,
                                .comm = "a\xff \"b\"\n\x1b[1m\xc2\x9b\xc3\xa9",
                                .addr = 0};
    format->hit(out, &line);
    line.describe = describe;
    line.describe_context = (void *)(uintptr_t) "main";
    format->hit(out, &line);
    line = (struct tl_hit_line){.probe = &plain,
                                .record = &early,
                                .pid = 1,
                                .tid = 1,
                                .comm = "",
                                .addr = UINT64_MAX,
                                .stack = stack,
                                .stack_count = 3};
    format->hit(out, &line);
    line.stack_count = 1;
    line.stack_cut = true;
    format->hit(out, &line);
    line.stack_count = 0;
    line.stack_cut = false;
    format->hit(out, &line);

    const struct tl_count_line rows[] = {{&one, 120, 0}, {&plain, UINT64_MAX, 1234567}, {&many, 0, 0}};
    format->counts(out, rows, 3);
    format->counts(out, rows, 1);
    format->refused(out, "frob", EILSEQ, tl_why_text(TL_WHY_NOT_BOUNDARY));
    format->refused(out, "a\"b", EBUSY, tl_why_text(TL_WHY_CHANGED));
    write_watches(format, out);
    const struct tl_summary_line one_of_each = {1, 1, 1, 1, false}, of_watches = {1, 0, 0, 0, true};
    format->summary(out, &of_watches);
    format->summary(out, &one_of_each);
    const struct tl_summary_line summary = {.hits = 120, .missed = 1, .lost = 2, .refused = 3};
    format->summary(out, &summary);
}

static int one_file(const char *directory, const char *name, const struct tl_format *format, int rebase)
{
    static char is[SIZE], wanted[SIZE];
    char path[4096];
    memset(is, 0, sizeof(is));
    FILE *memory = fmemopen(is, sizeof(is), "w");
    if (!memory)
        abort();
    write_all(format, memory);
    size_t size = (size_t)ftell(memory);
    fclose(memory);

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, rebase ? "w" : "r");
    if (!file) {
        perror(path);
        return 1;
    }
    size_t length = rebase ? fwrite(is, 1, size, file) : fread(wanted, 1, sizeof(wanted), file);
    fclose(file);
    if (length == size && (rebase || memcmp(is, wanted, size) == 0))
        return 0;
    fprintf(stderr, "%s differs; this is what is written now:\n%.*s", path, (int)size, is);
    return 1;
}

int main(int argc, char **argv)
{
    int rebase = argc == 3 && strcmp(argv[1], "--rebase") == 0;
    if (argc != 2 && !rebase)
        return 2;
    const char *directory = argv[argc - 1];
    return one_file(directory, "hits.text", &tl_format_text, rebase) +
           one_file(directory, "hits.json", &tl_format_json, rebase);
}
