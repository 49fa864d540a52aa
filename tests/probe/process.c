/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint64_t heap_growth = 1ull << 30, stack_growth = 1ull << 28;

struct tl_area *areas_of(pid_t pid, size_t *count)
{
    char path[64], line[4500];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "re");
    struct tl_area *areas = NULL;
    *count = 0;
    while (file && fgets(line, sizeof line, file)) {
        unsigned long start, end;
        struct tl_area *grown = realloc(areas, (*count + 1) * sizeof *areas);
        if (!grown || sscanf(line, "%lx-%lx", &start, &end) != 2)
            break;
        areas = grown;
        if (start >= 1ul << 47)
            continue;
        areas[*count] = (struct tl_area){.start = start, .end = end};
        areas[*count].keep_above = strstr(line, "[heap]") ? heap_growth : 0;
        areas[*count].keep_below = strstr(line, "[stack]") ? stack_growth : 0;
        ++*count;
    }
    if (file)
        fclose(file);
    return areas;
}

int child_start(struct child *child, const char *const argv[])
{
    int in[2], out[2];
    char byte;
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        return -1;
    child->pid = fork();
    if (child->pid == 0) {
        personality(PER_LINUX); /* addresses as chance has them, also under a debugger */
        dup2(in[0], 0);
        dup2(out[1], 1);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    child->in = in[1];
    child->out = out[0];
    for (;;)
        if (read(child->out, &byte, 1) != 1) {
            child_end(child);
            return -1;
        } else if (byte == '\n') {
            return 0;
        }
}

void child_end(struct child *child)
{
    close(child->in);
    close(child->out);
    waitpid(child->pid, NULL, 0);
}
