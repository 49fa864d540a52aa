/* SPDX-License-Identifier: MIT
 *
 * storm THREADS [blocked|brief]: threads that write to memory that is watched, each its own cell and all of them the
 * last one, as often as progress->goal says. blocked: with all signals blocked. brief: by threads that write once and
 * end. A SIGTRAP that comes to this program's own handler is an error.
 */
#include "progress.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct progress *progress;
static struct {
    _Alignas(64) volatile uint64_t cell;
} cells[PROGRESS_THREADS + 1];
static pthread_barrier_t ready;
static int is_blocked;

static void on_trap(int number)
{
    (void)number;
    progress->where = 1;
    __atomic_add_fetch(&progress->errors, 1, __ATOMIC_SEQ_CST);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static void write_once(uint64_t index)
{
    cells[index].cell++;
    __atomic_add_fetch(&cells[PROGRESS_THREADS].cell, 1, __ATOMIC_SEQ_CST);
    progress->loops[index]++;
}

static void *writing(void *argument)
{
    uint64_t index = (uint64_t)argument;
    sigset_t all;
    sigfillset(&all);
    if (is_blocked)
        pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_barrier_wait(&ready);
    while (index >= PROGRESS_THREADS)
        pause();
    for (;;) {
        if (progress->loops[index] < progress->goal)
            write_once(index);
        else
            nap();
    }
    return NULL;
}

static void *writing_once(void *argument)
{
    write_once((uint64_t)argument);
    return NULL;
}

static void go_on_briefly(void)
{
    for (;;) {
        pthread_t thread;
        if (progress->loops[0] >= progress->goal)
            nap();
        else if (pthread_create(&thread, NULL, writing_once, NULL) == 0)
            pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv)
{
    uint64_t threads = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    pthread_attr_t attributes;
    struct sigaction action = {.sa_handler = on_trap};
    progress = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    if (progress == MAP_FAILED || sigaction(SIGTRAP, &action, NULL))
        return 1;
    is_blocked = argc > 2 && !strcmp(argv[2], "blocked");
    progress->value = (uint64_t)&cells;
    pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 16);
    if (argc > 2 && !strcmp(argv[2], "brief")) {
        progress->ready = 1;
        go_on_briefly();
    }
    for (uint64_t i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, writing, (void *)i))
            return 2;
    }
    pthread_barrier_wait(&ready);
    progress->ready = 1;
    for (;;)
        pause();
}
