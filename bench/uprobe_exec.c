/* SPDX-License-Identifier: MIT
 *
 * uprobe_exec [-r] BINARY OFFSET COMMAND...: run a command with one kernel uprobe (-r: uretprobe), made by
 * perf_event_open, that counts its main thread's hits and does nothing else. Exit status 77: this kernel, or this user,
 * cannot.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned read_number(const char *path, const char *format)
{
    unsigned number = 0;
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, format, &number) != 1) {
        fprintf(stderr, "the kernel has no uprobe events: %s\n", path);
        exit(77);
    }
    fclose(file);
    return number;
}

int main(int argc, char **argv)
{
    bool returns = argc > 1 && !strcmp(argv[1], "-r");
    argv += returns;
    if (argc - returns < 4) {
        fputs("usage: uprobe_exec [-r] BINARY OFFSET COMMAND...\n", stderr);
        return 2;
    }
    struct perf_event_attr attr = {.size = sizeof attr};
    attr.type = read_number("/sys/bus/event_source/devices/uprobe/type", "%u");
    attr.config = returns ? 1u << read_number("/sys/bus/event_source/devices/uprobe/format/retprobe", "config:%u") : 0;
    attr.config1 = (uint64_t)(uintptr_t)argv[1];
    attr.config2 = strtoull(argv[2], NULL, 0);
    /* The event is this task's, which becomes the command. */
    if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0) {
        fprintf(stderr, "perf_event_open: %s\n", strerror(errno));
        return 77;
    }
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 1;
}
