/* SPDX-License-Identifier: MIT */
#include "base/texts.h"
#include "symbol/maps.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A whole file of /proc, which has no size beforehand. */
static int read_whole(const char *path, char **text)
{
    size_t used = 0, size = 0;
    char *buffer = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        if (size - used < 4096) {
            size = size ? size * 2 : 16384;
            char *grown = realloc(buffer, size + 1);
            if (!grown) {
                free(buffer);
                close(fd);
                return -ENOMEM;
            }
            buffer = grown;
        }
        ssize_t n = read(fd, buffer + used, size - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int result = n < 0 ? -errno : 0;
            close(fd);
            buffer[used] = '\0';
            *text = buffer;
            if (result < 0)
                free(buffer);
            return result;
        }
        used += (size_t)n;
    }
}

static bool parse_line(char *line, struct mapping *mapping)
{
    char permissions[5] = {0};
    int path_at = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &mapping->start, &mapping->end,
               permissions, &mapping->offset, &mapping->device_major, &mapping->device_minor, &mapping->inode,
               &path_at) < 7)
        return false;
    mapping->executable = permissions[2] == 'x';
    mapping->shared = permissions[3] == 's';
    mapping->path = line + path_at;
    return true;
}

int maps_read(pid_t pid, struct maps *maps, struct tl_error *error)
{
    char path[64];
    *maps = (struct maps){0};
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    int result = read_whole(path, &maps->text);
    if (result == -ENOENT || result == -ESRCH)
        return tl_fail(error, -ESRCH, "no process %d", (int)pid);
    if (result == -EMFILE)
        return tl_fail(error, result, TL_NO_DESCRIPTORS);
    if (result < 0)
        return tl_fail(error, result, "process %d: its memory map cannot be read: %s", (int)pid, strerror(-result));
    size_t lines = 0;
    for (const char *c = maps->text; *c; c++)
        lines += *c == '\n';
    maps->mappings = calloc(lines + 1, sizeof *maps->mappings);
    if (!maps->mappings) {
        maps_free(maps);
        return tl_fail(error, -ENOMEM, "out of memory");
    }
    char *rest = maps->text;
    for (char *line; (line = strsep(&rest, "\n")) && maps->count < lines;)
        if (parse_line(line, &maps->mappings[maps->count]))
            maps->count++;
    if (maps->count == 0) {
        maps_free(maps);
        return tl_fail(error, -ESRCH, "process %d has no memory of its own: it has ended, or is a kernel thread",
                       (int)pid);
    }
    return 0;
}

void maps_free(struct maps *maps)
{
    free(maps->mappings);
    free(maps->text);
    *maps = (struct maps){0};
}
