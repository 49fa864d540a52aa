/* SPDX-License-Identifier: MIT
 *
 * What /proc says of a process. It may end at any moment: then files are empty or gone, which every caller sees as
 * "nothing there".
 */
#include "host/remote/internal.h"

#include "base/array.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

char *tl_proc_file(pid_t pid, const char *name, size_t *length)
{
    char path[96];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t used = 0, room = 8192;
    char *text = malloc(room);
    while (text) {
        if (used + 4097 > room) {
            char *more = realloc(text, room * 2);
            if (!more)
                break;
            text = more;
            room *= 2;
        }
        ssize_t n = read(fd, text + used, room - used - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            text[used] = 0;
            if (length)
                *length = used;
            return text;
        }
        used += (size_t)n;
    }
    free(text);
    close(fd);
    return NULL;
}

long long tl_status_number(const char *status, const char *key, int base)
{
    size_t length = strlen(key);
    for (const char *line = status; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0 && line[length] == ':')
            return strtoll(line + length + 1, NULL, base);
    }
    return -1;
}

long tl_kernel_setting(const char *name, long otherwise)
{
    char path[96];
    long value = otherwise;
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    FILE *file = fopen(path, "re");
    if (!file)
        return otherwise;
    if (fscanf(file, "%ld", &value) != 1)
        value = otherwise;
    fclose(file);
    return value;
}

pid_t tl_innermost_pid(pid_t pid)
{
    char *status = tl_proc_file(pid, "status", NULL);
    const char *line = status ? strstr(status, "\nNSpid:") : NULL;
    const char *end = line ? strchr(line + 1, '\n') : NULL;
    while (end && end[-1] >= '0' && end[-1] <= '9')
        end--;
    pid_t own = end ? (pid_t)strtol(end, NULL, 10) : status ? pid : 0;
    free(status);
    return own;
}

/* The fields of /proc/PID/stat behind the command's name, which may itself hold anything. Field 3 is index 0. */
static char *stat_fields(pid_t pid, char **fields)
{
    char *text = tl_proc_file(pid, "stat", NULL);
    char *end = text ? strrchr(text, ')') : NULL;
    *fields = end && end[1] == ' ' ? end + 2 : NULL;
    return text;
}

char tl_task_state(pid_t tid)
{
    char *fields, *text = stat_fields(tid, &fields);
    char state = fields ? *fields : 0;
    free(text);
    return state;
}

uint64_t tl_start_time(pid_t pid)
{
    char *fields, *text = stat_fields(pid, &fields);
    uint64_t value = 0;
    for (int i = 0; fields && i < 19; i++) { /* field 22 */
        fields = strchr(fields, ' ');
        fields += fields != NULL;
    }
    if (fields)
        value = strtoull(fields, NULL, 10);
    free(text);
    return value;
}

uint64_t tl_auxv(pid_t pid, uint64_t type)
{
    size_t length;
    char *bytes = tl_proc_file(pid, "auxv", &length);
    uint64_t value = 0, pair[2];
    for (size_t i = 0; bytes && i + sizeof pair <= length; i += sizeof pair) {
        memcpy(pair, bytes + i, sizeof pair);
        if (pair[0] == type) {
            value = pair[1];
            break;
        }
    }
    free(bytes);
    return value;
}

int tl_each_number(const char *directory, int (*visit)(void *context, int number), void *context)
{
    DIR *dir = opendir(directory);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(dir));) {
        char *end;
        long number = strtol(entry->d_name, &end, 10);
        if (end != entry->d_name && *end == 0 && number >= 0)
            result = visit(context, (int)number);
    }
    closedir(dir);
    return result;
}

static int live_one(void *context, int tid)
{
    char state = tl_task_state(tid);
    if (state == 0 || state == 'Z' || state == 'X')
        return 0;
    *(pid_t *)context = tid;
    return 1;
}

pid_t tl_live_task(pid_t pid)
{
    pid_t found = 0;
    if (live_one(&found, pid))
        return pid;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    tl_each_number(path, live_one, &found);
    return found;
}

static bool read_line(char *line, struct tl_remote_area *area)
{
    unsigned long long start, end, offset, inode;
    unsigned major, minor;
    char perms[5];
    int at = 0;
    if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu%n", &start, &end, perms, &offset, &major, &minor, &inode, &at) != 7)
        return false;
    char *path = line + at;
    path += strspn(path, " ");
    *area = (struct tl_remote_area){
        .start = start,
        .end = end,
        .offset = offset,
        .prot =
            (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) | (perms[2] == 'x' ? PROT_EXEC : 0),
        .shared = perms[3] == 's',
        .dev_major = major,
        .dev_minor = minor,
        .inode = inode,
        .path = path,
    };
    return true;
}

/* One allocation: the areas, then the text that their paths point into. */
int tl_read_areas(pid_t pid, struct tl_remote_area **areas, size_t *count)
{
    *areas = NULL;
    *count = 0;
    pid_t task = tl_live_task(pid);
    size_t length = 0, lines = 0;
    char *text = task ? tl_proc_file(task, "maps", &length) : NULL;
    for (size_t i = 0; text && i < length; i++)
        lines += text[i] == '\n';
    if (lines == 0) {
        free(text);
        return -ESRCH;
    }
    struct tl_remote_area *list = malloc(lines * sizeof *list + length + 1);
    if (!list) {
        free(text);
        return -ENOMEM;
    }
    char *copy = memcpy(list + lines, text, length + 1);
    free(text);
    size_t n = 0;
    for (char *end; n < lines && (end = strchr(copy, '\n')); copy = end + 1) {
        *end = 0;
        n += read_line(copy, &list[n]);
    }
    *areas = list;
    *count = n;
    return 0;
}

bool tl_is_ours(const struct tl_remote_area *area)
{
    return strcmp(area->path, TL_CORE_MAPS_NAME) == 0;
}

const struct tl_remote_area *tl_area_at(const struct tl_remote_area *areas, size_t count, uint64_t addr)
{
    size_t below = tl_array_upto(areas, count, sizeof *areas, offsetof(struct tl_remote_area, end), addr);
    return below < count && areas[below].start <= addr ? &areas[below] : NULL;
}

void tl_nap(unsigned microseconds)
{
    struct timespec t = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000L};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}
