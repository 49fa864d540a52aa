/* SPDX-License-Identifier: MIT
 *
 * What an int3 costs that leads to a trampoline, with a table of ten thousand of them, beside a bare round trip: an
 * int3 of the program's own, with a handler that does nothing. Both in turns, so that a busy machine is busy for both.
 * Prints lines of a name and nanoseconds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lines.h"
#include "hit/broker.h"

enum { PAGE = 4096, TRAPS = 10000, RUNS = 300, ROUNDS = 200 };

/* The same number of instructions on both ways: a loop around an int3, the one ours, the other the program's. */
void trap_loop(uint64_t rounds, const void *function);
void trap_site(void);
void trap_own(void);
extern char trap_behind[];
__asm__(".text\n"
        ".globl trap_loop\ntrap_loop: push %rbx; push %rbp; push %rbp; mov %rdi, %rbx; mov %rsi, %rbp\n"
        "1: call *%rbp; dec %rbx; jnz 1b; pop %rbp; pop %rbp; pop %rbx; ret\n"
        ".globl trap_site\ntrap_site: int3\n.globl trap_behind\ntrap_behind: ret\n"
        ".globl trap_own\ntrap_own: int3; ret\n");

static struct {
    struct tl_broker_tables head;
    struct tl_trap traps[TRAPS];
} image = {.head = {.magic = TL_BROKER_TABLES_MAGIC,
                    .size = sizeof image,
                    .trap_count = TRAPS,
                    .traps = sizeof(struct tl_broker_tables),
                    .ranges = sizeof image,
                    .marks = sizeof image,
                    .memory = sizeof image}};

static uint64_t word(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

static void arm(uint64_t *marker)
{
    const struct tl_broker_setup setup = {.flags = getauxval(AT_HWCAP2) & 2 ? TL_BROKER_FSGSBASE : TL_BROKER_FS_SELF,
                                          .pid = (uint32_t)getpid(),
                                          .marker = word(marker),
                                          .entry = (uint64_t)(uintptr_t)tl_broker_entry,
                                          .pass = (uint64_t)(uintptr_t)tl_broker_pass,
                                          .restorer = (uint64_t)(uintptr_t)tl_broker_restorer};
    uint64_t site = (uint64_t)(uintptr_t)trap_site;
    for (uint32_t i = 0; i < TRAPS; i++) /* the site in the middle */
        image.traps[i] = (struct tl_trap){site + 64ull * i - 64ull * (TRAPS / 2), word(trap_behind), TL_TRAP_JUMP, i};
    tl_broker_here = mmap(NULL, sizeof *tl_broker_here, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (tl_broker_here == MAP_FAILED || tl_broker_tables_verify(&image, sizeof image))
        abort();
    tl_broker_init(tl_broker_here, &setup);
    tl_broker_publish(tl_broker_here, word(&image));
}

static void nothing(int number, struct tl_siginfo *info, struct tl_context *context)
{
    (void)number;
    (void)info;
    (void)context;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double run(const struct tl_sigaction *action, void (*function)(void))
{
    if (syscall(SYS_rt_sigaction, TL_SIGTRAP, action, NULL, 8))
        abort();
    double start = now();
    trap_loop(ROUNDS, (const void *)(uintptr_t)function);
    return (now() - start) / ROUNDS;
}

int main(void)
{
    static uint64_t marker = 1;
    static double bare[RUNS], ours[RUNS];
    const struct tl_sigaction handler = {(uint64_t)(uintptr_t)nothing, TL_SA_SIGINFO | TL_SA_RESTORER,
                                         (uint64_t)(uintptr_t)tl_broker_restorer, 0};
    struct tl_sigaction broker;
    arm(&marker);
    tl_broker_adopt_action(tl_broker_here, TL_SIGTRAP, &handler, &broker);
    for (int i = 0; i < RUNS; i++) {
        bare[i] = run(&handler, trap_own);
        ours[i] = run(&broker, trap_site);
    }
    printf("trap_bare %.1f\ntrap_boosted %.1f\n", lines_quartile(bare, RUNS), lines_quartile(ours, RUNS));
    return 0;
}
