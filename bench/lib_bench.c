/* SPDX-License-Identifier: MIT
 *
 * The library in its own process: what it costs to register and unregister 10,000 probes as one operation, and one by
 * one. Lines of `name value`: milliseconds, the lower quartile of some turns (what else the machine does can only add
 * to a time); for single ones microseconds each. And a million system calls before the library has taken over the
 * process's signals, and after: nanoseconds each, by a function of the C library's own and by its syscall(), whose
 * number is only known when it is called, so that it has a guard.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <trapline/trapline.h>

#include "lines.h"
#include "many.h"

enum { PROBES = 10000, SINGLE = 50, TURNS = 15, CALLS = 1000000, SLICES = 250 };

static struct tl_probe probes[PROBES], *list[PROBES];
static unsigned long hits;

static int on_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static void print_quartile(const char *name, double *figures)
{
    printf("%s %.2f\n", name, lines_quartile(figures, TURNS));
}

static void must(int code, const struct tl_error *error)
{
    if (code) {
        fprintf(stderr, "%d %s\n", code, error ? error->text : "");
        exit(1);
    }
}

static void prepare(uint64_t flags)
{
    for (unsigned i = 0; i < PROBES; i++) {
        probes[i] = (struct tl_probe){
            .size = sizeof probes[i], .flags = flags, .address = (void *)(uintptr_t)many[i], .pre = on_hit};
        list[i] = &probes[i];
    }
}

static void batches(uint64_t flags, const char *in_name, const char *out_name)
{
    double in[TURNS], out[TURNS];
    struct tl_error error;
    prepare(flags);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        double start = now();
        must(tl_probes_register(list, PROBES, NULL, &error), &error);
        in[turn] = now() - start;
        hits = 0;
        for (unsigned i = 0; i < PROBES; i++)
            many[i](i);
        if (hits != PROBES)
            exit(2);
        start = now();
        must(tl_probes_unregister(list, PROBES, NULL), NULL);
        out[turn] = now() - start;
    }
    print_quartile(in_name, in);
    print_quartile(out_name, out);
}

static void singles(void)
{
    double in[TURNS], out[TURNS];
    struct tl_error error;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        double start = now();
        for (unsigned i = 0; i < SINGLE; i++)
            must(tl_probe_register(&probes[i], &error), &error);
        in[turn] = (now() - start) * 1e3 / SINGLE;
        start = now();
        for (unsigned i = 0; i < SINGLE; i++)
            must(tl_probe_unregister(&probes[i]), NULL);
        out[turn] = (now() - start) * 1e3 / SINGLE;
    }
    print_quartile("single_register", in);
    print_quartile("single_unregister", out);
}

static long by_function(void)
{
    return getppid();
}

static long by_number(void)
{
    return syscall(SYS_getppid);
}

/* The lower quartile of its slices. */
static void call(const char *name, long (*function)(void))
{
    static double slices[SLICES];
    for (unsigned slice = 0; slice < SLICES; slice++) {
        double start = now();
        for (unsigned i = 0; i < CALLS / SLICES; i++)
            function();
        slices[slice] = (now() - start) * 1e6 / (CALLS / SLICES);
    }
    printf("%s %.2f\n", name, lines_quartile(slices, SLICES));
}

int main(void)
{
    call("getppid_bare", by_function);
    call("syscall_bare", by_number);
    struct tl_probe first = {.size = sizeof first, .symbol = "main", .pre = on_hit};
    struct tl_error error;
    double start = now();
    must(tl_probe_register(&first, &error), &error);
    printf("first %.2f\n", now() - start);
    call("getppid", by_function);
    call("syscall", by_number);
    batches(0, "register", "unregister");
    batches(TL_PROBE_INT3, "register_int3", "unregister_int3");
    prepare(0);
    singles();
    return 0;
}
