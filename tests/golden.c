/* SPDX-License-Identifier: MIT */
#include "golden.h"

#include <stdlib.h>
#include <string.h>

char *golden_made(const char *text, void (*print_outcome)(FILE *out, const char *spec))
{
    char *made = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&made, &size);
    int seen = 0;
    while (*text) {
        size_t length = strcspn(text, "\n"), whole = length + (text[length] == '\n');
        if (!strncmp(text, "> ", 2)) {
            char *spec = strndup(text + 2, length - 2);
            fprintf(out, "%s> %s\n", seen++ ? "\n" : "", spec);
            print_outcome(out, spec);
            free(spec);
        } else if (!seen) {
            fwrite(text, 1, whole, out);
        }
        text += whole;
    }
    fclose(out);
    return made;
}

void golden_show_difference(const char *path, const char *who, const char *was, const char *is)
{
    size_t line = 1, start = 0, at = 0;
    for (; was[at] && was[at] == is[at]; at++) {
        if (was[at] == '\n') {
            line++;
            start = at + 1;
        }
    }
    fprintf(stderr, "%s:%zu: %sexpected\n%.*s\ngot\n%.*s\n", path, line, who, (int)strcspn(was + start, "\n"),
            was + start, (int)strcspn(is + start, "\n"), is + start);
}
