/* SPDX-License-Identifier: MIT
 *
 * How often a command passes through places of its text, counted by the kernel: a second opinion on every count.
 *
 *     uprobe_count [-r] [-s BINARY:OFFSET] [-w FILE] {-b BINARY -o OFFSETS}... -- COMMAND...
 *
 * OFFSETS is a file with one file offset of BINARY, hexadecimal, a line. Counted are hits by the command's process, all
 * its threads, not its children, from its exec on, or, with -s, from its first passing that place on. -r counts
 * returns. At the end a line "BINARY OFFSET COUNT" is written for each place, to FILE or standard output, and the
 * command's status is passed on. Exit status 77: this kernel, or this user, cannot; 125: another trouble of ours.
 */
#include "uprobe_multi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BINARIES_MAX = 16, EXIT_SKIP = 77, EXIT_TROUBLE = 125, SIGNAL_EXIT = 128 };

struct binary {
    const char *path;
    uint64_t *offsets, *cookies;
    size_t count;
};

struct wanted {
    struct binary binaries[BINARIES_MAX];
    size_t binary_count, counters;
    char *start_path;
    uint64_t start;
    const char *output;
    bool returns;
};

static void die(int status, const char *what, const char *why)
{
    fprintf(stderr, "uprobe_count: %s: %s\n", what, why);
    exit(status);
}

static void read_offsets(struct wanted *wanted, const char *path)
{
    struct binary *binary = wanted->binary_count ? &wanted->binaries[wanted->binary_count - 1] : NULL;
    FILE *file = binary && !binary->offsets ? fopen(path, "re") : NULL;
    if (!file)
        die(EXIT_TROUBLE, path, binary ? strerror(errno) : "no -b before it");
    unsigned long long offset;
    for (size_t room = 0; fscanf(file, "%llx", &offset) == 1; binary->count++) {
        if (binary->count == room) {
            room = room ? room * 2 : 1024;
            binary->offsets = realloc(binary->offsets, room * sizeof *binary->offsets);
            binary->cookies = realloc(binary->cookies, room * sizeof *binary->cookies);
            if (!binary->offsets || !binary->cookies)
                die(EXIT_TROUBLE, path, "out of memory");
        }
        binary->offsets[binary->count] = offset;
        binary->cookies[binary->count] = ++wanted->counters;
    }
    if (!feof(file) || !binary->count)
        die(EXIT_TROUBLE, path, "not a list of offsets");
    fclose(file);
}

static void read_options(int argc, char **argv, struct wanted *wanted)
{
    for (int option; (option = getopt(argc, argv, "+rs:w:b:o:")) != -1;) {
        char *colon;
        switch (option) {
        case 'r':
            wanted->returns = true;
            break;
        case 's':
            if (!(colon = strrchr(optarg, ':')))
                die(EXIT_TROUBLE, optarg, "-s takes BINARY:OFFSET");
            *colon = '\0';
            wanted->start_path = optarg;
            wanted->start = strtoull(colon + 1, NULL, 0);
            break;
        case 'w':
            wanted->output = optarg;
            break;
        case 'b':
            if (wanted->binary_count == BINARIES_MAX)
                die(EXIT_TROUBLE, optarg, "too many binaries");
            wanted->binaries[wanted->binary_count++].path = optarg;
            break;
        case 'o':
            read_offsets(wanted, optarg);
            break;
        default:
            exit(EXIT_TROUBLE);
        }
    }
    if (!wanted->counters || optind == argc)
        die(EXIT_TROUBLE, "usage",
            "uprobe_count [-r] [-s BINARY:OFFSET] [-w FILE] {-b BINARY -o OFFSETS}... -- CMD...");
}

/* The command, held before its exec. Closing *go, or one byte, lets it go on; only the byte makes it exec. */
static pid_t hold_command(char **command, int *go)
{
    int ends[2];
    if (pipe(ends))
        die(EXIT_TROUBLE, "pipe", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        die(EXIT_TROUBLE, "fork", strerror(errno));
    if (pid) {
        close(ends[0]);
        *go = ends[1];
        return pid;
    }
    char byte;
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1)
        _exit(EXIT_TROUBLE);
    close(ends[0]);
    execvp(command[0], command);
    die(EXIT_TROUBLE, command[0], strerror(errno));
    return -1;
}

static void attach(const struct uprobe_multi *multi, const struct wanted *wanted, pid_t pid)
{
    const uint64_t start_cookie = 0;
    int link = wanted->start_path
                   ? uprobe_multi_attach(multi, wanted->start_path, &wanted->start, &start_cookie, 1, pid, false)
                   : 0;
    if (link < 0)
        die(link == -EINVAL || link == -EPERM ? EXIT_SKIP : EXIT_TROUBLE, wanted->start_path, strerror(-link));
    for (size_t i = 0; i < wanted->binary_count; i++) {
        const struct binary *binary = &wanted->binaries[i];
        link = uprobe_multi_attach(multi, binary->path, binary->offsets, binary->cookies, binary->count, pid,
                                   wanted->returns);
        if (link < 0)
            die(link == -EINVAL || link == -EPERM ? EXIT_SKIP : EXIT_TROUBLE, binary->path, strerror(-link));
    }
}

static void report(const struct uprobe_multi *multi, const struct wanted *wanted)
{
    uint64_t *values = calloc(multi->counters + 1, sizeof *values);
    FILE *out = wanted->output ? fopen(wanted->output, "we") : stdout;
    if (!values || !out)
        die(EXIT_TROUBLE, "output", strerror(errno));
    int error = uprobe_multi_read(multi, values);
    if (error)
        die(EXIT_TROUBLE, "reading the counters", strerror(-error));
    if (!values[0])
        die(EXIT_TROUBLE, wanted->start_path, "the start was never passed");
    for (size_t i = 0; i < wanted->binary_count; i++) {
        const struct binary *binary = &wanted->binaries[i];
        for (size_t k = 0; k < binary->count; k++)
            fprintf(out, "%s %#llx %llu\n", binary->path, (unsigned long long)binary->offsets[k],
                    (unsigned long long)values[binary->cookies[k]]);
    }
    if (fclose(out))
        die(EXIT_TROUBLE, "output", strerror(errno));
    free(values);
}

int main(int argc, char **argv)
{
    struct wanted wanted = {0};
    read_options(argc, argv, &wanted);
    struct uprobe_multi multi;
    int error = uprobe_multi_create(wanted.counters, wanted.start_path != NULL, &multi);
    if (error)
        die(EXIT_SKIP, "the kernel offers no BPF uprobe_multi here", strerror(-error));
    int go;
    pid_t pid = hold_command(argv + optind, &go);
    attach(&multi, &wanted, pid);
    int status;
    if (write(go, "g", 1) != 1 || waitpid(pid, &status, 0) != pid)
        die(EXIT_TROUBLE, argv[optind], strerror(errno));
    report(&multi, &wanted);
    uprobe_multi_destroy(&multi);
    for (size_t i = 0; i < wanted.binary_count; i++) {
        free(wanted.binaries[i].offsets);
        free(wanted.binaries[i].cookies);
    }
    return WIFSIGNALED(status) ? SIGNAL_EXIT + WTERMSIG(status) : WEXITSTATUS(status);
}
