/* SPDX-License-Identifier: MIT */
#include "commands.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"list", cmd_list, "list [--json] (PATH | -p PID) [GLOB]                   what can be probed"},
    {"trace", cmd_trace, "trace [OPTIONS] -e SPEC... (-p PID | -- CMD [ARG...])  a line a hit, as it happens"},
    {"count", cmd_count, "count [OPTIONS] -e SPEC... (-p PID | -- CMD [ARG...])  a table at the end"},
    {"watch", cmd_watch, "watch [OPTIONS] SPEC... (-p PID | -- CMD [ARG...])     who touches this memory"},
    {"doctor", cmd_doctor, "doctor [--json]                                       what works here"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out)
{
    fputs("usage: trapline COMMAND ...\n", out);
    for (unsigned i = 0; i < COMMANDS; i++)
        fprintf(out, "  trapline %s\n", commands[i].what);
}

/* Where a standard stream is closed, the next file that is opened would take its number, and our output would go into
 * that: the target's memory, for one. Something stands there now, which cannot be written to (or read from). */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            open("/dev/null", (fd ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
}

static int run(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
        usage(stdout);
        return EXIT_FINE;
    }
    if (argc > 1 && !strcmp(argv[1], "--version")) {
        puts("trapline " TRAPLINE_VERSION);
        return EXIT_FINE;
    }
    for (unsigned i = 0; argc > 1 && i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    if (argc > 1)
        complain("there is no command \"%s\"", argv[1]);
    usage(stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    heap_prepare();
    int status = run(argc, argv), error = output_check(stdout, NULL);
    return status == EXIT_FINE && error && error != -EPIPE ? EXIT_FAILED : status;
}
