/* SPDX-License-Identifier: MIT
 *
 * What the tests of this room share: the programs that fixtures/build.sh made, and the output of other tools.
 */
#ifndef TRAPLINE_SYMBOL_SUPPORT_H
#define TRAPLINE_SYMBOL_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../skip.h"

#include "symbol/symbol.h"

#define LIBC "/lib/x86_64-linux-gnu/libc.so.6"
#define PYTHON "/usr/bin/python3.11"

/* The path of a fixture: one of a few static buffers. */
const char *fixture(const char *name);
/* Opens it, or fails the test with what was said. */
struct tl_object *open_object(const char *path);
/* Runs a shell command and gives each line of its output (without newline) to each(). Fails the test when the command
 * fails. */
void each_line(void (*each)(void *context, char *line), void *context, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The first number behind `key` in the output of a command: "Entry point address:" of readelf -h. */
uint64_t number_behind(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* How many functions of that name; the first is stored. */
size_t named(const struct tl_object *object, const char *name, const struct tl_function **first);

/* A fixture that runs and waits until it is stopped; what it printed before ("twin 0x…") can be asked for. */
struct program {
    pid_t pid;
    int input;
    char output[4096];
};
/* `root` is where the child changes its root directory to before it runs `path` (it has to be root for that), or NULL.
 */
void program_start(struct program *program, const char *path, const char *root);
void program_stop(struct program *program);
uint64_t program_says(const struct program *program, const char *key);
/* Reads a process's memory; host: the pid_t. */
int read_process(void *host, uint64_t addr, void *bytes, size_t size);
/* Reads a process's modules, or fails the test. */
struct tl_modules read_modules(pid_t pid);
/* That the address is described so. */
void named_at(const struct tl_modules *modules, uint64_t addr, const char *expected);

#endif
