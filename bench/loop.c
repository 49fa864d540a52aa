/* SPDX-License-Identifier: MIT
 *
 * loop SITE CALLS ROUNDS [uprobe|uretprobe TWIN_CALLS]: call tiny functions again and again, and print what calls took
 * beyond calls of the bare function: of site_SITE (slices of CALLS), of the pads by hand, and of twin_SITE (of
 * TWIN_CALLS), which the kernel probes. Lines of "loop: NAME wall W cpu C", nanoseconds; see lines.h. `bare` is a call
 * of the bare function itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "uprobe.h"

enum { BARE_CALLS = 2000 };

typedef long function(long, long);
#define FUNCTIONS(kind) function site_##kind, twin_##kind, bare_##kind, f1_##kind, f2_##kind;
FUNCTIONS(step)
FUNCTIONS(emulated)
FUNCTIONS(nop5)

enum { BARE, SITE, F1, F2, TWIN, LINES };
#define KIND(kind)                                                                                                     \
    {                                                                                                                  \
#kind,                                                                                                         \
        {                                                                                                              \
            bare_##kind, site_##kind, f1_##kind, f2_##kind, twin_##kind                                                \
        }                                                                                                              \
    }
static const struct kind {
    const char *name;
    function *functions[LINES];
} kinds[] = {KIND(step), KIND(emulated), KIND(nop5)};

static void call(const struct line *line)
{
    function *const *called = line->subject;
    for (long k = 0; k < (long)line->turns; k++)
        (*called)(k, 1);
}

int main(int argc, char **argv)
{
    const struct kind *kind = NULL;
    long calls = argc > 2 ? atol(argv[2]) : 0, rounds = argc > 3 ? atol(argv[3]) : 0;
    bool entry = argc == 6 && !strcmp(argv[4], "uprobe"), returns = argc == 6 && !strcmp(argv[4], "uretprobe");
    long twin = entry || returns ? atol(argv[5]) : 0;
    for (size_t i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(argv[1], kinds[i].name))
            kind = &kinds[i];
    if (!kind || calls < 1 || rounds < 1 || (argc > 4 && twin < 1)) {
        fputs("usage: loop step|emulated|nop5 CALLS ROUNDS [uprobe|uretprobe TWIN_CALLS]\n", stderr);
        return 2;
    }
    if (twin && !uprobe_self((uintptr_t)kind->functions[TWIN], returns))
        return 77;
    struct line lines[LINES] = {[BARE] = {.name = "bare", .turns = BARE_CALLS, .base = -1},
                                [SITE] = {.name = "site", .turns = (uint64_t)calls},
                                [F1] = {.name = "f1", .turns = BARE_CALLS},
                                [F2] = {.name = "f2", .turns = BARE_CALLS},
                                [TWIN] = {.name = "twin", .turns = (uint64_t)twin}};
    size_t count = twin ? LINES : TWIN;
    for (size_t i = 0; i < count; i++) {
        lines[i].slice = call;
        lines[i].subject = &kind->functions[i];
    }
    lines_measure(lines, count, (unsigned)rounds);
    for (size_t i = 0; i < count; i++)
        printf("loop: %s wall %.3f cpu %.3f\n", lines[i].name, lines_figure(lines, i, false),
               lines_figure(lines, i, true));
    lines_free(lines, count);
    return 0;
}
