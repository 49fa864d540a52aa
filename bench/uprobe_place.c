/* SPDX-License-Identifier: MIT
 *
 * uprobe_place PID BINARY OFFSETS: attach BPF uprobe_multi probes at the file offsets listed in OFFSETS (hexadecimal),
 * detach them, and print what each took, in milliseconds. Exit status 77: this kernel, or this user, cannot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "uprobe_multi.h"

enum { OFFSETS_MAX = 100000 };

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

int main(int argc, char **argv)
{
    static uint64_t offsets[OFFSETS_MAX], cookies[OFFSETS_MAX];
    size_t count = 0;
    FILE *list = argc == 4 ? fopen(argv[3], "re") : NULL;
    unsigned long long offset;
    while (list && count < OFFSETS_MAX && fscanf(list, "%llx", &offset) == 1) {
        offsets[count] = offset;
        cookies[count] = count + 1;
        count++;
    }
    if (!count) {
        fputs("usage: uprobe_place PID BINARY OFFSETS\n", stderr);
        return 2;
    }
    fclose(list);
    struct uprobe_multi multi;
    int error = uprobe_multi_create(count, false, &multi);
    double start = now_ms();
    int link = error ? error : uprobe_multi_attach(&multi, argv[2], offsets, cookies, count, atoi(argv[1]), false);
    double attached = now_ms();
    if (link < 0) {
        fprintf(stderr, "uprobe_multi: %s\n", strerror(-link));
        return 77;
    }
    close(link);
    printf("%.3f %.3f\n", attached - start, now_ms() - attached);
    uprobe_multi_destroy(&multi);
    return 0;
}
