/* SPDX-License-Identifier: MIT
 *
 * Golden files: specs and what becomes of them. In each file a line that begins with "> " is a spec, and the lines up
 * to the next one are the outcome; what stands before the first spec is a comment.
 *
 *     golden_test DIRECTORY             compare
 *     golden_test --rebase DIRECTORY    write the outcomes anew (meson compile rebase-spec)
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../golden.h"
#include "print.h"

static char *read_file(const char *path)
{
    FILE *in = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    if (!in || (getdelim(&text, &size, '\0', in) < 0 && ferror(in)))
        perror(path);
    if (in)
        fclose(in);
    return text;
}

static int check(const char *path, int rebase)
{
    char *was = read_file(path);
    if (!was)
        return 1;
    char *is = golden_made(was, print_outcome);
    int differs = strcmp(was, is) != 0;
    if (differs && rebase) {
        FILE *out = fopen(path, "w");
        differs = !out || fputs(is, out) < 0 || fclose(out);
        printf("%s: rebased\n", path);
    } else if (differs) {
        golden_show_difference(path, "", was, is);
    }
    free(was);
    free(is);
    return differs;
}

int main(int argc, char **argv)
{
    int rebase = argc == 3 && !strcmp(argv[1], "--rebase"), failed = 0, files = 0;
    if (argc != 2 + rebase) {
        fprintf(stderr, "usage: golden_test [--rebase] DIRECTORY\n");
        return 2;
    }
    DIR *directory = opendir(argv[1 + rebase]);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        const char *dot = strrchr(entry->d_name, '.');
        char path[4096];
        if (!dot || strcmp(dot, ".txt"))
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1 + rebase], entry->d_name);
        failed += check(path, rebase);
        files++;
    }
    if (directory)
        closedir(directory);
    printf("%d files, %d differ\n", files, failed);
    return failed || !files;
}
