/* SPDX-License-Identifier: MIT
 *
 * What a hit of a hardware breakpoint costs in the library, handler with old and new value included, beside the bare
 * round trip: the same event of the kernel's, with a SIGTRAP handler that does nothing. In turns, in one process, so
 * that a busy machine is busy for both: the kernel's action of SIGTRAP is exchanged by a system call that the library
 * does not see. Then what it costs to move a breakpoint, and to destroy it and create another. Prints lines of a name
 * and nanoseconds.
 */
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "trapline/trapline.h"

enum { PAGE = 4096, TRAP = 5, HITS = 200, RUNS = 300, CHANGES = 50 };

struct action {
    uint64_t handler, flags, restorer, mask;
};

static _Alignas(64) volatile uint64_t words[16];
static volatile uint64_t seen;
static long (*kernel_action)(long number, const struct action *action, struct action *old, long size);

void do_nothing(void);
void give_back(void);
__asm__(".text\ndo_nothing: ret\ngive_back: mov $15, %eax; syscall\n");

static void note(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    (void)hwbp;
    (void)regs;
    seen += hit->now - hit->before;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int make_kernel_action(void)
{
    static const unsigned char code[] = {0x49, 0x89, 0xca, 0xb8, 13, 0, 0, 0, 0x0f, 0x05, 0xc3};
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -1;
    memcpy(page, code, sizeof code);
    memcpy(&kernel_action, &page, sizeof page);
    return 0;
}

static int open_bare(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_BREAKPOINT,
                                   .size = sizeof attr,
                                   .bp_type = 2,
                                   .bp_addr = (uintptr_t)&words[8],
                                   .bp_len = 8,
                                   .sample_period = 1,
                                   .exclude_kernel = 1,
                                   .sigtrap = 1,
                                   .remove_on_exec = 1};
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static double hits(volatile uint64_t *word)
{
    uint64_t start = now();
    for (unsigned i = 0; i < HITS; i++)
        *word = i;
    return (double)(now() - start) / HITS;
}

static int ascending(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static void print(const char *name, double *values)
{
    qsort(values, RUNS, sizeof *values, ascending);
    printf("%s %.0f\n", name, values[RUNS / 2]);
}

static double moves(struct tl_hwbp *hwbp, struct tl_hwbp_options options)
{
    uint64_t start = now();
    for (unsigned i = 0; i < CHANGES; i++) {
        options.address = (void *)(uintptr_t)&words[!(i & 1)];
        tl_hwbp_modify(hwbp, &options, NULL);
    }
    return (double)(now() - start) / CHANGES;
}

static double renewals(const struct tl_hwbp_options *options)
{
    struct tl_hwbp *hwbp;
    uint64_t start = now();
    for (unsigned i = 0; i < CHANGES; i++)
        if (!tl_hwbp_create(options, &hwbp, NULL))
            tl_hwbp_destroy(hwbp);
    return (double)(now() - start) / CHANGES;
}

int main(void)
{
    static double bare[RUNS], ours[RUNS], ratio[RUNS], moved[RUNS], renewed[RUNS];
    struct tl_hwbp_options options = {.size = sizeof options,
                                      .access = TL_HWBP_WRITE,
                                      .address = (void *)(uintptr_t)&words[0],
                                      .length = 8,
                                      .handler = note};
    struct action nothing = {(uintptr_t)do_nothing, 0x04000000 | 4, (uintptr_t)give_back, 0}, library;
    struct tl_error error;
    struct tl_hwbp *hwbp;
    if (tl_hwbp_create(&options, &hwbp, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    if (make_kernel_action() || kernel_action(TRAP, NULL, &library, 8) || open_bare() < 0)
        return 1;
    for (unsigned run = 0; run < RUNS; run++) {
        ours[run] = hits(&words[0]);
        kernel_action(TRAP, &nothing, NULL, 8);
        bare[run] = hits(&words[8]);
        kernel_action(TRAP, &library, NULL, 8);
        ratio[run] = ours[run] / bare[run] * 1000;
        moved[run] = moves(hwbp, options);
        renewed[run] = renewals(&options);
    }
    print("hwbp_bare", bare);
    print("hwbp_library", ours);
    print("hwbp_permille", ratio);
    print("hwbp_move", moved);
    print("hwbp_renew", renewed);
    return tl_hwbp_destroy(hwbp);
}
