/* SPDX-License-Identifier: MIT
 *
 * Sixteen threads that compute, and others that sleep in each of the calls that a stop may disturb. It notices when a
 * result is wrong or a sleep ends otherwise than by its own time.
 *
 *     check     the number of things that went wrong, then the rounds that the slowest thread has made since
 */
#include "obey.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BUSY = 16, NAP_NS = 20000000, KINDS = 6, WAIT_PRIVATE = 128 };

static long rounds[BUSY + KINDS], wrong;
static int pipe_ends[2];

long work(long x);
PROBED long work(long x)
{
    __asm__ volatile("" : "+r"(x));
    return x * 3 + 1;
}

static void expect(int condition)
{
    if (!condition)
        __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void turn(long number)
{
    __atomic_add_fetch(&rounds[number], 1, __ATOMIC_RELAXED);
}

static void *compute(void *arg)
{
    for (long number = (long)arg;; turn(number)) {
        long sum = 0;
        for (long i = 0; i < 1000; i++)
            sum += work(i);
        expect(sum == 1499500);
        struct timespec nap = {.tv_nsec = 100000};
        nanosleep(&nap, NULL);
    }
    return NULL;
}

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000 + time.tv_nsec;
}

static void *sleep_in(void *arg)
{
    long kind = (long)arg;
    struct timespec nap = {.tv_nsec = NAP_NS};
    int set = epoll_create1(0), word = 0;
    struct epoll_event event;
    struct pollfd fd = {.fd = pipe_ends[0], .events = POLLOUT};
    sigset_t none;
    sigemptyset(&none);
    sigaddset(&none, SIGUSR2);
    for (;; turn(BUSY + kind)) {
        long begun = now();
        switch (kind) {
        case 0:
            expect(nanosleep(&nap, NULL) == 0);
            break;
        case 1:
            expect(poll(&fd, 1, NAP_NS / 1000000) == 0);
            break;
        case 2:
            expect(epoll_wait(set, &event, 1, NAP_NS / 1000000) == 0);
            break;
        case 3:
            expect(syscall(SYS_futex, &word, WAIT_PRIVATE, 0, &nap, NULL, 0) == -1 && errno == ETIMEDOUT);
            break;
        case 4:
            expect(sigtimedwait(&none, NULL, &nap) == -1 && errno == EAGAIN);
            break;
        default: {
            char byte;
            expect(read(pipe_ends[0], &byte, 1) == 1);
            continue;
        }
        }
        expect(now() - begun >= NAP_NS - 1000000);
    }
    return NULL;
}

static void *feed(void *arg)
{
    for (;;) {
        struct timespec nap = {.tv_nsec = NAP_NS};
        nanosleep(&nap, NULL);
        expect(write(pipe_ends[1], "", 1) == 1);
    }
    return arg;
}

static void carry(char **words, int count)
{
    (void)words, (void)count;
    long before[BUSY + KINDS], slowest;
    memcpy(before, rounds, sizeof before);
    do {
        slowest = 1000;
        struct timespec nap = {.tv_nsec = 1000000};
        nanosleep(&nap, NULL);
        for (int i = 0; i < BUSY + KINDS; i++) {
            long made = __atomic_load_n(&rounds[i], __ATOMIC_RELAXED) - before[i];
            slowest = made < slowest ? made : slowest;
        }
    } while (slowest < 2);
    printf("%ld wrong", __atomic_load_n(&wrong, __ATOMIC_RELAXED));
}

int main(int argc, char **argv)
{
    pthread_t thread;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (pipe(pipe_ends) != 0)
        return 1;
    for (long i = 0; i < BUSY; i++)
        pthread_create(&thread, NULL, compute, (void *)i);
    for (long i = 0; i < KINDS; i++)
        pthread_create(&thread, NULL, sleep_in, (void *)i);
    pthread_create(&thread, NULL, feed, NULL);
    return obey(argc, argv, carry);
}
