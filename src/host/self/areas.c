/* SPDX-License-Identifier: MIT
 *
 * What is mapped, as /proc/self/maps has it.
 */
#include "host/self/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

enum { MAPPINGS_SPARE = 1000 /* left to the program */, FIRST_BYTES = 1 << 16, DEFAULT_MAPPINGS = 65530 };
/* Room that the heap and the stack may still want to grow into. */
static const uint64_t heap_growth = 256ull << 20, stack_growth = 128ull << 20;

/* A whole file of /proc, malloced and terminated. */
static int read_file(const char *path, char **out)
{
    long fd = CALL(SYS_openat, AT_CURRENT, path, 02000000 /* O_RDONLY | O_CLOEXEC */, 0);
    if (fd < 0)
        return (int)fd;
    size_t room = FIRST_BYTES, length = 0;
    char *text = malloc(room);
    long got = text ? 1 : -ENOMEM;
    while (got > 0) {
        if (room - length < PAGE + 1) {
            char *more = realloc(text, room *= 2);
            if (!more) {
                got = -ENOMEM;
                break;
            }
            text = more;
        }
        got = CALL(SYS_read, fd, text + length, room - length - 1);
        if (got == -EINTR)
            got = 1;
        else if (got > 0)
            length += (size_t)got;
    }
    CALL(SYS_close, fd);
    if (got < 0) {
        free(text);
        return (int)got;
    }
    text[length] = 0;
    *out = text;
    return 0;
}

/* A number in hexadecimal digits at *text, which goes on behind it. */
static uint64_t hex(const char **text)
{
    uint64_t number = 0;
    for (;; ++*text) {
        unsigned digit = (unsigned char)**text;
        if (digit - '0' < 10)
            number = number << 4 | (digit - '0');
        else if ((digit | 0x20) - 'a' < 6)
            number = number << 4 | ((digit | 0x20) - 'a' + 10);
        else
            return number;
    }
}

/* "start-end flags offset device inode    path", by hand: there may be thousands, and sscanf takes its time. */
static bool parse(const char *text, struct tl_line *line, const char *program)
{
    enum { FLAGS = 4, BEFORE_PATH = 3 };
    uint64_t start = hex(&text), end = *text == '-' ? (text++, hex(&text)) : 0;
    const char *flags = text + 1;
    if (end <= start || *text != ' ' || strnlen(flags, FLAGS) < FLAGS)
        return false;
    text = flags + FLAGS;
    for (unsigned i = 0; i < BEFORE_PATH; i++) {
        text += strspn(text, " ");
        text += strcspn(text, " ");
    }
    text += strspn(text, " ");
    *line = (struct tl_line){.start = start,
                             .end = end,
                             .readable = flags[0] == 'r',
                             .writable = flags[1] == 'w',
                             .shared = flags[3] == 's',
                             .program = program[0] && !strcmp(text, program),
                             .heap = !strcmp(text, "[heap]"),
                             .stack = !strcmp(text, "[stack]")};
    return true;
}

int tl_lines_read(struct tl_line **lines, size_t *count)
{
    char program[PAGE], *text;
    int result = read_file("/proc/self/maps", &text);
    if (result)
        return result;
    long length = CALL(SYS_readlinkat, AT_CURRENT, "/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    size_t room = 1;
    for (const char *c = text; *c; c++)
        room += *c == '\n';
    *lines = calloc(room, sizeof **lines);
    *count = 0;
    char *rest = NULL;
    for (char *line = *lines ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        if (parse(line, &(*lines)[*count], program))
            ++*count;
    }
    free(text);
    return *lines ? 0 : -ENOMEM;
}

const struct tl_line *tl_line_at(const struct tl_line *lines, size_t count, uint64_t addr)
{
    size_t from = 0;
    while (from < count) {
        size_t middle = from + (count - from) / 2;
        if (addr < lines[middle].start)
            count = middle;
        else if (addr >= lines[middle].end)
            from = middle + 1;
        else
            return &lines[middle];
    }
    return NULL;
}

static size_t mappings_left(size_t used)
{
    char *text;
    unsigned long limit = DEFAULT_MAPPINGS;
    if (read_file("/proc/sys/vm/max_map_count", &text) == 0) {
        limit = strtoul(text, NULL, 10);
        free(text);
    }
    return limit > used + MAPPINGS_SPARE ? limit - used - MAPPINGS_SPARE : 0;
}

int tl_self_areas(struct tl_self *self, struct tl_area **areas, size_t *count, size_t *left, struct tl_error *error)
{
    (void)self;
    struct tl_line *lines;
    int result = tl_lines_read(&lines, count);
    if (result)
        return tl_explain(error, result, "/proc/self/maps cannot be read");
    *areas = calloc(*count + 1, sizeof **areas);
    if (!*areas) {
        free(lines);
        return tl_fail(error, -ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < *count; i++) {
        /* A program that has not asked for a heap yet will get it behind its own data. */
        (*areas)[i] = (struct tl_area){.start = lines[i].start,
                                       .end = lines[i].end,
                                       .keep_above = lines[i].heap || lines[i].program ? heap_growth : 0,
                                       .keep_below = lines[i].stack ? stack_growth : 0};
    }
    *left = mappings_left(*count);
    free(lines);
    return 0;
}
