/* SPDX-License-Identifier: MIT */
#include "uprobe.h"

#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool read_number(const char *path, const char *format, unsigned *number)
{
    FILE *file = fopen(path, "re");
    bool read = file && fscanf(file, format, number) == 1;
    if (file)
        fclose(file);
    return read;
}

/* Where in the program's file the address comes from. */
static bool file_offset(uintptr_t addr, uint64_t *offset)
{
    char line[512];
    unsigned long start, end, from;
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && !found && fgets(line, sizeof line, maps))
        found = sscanf(line, "%lx-%lx %*s %lx", &start, &end, &from) == 3 && addr >= start && addr < end;
    if (maps)
        fclose(maps);
    *offset = found ? addr - start + from : 0;
    return found;
}

bool uprobe_self(uintptr_t function, bool returns)
{
    unsigned type, bit = 0;
    struct perf_event_attr attr = {.size = sizeof attr};
    if (!read_number("/sys/bus/event_source/devices/uprobe/type", "%u", &type) ||
        (returns && !read_number("/sys/bus/event_source/devices/uprobe/format/retprobe", "config:%u", &bit)) ||
        !file_offset(function, (uint64_t *)&attr.config2)) {
        fputs("the kernel has no uprobe events\n", stderr);
        return false;
    }
    attr.type = type;
    attr.config = returns ? 1u << bit : 0;
    attr.config1 = (uint64_t)(uintptr_t) "/proc/self/exe";
    if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0) {
        perror("perf_event_open");
        return false;
    }
    return true;
}
