/* SPDX-License-Identifier: MIT
 *
 * Names of variables: what C++ compilers make of them, which one was meant, and which one may have been.
 */
#include <stdio.h>
#include <string.h>

#include "symbol/variables.h"

static const char anonymous[] = "(anonymous namespace)";

const char *name_base(const char *name)
{
    const char *base = name;
    unsigned depth = 0;
    for (const char *at = name; *at; at++) {
        depth += *at == '<' || *at == '(';
        depth -= depth && (*at == '>' || *at == ')');
        if (!depth && at[0] == ':' && at[1] == ':')
            base = at + 2;
    }
    return base;
}

/* A name with neither anonymous namespaces nor the parameters of functions: what people leave out. */
static void plain_form(const char *name, char *text, size_t room)
{
    size_t used = 0;
    unsigned depth = 0;
    for (const char *at = name; *at && used + 1 < room; at++) {
        if (*at == '(' && !depth && !strncmp(at, anonymous, strlen(anonymous))) {
            at += strlen(anonymous) - 1;
            at += at[1] == ':' && at[2] == ':' ? 2 : 0;
            continue;
        }
        depth += *at == '(';
        if (!depth)
            text[used++] = *at;
        depth -= depth && *at == ')';
    }
    text[used] = '\0';
}

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

unsigned name_fits(const char *full, const char *wanted)
{
    char a[1024], b[1024];
    plain_form(full, a, sizeof a);
    plain_form(wanted, b, sizeof b);
    size_t a_length = strlen(a), b_length = strlen(b);
    if (b_length == 0)
        return RANK_NONE;
    if (!strcmp(a, b))
        return RANK_EXACT;
    if (a_length > b_length + 2 && !strcmp(a + a_length - b_length, b) &&
        !strncmp(a + a_length - b_length - 2, "::", 2))
        return RANK_INNER;
    if (a_length > b_length && !strncmp(a, b, b_length) && a[b_length] == '.' && is_number(a + b_length + 1))
        return RANK_NUMBERED;
    return RANK_NONE;
}

bool file_fits(const char *path, const char *wanted)
{
    size_t length = path ? strlen(path) : 0, tail = strlen(wanted);
    while (!strncmp(wanted, "./", 2)) {
        wanted += 2;
        tail -= 2;
    }
    return tail && length >= tail && !strcmp(path + length - tail, wanted) &&
           (length == tail || path[length - tail - 1] == '/');
}

/* The mangled names that this reads: _Z NAME, where NAME is <length><text>, St <length><text>, L<length><text>,
 * N [qualifiers] NAME… E, or Z FUNCTION E NAME [discriminator]. */
struct mangled {
    const char *at;
    char *text;
    size_t used, room;
};

static bool append(struct mangled *m, const char *text, size_t length)
{
    size_t colons = m->used ? 2 : 0;
    if (length + colons + 1 > m->room - m->used)
        return false;
    memcpy(m->text + m->used, "::", colons);
    memcpy(m->text + m->used + colons, text, length);
    m->used += colons + length;
    m->text[m->used] = '\0';
    return true;
}

static bool source_name(struct mangled *m)
{
    size_t length = 0;
    if (*m->at == 'L') /* internal linkage */
        m->at++;
    if (*m->at < '1' || *m->at > '9')
        return false;
    for (; *m->at >= '0' && *m->at <= '9'; m->at++)
        if ((length = length * 10 + (size_t)(*m->at - '0')) > 512)
            return false;
    const char *text = m->at;
    if (strnlen(text, length) < length)
        return false;
    m->at += length;
    if (length >= 10 && !strncmp(text, "_GLOBAL__N", 10))
        return append(m, anonymous, strlen(anonymous));
    if (length == 17 && text[0] == 'h' && *m->at == 'E' && strspn(text + 1, "0123456789abcdef") >= 16)
        return true; /* the hash that Rust appends */
    return append(m, text, length);
}

static bool nested_name(struct mangled *m)
{
    m->at++;
    m->at += strspn(m->at, "rVK"); /* of methods: const and the like */
    if (!strncmp(m->at, "St", 2)) {
        m->at += 2;
        if (!append(m, "std", 3))
            return false;
    }
    while (*m->at != 'E')
        if (!source_name(m))
            return false;
    m->at++;
    return true;
}

static bool unscoped_name(struct mangled *m)
{
    if (!strncmp(m->at, "St", 2)) {
        m->at += 2;
        return append(m, "std", 3) && source_name(m);
    }
    return *m->at == 'N' ? nested_name(m) : source_name(m);
}

/* The variable of a function: the function's parameters, which may be anything, end at the last E before a name. */
static bool local_name(struct mangled *m)
{
    m->at++;
    if (!unscoped_name(m))
        return false;
    for (const char *at = m->at + strlen(m->at); at > m->at; at--) {
        struct mangled rest = *m;
        if (at[-1] != 'E')
            continue;
        rest.at = at;
        if (!source_name(&rest))
            continue;
        if (*rest.at == '_') /* the second of that name in the function, and so on */
            rest.at += 1 + strspn(rest.at + 1, "_0123456789");
        if (*rest.at)
            continue;
        *m = rest;
        return true;
    }
    return false;
}

bool name_demangle(const char *name, char *text, size_t room)
{
    struct mangled m = {.at = name + 2, .text = text, .room = room};
    if (strncmp(name, "_Z", 2) != 0)
        return false;
    bool known = *m.at == 'Z' ? local_name(&m) : unscoped_name(&m);
    return known && m.used && (*m.at == '\0' || *m.at == '.');
}

/* How many changes of one character make one name of the other, neighbours that changed places being one; `most` + 1
 * for more than that. */
static unsigned distance(const char *a, const char *b, unsigned most)
{
    enum { LONGEST = 63 };
    size_t a_length = strlen(a), b_length = strlen(b);
    unsigned rows[3][LONGEST + 1];
    if (a_length > LONGEST || b_length > LONGEST || a_length > b_length + most || b_length > a_length + most)
        return most + 1;
    for (unsigned j = 0; j <= b_length; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a_length; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3], least = row[0] = i;
        for (unsigned j = 1; j <= b_length; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
            least = best < least ? best : least;
        }
        if (least > most)
            return most + 1;
    }
    return rows[a_length % 3][b_length];
}

void nearest_offer(struct nearest *nearest, const char *name)
{
    enum { BEST = sizeof nearest->best / sizeof *nearest->best };
    size_t length = strlen(nearest->wanted);
    unsigned most = length < 4 ? 1 : length < 10 ? 2 : 3;
    unsigned far = distance(nearest->wanted, name, most);
    if (far > most && strstr(name, nearest->wanted) && length >= 4 && strlen(name) < sizeof nearest->best[0].name)
        far = most; /* a part of a name is as good as a mistake in it */
    if (far > most)
        return;
    size_t place = 0;
    for (size_t i = 0; i < nearest->count; i++)
        if (!strcmp(nearest->best[i].name, name))
            return;
    while (place < nearest->count && nearest->best[place].distance <= far)
        place++;
    if (place == BEST)
        return;
    if (nearest->count < BEST)
        nearest->count++;
    memmove(&nearest->best[place + 1], &nearest->best[place], (nearest->count - 1 - place) * sizeof nearest->best[0]);
    snprintf(nearest->best[place].name, sizeof nearest->best[place].name, "%s", name);
    nearest->best[place].distance = far;
}

void nearest_say(const struct nearest *nearest, char *text, size_t room)
{
    int used = snprintf(text, room, "%s", nearest->count ? "; did you mean " : "");
    for (size_t i = 0; i < nearest->count && (size_t)used < room; i++) {
        const char *before = i == 0 ? "" : i + 1 < nearest->count ? ", " : " or ";
        used += snprintf(text + used, room - (size_t)used, "%s%s", before, nearest->best[i].name);
    }
    if (nearest->count && (size_t)used < room)
        snprintf(text + used, room - (size_t)used, "?");
}
