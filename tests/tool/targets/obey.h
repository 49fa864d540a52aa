/* SPDX-License-Identifier: MIT
 *
 * A program that obeys: it says "ready", then answers each line of its standard input with one of its own. Given
 * arguments, it takes them for the one command, and ends.
 */
#ifndef TRAPLINE_TEST_OBEY_H
#define TRAPLINE_TEST_OBEY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A function that is called as it is written, by whatever compiler: not inlined, not copied, and with no knowledge of
 * what it reads. */
#ifdef __clang__
#define PROBED __attribute__((noinline, weak))
#else
#define PROBED __attribute__((noipa))
#endif

/* Calls carry(words) for each command; it prints the answer, without a newline, to `stdout`. */
static inline int obey(int argc, char **argv, void (*carry)(char **words, int count))
{
    if (argc > 1) {
        carry(argv + 1, argc - 1);
        puts("");
        return 0;
    }
    puts("ready");
    fflush(stdout);
    char line[256], *words[16];
    while (fgets(line, sizeof line, stdin)) {
        int count = 0;
        for (char *word = strtok(line, " \n"); word && count < 16; word = strtok(NULL, " \n"))
            words[count++] = word;
        carry(words, count);
        puts("");
        fflush(stdout);
    }
    return 0;
}

#endif
