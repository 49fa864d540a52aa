/* SPDX-License-Identifier: MIT */
#include "options.h"

#include "probe/plan.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_JSON = 256, LONG_EVERY, LONG_BLOCK, LONG_TACTIC, LONG_WRITES, LONG_MULTIPLEX };
/* What getopt_long gives for a word that is no option. */
enum { WORD = 1, MS_MAX = 60000 };

/* Which commands know an option. */
static unsigned commands_with(int option)
{
    switch (option) {
    case LONG_EVERY:
    case LONG_BLOCK:
    case LONG_TACTIC:
        return OPTIONS_PROBE;
    case LONG_WRITES:
    case LONG_MULTIPLEX:
        return OPTIONS_WATCH;
    default:
        return ~0u;
    }
}

static const struct option long_options[] = {
    {"json", no_argument, NULL, LONG_JSON},
    {"every-instruction", no_argument, NULL, LONG_EVERY},
    {"block", no_argument, NULL, LONG_BLOCK},
    {"tactic", required_argument, NULL, LONG_TACTIC},
    {"all-writes", no_argument, NULL, LONG_WRITES},
    {"multiplex", optional_argument, NULL, LONG_MULTIPLEX},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char usage_probe[] =
    "usage: trapline %s [OPTIONS] -e SPEC... (-p PID | -- CMD [ARG...])\n"
    "  -e SPEC    what to probe: malloc, 'libc!mem*', 'r libc:read ret=$retval', ...; may be repeated\n"
    "  -p PID     a running process\n"
    "  -f         follow children\n"
    "  -o FILE    write events to FILE instead of standard output\n"
    "  -t SECONDS stop after a time\n"
    "  --json     one JSON object a line\n"
    "  --tactic LIST  only these, of: jump, jump-punned, int3\n"
    "  -q, -v     say less, say more\n";
static const char usage_trace[] = "  -n N       stop after exactly N events\n"
                                  "  -k         show the call stack of each hit\n"
                                  "  --block    the program waits rather than lose an event\n";
static const char usage_count[] = "  --every-instruction  count each instruction of the named functions\n";
static const char usage_watch[] =
    "usage: trapline watch [OPTIONS] SPEC... (-p PID | -- CMD [ARG...])\n"
    "       trapline watch [OPTIONS] -a SPEC...\n"
    "  SPEC       what to watch: counter, conf.limit, 'table[3].next', mem:0x601040/8:rw, watchpoint:NAME:4:w,\n"
    "             each with a filter behind it: 'counter if new == 0'\n"
    "  -p PID     a running process\n"
    "  -a         kernel memory, on all processors\n"
    "  -f         follow children\n"
    "  --all-writes   report each write, and not only those that change the value\n"
    "  --multiplex[=MS]  more watches than there are debug registers: they take turns, of MS milliseconds\n"
    "  -k         show the call stack of each hit\n"
    "  -n N       stop after exactly N hits\n"
    "  -o FILE    write hits to FILE instead of standard output\n"
    "  -t SECONDS stop after a time\n"
    "  --json     one JSON object a line\n"
    "  -q, -v     say less, say more\n";
static const char usage_list[] = "usage: trapline list [--json] (PATH | -p PID) [GLOB]\n";
static const char usage_doctor[] = "usage: trapline doctor [--json]\n";

void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("trapline: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static void usage(FILE *out, const char *command, unsigned takes)
{
    if (takes == OPTIONS_LIST)
        fputs(usage_list, out);
    else if (takes == OPTIONS_DOCTOR)
        fputs(usage_doctor, out);
    else if (takes == OPTIONS_WATCH)
        fputs(usage_watch, out);
    else
        fprintf(out, usage_probe, command);
    if (takes & OPTIONS_PROBE)
        fputs(takes & OPTIONS_COUNT ? usage_count : usage_trace, out);
}

static bool read_number(const char *text, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value == 0 || value > most)
        return false;
    *number = value;
    return true;
}

static bool read_seconds(const char *text, double *seconds)
{
    char *end;
    *seconds = strtod(text, &end);
    return end != text && !*end && isfinite(*seconds) && *seconds > 0 && *seconds < 1e9;
}

static bool read_tactics(const char *text, uint32_t *tactics)
{
    *tactics = 0;
    while (*text) {
        size_t length = strcspn(text, ",");
        unsigned tactic = 0;
        while (tactic < TL_TACTIC_COUNT &&
               (strlen(tl_tactic_name(tactic)) != length || strncmp(tl_tactic_name(tactic), text, length)))
            tactic++;
        if (tactic == TL_TACTIC_WINDOW || tactic == TL_TACTIC_COUNT) {
            if (tactic < TL_TACTIC_COUNT)
                complain("--tactic: \"%.*s\" is not available yet", (int)length, text);
            else
                complain("--tactic: \"%.*s\" is none of jump, jump-punned, int3", (int)length, text);
            return false;
        }
        *tactics |= 1u << tactic;
        /* A long no-op is patched by the same jump. */
        if (tactic == TL_TACTIC_JUMP)
            *tactics |= 1u << TL_TACTIC_NOP;
        text += length + (text[length] == ',');
    }
    if (!*tactics)
        complain("--tactic: a list of jump, jump-punned, int3 is expected");
    return *tactics != 0;
}

static int bad(const char *command, unsigned takes, const char *what, const char *value, const char *expected)
{
    complain("%s: \"%s\" is not %s", what, value, expected);
    usage(stderr, command, takes);
    return EXIT_USAGE;
}

static int add_spec(struct options *options, const char *text)
{
    const char **grown = realloc(options->specs, (options->spec_count + 1) * sizeof *grown);
    if (!grown) {
        complain("out of memory");
        return EXIT_FAILED;
    }
    options->specs = grown;
    options->specs[options->spec_count++] = text;
    return 0;
}

static int read_option(int option, const char *command, unsigned takes, struct options *options)
{
    uint64_t number;
    if (!(commands_with(option) & takes)) {
        complain("%s has no such option", command);
        usage(stderr, command, takes);
        return EXIT_USAGE;
    }
    switch (option) {
    case 'e':
    case WORD:
        return add_spec(options, optarg);
    case 'a':
        options->everywhere = true;
        return 0;
    case LONG_WRITES:
        options->all_writes = true;
        return 0;
    case LONG_MULTIPLEX:
        options->multiplex = true;
        if (optarg && !read_number(optarg, MS_MAX, &number))
            return bad(command, takes, "--multiplex", optarg, "a number of milliseconds, 1 to 60000");
        options->period_ns = optarg ? number * 1000000 : 0;
        return 0;
    case 'p':
        if (!read_number(optarg, INT32_MAX, &number))
            return bad(command, takes, "-p", optarg, "a process id");
        options->pid = (pid_t)number;
        return 0;
    case 'o':
        options->output = optarg;
        return 0;
    case 'n':
        if (!read_number(optarg, UINT64_MAX, &options->limit))
            return bad(command, takes, "-n", optarg, "a number of events, 1 or more");
        return 0;
    case 't':
        if (!read_seconds(optarg, &options->seconds))
            return bad(command, takes, "-t", optarg, "a time in seconds");
        return 0;
    case 'q':
        options->quiet = true;
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    case LONG_JSON:
        options->json = true;
        return 0;
    case LONG_EVERY:
        options->every_instruction = true;
        return 0;
    case LONG_BLOCK:
        options->block = true;
        return 0;
    case LONG_TACTIC:
        return read_tactics(optarg, &options->tactics) ? 0 : EXIT_USAGE;
    case 'f':
        options->follow = true;
        return 0;
    case 'k':
        options->stacks = true;
        return 0;
    case 'h':
        usage(stdout, command, takes);
        return -1;
    default: /* getopt has said what */
        usage(stderr, command, takes);
        return EXIT_USAGE;
    }
}

static const char *wrong_watch(const struct options *options)
{
    if (!options->spec_count)
        return "nothing to watch was named";
    if (options->everywhere && (options->pid || options->command))
        return "-a watches all processors, and takes neither -p PID nor a command";
    if (options->everywhere && options->follow)
        return "-a watches all processors: there is nobody to follow";
    if (options->everywhere && options->multiplex)
        return "--multiplex is for programs, not for all processors";
    if (!options->everywhere && !options->pid && !options->command)
        return "whose memory to watch: give -p PID, or a command after --";
    if (options->pid && options->command)
        return "give either -p PID or a command, not both";
    return NULL;
}

static int check_together(const char *command, unsigned takes, const struct options *options)
{
    const char *wrong = takes & OPTIONS_WATCH ? wrong_watch(options) : NULL;
    if (takes & OPTIONS_PROBE) {
        if (!options->spec_count)
            wrong = "no probe was given: -e SPEC";
        else if (!options->pid && !options->command)
            wrong = "nothing to probe: give -p PID, or a command after --";
        else if (options->pid && options->command)
            wrong = "give either -p PID or a command, not both";
        else if (options->every_instruction && !(takes & OPTIONS_COUNT))
            wrong = "--every-instruction is for count";
        else if (options->limit && (takes & OPTIONS_COUNT))
            wrong = "-n is for trace: counting makes no events";
        else if (options->stacks && (takes & OPTIONS_COUNT))
            wrong = "-k is for trace: a count has no call stack";
        else if (options->block && (takes & OPTIONS_COUNT))
            wrong = "--block is for trace: counting loses nothing";
    }
    if (wrong) {
        complain("%s", wrong);
        usage(stderr, command, takes);
        return EXIT_USAGE;
    }
    return 0;
}

int options_read(int argc, char **argv, unsigned takes, struct options *options)
{
    memset(options, 0, sizeof *options);
    const char *accepted = takes & OPTIONS_PROBE   ? "+e:p:o:n:t:qvfkh"
                           : takes & OPTIONS_WATCH ? "-p:o:n:t:qvfkah"
                           : takes & OPTIONS_LIST  ? "+p:h"
                                                   : "+h";
    char name[64];
    snprintf(name, sizeof name, "trapline %s", argv[0]);
    char *command = argv[0];
    argv[0] = name; /* for getopt's own messages */
    optind = 0;
    int option, status = 0;
    while (!status && (option = getopt_long(argc, argv, accepted, long_options, NULL)) != -1)
        status = read_option(option, command, takes, options);
    argv[0] = command;
    if (status)
        return status;
    if (takes & (OPTIONS_PROBE | OPTIONS_WATCH)) {
        if (optind < argc)
            options->command = argv + optind;
    } else {
        options->rest = argv + optind;
        options->rest_count = (size_t)(argc - optind);
    }
    return check_together(command, takes, options);
}

void options_free(struct options *options)
{
    free(options->specs);
}
