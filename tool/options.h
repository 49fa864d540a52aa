/* SPDX-License-Identifier: MIT
 *
 * The command line, read.
 */
#ifndef TRAPLINE_OPTIONS_H
#define TRAPLINE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Exit statuses, beside those of the command that was run. */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
    pid_t pid;          /* 0: none given */
    char **command;     /* NULL: none given */
    const char **specs; /* texts, in order: of probes, or of watches */
    size_t spec_count;
    const char *output; /* file for events, or NULL: stdout */
    uint64_t limit;     /* events; 0: none */
    double seconds;     /* 0: none */
    uint32_t tactics;   /* as in struct tl_plan_options */
    bool follow, json, quiet, verbose, block, stacks, every_instruction;
    bool all_writes, multiplex, everywhere; /* watch */
    uint64_t period_ns;                     /* of a turn with multiplex; 0: none given */
    char **rest;                            /* list: PATH and GLOB */
    size_t rest_count;
};

/* Which options a command takes, besides -h. */
enum { OPTIONS_PROBE = 1, OPTIONS_COUNT = 2, OPTIONS_LIST = 4, OPTIONS_DOCTOR = 8, OPTIONS_WATCH = 16 };

/* Read argv (the command's name is argv[0]). 0, or the exit status to end with: what was wrong has been said on stderr.
 * -1: help was asked for and printed. */
int options_read(int argc, char **argv, unsigned takes, struct options *options);
void options_free(struct options *options);

/* One line on stderr, beginning with "trapline: ". */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Whether all that was printed could be written: 0, or the first failure, -errno, which is said once. -EPIPE: nobody
 * reads on, who has seen enough; that is not said. `name`: NULL for standard output. */
int output_check(FILE *out, const char *name);

#endif
